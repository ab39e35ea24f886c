"""The state after syncs, deliveries and restarts: pure transitions."""

from dataclasses import replace

import pytest

from buildkite_connector.connector import transitions
from buildkite_connector.connector.state import Delivery, Inputs, SyncPhase, SyncRun
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.schedule import Interval
from buildkite_connector.model.snapshot import SyncID
from buildkite_connector.model.status import (
    Condition,
    ConditionStatus,
    ConditionType,
    ConnectorStatus,
    Phase,
    Trigger,
)
from buildkite_connector.model.tasks import TaskID
from fakes.connector_states import (
    CREDENTIALS,
    DOWN,
    REJECTED,
    START,
    after,
    asked,
    checked,
    desired,
    failed,
    greeted,
    new,
    ready,
    restored,
    running,
    synced,
    waits,
)

HOUR = 3600.0
TASK = TaskID("task1")
LIMITED = Failure(Reason.BUILDKITE_RATE_LIMITED, "Buildkite said 429.", retry_after=1000.0)


def written(**changes: object) -> ConnectorStatus:
    """What a process that staged `sync1` has written."""
    return replace(replace(ready().records, observed_generation=1), **changes)  # type: ignore[arg-type]  # checked by the dataclass


# Another process


def test_a_new_connector_is_due_at_once_and_has_nothing_to_restore() -> None:
    state = new()
    assert state.records.next_sync_time == START.wall
    assert (state.restoring, state.collected_for, state.desired_since) == (False, None, START.monotonic)


def test_a_known_generation_keeps_its_time_its_inputs_and_its_age() -> None:
    state = restored(written(), after(60))
    assert state.records.next_sync_time == after(HOUR).wall
    assert state.collected_for == Inputs(1, None)
    assert state.desired_since == float("-inf")
    assert state.restoring


@pytest.mark.parametrize("changes", [{"observed_generation": 7}, {"phase": Phase.SYNCING}])
def test_a_changed_resource_and_an_interrupted_sync_are_due_at_once(changes: dict[str, object]) -> None:
    assert restored(written(**changes), after(60)).records.next_sync_time == after(60).wall


def test_a_status_without_a_sync_has_nothing_to_restore() -> None:
    state = restored(ConnectorStatus(observed_generation=1), START)
    assert (state.restoring, state.collected_for) == (False, None)


@pytest.mark.parametrize(
    ("changes", "serves"),
    [
        ({}, True),
        ({"next_sync_time": after(60).wall}, False),
        ({"next_sync_time": None}, False),
        ({"observed_generation": 7}, False),
        ({"phase": Phase.SYNCING}, False),
        ({"consecutive_failures": 1}, False),
    ],
)
def test_a_restored_file_serves_only_where_nothing_says_that_it_is_outdated(
    changes: dict[str, object], serves: bool
) -> None:
    staged = ready().staged
    state = transitions.snapshot_restored(restored(written(**changes), after(60)), staged)
    assert not state.restoring
    assert (state.staged, state.retired) == ((staged, ()) if serves else (None, (staged,)))


def test_a_file_that_is_not_there_is_restored_as_none() -> None:
    state = transitions.snapshot_restored(restored(written(), after(60)), None)
    assert (state.restoring, state.staged, state.retired) == (False, None, ())


@pytest.mark.parametrize(("status", "kept"), [(ConditionStatus.FALSE, True), (ConditionStatus.TRUE, False)])
def test_a_failure_that_was_reported_is_kept(status: ConditionStatus, kept: bool) -> None:
    condition = Condition(ConditionType.SYNCED, status, DOWN.reason, DOWN.message, 1, START.wall)
    failure = restored(written(conditions=(condition,)), after(60)).sync_failure
    assert (failure is not None and (failure.reason, failure.message) == (DOWN.reason, DOWN.message)) is kept


@pytest.mark.parametrize(
    ("ended", "at", "failures", "blocked"),
    [
        (0.0, 1000.0, 1, 1000.0),  # Buildkite said so: our own backoff is 30 s at most
        (0.0, 30.0, 1, 0.0),
        (0.0, 1000.0, 0, 0.0),
        (0.0, 1e6, 1, 6 * HOUR + 10.0),
        (71.0, 1000.0, 1, 0.0),  # the clock was set back by more than a minute
        (70.0, 1000.0, 1, 1000.0),
    ],
)
def test_what_buildkite_said_outlives_a_restart(ended: float, at: float, failures: int, blocked: float) -> None:
    status = written(last_sync_time=after(ended).wall, next_sync_time=after(at).wall, consecutive_failures=failures)
    state = restored(status, after(10), schedule=Interval(1e6))
    assert state.sync_blocked_until == pytest.approx(after(blocked).monotonic if blocked else 0.0)


