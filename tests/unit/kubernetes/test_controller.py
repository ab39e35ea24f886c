"""Which resources have a connector, from which status it starts, and what an error costs; in virtual time."""

import asyncio
import logging
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Never

import pytest

from buildkite_connector.kubernetes.client import AppliedStatus
from buildkite_connector.kubernetes.controller import RETRY_SECONDS, Controller
from buildkite_connector.kubernetes.resource import ObservedResource, read_resource
from buildkite_connector.model.directory import FULL_SCOPE, Counts
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.snapshot import StagedSnapshot, SyncID
from buildkite_connector.model.spec import ConnectorKey
from buildkite_connector.model.status import ConditionType, ConnectorStatus, Trigger
from fakes.virtual_time import START, virtual_time
from unit.kubernetes.controlled import Cluster, process


def bug(*_: object) -> Never:
    raise RuntimeError("a bug")


@virtual_time
async def test_a_resource_gets_a_connector_and_becomes_ready() -> None:
    async with process() as operator:
        operator.observe("acme")
        await asyncio.sleep(60)
        assert operator.cluster.reason("acme") is Reason.READY


@virtual_time
async def test_an_invalid_spec_is_reported_and_no_secret_is_read_for_it() -> None:
    async with process() as operator:
        operator.observe("acme", schedule={"interval": "3x"})
        await asyncio.sleep(600)
        assert operator.cluster.reason("acme") is Reason.SPEC_INVALID
        assert operator.cluster.secrets_read == []


@virtual_time
async def test_all_that_a_resource_asks_for_reaches_its_connector() -> None:
    async with process() as operator:
        failure = Failure(Reason.SPEC_INVALID, "no")
        asked = replace(sound(), generation=7, sync_request="now", accept_shrink="sync1", failure=failure)
        operator.controller.observe(asked)
        (connector,) = operator.controller.connectors()
        found = connector._state.desired
        assert (found.generation, found.spec, found.sync_request, found.accept_shrink, found.spec_error) == (
            7,
            asked.spec,
            "now",
            "sync1",
            failure,
        )


@virtual_time
async def test_a_resource_that_is_being_deleted_is_gone() -> None:
    async with process() as operator:
        operator.controller.observe(sound())
        await asyncio.sleep(60)
        operator.controller.observe(replace(sound(), uid="another", deleting=True))
        assert len(list(operator.controller.connectors())) == 1
        operator.controller.observe(replace(sound(), deleting=True))
        assert list(operator.controller.connectors()) == []
        await asyncio.sleep(10)
        assert (operator.setup.c1.closed, operator.setup.store.files) == (1, {})


@virtual_time
async def test_what_is_seen_after_the_end_begins_nothing() -> None:
    async with process() as operator:
        await operator.controller.close()
        operator.observe("acme")
        await asyncio.sleep(60)
        assert list(operator.controller.connectors()) == []
        assert operator.cluster.secrets_read == []


@pytest.mark.parametrize("turns", range(4))
@virtual_time
async def test_a_check_under_way_reads_no_secret_of_a_later_edit(turns: int) -> None:
    async with process() as operator:
        operator.observe("acme")
        for _ in range(turns):
            await asyncio.sleep(0)
        operator.observe("acme", schedule={"interval": "3x"})
        await asyncio.sleep(0)
        assert set(operator.cluster.secrets_read) <= {"shared"}  # and not the empty name of a spec that is invalid


