"""The state at the start, after an edit, after syncs and after deliveries: pure transitions."""

from dataclasses import replace

import pytest

from buildkite_connector.connector import transitions
from buildkite_connector.connector.shrink_guard import held
from buildkite_connector.connector.sight import Sight
from buildkite_connector.connector.state import Check, ConnectorState, Inputs, SyncRun
from buildkite_connector.connector.transitions import SyncResult
from buildkite_connector.model.directory import Counts, SyncScope
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.snapshot import StagedSnapshot, SyncID
from buildkite_connector.model.spec import Interval, Provisioning
from buildkite_connector.model.status import (
    HISTORY_LENGTH,
    Condition,
    ConditionStatus,
    ConditionType,
    ConnectorStatus,
    DeliveryRecord,
    HistoryEntry,
    Phase,
    TokenAccess,
    TokenStatus,
    Trigger,
)
from buildkite_connector.model.tasks import TaskID
from fakes.connector_states import (
    COUNTS,
    CREDENTIALS,
    DOWN,
    PREFLIGHT,
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
    restored,
    running,
    synced,
)

HOUR = 3600.0
TASK = TaskID("task1")
LIMITED = Failure(Reason.BUILDKITE_RATE_LIMITED, "Buildkite said 429.", retry_after=1000.0)
REFUSED = Failure(Reason.UPLOAD_FAILED, "C1 refused it.")
SHRUNK = Counts(20, 10, 300)


def staged_by(state: ConnectorState) -> StagedSnapshot:
    assert state.staged is not None
    return state.staged


def first() -> ConnectorState:
    """With the first sync under way."""
    return running(greeted(checked(new())), START)


def run_of(state: ConnectorState) -> SyncRun:
    assert state.sync is not None
    return state.sync


def done(sight: Sight | None = None) -> SyncResult:
    """Of the first sync, after 5 s."""
    record = ready().records.last_sync
    assert record is not None
    return SyncResult(record, staged_by(ready()), covered=3, sight=sight)


# An edit


def test_a_new_generation_is_due_at_once_and_counts_from_now() -> None:
    before = ready()
    state = transitions.desired_changed(before, desired(2), after(60))
    due = replace(before.records, next_sync_time=after(60).wall)
    assert state == replace(before, desired=desired(2), desired_since=after(60).monotonic, records=due)


def test_an_annotation_changes_nothing_else() -> None:
    before = ready()
    wanted = replace(before.desired, sync_request="now")
    assert transitions.desired_changed(before, wanted, after(60)) == replace(before, desired=wanted)


# A sync begins


def test_a_sync_starts_with_what_is_desired_now_and_echoes_the_request() -> None:
    state = greeted(checked(replace(new(), desired=replace(desired(), sync_request="now"))))
    before = replace(state, check=replace(state.check, sync_request=None))
    state = transitions.sync_admitted(before, SyncID("sync1"), after(5))
    spec = before.desired.spec
    assert state == replace(
        before,
        sync=SyncRun(SyncID("sync1"), Trigger.REQUEST, 1, CREDENTIALS, spec, PREFLIGHT, after(5), only_for_tasks=False),
        check=replace(before.check, sync_request="now"),
        records=replace(before.records, last_handled_sync_request="now"),
        requested_at=after(5).monotonic,
    )


def test_a_sync_that_only_a_task_asked_for_knows_it() -> None:
    run = run_of(running(asked(ready(), after(1000)), after(1000), "sync2"))
    assert (run.trigger, run.only_for_tasks) == (Trigger.TASK, True)


@pytest.mark.parametrize("state", [ready(), checked(new()), greeted(checked(new(), START, REJECTED))])
def test_a_sync_that_is_not_wanted_any_more_does_not_start(state: ConnectorState) -> None:
    assert running(state, after(10)) == state


def test_a_sync_that_was_cancelled_has_ended() -> None:
    assert transitions.sync_ended(first()) == replace(first(), sync=None)


# A sync succeeds


def test_a_sync_that_succeeds_changes_this_and_nothing_else() -> None:
    before = replace(failed(greeted(checked(new())), START), sync=first().sync)
    result = done()
    entry = HistoryEntry(
        SyncID("sync1"), Trigger.CHANGE, START.wall, after(5).wall, True, Reason.SYNC_SUCCEEDED, COUNTS
    )
    assert transitions.sync_succeeded(before, run_of(before), result, after(6), SHARE) == replace(
        before,
        sync=None,
        collected_for=Inputs(1, CREDENTIALS),
        collected_at=START.monotonic,
        staged=result.staged,
        sync_failure=None,
        changes=replace(before.changes, covered=3),
        records=replace(
            before.records,
            last_sync=result.record,
            last_sync_time=after(5).wall,
            last_successful_sync_time=after(5).wall,
            next_sync_time=after(HOUR).wall,
            consecutive_failures=0,
            history=(entry, *before.records.history),
        ),
    )