# An edit


def test_a_new_generation_is_due_at_once_and_counts_from_now() -> None:
    state = transitions.desired_changed(ready(), desired(2), after(60))
    assert (state.desired.generation, state.desired_since) == (2, after(60).monotonic)
    assert state.records.next_sync_time == after(60).wall


def test_an_annotation_changes_nothing_else() -> None:
    before = ready()
    wanted = replace(before.desired, sync_request="now")
    assert transitions.desired_changed(before, wanted, after(60)) == replace(before, desired=wanted)


# A sync


def test_a_sync_starts_with_what_is_desired_now_and_echoes_the_request() -> None:
    state = greeted(checked(replace(new(), desired=replace(desired(), sync_request="now"))))
    state = running(state, after(5))
    assert state.sync == SyncRun(
        SyncPhase.RUNNING,
        id=SyncID("sync1"),
        trigger=Trigger.REQUEST,
        inputs=Inputs(1, CREDENTIALS),
        spec=state.desired.spec,
        preflight=state.check.preflight,
        started=after(5),
        only_for_tasks=False,
        queued_at=after(5).monotonic,
    )
    assert state.records.last_handled_sync_request == state.check.sync_request == "now"


def test_a_sync_that_only_a_task_asked_for_knows_it() -> None:
    state = running(asked(ready(), after(1000)), after(1000), "sync2")
    assert state.sync is not None
    assert (state.sync.trigger, state.sync.only_for_tasks) == (Trigger.TASK, True)


def test_a_sync_that_is_not_wanted_any_more_or_was_cancelled_does_not_start() -> None:
    assert running(ready(), after(10)).sync is None
    queued = transitions.sync_cancelling(transitions.sync_queued(greeted(checked(new())), START))
    assert transitions.sync_admitted(queued, SyncID("sync1"), START).sync is None
    unqueued = greeted(checked(new()))
    assert transitions.sync_admitted(unqueued, SyncID("sync1"), START).sync is None


def test_a_sync_is_cancelled_where_there_is_one() -> None:
    assert transitions.sync_cancelling(ready()) == ready()
    state = transitions.sync_cancelling(running(greeted(checked(new())), START))
    assert state.sync is not None
    assert state.sync.phase is SyncPhase.CANCELLING
    assert transitions.sync_ended(state).sync is None


def test_a_new_snapshot_takes_the_place_of_the_one_before() -> None:
    before = ready()
    state = synced(before, after(HOUR), "sync2")
    assert before.staged is not None
    assert state.staged is not None
    assert state.staged.sync_id == "sync2"
    assert state.retired == (before.staged,)
    assert (state.collected_for, state.collected_at) == (Inputs(1, CREDENTIALS), after(HOUR).monotonic)
    assert state.records.next_sync_time == after(2 * HOUR).wall


def test_after_an_edit_meanwhile_the_next_sync_is_due_when_the_first_ends() -> None:
    state = running(greeted(checked(new())), START)
    edited = transitions.desired_changed(state, desired(2), after(1))
    done = ready()
    assert done.records.last_sync is not None
    assert done.staged is not None
    state = transitions.sync_succeeded(edited, done.records.last_sync, done.staged, after(5), waits())
    assert state.records.next_sync_time == after(5).wall
    assert state.outdated


def test_a_failed_sync_waits_for_its_backoff_and_blocks_nothing() -> None:
    state = failed(ready(), after(HOUR))
    assert state.sync is None
    assert state.sync_failure is not None
    assert state.sync_failure.message == DOWN.message
    assert state.records.next_sync_time == after(HOUR + 22.5).wall
    assert state.sync_blocked_until == after(HOUR).monotonic
    assert state.blocked_by is None
    twice = failed(replace(state, records=replace(state.records, next_sync_time=START.wall)), after(HOUR + 30))
    assert twice.records.next_sync_time == after(HOUR + 30 + 45).wall