@virtual_time
async def test_a_resource_whose_end_breaks_is_forgotten_and_so_are_others(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    end = Controller._end
    monkeypatch.setattr(Controller, "_end", lambda *args: end(*args) if "acme" in args[1] else bug())
    async with process() as operator:
        for name in ("odd", "acme"):
            operator.observe(name)
            operator.controller.forget("default", name, f"uid-{name}")
        assert [each.name for each in operator.controller.connectors()] == ["default.odd"]
    assert "a resource that is gone could not be closed" in caplog.text


@virtual_time
async def test_a_status_whose_events_cannot_be_made_is_not_written_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("buildkite_connector.kubernetes.controller.draft_events", bug)
    async with process() as operator:
        operator.observe("acme")
        await asyncio.sleep(60)
        written = [status for _, status in operator.cluster.writes]
        assert [after for before, after in pairwise(written) if before == after] == []
    assert "no event could be made of a change" in caplog.text


@virtual_time
async def test_a_standby_observes_and_touches_nothing() -> None:
    async with process(acting=False) as standby:
        standby.observe("acme")
        await asyncio.sleep(3600)
        assert standby.cluster.writes == []
        assert standby.setup.buildkite.preflights == 0
        assert standby.setup.c1.hellos == []


@virtual_time
async def test_a_standby_that_starts_to_act_starts_from_the_newest_status_not_from_the_first() -> None:
    cluster = Cluster()
    async with process(cluster) as leader, process(cluster, acting=False) as standby:
        leader.observe("acme")
        await asyncio.sleep(60)
        standby.observe("acme")
        await asyncio.sleep(3 * 3600)
        standby.observe("acme")
        syncs = len(leader.setup.buildkite.collections)
        assert syncs == 4
        newest = cluster.statuses["acme"]
        await leader.controller.stop_acting()
        standby.controller.start_acting()
        await asyncio.sleep(60)
        assert standby.setup.buildkite.collections == []
        assert cluster.statuses["acme"].next_sync_time == newest.next_sync_time
        await asyncio.sleep(3600)
        assert len(standby.setup.buildkite.collections) == 1
        last = cluster.statuses["acme"].last_sync
        assert last is not None
        assert last.trigger is Trigger.SCHEDULE
        assert last.started_at - START >= timedelta(hours=4)
        assert len(leader.setup.buildkite.collections) == syncs


@virtual_time
async def test_who_stops_acting_ends_its_sessions_and_keeps_its_files() -> None:
    async with process() as operator:
        operator.observe("acme")
        await asyncio.sleep(60)
        await operator.controller.stop_acting()
        assert operator.cluster.drains == 1  # while it may still post events
        polls, writes = operator.setup.c1.polls, len(operator.cluster.writes)
        assert operator.setup.c1.closed == 1
        assert len(operator.setup.store.files) == 1
        operator.observe("acme")
        await asyncio.sleep(3 * 3600)
        assert (operator.setup.c1.polls, len(operator.cluster.writes)) == (polls, writes)


@virtual_time
async def test_one_that_stops_acting_has_closed_what_was_deleted_a_moment_before() -> None:
    async with process() as operator:
        operator.observe("acme")
        await asyncio.sleep(60)
        operator.controller.forget("default", "acme", "uid-acme")
        await operator.controller.stop_acting()
        assert operator.setup.c1.closed == 1
        assert operator.setup.store.files == {}


@virtual_time
async def test_a_deleted_resource_leaves_no_session_and_no_file() -> None:
    async with process() as operator:
        operator.observe("acme")
        await asyncio.sleep(60)
        operator.controller.forget("default", "acme", "uid-acme")
        await asyncio.sleep(10)
        assert operator.setup.c1.closed == 1
        assert operator.setup.store.files == {}
        writes = len(operator.cluster.writes)
        await asyncio.sleep(3 * 3600)
        assert len(operator.cluster.writes) == writes


@virtual_time
async def test_a_resource_made_anew_under_the_same_name_is_another_connector() -> None:
    async with process() as operator:
        operator.observe("acme", uid="first")
        await asyncio.sleep(60)
        del operator.cluster.statuses["acme"]
        operator.observe("acme", uid="second")
        await asyncio.sleep(60)
        assert operator.setup.c1.closed == 1
        assert {uid for uid, _ in operator.cluster.writes[-2:]} == {"second"}
        assert len(operator.setup.buildkite.collections) == 2
        operator.controller.forget("default", "acme", "first")
        await asyncio.sleep(60)
        assert operator.setup.c1.closed == 1


@virtual_time
async def test_one_made_anew_under_the_same_name_begins_once_the_former_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with process() as operator:
        store = operator.setup.store
        discard = store.discard

        async def slow(key: ConnectorKey) -> None:
            await asyncio.sleep(30)
            await discard(key)

        monkeypatch.setattr(store, "discard", slow)
        operator.observe("acme", uid="first")
        await asyncio.sleep(60)
        del operator.cluster.statuses["acme"]
        operator.observe("acme", uid="second")
        await asyncio.sleep(20)
        assert len(operator.setup.buildkite.collections) == 1
        await asyncio.sleep(60)
        assert (len(operator.setup.buildkite.collections), len(store.files)) == (2, 1)


@virtual_time
async def test_of_one_name_that_comes_and_goes_each_is_closed_before_the_next_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with process() as operator:
        store, closing, most = operator.setup.store, 0, 0

        async def slow(_: ConnectorKey) -> None:
            nonlocal closing, most
            closing += 1
            most = max(most, closing)
            await asyncio.sleep(30)
            closing -= 1

        monkeypatch.setattr(store, "discard", slow)
        for uid in ("first", "second"):
            operator.observe("acme", uid=uid)
            await asyncio.sleep(5)
            operator.controller.forget("default", "acme", uid)
        await asyncio.sleep(30)  # the first is closed, the second is being closed
        operator.cluster.statuses.clear()
        operator.observe("acme", uid="third")
        await asyncio.sleep(10)
        assert (closing, operator.cluster.statuses) == (1, {})
        await asyncio.sleep(60)
        assert (closing, most, operator.cluster.reason("acme")) == (0, 1, Reason.READY)
        assert operator.controller._closing == {}


@virtual_time
async def test_an_event_is_posted_once() -> None:
    async with process() as operator:
        operator.observe("acme")
        await asyncio.sleep(3 * 3600)
        assert operator.cluster.events.count(("acme", Reason.READY)) == 1


@virtual_time
async def test_a_resource_that_is_gone_when_its_status_is_written_ends_its_connector() -> None:
    async with process() as operator:
        operator.observe("acme")
        await asyncio.sleep(60)
        operator.cluster.gone.add("uid-acme")
        await asyncio.sleep(2 * 3600)  # the next sync changes the status
        assert operator.setup.c1.closed == 1
        assert operator.setup.store.files == {}


@virtual_time
async def test_of_two_that_c1_takes_for_one_the_younger_says_so_and_stays_away_from_c1() -> None:
    async with process() as operator:
        operator.observe("newer", created="2026-03-01T00:00:01Z", delivery={"hostID": "same"})
        operator.observe("older", created="2026-03-01T00:00:00Z", delivery={"hostID": "same"})
        await asyncio.sleep(120)
        assert operator.cluster.reason("older") is Reason.READY
        assert operator.cluster.reason("newer") is Reason.HOST_ID_TAKEN
        assert operator.cluster.reason("newer", ConditionType.STALLED) is Reason.HOST_ID_TAKEN
        ready = operator.cluster.statuses["newer"].condition(ConditionType.READY)
        assert ready is not None
        assert "default/older" in ready.message
        polls = operator.setup.c1.polls
        await asyncio.sleep(30)
        assert operator.setup.c1.polls - polls <= 1


@virtual_time
async def test_the_younger_takes_over_when_the_older_is_deleted() -> None:
    async with process() as operator:
        operator.observe("older", created="2026-03-01T00:00:00Z", delivery={"hostID": "same"})
        operator.observe("newer", created="2026-03-01T00:00:01Z", delivery={"hostID": "same"})
        await asyncio.sleep(120)
        assert operator.cluster.reason("newer") is Reason.HOST_ID_TAKEN
        operator.controller.forget("default", "older", "uid-older")
        await asyncio.sleep(15)
        assert operator.cluster.reason("newer") is Reason.READY


def test_a_transition_that_makes_an_event_makes_a_log_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    @virtual_time
    async def life() -> None:
        async with process() as operator:
            operator.setup.buildkite.refusal = operator.setup.rejected()
            operator.observe("acme")
            await asyncio.sleep(60)
            assert operator.cluster.events == [("acme", Reason.TOKEN_REJECTED)]

    life()
    (line,) = [record for record in caplog.records if record.getMessage() == "condition changed"]
    assert line.levelno == logging.WARNING
    fields = vars(line)
    assert fields["connector"] == "default.acme"
    assert fields["reason"] == "TokenRejected"
    assert fields["detail"] == "Buildkite rejected the token."


@virtual_time
async def test_a_crd_that_is_older_than_the_operator_is_one_event_for_each_connector() -> None:
    cluster = Cluster()
    cluster.schema.rejected()
    async with process(cluster) as operator:
        operator.observe("acme")
        operator.observe("other", hostID="other")
        await asyncio.sleep(3 * 3600)
    told = [name for name, reason in cluster.events if reason is Reason.KUBERNETES_REFUSED]
    assert sorted(told) == ["acme", "other"]


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


def broken(name: str = "broken", uid: str = "u1", version: str = "1") -> ObservedResource:
    metadata = {"namespace": "default", "name": name, "uid": uid, "generation": 1, "resourceVersion": version}
    found = read_resource({"metadata": metadata, "spec": {"credentialsSecretRef": {"name": f"secret-{name}"}}})
    assert found.failure is None
    odd = OddTime.fromisoformat("2026-03-01T00:00:00+00:00")
    return replace(found, status=ConnectorStatus(observed_generation=1, next_sync_time=odd))


def sound(name: str = "sound") -> ObservedResource:
    found = replace(broken(name, f"uid-{name}"), status=None)
    assert found.failure is None
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
        operator.setup.store.files[key, SyncID("s")] = StagedSnapshot(
            SyncID("s"), Path("s"), "ab", 1, Counts(1, 1, 1), FULL_SCOPE
        )
        operator.controller.observe(broken())
        await operator.controller.prune_snapshots()
        assert [each for each, _ in operator.setup.store.files] == [key]


@virtual_time
async def test_an_error_while_old_snapshots_are_removed_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async with process() as operator:
        operator.setup.store.files = None  # type: ignore[assignment]  # that is what is wrong
        await operator.controller.prune_snapshots()
        operator.setup.store.files = {}
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

    async def apply_status(
        self, resource: ObservedResource, status: ConnectorStatus, applied: AppliedStatus | None = None
    ) -> Any:
        if resource.name == "broken" and self.odd:
            self.tries += 1
            raise ZeroDivisionError
        return await super().apply_status(resource, status, applied)


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
