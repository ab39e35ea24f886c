"""The connection to the API server: deadlines, how many at once, Retry-After, what is logged and what is shown."""

import asyncio
import base64
import json
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from buildkite_connector.kubernetes.client import KubernetesApi, connect
from buildkite_connector.kubernetes.connection import (
    LONGEST_API_SERVER_WAIT,
    REQUESTS_AT_ONCE,
    ApiError,
    bounded_retry_after,
)
from buildkite_connector.kubernetes.controller import ServedResource
from buildkite_connector.kubernetes.informer import WatchSettings
from buildkite_connector.kubernetes.lease import Lease
from buildkite_connector.kubernetes.schema import KIND, PLURAL
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.timing.clock import SystemClock
from simulators.kubernetes.server import KubernetesSimulator
from unit.kubernetes.client_calls import (
    DRAFT,
    READY,
    create,
    events,
    request_in,
    serving,
)
from unit.kubernetes.watching import DEADLINE, EventHandler, Watching, apply, asked, stop


async def test_a_server_that_never_answers_costs_no_more_than_the_deadline() -> None:
    async def listen(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serving(listen) as login, connect(login, SystemClock(), "pod-1", request_seconds=0.1) as api:
        with pytest.raises(Failure) as caught:
            await api.read_secret("default", "s")
    assert (caught.value.reason, caught.value.remedy) == (Reason.KUBERNETES_UNAVAILABLE, Remedy.RETRY)


class Counter:
    """An API server that answers once it was asked `most` times at once, and keeps that it was asked more often."""

    def __init__(self, most: int) -> None:
        self.most_at_once = 0
        self._most = most
        self._at_once = 0
        self._full = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while method := (await reader.readuntil(b"\r\n\r\n")).split(b" ", 1)[0]:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            if self._at_once >= self._most:
                self._full.set()
            await self._full.wait()
            await asyncio.sleep(0.05)  # for one request too many, which would come now
            self._at_once -= 1
            code = b"409 Conflict" if method == b"POST" else b"404 Not Found"
            writer.write(b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}" % code)
            await writer.drain()


@pytest.mark.parametrize("what", ["read", "write"])
async def test_a_crowd_of_connectors_asks_no_more_than_sixteen_times_at_once(
    simulator: KubernetesSimulator, what: str
) -> None:
    resource, server = create(simulator), Counter(REQUESTS_AT_ONCE)
    async with serving(server) as login, connect(login, SystemClock(), "pod-1") as api:
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "read": lambda: api.read_secret("default", "s"),
            "write": lambda: api.apply_status(resource, READY),
        }
        await asyncio.gather(*(calls[what]() for _ in range(3 * REQUESTS_AT_ONCE)), return_exceptions=True)
    assert server.most_at_once == REQUESTS_AT_ONCE


