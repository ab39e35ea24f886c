"""The watch over a real socket: what the hub is told, what it survives, and that it never dies in silence."""

import asyncio
import logging
from dataclasses import replace

import pytest

from buildkite_connector.kubernetes.client import KubernetesApi
from buildkite_connector.kubernetes.connection import ApiError
from buildkite_connector.kubernetes.informer import WatchSettings
from buildkite_connector.kubernetes.schema import (
    GROUP,
    KIND,
    PLURAL,
    VERSION,
)
from buildkite_connector.kubernetes.schema.crd import definition
from buildkite_connector.model.failure import Failure
from simulators.kubernetes.exchange import Exchange
from simulators.kubernetes.server import KubernetesSimulator
from unit.kubernetes.watching import (
    DEADLINE,
    NAME,
    EventHandler,
    Watching,
    apply,
    asked,
    severe,
    stop,
    until_logged,
)


async def test_ready_comes_after_every_object_of_the_start_was_told(
    simulator: KubernetesSimulator, hub: EventHandler, watching: Watching
) -> None:
    for number in range(50):
        apply(simulator, f"c{number}", f"team-{number % 5}")
    async with watching.running():
        assert len(hub.there) == 50


async def test_an_empty_cluster_is_ready_at_once(
    simulator: KubernetesSimulator, hub: EventHandler, watching: Watching
) -> None:
    async with watching.running():
        assert hub.there == {}


async def test_what_is_made_changed_and_deleted_is_told(
    simulator: KubernetesSimulator, hub: EventHandler, watching: Watching
) -> None:
    async with watching.running():
        uid = apply(simulator)
        await hub.until(lambda: "default.acme" in hub.there)
        apply(simulator, request="now")
        await hub.until(lambda: hub.request("default.acme") == "now")
        simulator.delete(KIND, "default", "acme")
        await hub.until(lambda: bool(hub.forgotten))
        assert hub.forgotten == [("default", "acme", uid)]


async def test_only_the_namespaces_asked_for_are_watched(
    simulator: KubernetesSimulator, hub: EventHandler, watching: Watching
) -> None:
    for namespace in ("one", "two", "three"):
        apply(simulator, "acme", namespace)
    async with watching.running(WatchSettings(("one", "three"))):
        apply(simulator, "late", "two")
        apply(simulator, "late", "three")
        await hub.until(lambda: "three.late" in hub.there)
        assert sorted(hub.there) == ["one.acme", "three.acme", "three.late"]


async def test_a_resource_comes_and_goes_with_its_labels(
    simulator: KubernetesSimulator, hub: EventHandler, watching: Watching
) -> None:
    for name, tier in (("gold", "gold"), ("tin", "tin"), ("bare", "")):
        apply(simulator, name, tier=tier)
    async with watching.running(WatchSettings(("default",), "tier in (gold, silver)")):
        for name, tier, there in (("bare", "silver", ["bare", "gold"]), ("gold", "tin", ["bare"])):
            apply(simulator, name, tier=tier)
            await hub.until(lambda there=there: sorted(hub.there) == [f"default.{each}" for each in there])  # type: ignore[misc]


async def test_a_selector_that_makes_no_sense_is_reported(simulator: KubernetesSimulator, api: KubernetesApi) -> None:
    with pytest.raises(ApiError, match="unable to parse requirement"):
        await api.list_connectors((), "tier=gold=tin")


async def test_it_writes_nothing_and_reads_nothing_but_the_resources(
    simulator: KubernetesSimulator, hub: EventHandler, watching: Watching
) -> None:
    apply(simulator)
    async with watching.running():
        apply(simulator, request="now")
        await hub.until(lambda: hub.request("default.acme") == "now")
    assert {each.method for each in simulator.transcript} == {"GET"}
    assert {each.resource for each in simulator.transcript} <= {"", PLURAL}
    assert "finalizers" not in simulator.get(KIND, "default", "acme")["metadata"]


