"""The state after an edit and after syncs: pure transitions."""

from dataclasses import replace

import pytest

from buildkite_connector.connector import records, transitions
from buildkite_connector.connector.sight import Sight
from buildkite_connector.connector.state import ConnectorState, Inputs, SyncPhase, SyncRun
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.snapshot import StagedSnapshot, SyncID
from buildkite_connector.model.status import (
    HISTORY_LENGTH,
    TokenAccess,
    TokenStatus,
    Trigger,
)
from buildkite_connector.model.tasks import TaskID
from fakes.connector_states import (
    CREDENTIALS,
    DOWN,
    REJECTED,
    SHARE,
    START,
    after,
    asked,
    checked,
    desired,
    failed,
    greeted,
    new,
    ready,
    running,
    synced,
)

HOUR = 3600.0
TASK = TaskID("task1")
LIMITED = Failure(Reason.BUILDKITE_RATE_LIMITED, "Buildkite said 429.", retry_after=1000.0)


def staged_by(state: ConnectorState) -> StagedSnapshot:
    assert state.staged is not None
    return state.staged


# An edit


def test_a_new_generation_is_due_at_once_and_counts_from_now() -> None:
    state = transitions.desired_changed(ready(), desired(2), after(60))
    assert (state.desired.generation, state.desired_since) == (2, after(60).monotonic)
    assert state.records.next_sync_time == after(5).wall


def test_an_annotation_changes_nothing_else() -> None:
    before = ready()
    wanted = replace(before.desired, sync_request="now")
    assert transitions.desired_changed(before, wanted, after(60)) == replace(before, desired=wanted)


# A sync


def test_a_sync_starts_with_what_is_desired_now_and_echoes_the_request() -> None:
    state = greeted(checked(replace(new(), desired=replace(desired(), sync_request="now"))))
    state = replace(state, check=replace(state.check, sync_request=None))
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
    assert (state.collected_for, state.collected_at) == (Inputs(1, CREDENTIALS), after(HOUR).monotonic)
    assert state.records.next_sync_time == after(2 * HOUR).wall


def test_after_an_edit_meanwhile_the_next_sync_is_due_when_the_first_ends() -> None:
    state = running(greeted(checked(new())), START)
    edited = transitions.desired_changed(state, desired(2), after(1))
    done = ready()
    assert done.records.last_sync is not None
    assert done.staged is not None
    state = transitions.sync_succeeded(edited, done.records.last_sync, done.staged, after(5), SHARE)
    assert state.records.next_sync_time == after(5).wall
    assert state.outdated


def test_a_sync_that_succeeds_changes_this_and_nothing_else() -> None:
    before = failed(greeted(checked(new())), START)
    before = replace(before, sync=running(greeted(checked(new())), START).sync)
    done = ready()
    assert done.staged is not None
    assert done.records.last_sync is not None
    state = transitions.sync_succeeded(before, done.records.last_sync, done.staged, after(5), SHARE)
    assert state == replace(
        before,
        sync=None,
        collected_for=Inputs(1, CREDENTIALS),
        collected_at=START.monotonic,
        staged=done.staged,
        sync_failure=None,
        retry_at=float("inf"),
        records=records.sync_succeeded(before.records, done.records.last_sync, next_sync=after(HOUR).wall),
    )


def test_a_sync_that_fails_changes_this_and_nothing_else() -> None:
    before = running(ready(), after(HOUR), "sync2")
    state = transitions.sync_failed(before, DOWN, after(HOUR + 10), SHARE)
    wait = 22.5
    assert state.sync_failure is not None
    assert (state.sync_failure.reason, state.sync_failure.message) == (DOWN.reason, DOWN.message)
    assert state == replace(
        before,
        sync=None,
        sync_failure=state.sync_failure,
        sync_blocked_until=after(HOUR + 10).monotonic,
        retry_at=after(HOUR + 10 + wait).monotonic,
        records=records.sync_failed(
            before.records,
            sync_id=SyncID("sync2"),
            trigger=Trigger.SCHEDULE,
            started=after(HOUR).wall,
            finished=after(HOUR + 10).wall,
            failure=DOWN,
            next_sync=after(HOUR + 10 + wait).wall,
        ),
    )


