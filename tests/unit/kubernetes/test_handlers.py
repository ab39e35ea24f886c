"""kopf's handlers over a real socket: how they end, and faults of the API server that must not spread."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from types import AsyncGeneratorType
from typing import Any

import kopf
import pytest

from buildkite_connector.kubernetes.client import KubernetesApi, Written
from buildkite_connector.kubernetes.informer import WatchSettings, watch_lost
from buildkite_connector.kubernetes.schema import KIND, PLURAL
from buildkite_connector.kubernetes.schema.crd import definition
from buildkite_connector.kubernetes.watch import WatchSession
from buildkite_connector.model.failure import Failure
from buildkite_connector.model.status import ConnectorStatus
from simulators.kubernetes.server import KubernetesSimulator
from unit.kubernetes.watching import DEADLINE, EventHandler, Watching, apply, severe, stop, until_logged


@pytest.fixture
def hub() -> EventHandler:
    return EventHandler()


@pytest.fixture
def watching(hub: EventHandler, api: KubernetesApi) -> Watching:
    return Watching(hub, api)


def asked(simulator: KubernetesSimulator) -> int:
    return sum(each.path.endswith(PLURAL) for each in simulator.transcript)


@pytest.mark.parametrize("turns", range(0, 14, 2))
async def test_a_signal_that_meets_a_watch_as_it_breaks_off_ends_it_too(
    simulator: KubernetesSimulator, watching: Watching, monkeypatch: pytest.MonkeyPatch, turns: int
) -> None:
    """kopf's watcher can miss that it is cancelled while it ends a watch. The turn in which it does is among these."""
    sessions: list[WatchSession] = []

    class Session(WatchSession):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            sessions.append(self)

    monkeypatch.setattr("buildkite_connector.kubernetes.handlers.WatchSession", Session)
    task = watching.begin()
    await watching.until_ready(task)
    for offset in (0, 1):
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(turns + offset):
            await asyncio.sleep(0)
        sessions[0].begin_anew()
    async with asyncio.timeout(DEADLINE):
        await task
    assert watching.ended == 1


async def test_it_runs_as_a_user_that_has_no_name(
    simulator: KubernetesSimulator, watching: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container: neither a variable nor /etc/passwd names the user."""

    def nobody(number: int) -> None:
        raise KeyError(number)

    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    task = watching.begin()
    await watching.until_ready(task)
    os.kill(os.getpid(), signal.SIGTERM)
    async with asyncio.timeout(DEADLINE):
        await task
    assert watching.ended == 1


async def test_two_signals_at_once_are_one(
    simulator: KubernetesSimulator, watching: Watching, caplog: pytest.LogCaptureFixture
) -> None:
    task = watching.begin()
    await watching.until_ready(task)
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGTERM)
    async with asyncio.timeout(DEADLINE):
        await task
    assert watching.ended == 1
    assert severe(caplog) == []


@pytest.mark.parametrize("turns", range(4, 22, 3))
async def test_no_generator_of_kopf_is_left_for_asyncio_to_close(
    simulator: KubernetesSimulator, watching: Watching, turns: int
) -> None:
    """asyncio closes them in no order, and then logs that an outer one failed."""
    hooks, begun = sys.get_asyncgen_hooks(), list[AsyncGeneratorType[Any, Any]]()

    def begin(generator: AsyncGenerator[Any, Any]) -> None:
        assert hooks.firstiter is not None
        assert isinstance(generator, AsyncGeneratorType)
        hooks.firstiter(generator)
        if generator.ag_code.co_filename.startswith(str(Path(kopf.__file__).parent)):
            begun.append(generator)

    sys.set_asyncgen_hooks(firstiter=begin)
    task = watching.begin()
    await watching.until_ready(task)
    for number in range(30):
        apply(simulator, f"n{number}")
    for _ in range(turns):  # kopf is amid the events
        await asyncio.sleep(0)
    await stop(task)
    sys.set_asyncgen_hooks(firstiter=hooks.firstiter)
    assert len(begun) > 3
    assert [each for each in begun if each.ag_frame is not None] == []


async def test_a_watch_that_is_found_stale_during_the_end_does_not_cut_it_short(
    simulator: KubernetesSimulator, watching: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = False

    def lost(*_: object) -> None:
        raise watch_lost("a test")

    async def end() -> None:
        nonlocal whole
        monkeypatch.setattr(watching.informer, "_relist", lost)
        await asyncio.sleep(0.3)  # several relists long
        whole = True

    watching.ending = end
    task = watching.begin(WatchSettings(relist_seconds=0.05))
    await watching.until_ready(task)
    await stop(task)
    assert whole


async def test_a_namespace_whose_list_is_not_found_costs_no_other_its_resources(
    simulator: KubernetesSimulator, hub: EventHandler, watching: Watching
) -> None:
    apply(simulator, "one", "a")
    apply(simulator, "two", "b")
    async with watching.running(WatchSettings(("a", "b"), poll_seconds=0.1)):
        with simulator.failing(404, path="namespaces/a/"):
            simulator.drop_watches()
            await hub.until(lambda: ("a", "one") in {each[:2] for each in hub.forgotten})
        await hub.until(lambda: {"a.one", "b.two"} <= hub.there.keys())


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 404},
        {
            "status": 200,
            "body": '{"type": "ADDED", "object": {"metadata": {"namespace": "a", "name": "a", "uid": "u"}}}\n'
            '{"odd": 1}\n',
        },
    ],
    ids=["the watch is not found", "an event, then an odd one"],
)
async def test_a_watch_that_ends_again_and_again_is_not_asked_for_without_a_pause(
    simulator: KubernetesSimulator, hub: EventHandler, watching: Watching, fault: dict[str, Any]
) -> None:
    apply(simulator)
    async with watching.running(WatchSettings(poll_seconds=1.0)):
        before = asked(simulator)
        with simulator.failing(**fault, watches=True):
            simulator.drop_watches()
            await asyncio.sleep(2.5)  # a rate is measured
            assert asked(simulator) - before <= 25


async def test_a_crd_that_comes_late_and_is_older_is_soon_found_out(
    bare_simulator: KubernetesSimulator, api: KubernetesApi, watching: Watching, caplog: pytest.LogCaptureFixture
) -> None:
    older = definition()
    status = older["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]
    del status["token"]
    task = watching.begin(WatchSettings(poll_seconds=0.1))
    await asyncio.sleep(0.3)  # the first look found nothing
    bare_simulator.apply(older)
    await watching.until_ready(task)
    await until_logged("status.token", caplog)
    assert "status.token" in api.schema.outdated
    await stop(task)


async def test_a_status_that_is_not_found_for_a_moment_is_written_again(
    simulator: KubernetesSimulator, hub: EventHandler, api: KubernetesApi, watching: Watching
) -> None:
    apply(simulator)
    async with watching.running():
        resource = hub.there["default.acme"]
        changed = ConnectorStatus(consecutive_failures=1)
        with simulator.failing(404, path="/status$"), pytest.raises(Failure):
            await api.apply_status(resource, changed)
        assert await api.apply_status(resource, changed) is Written.WRITTEN
        simulator.delete(KIND, "default", "acme")
        assert await api.apply_status(resource, ConnectorStatus()) is Written.GONE
