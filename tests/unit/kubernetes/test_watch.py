"""The watch over a real socket: what the hub is told, what it survives, and that it never dies in silence."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from buildkite_connector.kubernetes.client import KubernetesApi
from buildkite_connector.kubernetes.client_config import KubeconfigLogin
from buildkite_connector.kubernetes.resource import BrokenConnector, ObservedConnector
from buildkite_connector.kubernetes.schema.crd import definition
from buildkite_connector.kubernetes.schema.names import (
    API_VERSION,
    GROUP,
    KIND,
    PLURAL,
    SYNC_REQUESTED_AT,
    VERSION,
)
from buildkite_connector.kubernetes.watch import WatchSettings, run_watch
from buildkite_connector.model.failure import Failure
from simulators.kubernetes.server import KubernetesDouble

DEADLINE = 20.0
RELIST_SECONDS = 1.0
"""kopf must be ready within two relists, else the watch counts as stale."""


class EventHandler:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.there: dict[str, ObservedConnector | BrokenConnector] = {}
        self.forgotten: list[tuple[str, str, str]] = []
        self.observations = 0
        self.error: Exception | None = None
        self._told = asyncio.Event()

    def observe(self, resource: ObservedConnector | BrokenConnector) -> None:
        if self.error is not None:
            raise self.error
        self.there[resource.key] = resource
        self.observations += 1
        self._told.set()

    def forget(self, namespace: str, name: str, uid: str) -> None:
        self.there.pop(f"{namespace}.{name}", None)
        self.forgotten.append((namespace, name, uid))
        self._told.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE):
            while not holds():
                self._told.clear()
                await self._told.wait()

    def request(self, key: str) -> str | None:
        seen = self.there[key]
        assert isinstance(seen, ObservedConnector)
        return seen.sync_request


class Watching:
    """A watch under way, and how to start one."""

    def __init__(self, hub: EventHandler, api: KubernetesApi, login: KubeconfigLogin) -> None:
        self._hub, self._api, self._login = hub, api, login
        self.ready = asyncio.Event()
        self.stop = asyncio.Event()

    def begin(self, settings: WatchSettings | None = None) -> asyncio.Task[None]:
        return asyncio.create_task(
            run_watch(self._hub, self._api, self._login, settings or WatchSettings(), ready=self.ready, stop=self.stop)
        )

    async def until_ready(self, task: asyncio.Task[None]) -> None:
        becoming = asyncio.create_task(self.ready.wait())
        await asyncio.wait((task, becoming), timeout=DEADLINE, return_when=asyncio.FIRST_COMPLETED)
        becoming.cancel()
        assert self.ready.is_set(), task

    @asynccontextmanager
    async def running(self, settings: WatchSettings | None = None) -> AsyncIterator[None]:
        task = self.begin(settings)
        try:
            await self.until_ready(task)
            yield
        finally:
            self.stop.set()
            async with asyncio.timeout(DEADLINE):
                await task


@pytest.fixture
def hub() -> EventHandler:
    return EventHandler()


@pytest.fixture
def watching(hub: EventHandler, api: KubernetesApi, login: KubeconfigLogin) -> Watching:
    return Watching(hub, api, login)


NAME = f"{PLURAL}.{GROUP}"


def severe(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged as a warning or worse, but by the simulator's server; none of it may carry a traceback."""
    found = [each for each in caplog.records if each.levelno >= logging.WARNING and each.name != "aiohttp.server"]
    assert [each.getMessage() for each in found if each.exc_info] == []
    return [each.getMessage() for each in found]


async def until_logged(text: str, caplog: pytest.LogCaptureFixture) -> None:
    async with asyncio.timeout(DEADLINE):
        while text not in caplog.text:  # noqa: ASYNC110 - the log gives no event
            await asyncio.sleep(0.01)


def apply(double: KubernetesDouble, name: str = "acme", namespace: str = "default", request: str = "") -> str:
    """Make or change a resource; gives its uid."""
    manifest = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": name, "namespace": namespace, "annotations": {SYNC_REQUESTED_AT: request}},
        "spec": {"credentialsSecretRef": {"name": "s"}},
    }
    uid: str = double.apply(manifest)["metadata"]["uid"]
    return uid