def test_a_new_snapshot_takes_the_place_of_the_one_before_and_is_undelivered() -> None:
    state = delivered(ready())
    assert not state.undelivered
    state = synced(state, after(HOUR), "sync2")
    assert (staged_by(state).sync_id, state.undelivered) == ("sync2", True)
    assert not new().undelivered


@pytest.mark.parametrize(("share", "seconds"), [(0.0, 0.95 * HOUR), (0.5, HOUR), (1.0, 1.05 * HOUR)])
def test_the_next_sync_is_spread_around_its_interval_from_the_start_of_the_last(share: float, seconds: float) -> None:
    state = transitions.sync_succeeded(first(), run_of(first()), done(), after(600), share)
    assert state.records.next_sync_time == after(seconds).wall


def test_after_an_edit_meanwhile_the_next_sync_is_due_when_the_first_ends() -> None:
    """What the sync of the older spec saw says nothing of the newer."""
    before = replace(first(), records=replace(first().records, token=TokenStatus(access=TokenAccess(None, 10))))
    edited = transitions.desired_changed(before, desired(2), after(1))
    state = transitions.sync_succeeded(edited, run_of(edited), done(Sight(None, 0)), after(5), SHARE)
    assert state.records.next_sync_time == after(5).wall
    assert state.records.token.access == TokenAccess(None, 10)
    assert state.outdated


# A sync fails


def test_a_sync_that_fails_changes_this_and_nothing_else() -> None:
    before = running(ready(), after(HOUR), "sync2")
    state = transitions.sync_failed(before, run_of(before), DOWN, after(HOUR + 10), SHARE)
    assert repr(state.sync_failure) == repr(DOWN)
    entry = HistoryEntry(SyncID("sync2"), Trigger.SCHEDULE, after(HOUR).wall, after(HOUR + 10).wall, False, DOWN.reason)
    assert state == replace(
        before,
        sync=None,
        sync_failure=state.sync_failure,
        sync_blocked_until=after(HOUR + 10).monotonic,
        records=replace(
            before.records,
            last_sync_time=after(HOUR + 10).wall,
            next_sync_time=after(HOUR + 10 + 22.5).wall,
            consecutive_failures=1,
            history=(entry, *before.records.history),
        ),
    )
    assert state.blocked_by is None


def test_the_backoff_doubles_with_each_failure() -> None:
    state = failed(ready(), after(HOUR))
    twice = failed(replace(state, records=replace(state.records, next_sync_time=START.wall)), after(HOUR + 30))
    assert twice.records.next_sync_time == after(HOUR + 30 + 45).wall


@pytest.mark.parametrize(("said", "holds"), [(1000.0, 1000.0), (1e6, 6 * HOUR)])
def test_what_buildkite_said_puts_every_next_sync_off(said: float, holds: float) -> None:
    state = failed(ready(), after(HOUR), Failure(Reason.BUILDKITE_RATE_LIMITED, "Slow down.", retry_after=said))
    assert state.sync_blocked_until == after(HOUR + holds).monotonic
    assert state.records.next_sync_time == after(HOUR + holds).wall


def test_a_longer_wait_that_buildkite_asked_for_before_still_holds() -> None:
    state = replace(running(ready(), after(HOUR), "sync2"), sync_blocked_until=9e9)
    assert transitions.sync_failed(state, run_of(state), LIMITED, after(HOUR), SHARE).sync_blocked_until == 9e9


def test_a_sync_that_credentials_fail_is_blocked_until_a_check_succeeds() -> None:
    state = failed(ready(), after(HOUR), REJECTED)
    assert repr(state.blocked_by) == repr(state.sync_failure) == repr(REJECTED)


def test_a_sync_that_older_credentials_failed_blocks_nothing_and_the_next_is_due_at_once() -> None:
    before = running(ready(), after(HOUR), "sync2")
    edited = transitions.desired_changed(before, desired(2), after(HOUR + 1))
    ended = transitions.sync_failed(edited, run_of(edited), REJECTED, after(HOUR + 2), SHARE)
    assert (ended.blocked_by, ended.sync_failure, ended.sync) == (None, None, None)
    assert ended.records.next_sync_time == ended.records.last_sync_time == after(HOUR + 2).wall
    assert (ended.records.history[0].reason, ended.records.consecutive_failures) == (REJECTED.reason, 1)


def test_a_failure_does_not_keep_the_frames_that_it_went_through() -> None:
    try:
        raise DOWN
    except Failure as failure:
        state = failed(ready(), after(HOUR), failure)
        state = transitions.delivery_failed(state, staged_by(state), failure)
    assert state.sync_failure is not None
    assert state.delivery_failure is not None
    assert state.sync_failure.__traceback__ is state.delivery_failure.__traceback__ is None