async def test_a_signal_ends_it_in_order_and_leaves_the_tasks_of_others(
    simulator: KubernetesSimulator, watching: Watching
) -> None:
    before = asyncio.all_tasks()
    async with watching.running():
        foreign = asyncio.create_task(asyncio.Event().wait(), name="foreign")
        assert watching.ended == 0
    assert watching.ended == 1
    assert not foreign.cancelling()
    foreign.cancel()
    left = {each for each in asyncio.all_tasks() - before if "aiohttp" not in repr(each)}
    assert left <= {foreign}


async def test_a_second_signal_changes_nothing(
    simulator: KubernetesSimulator, watching: Watching, caplog: pytest.LogCaptureFixture
) -> None:
    task, ending, may_end = watching.begin(), asyncio.Event(), asyncio.Event()

    async def end() -> None:
        ending.set()
        await may_end.wait()

    watching.ending = end
    await watching.until_ready(task)
    stopping = asyncio.create_task(stop(task))
    await ending.wait()
    await asyncio.gather(*(stop(task, 0.1) for _ in range(2)), return_exceptions=True)
    may_end.set()
    await stopping
    assert [each for each in caplog.records if each.exc_info] == []


async def test_cancelling_it_ends_it_in_order(simulator: KubernetesSimulator, watching: Watching) -> None:
    task = watching.begin()
    await watching.until_ready(task)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert watching.ended == 1


class TestTrouble:
    async def test_a_watch_that_is_cut_goes_on_where_it_was(
        self, simulator: KubernetesSimulator, hub: EventHandler, watching: Watching
    ) -> None:
        apply(simulator)
        async with watching.running():
            await simulator.wait_until(lambda: simulator.watches(KIND) == 1, timeout=DEADLINE)
            told = hub.observations
            simulator.drop_watches()
            apply(simulator, request="now")
            await hub.until(lambda: hub.request("default.acme") == "now")
            assert hub.observations == told + 1

    @pytest.mark.parametrize("status", [503, None])
    async def test_an_outage_is_waited_out(
        self, simulator: KubernetesSimulator, hub: EventHandler, watching: Watching, status: int | None
    ) -> None:
        apply(simulator)
        async with watching.running():
            await simulator.wait_until(lambda: simulator.watches(KIND) == 1, timeout=DEADLINE)
            with simulator.outage(status):
                before = len(simulator.transcript)
                await simulator.wait_until(lambda: len(simulator.transcript) > before, timeout=DEADLINE)
                apply(simulator, request="now")
            await hub.until(lambda: hub.request("default.acme") == "now")

    async def test_what_was_deleted_while_the_watch_was_lost_is_forgotten(
        self, simulator: KubernetesSimulator, hub: EventHandler, watching: Watching
    ) -> None:
        uid = apply(simulator)
        apply(simulator, "stays")
        async with watching.running():
            await simulator.wait_until(lambda: simulator.watches(KIND) == 1, timeout=DEADLINE)
            with simulator.outage(503):
                simulator.delete(KIND, "default", "acme")
                simulator.expire_watches()
            await hub.until(lambda: bool(hub.forgotten))
            assert hub.forgotten == [("default", "acme", uid)]
            assert "default.stays" in hub.there

    async def test_a_stale_watch_ends_it_with_a_failure(
        self, simulator: KubernetesSimulator, watching: Watching
    ) -> None:
        task = watching.begin(WatchSettings(relist_seconds=0.2))
        await watching.until_ready(task)
        await simulator.wait_until(lambda: simulator.watches(KIND) == 1, timeout=DEADLINE)
        with simulator.failing(503, watches=True, headers={"Retry-After": "60"}):
            simulator.drop_watches()
            apply(simulator)
            with pytest.raises(Failure, match="default/acme changed, and the watch did not report"):
                async with asyncio.timeout(DEADLINE):
                    await task

    async def test_an_error_in_the_handler_costs_no_other_object_anything(
        self, simulator: KubernetesSimulator, hub: EventHandler, watching: Watching, caplog: pytest.LogCaptureFixture
    ) -> None:
        hub.broken = {"broken"}
        apply(simulator, "broken")
        apply(simulator, "sound")
        async with watching.running():  # ready, too
            assert list(hub.there) == ["default.sound"]
            apply(simulator, "broken", request="again")
            apply(simulator, "sound", request="now")
            await hub.until(lambda: hub.request("default.sound") == "now")
            hub.broken = set()
            apply(simulator, "broken")
            await hub.until(lambda: "default.broken" in hub.there)
        assert {str(each.exc_info[1]) for each in caplog.records if each.exc_info} == {"a bug"}  # logged by kopf

    async def test_a_watch_that_is_refused_again_and_again_is_one_line_of_the_log(
        self, simulator: KubernetesSimulator, hub: EventHandler, watching: Watching, caplog: pytest.LogCaptureFixture
    ) -> None:
        apply(simulator)
        with simulator.failing(410, watches=True):
            async with watching.running(WatchSettings(poll_seconds=0.01)):
                await simulator.wait_until(lambda: len(refused_watches(simulator, 410)) > 3, timeout=DEADLINE)
                apply(simulator, request="now")
                await hub.until(lambda: hub.request("default.acme") == "now")  # by the lists
        assert caplog.text.count("was interrupted and starts again") == 1


