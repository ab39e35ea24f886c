"""An error of the operator itself for one resource: the others are served, and it is tried again; in virtual time."""

import asyncio
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from buildkite_connector.kubernetes.controller import RETRY_SECONDS
from buildkite_connector.kubernetes.resource import ObservedConnector, ObservedResource, read_resource
from buildkite_connector.model.directory import FULL_SCOPE, Counts
from buildkite_connector.model.failure import Reason
from buildkite_connector.model.snapshot import StagedSnapshot, SyncID
from buildkite_connector.model.spec import ConnectorKey
from buildkite_connector.model.status import ConnectorStatus
from fakes.virtual_time import virtual_time
from unit.kubernetes.test_controller import Cluster, process


class OddTime(datetime):
    """A time that cannot be compared while `odd`: a stand-in for whatever breaks a connector."""

    odd = True

    def __le__(self, other: Any) -> bool:
        if self.odd:
            raise ZeroDivisionError
        return super().__le__(other)


@pytest.fixture(autouse=True)
def odd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OddTime, "odd", True)


def broken(name: str = "broken", uid: str = "u1", version: str = "1") -> ObservedConnector:
    metadata = {"namespace": "default", "name": name, "uid": uid, "generation": 1, "resourceVersion": version}
    found = read_resource({"metadata": metadata, "spec": {"credentialsSecretRef": {"name": f"secret-{name}"}}})
    assert isinstance(found, ObservedConnector)
    odd = OddTime.fromisoformat("2026-03-01T00:00:00+00:00")
    return replace(found, status=ConnectorStatus(observed_generation=1, next_sync_time=odd))


def sound(name: str = "sound") -> ObservedConnector:
    found = replace(broken(name, f"uid-{name}"), status=None)
    assert isinstance(found, ObservedConnector)
    return found


def tracebacks(caplog: pytest.LogCaptureFixture) -> list[tuple[str, object]]:
    return [(each.getMessage(), vars(each)["connector"]) for each in caplog.records if each.exc_info]


BROKEN = ("a resource could not be served; it is tried again", "default.broken")


@virtual_time
async def test_it_costs_no_other_resource_anything_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async with process() as operator:
        for number in range(5):
            operator.controller.observe(broken(version=str(number)))
            operator.controller.observe(sound(f"sound-{number}"))
        await asyncio.sleep(2 * RETRY_SECONDS)
        assert {operator.cluster.reason(f"sound-{number}") for number in range(5)} == {Reason.READY}
        assert tracebacks(caplog) == [BROKEN]


@virtual_time
async def test_it_is_served_once_it_works_though_it_did_not_change(monkeypatch: pytest.MonkeyPatch) -> None:
    async with process() as operator:
        operator.controller.observe(broken())
        monkeypatch.setattr(OddTime, "odd", False)
        await asyncio.sleep(RETRY_SECONDS + 60)
        assert operator.cluster.reason("broken") is Reason.READY


@virtual_time
async def test_it_is_served_once_it_changes(caplog: pytest.LogCaptureFixture) -> None:
    async with process() as operator:
        operator.controller.observe(broken())
        operator.controller.observe(replace(broken(), status=None))
        await asyncio.sleep(60)
        assert operator.cluster.reason("broken") is Reason.READY
        operator.controller.observe(broken(uid="u2"))
        assert tracebacks(caplog) == [BROKEN, BROKEN]


@virtual_time
async def test_it_is_not_tried_again_once_it_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    async with process() as operator:
        operator.controller.observe(broken())
        operator.controller.forget("default", "broken", "u1")
        monkeypatch.setattr(OddTime, "odd", False)
        await asyncio.sleep(2 * RETRY_SECONDS)
        assert "broken" not in operator.cluster.statuses


@virtual_time
async def test_a_standby_that_begins_to_act_serves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    async with process(acting=False) as operator:
        for resource in (sound("first"), broken(), sound("last")):
            operator.controller.observe(resource)
        operator.controller.start_acting()
        await asyncio.sleep(60)
        assert [operator.cluster.reason(name) for name in ("first", "last")] == [Reason.READY] * 2
        monkeypatch.setattr(OddTime, "odd", False)
        await asyncio.sleep(RETRY_SECONDS + 60)
        assert operator.cluster.reason("broken") is Reason.READY


@virtual_time
async def test_what_is_staged_for_it_is_kept() -> None:
    async with process() as operator:
        key = ConnectorKey("default.broken")
        operator.world.store.files[key, SyncID("s")] = StagedSnapshot(
            SyncID("s"), Path("s"), "ab", 1, Counts(1, 1, 1), FULL_SCOPE
        )
        operator.controller.observe(broken())
        await operator.controller.prune_snapshots()
        assert [each for each, _ in operator.world.store.files] == [key]


@virtual_time
async def test_an_error_while_old_snapshots_are_removed_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async with process() as operator:
        operator.world.store.files = None  # type: ignore[assignment]  # that is what is wrong
        await operator.controller.prune_snapshots()
        operator.world.store.files = {}
        operator.controller.observe(sound())
        await asyncio.sleep(60)
        assert operator.cluster.reason("sound") is Reason.READY
    assert [each.getMessage() for each in caplog.records if each.exc_info] == ["old snapshots could not be removed"]


class OddCluster(Cluster):
    """Cannot take the statuses of one resource."""

    def __init__(self) -> None:
        super().__init__()
        self.tries = 0
        self.odd = True

    async def apply_status(self, resource: ObservedResource, status: ConnectorStatus) -> Any:
        if resource.name == "broken" and self.odd:
            self.tries += 1
            raise ZeroDivisionError
        return await super().apply_status(resource, status)


@virtual_time
async def test_a_status_that_cannot_be_written_is_tried_again_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    cluster = OddCluster()
    async with process(cluster) as operator:
        operator.controller.observe(sound("broken"))
        operator.controller.observe(sound())
        await asyncio.sleep(600)
        assert cluster.reason("sound") is Reason.READY
        assert cluster.tries > 5
        assert tracebacks(caplog) == [("a status write failed unexpectedly", "default.broken")]
        cluster.odd = False
        await asyncio.sleep(301)
        assert cluster.reason("broken") is Reason.READY