async def test_ready_comes_after_every_object_of_the_start_was_told(
    double: KubernetesDouble, hub: EventHandler, watching: Watching
) -> None:
    for number in range(50):
        apply(double, f"c{number}", f"team-{number % 5}")
    async with watching.running():
        assert len(hub.there) == 50


async def test_an_empty_cluster_is_ready_at_once(
    double: KubernetesDouble, hub: EventHandler, watching: Watching
) -> None:
    async with watching.running():
        assert hub.there == {}


async def test_what_is_made_changed_and_deleted_is_told(
    double: KubernetesDouble, hub: EventHandler, watching: Watching
) -> None:
    async with watching.running():
        uid = apply(double)
        await hub.until(lambda: "default.acme" in hub.there)
        apply(double, request="now")
        await hub.until(lambda: hub.request("default.acme") == "now")
        double.delete(KIND, "default", "acme")
        await hub.until(lambda: bool(hub.forgotten))
        assert hub.forgotten == [("default", "acme", uid)]


async def test_a_spec_that_cannot_be_used_is_told_as_broken(
    bare_double: KubernetesDouble, hub: EventHandler, watching: Watching
) -> None:
    older = definition()
    schema = older["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    schema["spec"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    bare_double.apply(older)
    manifest = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "acme", "namespace": "default"}}
    bare_double.apply({**manifest, "spec": {"credentialsSecretRef": {"name": "s"}, "schedule": {"interval": "3x"}}})
    async with watching.running():
        seen = hub.there["default.acme"]
        assert isinstance(seen, BrokenConnector)
        assert seen.failure.message.startswith("spec.schedule.interval")


async def test_only_the_namespaces_asked_for_are_watched(
    double: KubernetesDouble, hub: EventHandler, watching: Watching
) -> None:
    for namespace in ("one", "two", "three"):
        apply(double, "acme", namespace)
    async with watching.running(WatchSettings(("one", "three"))):
        apply(double, "late", "two")
        apply(double, "late", "three")
        await hub.until(lambda: "three.late" in hub.there)
        assert sorted(hub.there) == ["one.acme", "three.acme", "three.late"]


async def test_it_writes_nothing_and_reads_nothing_but_the_resources(
    double: KubernetesDouble, hub: EventHandler, watching: Watching
) -> None:
    apply(double)
    async with watching.running():
        apply(double, request="now")
        await hub.until(lambda: hub.request("default.acme") == "now")
    assert {each.method for each in double.transcript} == {"GET"}
    assert {each.resource for each in double.transcript} <= {"", PLURAL}
    assert "finalizers" not in double.get(KIND, "default", "acme")["metadata"]


async def test_it_stops_when_told_and_leaves_no_thread(double: KubernetesDouble, watching: Watching) -> None:
    async with watching.running():
        assert [thread for thread in threading.enumerate() if thread.name.startswith("kopf")]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("kopf")]


async def test_its_end_cancels_no_task_that_is_not_its_own(double: KubernetesDouble, watching: Watching) -> None:
    async with watching.running():
        foreign = asyncio.create_task(asyncio.Event().wait())
    await asyncio.sleep(0)
    assert not foreign.done()
    foreign.cancel()


async def test_cancelling_it_ends_kopf_too(double: KubernetesDouble, watching: Watching) -> None:
    task = watching.begin()
    await watching.until_ready(task)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("kopf")]