def test_the_history_entry_of_an_accepted_sync_outlives_the_syncs_after_it() -> None:
    state = ready()
    state = replace(state, desired=replace(state.desired, accept_shrink="sync1"))
    for number in range(HISTORY_LENGTH + 2):
        state = replace(state, sync_blocked_until=0.0, records=replace(state.records, next_sync_time=START.wall))
        change = synced if number % 2 else failed
        state = change(state, after(HOUR), sync_id=f"later{number}")
        assert "sync1" in [each.id for each in state.records.history]
    assert len(state.records.history) == HISTORY_LENGTH


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
    state = transitions.sync_failed(replace(state, sync_blocked_until=9e9), LIMITED, after(HOUR), SHARE)
    assert state.sync_blocked_until == 9e9


def test_a_sync_that_credentials_fail_is_blocked_until_a_check_succeeds() -> None:
    state = failed(ready(), after(HOUR), REJECTED)
    assert state.blocked_by is not None
    assert state.blocked_by.reason is Reason.TOKEN_REJECTED


def test_a_sync_that_older_credentials_failed_blocks_nothing() -> None:
    state = running(ready(), after(HOUR), "sync2")
    edited = transitions.desired_changed(state, desired(2), after(HOUR + 1))
    assert transitions.sync_failed(edited, REJECTED, after(HOUR + 2), SHARE).check.failure is None


def test_a_sync_that_older_credentials_failed_is_in_the_history_and_the_next_is_due_at_once() -> None:
    state = running(ready(), after(HOUR), "sync2")
    edited = transitions.desired_changed(state, replace(desired(2), accept_shrink="sync1"), after(HOUR + 1))
    ended = transitions.sync_failed(edited, REJECTED, after(HOUR + 2), SHARE)
    assert ended == replace(
        edited,
        sync=None,
        records=records.sync_failed(
            edited.records,
            sync_id=SyncID("sync2"),
            trigger=Trigger.SCHEDULE,
            started=after(HOUR).wall,
            finished=after(HOUR + 2).wall,
            failure=REJECTED,
            next_sync=after(HOUR + 2).wall,
        ),
    )
    assert records.awaits_change(ended.records)


def test_a_failure_does_not_keep_the_frames_that_it_went_through() -> None:
    try:
        raise DOWN
    except Failure as failure:
        state = failed(ready(), after(HOUR), failure)
        state = transitions.delivery_failed(state, staged_by(state), failure)
    assert state.sync_failure is not None
    assert state.delivery_failure is not None
    assert state.sync_failure.__traceback__ is state.delivery_failure.__traceback__ is None


def test_a_sync_that_has_ended_already_fails_no_more() -> None:
    assert transitions.sync_failed(ready(), DOWN, after(HOUR), SHARE) == ready()


def test_a_sync_without_a_slot_fails_without_a_record() -> None:
    state = transitions.sync_queued(ready(), after(HOUR))
    assert transitions.sync_failed(state, DOWN, after(HOUR), SHARE) == replace(state, sync=None)


def test_the_next_sync_is_counted_from_the_start_of_the_last() -> None:
    state = synced(greeted(checked(new())), START, seconds=600.0)
    assert state.records.next_sync_time == after(HOUR).wall
    assert state.records.last_sync_time == after(600).wall


@pytest.mark.parametrize(("share", "seconds"), [(0.0, 0.95 * HOUR), (1.0, 1.05 * HOUR)])
def test_the_next_sync_is_spread_around_its_interval(share: float, seconds: float) -> None:
    done = ready()
    assert done.records.last_sync is not None
    state = running(greeted(checked(new())), START)
    state = transitions.sync_succeeded(state, done.records.last_sync, staged_by(done), after(5), share)
    assert state.records.next_sync_time == after(seconds).wall


def test_a_snapshot_of_a_sync_that_is_not_known_any_more_answers_no_waiting_task_and_is_outdated() -> None:
    done = ready()
    assert done.records.last_sync is not None
    unknown = greeted(checked(new()))
    state = transitions.sync_succeeded(unknown, done.records.last_sync, staged_by(done), after(5), SHARE)
    assert (state.collected_for, state.collected_at) == (None, float("-inf"))
    assert state.records.next_sync_time == after(5).wall
    assert state.outdated


def test_what_a_sync_of_an_older_spec_saw_says_nothing_of_the_newer() -> None:
    state = running(greeted(checked(new())), START)
    state = replace(state, records=replace(state.records, token=TokenStatus(access=TokenAccess(None, 10))))
    edited = transitions.desired_changed(state, desired(2), after(1))
    done = ready()
    assert done.records.last_sync is not None
    record, staged = done.records.last_sync, staged_by(done)
    ended = transitions.sync_succeeded(edited, record, staged, after(5), SHARE, sight=Sight(None, 0))
    assert ended.records.token.access == TokenAccess(None, 10)
