"""The session that kopf gets: each answer of the API server becomes one that kopf can use."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from buildkite_connector.kubernetes import watch
from buildkite_connector.kubernetes.client import KubernetesApi
from buildkite_connector.kubernetes.informer import Informer, WatchSettings
from buildkite_connector.kubernetes.schema import GROUP, PLURAL, VERSION
from buildkite_connector.kubernetes.watch import Pulse, WatchSession
from simulators.kubernetes.server import KubernetesSimulator
from unit.kubernetes.watching import DEADLINE, EventHandler, apply

GONE = {"type": "ERROR", "object": {"code": 410}}


@pytest.fixture
def session(api: KubernetesApi) -> WatchSession:
    hub = EventHandler()
    informer = Informer(hub.observe, hub.forget, asyncio.Event())
    return WatchSession(api, informer, WatchSettings(poll_seconds=0.01), Pulse())


def url(simulator: KubernetesSimulator, query: str = "") -> str:
    return f"{simulator.server_url}/apis/{GROUP}/{VERSION}/{PLURAL}{query}"


async def events(stream: Any, size: int = 1 << 20) -> AsyncIterator[dict[str, Any]]:
    async with asyncio.timeout(DEADLINE), stream:
        async for lines in stream.content.iter_chunked(size):
            for line in lines.splitlines():
                yield json.loads(line)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 410, 422])
async def test_a_watch_that_is_refused_is_gone(
    simulator: KubernetesSimulator, session: WatchSession, status: int
) -> None:
    with simulator.failing(status):
        answer = await session.request("get", url(simulator, "?watch=true"))
    assert answer.status == 200
    assert [each async for each in events(answer)] == [GONE]


EVENT = {"type": "ADDED", "object": {"metadata": {"namespace": "default", "name": "acme", "uid": "u"}}}
SOUND = json.dumps(EVENT)
ODD = {
    "no JSON": "no JSON\n",
    "another shape": "[]\n",
    "no type": '{"object": {}}\n',
    "no name": '{"type": "ADDED", "object": {"metadata": {"uid": "u"}}}\n',
    "an error": '{"type": "ERROR", "object": {"code": 500, "message": "etcd"}}\n',
    "its version is gone": '{"type": "ERROR", "object": {"code": 410}}\n',
    "an end amid an event": SOUND[:-1],
    "nested without an end": "[" * 200_000 + "\n",
}


@pytest.mark.parametrize("odd", ODD)
async def test_what_was_reported_before_an_odd_event_counts(
    simulator: KubernetesSimulator, session: WatchSession, odd: str
) -> None:
    with simulator.failing(200, body=f"{SOUND}\n{ODD[odd]}"):
        answer = await session.request("get", url(simulator, "?watch=true"))
        assert [each async for each in events(answer)] == [EVENT, GONE]


async def test_an_event_without_an_end_is_bounded(
    simulator: KubernetesSimulator, session: WatchSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_LONGEST_EVENT", 1000)
    with simulator.failing(200, body=f"{SOUND[:-1]}{' ' * 2000}}}\n"):
        answer = await session.request("get", url(simulator, "?watch=true"))
        assert [each async for each in events(answer, size=100)] == [GONE]


async def test_a_watch_that_waits_is_told_to_begin_anew(simulator: KubernetesSimulator, session: WatchSession) -> None:
    apply(simulator)
    stream = events(await session.request("get", url(simulator, "?watch=true")))
    assert (await anext(stream))["type"] == "ADDED"
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    session.begin_anew()
    async with asyncio.timeout(DEADLINE):
        assert await waiting == GONE


async def test_a_watch_that_was_asked_for_before_is_told_too(
    simulator: KubernetesSimulator, session: WatchSession
) -> None:
    asking = asyncio.create_task(session.request("get", url(simulator, "?watch=true")))
    await asyncio.sleep(0)
    session.begin_anew()
    assert [each async for each in events(await asking)] == [GONE]


@pytest.mark.parametrize(
    ("status", "body"),
    [(s, None) for s in (400, 401, 403, 404, 405, 409, 422, 429, 503, None)]
    + [(200, body) for body in ("", "no JSON", "[]", '{"items": [{}]}', '{"items": 5}', "[" * 200_000)],
)
async def test_a_list_is_asked_for_until_it_can_be_used(
    simulator: KubernetesSimulator,
    session: WatchSession,
    status: int | None,
    body: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "_BACKOFF", (0.01,))
    apply(simulator)
    with simulator.failing(status, body=body):
        asking = asyncio.create_task(session.request("get", url(simulator)))
        await simulator.wait_until(lambda: len(simulator.transcript) > 2, timeout=DEADLINE)
    async with asyncio.timeout(DEADLINE), await asking as answer:
        assert [each["metadata"]["name"] for each in (await answer.json())["items"]] == ["acme"]


async def test_a_list_whose_next_page_is_gone_begins_anew(
    simulator: KubernetesSimulator, session: WatchSession
) -> None:
    async with asyncio.timeout(DEADLINE):
        with simulator.failing(410), pytest.raises(aiohttp.ClientConnectionError):
            await session.request("get", url(simulator, "?continue=x"))


async def test_of_three_lists_the_third_waits(simulator: KubernetesSimulator, api: KubernetesApi) -> None:
    hub = EventHandler()
    informer = Informer(hub.observe, hub.forget, asyncio.Event())
    session = WatchSession(api, informer, WatchSettings(poll_seconds=0.3), Pulse())
    begun = time.monotonic()
    for _ in range(3):
        await session.request("get", url(simulator))
    assert time.monotonic() - begun >= 0.3
