"""The watch when the definition is missing, or is deleted under it."""

import asyncio
import logging
import threading
from dataclasses import replace

import pytest

from buildkite_connector.kubernetes.client import KubernetesApi
from buildkite_connector.kubernetes.client_config import KubeconfigLogin
from buildkite_connector.kubernetes.schema import (
    GROUP,
    KIND,
    PLURAL,
    VERSION,
)
from buildkite_connector.kubernetes.watch import WatchSettings
from harness.definition import definition
from simulators.kubernetes.server import KubernetesDouble
from unit.kubernetes.watching import DEADLINE, NAME, RELIST_SECONDS, EventHandler, Watching, apply, severe, until_logged


@pytest.fixture
def hub() -> EventHandler:
    return EventHandler()


@pytest.fixture
def watching(hub: EventHandler, api: KubernetesApi, login: KubeconfigLogin) -> Watching:
    return Watching(hub, api, login)


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
                # kopf may find the connection of a watch closed before it is told of the 404
                [sentence] = [each for each in severe(caplog) if "failed; will retry" not in each]
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