class TestRestoreOfEtcd:
    """Everything is set back: objects and versions are as they were at a backup."""

    SETTINGS = WatchSettings(poll_seconds=0.01)

    async def test_an_annotation_with_a_lower_version_is_told(
        self, simulator: KubernetesSimulator, hub: EventHandler, watching: Watching, caplog: pytest.LogCaptureFixture
    ) -> None:
        uid = apply(simulator)
        async with watching.running(self.SETTINGS):
            backup = simulator.backup()
            for number in range(50):
                apply(simulator, request=f"before {number}")
            await hub.until(lambda: hub.request("default.acme") == "before 49")
            simulator.restore(backup)
            watching.informer.relist_soon()
            await hub.until(lambda: ("default", "acme", uid) in hub.forgotten)
            apply(simulator, request="after the restore")
            await hub.until(lambda: hub.request("default.acme") == "after the restore")
        assert caplog.text.count("the cluster was set back, as by a restore of etcd") == 1

    async def test_a_cluster_that_only_goes_on_is_no_reason(
        self, simulator: KubernetesSimulator, hub: EventHandler, watching: Watching, caplog: pytest.LogCaptureFixture
    ) -> None:
        apply(simulator)
        async with watching.running(self.SETTINGS):
            for number in range(2):
                apply(simulator, request=str(number))
                lists = asked(simulator)
                watching.informer.relist_soon()
                await simulator.wait_until(lambda lists=lists: asked(simulator) > lists, timeout=DEADLINE)  # type: ignore[misc]
        assert hub.forgotten == []
        assert "set back" not in caplog.text