@pytest.mark.parametrize(("said", "holds"), [(1000.0, 1000.0), (1e6, 6 * HOUR)])
def test_what_buildkite_said_puts_every_next_sync_off(said: float, holds: float) -> None:
    state = failed(ready(), after(HOUR), Failure(Reason.BUILDKITE_RATE_LIMITED, "Slow down.", retry_after=said))
    assert state.sync_blocked_until == after(HOUR + holds).monotonic
    assert state.records.next_sync_time == after(HOUR + holds).wall


def test_a_longer_wait_that_buildkite_asked_for_before_still_holds() -> None:
    state = running(ready(), after(HOUR), "sync2")
    state = transitions.sync_failed(replace(state, sync_blocked_until=9e9), LIMITED, after(HOUR), waits())
    assert state.sync_blocked_until == 9e9


def test_a_sync_that_credentials_fail_is_blocked_until_a_check_succeeds() -> None:
    state = failed(ready(), after(HOUR), REJECTED)
    assert state.blocked_by is not None
    assert state.blocked_by.reason is Reason.TOKEN_REJECTED


def test_a_sync_that_older_credentials_failed_blocks_nothing() -> None:
    state = running(ready(), after(HOUR), "sync2")
    edited = transitions.desired_changed(state, desired(2), after(HOUR + 1))
    assert transitions.sync_failed(edited, REJECTED, after(HOUR + 2), waits()).check.failure is None


def test_a_sync_without_a_slot_fails_without_a_record() -> None:
    state = transitions.sync_queued(ready(), after(HOUR))
    assert transitions.sync_failed(state, DOWN, after(HOUR), waits()) == replace(state, sync=None)


# Deliveries and files


def test_a_delivery_keeps_its_file_until_its_task_ends() -> None:
    state = asked(asked(ready(), after(10)), after(10), task="task2")
    assert state.staged is not None
    state = transitions.delivery_started(transitions.request_ended(state, TASK), TASK, state.staged)
    assert [each.task for each in state.requests] == ["task2"]
    assert state.staged is not None
    assert state.deliveries == (Delivery(TASK, state.staged),)
    assert transitions.delivery_ended(state, TaskID("task2")).requests == ()
    assert transitions.delivery_ended(state, TASK).deliveries == ()


def test_a_delivery_clears_the_failure_and_is_recorded() -> None:
    state = ready()
    assert state.staged is not None
    state = transitions.delivery_failed(state, state.staged, Failure(Reason.UPLOAD_FAILED, "C1 refused it."))
    assert state.delivery_failure is not None
    assert state.staged is not None
    state = transitions.delivered(state, TASK, state.staged, after(20))
    assert state.delivery_failure is None
    record = state.records.last_delivery
    assert record is not None
    assert (record.task_id, record.sync_id, record.time) == (TASK, "sync1", after(20).wall)


@pytest.mark.parametrize("reason", [Reason.SNAPSHOT_INVALID, Reason.STORAGE_FAILED, Reason.UPLOAD_FAILED])
@pytest.mark.parametrize("same", [True, False])
def test_a_damaged_file_is_dropped_while_it_is_the_staged_one(reason: Reason, same: bool) -> None:
    state = ready()
    staged = state.staged
    assert staged is not None
    sent = staged if same else replace(staged, sync_id=SyncID("older"))
    state = transitions.delivery_failed(state, sent, Failure(reason, "It is damaged."))
    dropped = same and reason is not Reason.UPLOAD_FAILED
    assert (state.staged, state.retired) == ((None, (staged,)) if dropped else (staged, ()))


def test_a_removed_file_is_forgotten_and_no_other() -> None:
    one = ready().staged
    assert one is not None
    other = replace(one, sync_id=SyncID("other"))
    state = replace(ready(), retired=(one, other))
    state = transitions.discard_started(transitions.discard_started(state, one), other)
    assert state.discarding == (one, other)
    state = transitions.discarded(state, one)
    assert (state.retired, state.discarding) == ((other,), (other,))


def test_the_restore_begins_once() -> None:
    assert transitions.restore_started(restored(written(), after(60))).restore_begun


def test_the_next_sync_is_counted_from_the_start_of_the_last() -> None:
    state = synced(greeted(checked(new())), START, seconds=600.0)
    assert state.records.next_sync_time == after(HOUR).wall
    assert state.records.last_sync_time == after(600).wall