async def test_no_status_waits_for_an_event_that_the_api_server_does_not_answer(simulator: KubernetesSimulator) -> None:
    """Ready was 90 s late once: each event of a change was awaited before the next status."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := (await reader.readuntil(b"\r\n\r\n")).decode().lower():
            await reader.readexactly(int(head.split("content-length: ")[1].split("\r\n")[0]))
            if head.startswith("patch"):
                body = b'{"metadata": {"resourceVersion": "9"}}'
                kind = b"Content-Type: application/json"
                writer.write(b"HTTP/1.1 200 OK\r\n%s\r\nContent-Length: %d\r\n\r\n%s" % (kind, len(body), body))
                await writer.drain()

    async with serving(answer) as login, connect(login, SystemClock(), "pod-1") as api:
        served = ServedResource(api, create(simulator), lambda *_: None)
        async with asyncio.timeout(DEADLINE):
            for status in (READY, replace(READY, conditions=())) * 5:
                await served.report(None, status)


class TestDebugLog:
    """What the operator asks of the API, at debug level: never a body, a query or a header."""

    async def test_each_request_is_a_line_with_its_path_status_and_time(
        self, simulator: KubernetesSimulator, api: KubernetesApi, caplog: pytest.LogCaptureFixture
    ) -> None:
        seen = create(simulator)
        with caplog.at_level(logging.DEBUG, "buildkite_connector"):
            await api.list_connectors(())
            await api.apply_status(seen, READY)
            with suppress(ApiError):
                await api.read_secret("default", "absent")
            with simulator.failing(None), suppress(Failure):
                await api.read_secret("default", "absent")
        assert [request_in(record) for record in caplog.records] == [
            ("GET", "/apis/connectors.c1.ai/v1alpha1/buildkiteconnectors", 200),
            ("PATCH", "/apis/connectors.c1.ai/v1alpha1/namespaces/default/buildkiteconnectors/acme/status", 200),
            ("GET", "/api/v1/namespaces/default/secrets/absent", 404),
            ("GET", "/api/v1/namespaces/default/secrets/absent", "ServerDisconnectedError"),
        ]
        assert {record.levelno for record in caplog.records} == {logging.DEBUG}

    async def test_no_value_of_a_secret_is_in_it(
        self, simulator: KubernetesSimulator, api: KubernetesApi, caplog: pytest.LogCaptureFixture
    ) -> None:
        value = base64.b64encode(b"hunter2").decode()
        simulator.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"key": value}})
        with caplog.at_level(logging.DEBUG, "buildkite_connector"):
            assert await api.read_secret("default", "s") == {"key": value}
        [record] = caplog.records
        assert value not in str(vars(record))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("1", 1), ("59", 59), ("86400", 60), ("9" * 400, LONGEST_API_SERVER_WAIT)]
    + [(text, None) for text in ("-1", "1.5", "nan", "inf", "soon", "")],
)
@pytest.mark.parametrize("name", ["Retry-After", "retry-after"])
def test_it_is_believed_within_bounds(name: str, text: str, seconds: float | None) -> None:
    assert bounded_retry_after({name: text}) == seconds


def test_a_date_is_believed_within_bounds() -> None:
    for ahead, at_most in (
        (timedelta(hours=6), LONGEST_API_SERVER_WAIT),
        (timedelta(seconds=30), 30),
        (-timedelta(1), 0),
    ):
        date = format_datetime(datetime.now(UTC) + ahead, usegmt=True)
        found = bounded_retry_after({"Retry-After": date})
        assert found is not None
        assert at_most - 5 <= found <= at_most


CALLS: dict[str, Callable[[KubernetesApi, KubernetesSimulator], Awaitable[object]]] = {
    "read a Secret": lambda api, _: api.read_secret("default", "s"),
    "write a status": lambda api, simulator: api.apply_status(create(simulator), READY),
    "list resources": lambda api, _: api.list_connectors(()),
    "list a namespace's resources": lambda api, _: api.list_connectors(("default",)),
    "read a Lease": lambda api, _: api.leases("default", "bkc").read(),
    "create a Lease": lambda api, _: api.leases("default", "bkc").write(Lease("me", 15)),
    "renew a Lease": lambda api, _: api.leases("default", "bkc").write(Lease("me", 15, version="1")),
}


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("call", CALLS)
async def test_every_call_passes_it_on(
    simulator: KubernetesSimulator, api: KubernetesApi, call: str, status: int
) -> None:
    for text, seconds in (("7", 7.0), ("21600", LONGEST_API_SERVER_WAIT)):
        with simulator.failing(status, headers={"Retry-After": text}):
            with pytest.raises(Failure) as caught:
                await CALLS[call](api, simulator)
            assert caught.value.retry_after == seconds


async def test_an_event_is_posted_once_more(
    simulator: KubernetesSimulator, api: KubernetesApi, retry_after: float
) -> None:
    seen = create(simulator)
    with simulator.failing(429):
        begun = time.monotonic()
        api.post_event(seen, DRAFT)
        await simulator.wait_until(lambda: any(each.status == 429 for each in simulator.transcript), timeout=DEADLINE)
    await api.drain_events(DEADLINE)
    assert time.monotonic() - begun >= retry_after
    assert len(events(simulator)) == 1


@pytest.mark.parametrize("status", [429, 503])
async def test_a_watch_is_not_asked_for_before(
    simulator: KubernetesSimulator, hub: EventHandler, watching: Watching, retry_after: float, status: int
) -> None:
    apply(simulator)
    async with watching.running():
        await simulator.wait_until(lambda: simulator.watches(KIND) == 1, timeout=DEADLINE)
        before = asked(simulator)
        with simulator.failing(status, watches=True):
            simulator.drop_watches()
            await simulator.wait_until(lambda: asked(simulator) > before, timeout=DEADLINE)
            refused_at = time.monotonic()
            apply(simulator, request="now")
        await hub.until(lambda: hub.request("default.acme") == "now")
        assert time.monotonic() - refused_at >= retry_after
    assert asked(simulator) == before + 2


async def test_a_list_is_not_asked_for_before(
    simulator: KubernetesSimulator, watching: Watching, retry_after: float
) -> None:
    with simulator.failing(429, path=f"{PLURAL}$"):
        task = watching.begin(WatchSettings(poll_seconds=0.01))
        await simulator.wait_until(lambda: asked(simulator) == 1, timeout=DEADLINE)
        refused_at = time.monotonic()
    await simulator.wait_until(lambda: asked(simulator) == 2, timeout=DEADLINE)
    assert time.monotonic() - refused_at >= retry_after
    await watching.until_ready(task)
    await stop(task)


async def test_waiting_once_is_no_line_of_the_log_and_again_and_again_one(
    simulator: KubernetesSimulator, watching: Watching, caplog: pytest.LogCaptureFixture
) -> None:
    async with watching.running():
        for times, lines in ((1, 0), (2, 1)):
            caplog.clear()
            await simulator.wait_until(lambda: simulator.watches(KIND) == 1, timeout=DEADLINE)
            before = asked(simulator)
            with simulator.failing(429, watches=True, headers={"Retry-After": "0"}):
                simulator.drop_watches()
                await simulator.wait_until(
                    lambda before=before, times=times: asked(simulator) == before + times,  # type: ignore[misc]
                    DEADLINE,
                )
            await simulator.wait_until(lambda: simulator.watches(KIND) == 1, timeout=DEADLINE)
            assert caplog.text.count("did not let the operator watch") == lines


async def test_a_watch_that_should_wait_for_a_day_can_be_stopped_at_once(
    simulator: KubernetesSimulator, watching: Watching
) -> None:
    async with watching.running():
        await simulator.wait_until(lambda: simulator.watches(KIND) == 1, timeout=DEADLINE)
        before = asked(simulator)
        with simulator.failing(429, watches=True, headers={"Retry-After": "86400"}):
            simulator.drop_watches()
            await simulator.wait_until(lambda: asked(simulator) > before, timeout=DEADLINE)


TOKEN = "eyJhbGciOiJSUzI1NiJ9.service+account/token.signature0123456789"


async def said(status: int, body: bytes, reason: str) -> str:
    """What is shown of an answer to a client with a token."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()

    async with serving(answer, TOKEN) as login, connect(login, SystemClock(), "pod-1") as api:
        with pytest.raises((ApiError, Failure)) as caught:
            await api.read_secret("default", "s")
    return f"{caught.value}"


@pytest.mark.parametrize("status", [403, 500])
async def test_a_token_that_the_api_server_repeats_is_taken_out(status: int) -> None:
    """In whatever encoding: that is for the redactor's own tests."""
    in_body = await said(status, json.dumps({"message": f"no, {TOKEN}"}).encode(), "No")
    in_reason = await said(status, b"not JSON", f"no, {TOKEN}")
    for shown in (in_body, in_reason):
        assert "no, [redacted]" in shown
        assert TOKEN[:20] not in shown


@pytest.mark.parametrize("status", [403, 500])
async def test_a_long_text_with_control_characters_becomes_one_short_line(status: int) -> None:
    shown = await said(status, json.dumps({"message": "a\x1b[31m\n\u202eb" * 100_000}).encode(), "No")

    assert shown.isprintable()
    assert len(shown) < 700


async def test_deep_json_is_no_traceback() -> None:
    assert "No" in await said(403, b"[" * 100_000, "No")