class TestCrdMissing:
    async def test_it_says_what_to_do_and_goes_on_when_that_is_done(
        self,
        bare_simulator: KubernetesSimulator,
        hub: EventHandler,
        watching: Watching,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        task = watching.begin(WatchSettings(poll_seconds=0.01))
        await bare_simulator.wait_until(
            lambda: [each.path for each in bare_simulator.transcript].count("/apis") > 3, timeout=DEADLINE
        )
        assert not watching.ready.is_set()
        told = [each for each in caplog.records if "kubectl apply -f crds/" in each.getMessage()]
        assert [each.levelno for each in told] == [logging.ERROR]
        bare_simulator.apply(definition())
        apply(bare_simulator)
        await watching.until_ready(task)
        await hub.until(lambda: "default.acme" in hub.there)
        await stop(task)

    async def test_it_can_be_stopped_meanwhile(self, bare_simulator: KubernetesSimulator, watching: Watching) -> None:
        task = watching.begin()
        await bare_simulator.wait_until(lambda: bool(bare_simulator.transcript), timeout=DEADLINE)
        await stop(task)

    async def test_a_missing_right_is_named(
        self, simulator: KubernetesSimulator, watching: Watching, caplog: pytest.LogCaptureFixture
    ) -> None:
        with simulator.failing(403):
            task = watching.begin(WatchSettings(poll_seconds=0.01))
            await simulator.wait_until(lambda: len(simulator.transcript) > 9, timeout=DEADLINE)
        assert caplog.text.count("the verbs get, list and watch") == 1
        await watching.until_ready(task)
        await stop(task)

    async def test_it_waits_for_discovery_too_as_kopf_would_watch_nothing_without(
        self, simulator: KubernetesSimulator, hub: EventHandler, watching: Watching, caplog: pytest.LogCaptureFixture
    ) -> None:
        apply(simulator)
        with simulator.failing(404, path=f"^/apis/{GROUP}/{VERSION}$"):
            task = watching.begin(WatchSettings(poll_seconds=0.01))
            await simulator.wait_until(
                lambda: [each.path.endswith(VERSION) for each in simulator.transcript].count(True) > 2, timeout=DEADLINE
            )
            assert not watching.ready.is_set()
        await watching.until_ready(task)
        assert "default.acme" in hub.there
        [sentence] = severe(caplog)
        assert sentence.startswith(f"The CRD {NAME} is not installed")
        await stop(task)


class TestCrdDeleted:
    SETTINGS = WatchSettings(poll_seconds=0.05)
    SENTENCE = "buildkiteconnectors.connectors.c1.ai was deleted, with all its resources: run `kubectl apply"

    @pytest.mark.parametrize("namespaces", [(), ("default", "team")])
    async def test_every_resource_is_forgotten_and_the_watch_goes_on_once_it_is_applied_again(
        self,
        simulator: KubernetesSimulator,
        hub: EventHandler,
        watching: Watching,
        caplog: pytest.LogCaptureFixture,
        namespaces: tuple[str, ...],
    ) -> None:
        async with watching.running(replace(self.SETTINGS, namespaces=namespaces)):
            for round_ in (1, 2):
                uids = {apply(simulator), apply(simulator, "late", "team")}
                await hub.until(lambda: len(hub.there) == 2)
                await simulator.wait_until(lambda: simulator.watches(KIND) == max(len(namespaces), 1), timeout=DEADLINE)
                caplog.clear()
                simulator.delete("CustomResourceDefinition", "", NAME)
                await hub.until(lambda: hub.there == {})
                assert {uid for _, _, uid in hub.forgotten[-2:]} == uids
                assert len(hub.forgotten) == 2 * round_
                await until_logged(self.SENTENCE, caplog)
                simulator.apply(definition())
                apply(simulator)
                await hub.until(lambda: "default.acme" in hub.there)
                [sentence] = severe(caplog)
                assert sentence.startswith(self.SENTENCE)

    async def test_what_the_watch_did_not_report_of_it_is_forgotten_too(
        self, simulator: KubernetesSimulator, hub: EventHandler, watching: Watching, caplog: pytest.LogCaptureFixture
    ) -> None:
        uid = apply(simulator)
        async with watching.running(self.SETTINGS):
            await simulator.wait_until(lambda: simulator.watches(KIND) == 1, timeout=DEADLINE)
            with simulator.outage(404):
                await hub.until(lambda: bool(hub.forgotten))
                assert hub.forgotten == [("default", "acme", uid)]
            await hub.until(lambda: "default.acme" in hub.there)
        assert len(severe(caplog)) == 1

    async def test_a_404_of_a_moment_closes_no_connector(
        self, simulator: KubernetesSimulator, hub: EventHandler, watching: Watching, caplog: pytest.LogCaptureFixture
    ) -> None:
        uid = apply(simulator, "gone")
        apply(simulator)
        async with watching.running(WatchSettings(poll_seconds=0.5)):
            await simulator.wait_until(lambda: simulator.watches(KIND) == 1, timeout=DEADLINE)
            with simulator.outage(404):
                await simulator.wait_until(lambda: simulator.transcript[-1].status == 404, timeout=DEADLINE)
                simulator.delete(KIND, "default", "gone")
            apply(simulator, request="now")
            await hub.until(lambda: hub.request("default.acme") == "now")
            await hub.until(lambda: bool(hub.forgotten))
            assert hub.forgotten == [("default", "gone", uid)]
        assert severe(caplog) == []


def refused_watches(simulator: KubernetesSimulator, status: int) -> list[Exchange]:
    return [each for each in simulator.transcript if each.path.endswith(PLURAL) and each.status == status]