# The history


@pytest.mark.parametrize(
    ("accepted", "kept"),
    [
        (None, ["new", *(f"sync{number}" for number in range(9))]),
        ("sync3", ["new", *(f"sync{number}" for number in range(9))]),
        ("sync8", ["new", *(f"sync{number}" for number in range(9))]),
        ("sync9", ["new", *(f"sync{number}" for number in range(8)), "sync9"]),
    ],
)
@pytest.mark.parametrize("change", [synced, failed])
def test_the_history_has_the_newest_ten_and_the_accepted_one_among_them(
    change: object, accepted: str | None, kept: list[str]
) -> None:
    history = tuple(
        HistoryEntry(SyncID(f"sync{number}"), Trigger.SCHEDULE, START.wall, START.wall, True, Reason.SYNC_SUCCEEDED)
        for number in range(HISTORY_LENGTH)
    )
    before = greeted(checked(new()))
    before = replace(before, desired=replace(before.desired, accept_shrink=accepted))
    before = replace(before, records=replace(before.records, history=history))
    state = change(before, START, sync_id="new")  # type: ignore[operator]  # both take it
    assert [each.id for each in state.records.history] == kept


# Deliveries


def delivered(state: ConnectorState, at: float = 20) -> ConnectorState:
    return transitions.delivered(state, TASK, staged_by(state), after(at).wall)


def test_a_request_that_ends_leaves_the_others() -> None:
    state = asked(asked(ready(), after(10)), after(10), task="task2")
    assert [each.task for each in transitions.request_ended(state, TASK).requests] == ["task2"]


def test_a_delivery_is_recorded_and_ends_the_failure_of_the_one_before() -> None:
    before = ready()
    state = delivered(transitions.delivery_failed(before, staged_by(before), REFUSED))
    record = DeliveryRecord(after(20).wall, TASK, SyncID("sync1"), "sha-sync1", 1000, COUNTS)
    assert state == replace(before, records=replace(before.records, last_delivery=record))
    again = transitions.delivery_failed(state, staged_by(state), REFUSED)
    assert delivered(again, 90) == state, "the same once more changes no record"


def test_what_a_delivery_left_out_counts_as_at_the_one_before_or_as_none() -> None:
    partial = replace(staged_by(ready()), sha256="part", scope=SyncScope(grants=False), counts=Counts(90, 9, 0))
    for before, memberships in ((ready(), 0), (delivered(ready()), 300)):
        state = transitions.delivered(before, TaskID("task2"), partial, after(30).wall)
        assert state.records.last_delivery is not None
        assert state.records.last_delivery.counts == Counts(90, 9, memberships)


@pytest.mark.parametrize("reason", [Reason.SNAPSHOT_INVALID, Reason.STORAGE_FAILED, Reason.UPLOAD_FAILED])
@pytest.mark.parametrize("same", [True, False])
def test_a_damaged_file_is_dropped_while_it_is_the_staged_one(reason: Reason, same: bool) -> None:
    state = ready()
    sent = staged_by(state) if same else replace(staged_by(state), sync_id=SyncID("older"))
    after_it = transitions.delivery_failed(state, sent, Failure(reason, "It is damaged."))
    dropped = same and reason is not Reason.UPLOAD_FAILED
    assert after_it.staged == (None if dropped else state.staged)


def test_a_file_that_is_too_large_for_what_a_task_asks_stays() -> None:
    state = ready()
    too_large = Failure(Reason.SNAPSHOT_INVALID, "There are too many grants.", remedy=Remedy.EDIT)
    after_it = transitions.delivery_failed(state, staged_by(state), too_large)
    assert after_it.staged == state.staged
    assert after_it.delivery_failure is not None


# What the shrink guard makes of these records


def shrunk(accepted: str | None, *later: tuple[str, Counts]) -> str | None:
    """Why the last of these snapshots is held: `sync1` was delivered, then `sync2` lost most accounts."""
    state = delivered(ready())
    for hours, (sync_id, counts) in enumerate([("sync2", SHRUNK), *later], 1):
        state = synced(state, after(HOUR * hours), sync_id, counts)
    return held(state.records, staged_by(state), 50, accepted)


def test_a_shrunk_snapshot_is_held_with_both_counts_and_the_way_out() -> None:
    assert shrunk(None) == (
        "Snapshot sync2 has 20 accounts, the last delivered one had 100 (80 % fewer, more than the 50 % of"
        " delivery.shrinkGuard.maxDropPercent). It is held. If this is right, release it with the annotation"
        " connectors.c1.ai/accept-shrink=sync2 (in service mode, with --accept-shrink);"
        " if not, check the token's access in Buildkite."
    )