class TestDefinitionMissing:
    async def test_it_says_what_to_do_and_goes_on_when_that_is_done(
        self,
        bare_double: KubernetesDouble,
        hub: EventHandler,
        watching: Watching,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        task = watching.begin(WatchSettings(poll_seconds=0.01))
        await bare_double.wait_until(
            lambda: [each.status for each in bare_double.transcript].count(404) > 3, timeout=DEADLINE
        )
        assert not watching.ready.is_set()
        told = [each for each in caplog.records if "kubectl apply -f crds/" in each.getMessage()]
        assert [each.levelno for each in told] == [logging.ERROR]
        bare_double.apply(definition())
        apply(bare_double)
        await watching.until_ready(task)
        await hub.until(lambda: "default.acme" in hub.there)
        watching.stop.set()
        await task

    async def test_it_can_be_stopped_meanwhile(self, bare_double: KubernetesDouble, watching: Watching) -> None:
        task = watching.begin()
        await bare_double.wait_until(lambda: bool(bare_double.transcript), timeout=DEADLINE)
        watching.stop.set()
        async with asyncio.timeout(DEADLINE):
            await task

    async def test_a_missing_right_is_named(
        self, double: KubernetesDouble, watching: Watching, caplog: pytest.LogCaptureFixture
    ) -> None:
        with double.failing(403):
            task = watching.begin(WatchSettings(poll_seconds=0.01))
            await double.wait_until(lambda: len(double.transcript) > 2, timeout=DEADLINE)
        assert caplog.text.count("the verbs get, list and watch") == 1
        await watching.until_ready(task)
        watching.stop.set()
        await task

    async def test_it_waits_for_discovery_too_as_kopf_would_watch_nothing_without(
        self, double: KubernetesDouble, hub: EventHandler, watching: Watching, caplog: pytest.LogCaptureFixture
    ) -> None:
        apply(double)
        with double.failing(404, path=f"^/apis/{GROUP}/{VERSION}$"):
            task = watching.begin(WatchSettings(poll_seconds=0.01))
            await double.wait_until(
                lambda: [each.path.endswith(VERSION) for each in double.transcript].count(True) > 2, timeout=DEADLINE
            )
            assert not watching.ready.is_set()
        await watching.until_ready(task)
        assert "default.acme" in hub.there
        assert severe(caplog) == []
        watching.stop.set()
        await task


class TestDefinitionDeleted:
    SETTINGS = WatchSettings(poll_seconds=0.05)
    SENTENCE = "buildkiteconnectors.connectors.c1.ai was deleted, and every resource with it: run `kubectl apply"

    @pytest.mark.parametrize("namespaces", [(), ("default", "team")])
    async def test_every_resource_is_forgotten_and_the_watch_goes_on_once_it_is_applied_again(
        self,
        double: KubernetesDouble,
        hub: EventHandler,
        watching: Watching,
        caplog: pytest.LogCaptureFixture,
        namespaces: tuple[str, ...],
    ) -> None:
        async with watching.running(replace(self.SETTINGS, namespaces=namespaces)):
            for round_ in (1, 2):
                uids = {apply(double), apply(double, "late", "team")}
                await hub.until(lambda: len(hub.there) == 2)
                await double.wait_until(lambda: double.watches(KIND) == max(len(namespaces), 1), timeout=DEADLINE)
                caplog.clear()
                double.delete("CustomResourceDefinition", "", NAME)
                await hub.until(lambda: hub.there == {})
                assert {uid for _, _, uid in hub.forgotten[-2:]} == uids
                assert len(hub.forgotten) == 2 * round_
                await until_logged(self.SENTENCE, caplog)
                double.apply(definition())
                apply(double)
                await hub.until(lambda: "default.acme" in hub.there)
                [sentence] = severe(caplog)
                assert sentence.startswith(self.SENTENCE)

    async def test_what_the_watch_did_not_report_of_it_is_forgotten_too(
        self, double: KubernetesDouble, hub: EventHandler, watching: Watching, caplog: pytest.LogCaptureFixture
    ) -> None:
        uid = apply(double)
        async with watching.running(self.SETTINGS):
            await double.wait_until(lambda: double.watches(KIND) == 1, timeout=DEADLINE)
            with double.outage(404):
                await hub.until(lambda: bool(hub.forgotten))
                assert hub.forgotten == [("default", "acme", uid)]
            await hub.until(lambda: "default.acme" in hub.there)
        assert len(severe(caplog)) == 1

    async def test_a_404_of_a_moment_closes_no_connector(
        self, double: KubernetesDouble, hub: EventHandler, watching: Watching, caplog: pytest.LogCaptureFixture
    ) -> None:
        uid = apply(double, "gone")
        apply(double)
        async with watching.running(WatchSettings(poll_seconds=0.5)):
            await double.wait_until(lambda: double.watches(KIND) == 1, timeout=DEADLINE)
            with double.outage(404):
                await double.wait_until(lambda: double.transcript[-1].status == 404, timeout=DEADLINE)
                double.delete(KIND, "default", "gone")
            apply(double, request="now")
            await hub.until(lambda: hub.request("default.acme") == "now")
            assert hub.forgotten == [("default", "gone", uid)]
        assert severe(caplog) == []

    async def test_a_relist_notices_it_when_the_watch_does_not(
        self, double: KubernetesDouble, hub: EventHandler, watching: Watching
    ) -> None:
        uid = apply(double)
        async with watching.running(WatchSettings(poll_seconds=0.05, relist_seconds=RELIST_SECONDS)):
            await double.wait_until(lambda: double.watches(KIND) == 1, timeout=DEADLINE)
            with double.failing(404, path=f"{PLURAL}$"):  # the open watch stays
                await hub.until(lambda: bool(hub.forgotten))
                assert hub.forgotten == [("default", "acme", uid)]
            await hub.until(lambda: "default.acme" in hub.there)

    async def test_it_can_be_stopped_meanwhile(
        self, double: KubernetesDouble, watching: Watching, caplog: pytest.LogCaptureFixture
    ) -> None:
        task = watching.begin()
        await watching.until_ready(task)
        await double.wait_until(lambda: double.watches(KIND) == 1, timeout=DEADLINE)
        double.delete("CustomResourceDefinition", "", NAME)
        await until_logged(self.SENTENCE, caplog)
        watching.stop.set()
        async with asyncio.timeout(DEADLINE):
            await task
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("kopf")]