def test_accepting_a_sync_lets_it_go_and_those_after_it_that_are_like_it() -> None:
    assert shrunk("sync2") is None
    assert shrunk("sync2", ("sync3", SHRUNK)) is None
    assert shrunk("sync2", ("sync3", Counts(2, 10, 300))) is not None
    assert shrunk("sync1") is not None, "it was delivered before"


def test_a_delivered_snapshot_and_one_before_the_first_delivery_are_never_held() -> None:
    less = Counts(0, 0, 0)
    assert held(delivered(ready()).records, replace(staged_by(ready()), counts=less), 50, None) is None
    assert held(ready().records, replace(staged_by(ready()), sync_id=SyncID("sync2"), counts=less), 50, None) is None


def test_what_a_task_leaves_out_has_not_shrunk() -> None:
    partial = replace(
        staged_by(ready()), sync_id=SyncID("sync2"), scope=SyncScope(grants=False), counts=Counts(100, 10, 0)
    )
    assert held(delivered(ready()).records, partial, 50, None) is None


# What a process begins with, made of the status that the one before it wrote


ON = Provisioning(enabled=True)


def written(**changes: object) -> ConnectorStatus:
    """What a process that staged `sync1` has written."""
    return replace(replace(ready().records, observed_generation=1), **changes)  # type: ignore[arg-type]  # checked by the dataclass


def test_a_new_connector_is_due_at_once() -> None:
    state = new()
    assert state.records.next_sync_time == START.wall
    assert (state.collected_for, state.desired_since) == (None, START.monotonic)


def test_a_known_generation_keeps_its_time_its_inputs_and_its_age() -> None:
    state = restored(written(), after(60))
    assert state.records.next_sync_time == after(HOUR).wall
    assert state.collected_for == Inputs(1, None)
    assert state.desired_since == float("-inf")


@pytest.mark.parametrize("changes", [{"observed_generation": 7}, {"phase": Phase.SYNCING}])
def test_a_changed_resource_and_an_interrupted_sync_are_due_at_once(changes: dict[str, object]) -> None:
    assert restored(written(**changes), after(60)).records.next_sync_time == after(60).wall


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
    assert transitions.still_serves(desired(), written(**changes), after(60)) is serves
    assert not transitions.still_serves(desired(provisioning=ON), written(**changes), after(60))


@pytest.mark.parametrize(("status", "kept"), [(ConditionStatus.FALSE, True), (ConditionStatus.TRUE, False)])
def test_a_failure_that_was_reported_is_kept(status: ConditionStatus, kept: bool) -> None:
    condition = Condition(ConditionType.SYNCED, status, DOWN.reason, DOWN.message, 1, last_transition_time=START.wall)
    failure = restored(written(conditions=(condition,)), after(60)).sync_failure
    assert (failure is not None and (failure.reason, failure.message) == (DOWN.reason, DOWN.message)) is kept


@pytest.mark.parametrize(
    ("ended", "at", "failures", "blocked"),
    [
        (0.0, 1000.0, 1, 1000.0),  # Buildkite said so: our own backoff is 30 s at most
        (0.0, 30.0, 1, 0.0),
        (0.0, 1000.0, 0, 0.0),
        (0.0, 1e6, 1, 6 * HOUR + 10.0),
    ],
)
def test_what_buildkite_said_outlives_a_restart(ended: float, at: float, failures: int, blocked: float) -> None:
    status = written(last_sync_time=after(ended).wall, next_sync_time=after(at).wall, consecutive_failures=failures)
    state = restored(status, after(10), schedule=Interval(1e6))
    assert state.sync_blocked_until == pytest.approx(after(blocked).monotonic if blocked else 0.0)


def test_a_new_connector_begins_with_an_empty_status_and_knows_nothing() -> None:
    state = new()
    assert state == ConnectorState(
        desired=state.desired, desired_since=START.monotonic, records=ConnectorStatus(next_sync_time=START.wall)
    )
    assert state.check == Check()


def test_a_next_sync_time_is_no_further_ahead_than_the_schedule_reaches() -> None:
    state = restored(written(next_sync_time=after(9 * HOUR).wall), after(60))
    assert state.records == written(next_sync_time=after(60 + 1.05 * HOUR).wall)


def test_a_known_generation_without_a_time_keeps_none() -> None:
    assert restored(written(next_sync_time=None), after(60)).records == written(next_sync_time=None)


def test_an_unknown_generation_has_no_known_inputs_and_counts_from_now() -> None:
    state = restored(written(observed_generation=7), after(60))
    assert (state.desired_since, state.collected_for) == (after(60).monotonic, None)


@pytest.mark.parametrize("missing", ["last_sync_time", "next_sync_time"])
def test_a_status_without_its_times_puts_nothing_off(missing: str) -> None:
    times: dict[str, object] = {"last_sync_time": START.wall, "next_sync_time": after(1000).wall, missing: None}
    assert restored(written(consecutive_failures=1, **times), after(10)).sync_blocked_until == 0.0