class TestTrouble:
    async def test_a_watch_that_is_cut_goes_on_where_it_was(
        self, double: KubernetesDouble, hub: EventHandler, watching: Watching
    ) -> None:
        apply(double)
        async with watching.running():
            await double.wait_until(lambda: double.watches(KIND) == 1, timeout=DEADLINE)
            told = hub.observations
            double.drop_watches()
            apply(double, request="now")
            await hub.until(lambda: hub.request("default.acme") == "now")
            assert hub.observations == told + 1

    @pytest.mark.parametrize("status", [503, None])
    async def test_an_outage_is_waited_out(
        self, double: KubernetesDouble, hub: EventHandler, watching: Watching, status: int | None
    ) -> None:
        apply(double)
        async with watching.running():
            await double.wait_until(lambda: double.watches(KIND) == 1, timeout=DEADLINE)
            with double.outage(status):
                before = len(double.transcript)
                await double.wait_until(lambda: len(double.transcript) > before, timeout=DEADLINE)
                apply(double, request="now")
            await hub.until(lambda: hub.request("default.acme") == "now")

    async def test_what_was_deleted_while_the_watch_was_lost_is_forgotten(
        self, double: KubernetesDouble, hub: EventHandler, watching: Watching
    ) -> None:
        uid = apply(double)
        apply(double, "stays")
        async with watching.running(WatchSettings(relist_seconds=RELIST_SECONDS)):
            await double.wait_until(lambda: double.watches(KIND) == 1, timeout=DEADLINE)
            with double.outage(503):
                double.delete(KIND, "default", "acme")
                double.expire_watches()
            await hub.until(lambda: bool(hub.forgotten))
            assert hub.forgotten == [("default", "acme", uid)]
            assert "default.stays" in hub.there

    async def test_a_stale_watch_ends_it_with_a_failure(self, double: KubernetesDouble, watching: Watching) -> None:
        apply(double)
        task = watching.begin(WatchSettings(relist_seconds=RELIST_SECONDS))
        await watching.until_ready(task)
        await double.wait_until(lambda: double.watches(KIND) == 1, timeout=DEADLINE)
        with double.outage(503):  # kopf waits 1, 2, then 4 seconds: longer than two relists take
            before = len(double.transcript)
            await double.wait_until(lambda: len(double.transcript) > before + 5, timeout=DEADLINE)
        apply(double, request="now")
        with pytest.raises(Failure, match="default/acme changed, and the watch did not report"):
            async with asyncio.timeout(DEADLINE):
                await task

    async def test_an_error_in_the_hub_ends_it_rather_than_being_swallowed(
        self, double: KubernetesDouble, hub: EventHandler, watching: Watching
    ) -> None:
        hub.error = RuntimeError("a bug")
        apply(double)
        with pytest.raises(Failure, match="a bug"):
            async with asyncio.timeout(DEADLINE):
                await watching.begin()
