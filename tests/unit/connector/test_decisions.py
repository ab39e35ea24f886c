"""What a connector begins: single states and moments."""

from dataclasses import replace

import pytest

from buildkite_connector.connector import transitions
from buildkite_connector.connector.actions import (
    Answer,
    CancelSync,
    CheckCredentials,
    OpenC1,
    QueueSync,
    Refuse,
    Restore,
)
from buildkite_connector.connector.decisions import decide, farthest_next_sync, why_sync
from buildkite_connector.connector.state import Check, ConnectorState, claimed_identity
from buildkite_connector.model.directory import Counts
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.schedule import Cron, Interval
from buildkite_connector.model.scope import ResourceKind, SyncScope
from buildkite_connector.model.spec import Credentials
from buildkite_connector.model.status import ConnectorStatus, Trigger
from buildkite_connector.model.tasks import TaskID
from buildkite_connector.timing.clock import Instant
from fakes.connector_states import (
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
)

HOUR = 3600.0
LATER = after(1000)
USERS = SyncScope(frozenset({ResourceKind.USER}))


def refusal(state: ConnectorState, now: Instant) -> Failure:
    [refused] = [each for each in decide(state, now) if isinstance(each, Refuse)]
    return refused.failure


def with_request(state: ConnectorState, value: str = "now") -> ConnectorState:
    return replace(state, desired=replace(state.desired, sync_request=value))


def test_a_new_connector_checks_its_credentials_first() -> None:
    assert decide(new(), START) == [CheckCredentials(full=True)]


def test_a_checked_connector_opens_its_session_and_awaits_its_answer_before_it_syncs() -> None:
    state = checked(new())
    identity = claimed_identity(state)
    assert identity is not None
    assert decide(state, START) == [OpenC1(identity)]
    assert decide(greeted(state), START) == [QueueSync()]


def test_a_ready_connector_does_nothing() -> None:
    assert decide(ready(), after(10)) == []


def test_what_a_former_process_left_is_restored_by_the_hash_of_the_last_sync() -> None:
    state = restored(replace(ready().records, observed_generation=1), after(10))
    assert decide(state, after(10)) == [Restore("sha-sync1"), CheckCredentials(full=True)]


# Why to sync


def test_the_schedule_is_why_at_its_time_and_not_before() -> None:
    state = ready()
    assert why_sync(state, after(HOUR - 0.001)) is None
    assert why_sync(state, after(HOUR)) is Trigger.SCHEDULE


def test_a_request_is_why_once() -> None:
    state = with_request(ready())
    assert why_sync(state, after(10)) is Trigger.REQUEST
    assert why_sync(synced(state, after(10), "sync2"), after(20)) is None


def test_another_secret_is_why() -> None:
    state = ready()
    state = replace(state, check=replace(state.check, credentials=Credentials("client", "secret", "other")))
    assert why_sync(state, after(10)) is Trigger.CHANGE


def test_a_task_is_why_when_no_snapshot_is_fresh_enough_for_it() -> None:
    state = asked(ready(), LATER)
    assert why_sync(state, LATER) is Trigger.TASK
    assert why_sync(asked(ready(), after(10)), after(10)) is None


def test_a_task_for_none_of_the_kinds_is_no_reason() -> None:
    state = asked(ready(kinds=USERS.kinds), LATER, SyncScope(frozenset({ResourceKind.TEAM})))
    assert why_sync(state, LATER) is None


@pytest.mark.parametrize(("retry_after", "waits_for"), [(50.0, 50.0), (1e6, 6 * HOUR)])
def test_what_buildkite_said_holds_for_a_request_up_to_that_second(retry_after: float, waits_for: float) -> None:
    limited = Failure(Reason.BUILDKITE_RATE_LIMITED, "Buildkite said 429.", retry_after=retry_after)
    state = with_request(failed(with_request(ready(), "first"), after(10), limited), "second")
    assert why_sync(state, after(10 + waits_for - 0.001)) is None
    assert why_sync(state, after(10 + waits_for)) is Trigger.REQUEST


def test_a_wall_clock_set_back_by_a_minute_is_no_reason_by_more_is() -> None:
    state = ready()
    assert why_sync(state, Instant(after(5 - 60).wall, 200.0)) is None
    assert why_sync(state, Instant(after(5 - 60.001).wall, 200.0)) is Trigger.SCHEDULE


def test_a_connector_that_never_synced_is_due_although_the_clock_was_set_back() -> None:
    assert why_sync(greeted(checked(new())), Instant(after(-HOUR).wall, 200.0)) is Trigger.CHANGE


# Answers


def test_a_fresh_snapshot_answers_with_what_the_task_asks_for() -> None:
    state = asked(ready(), after(10), USERS)
    assert state.staged is not None
    assert decide(state, after(10)) == [Answer(state.requests[0].task, state.staged, USERS)]


def test_a_snapshot_is_fresh_until_it_is_as_old_as_the_maximum() -> None:
    assert isinstance(decide(asked(ready(), after(604.9)), after(604.9))[0], Answer)
    assert decide(asked(ready(), after(605)), after(605))[0] == QueueSync()


def test_a_snapshot_that_ends_in_the_future_is_not_fresh() -> None:
    now = Instant(after(4).wall, 200.0)
    assert not any(isinstance(each, Answer) for each in decide(asked(ready(), now), now))


@pytest.mark.parametrize(("asked_at", "fresh"), [(-0.001, True), (0.0, True), (0.001, False)])
def test_a_sync_that_began_after_the_task_answers_it_whatever_the_maximum_age(asked_at: float, fresh: bool) -> None:
    state = asked(ready(max_snapshot_age=0.0), after(asked_at))
    assert any(isinstance(each, Answer) for each in decide(state, after(10))) is fresh


def test_nothing_leaves_while_the_secret_is_gone() -> None:
    state = asked(ready(), after(10))
    state = replace(state, check=Check(generation=1, failure=REJECTED))
    assert refusal(state, after(10)).reason is Reason.TOKEN_REJECTED


def test_nothing_leaves_from_before_an_edit() -> None:
    state = asked(replace(ready(), desired=desired(2)), after(10))
    assert not any(isinstance(each, Answer) for each in decide(state, after(10)))


def test_nothing_leaves_to_a_suspended_connectors_task() -> None:
    state = asked(ready(), after(10))
    state = replace(state, desired=replace(state.desired, spec=replace(state.desired.spec, suspend=True)))
    assert not any(isinstance(each, Answer) for each in decide(state, after(10)))


def test_a_task_for_none_of_the_kinds_is_told_both_and_which_field_decides() -> None:
    both = frozenset({ResourceKind.USER, ResourceKind.TEAM})
    state = ready(kinds=USERS.kinds)
    state = asked(state, after(10), SyncScope(frozenset({ResourceKind.TEAM})))
    told = refusal(state, after(10))
    expected = "The task asks for team, the connector is set to sync user only (spec.sync.resourceTypes)."
    assert (told.reason, told.message) == (Reason.SPEC_INVALID, expected)
    none = asked(ready(kinds=both), after(10), SyncScope(frozenset()))
    assert "sync team and user only" in refusal(none, after(10)).message


def test_a_task_is_refused_with_what_blocks_syncs() -> None:
    state = checked(asked(ready(), LATER), LATER, REJECTED)
    assert refusal(state, LATER).message == REJECTED.message


def test_a_task_is_refused_with_the_last_failure_until_the_backoff_ends() -> None:
    state = asked(failed(replace(ready(), desired=desired(1, max_snapshot_age=0.0)), after(HOUR)), after(HOUR + 1))
    at = state.records.next_sync_time
    assert at is not None
    wait = (at - START.wall).total_seconds()
    assert refusal(state, after(wait - 0.001)).message == DOWN.message
    assert decide(state, after(wait)) == [QueueSync()]


def test_a_task_waits_for_the_sync_that_is_under_way_although_the_one_before_failed() -> None:
    state = with_request(failed(ready(), after(HOUR)))
    state = asked(running(state, after(HOUR + 1)), LATER)
    assert decide(state, after(HOUR + 2)) == []


def test_a_task_before_the_time_that_a_check_was_told_is_refused_with_that_time() -> None:
    state = asked(replace(ready(), sync_blocked_until=after(LATER.monotonic).monotonic), LATER)
    told = refusal(state, LATER)
    assert told.reason is Reason.BUILDKITE_RATE_LIMITED
    assert told.message == "Buildkite asked for no requests for another 100 seconds; the next sync begins then."
    assert told.retry_after == 100.0


def test_that_time_is_over_at_its_last_second() -> None:
    state = asked(replace(ready(), sync_blocked_until=LATER.monotonic), LATER)
    assert decide(state, LATER) == [QueueSync()]


def test_a_held_snapshot_is_refused_with_the_sentence_that_the_status_has() -> None:
    state = synced(delivered(ready()), after(HOUR), "sync2", Counts(10, 10, 300))
    told = refusal(asked(state, after(HOUR + 10)), after(HOUR + 10))
    assert told.reason is Reason.SHRINK_HELD
    assert "connectors.c1.ai/accept-shrink=sync2" in told.message


def delivered(state: ConnectorState) -> ConnectorState:
    assert state.staged is not None
    return transitions.delivered(state, TaskID("task0"), state.staged, after(20))


# A sync under way


def test_a_sync_that_only_a_task_wanted_ends_with_it() -> None:
    state = running(asked(ready(), LATER), LATER, "sync2")
    assert decide(replace(state, requests=()), LATER) == [CancelSync("the task that asked for it was cancelled")]


def test_a_sync_that_another_task_wants_too_goes_on() -> None:
    state = running(asked(ready(), LATER), LATER, "sync2")
    assert decide(state, LATER) == []


def test_a_task_s_sync_that_the_schedule_wants_meanwhile_goes_on() -> None:
    state = running(asked(ready(), LATER), LATER, "sync2")
    assert decide(replace(state, requests=()), after(HOUR)) == []


def test_a_suspend_cancels_a_sync_that_waits_for_a_slot() -> None:
    state = greeted(checked(new()))
    state = replace(state, desired=replace(state.desired, spec=replace(state.desired.spec, suspend=True)))
    assert CancelSync("the connector is suspended") in decide(transitions.sync_queued(state, START), START)


# How far ahead a next sync can be


def test_a_next_sync_is_no_further_ahead_than_the_interval_and_its_jitter() -> None:
    assert farthest_next_sync(desired(), ConnectorStatus(), START) == after(HOUR * 1.05).wall


def test_a_next_sync_is_no_further_ahead_than_the_next_cron_time() -> None:
    assert farthest_next_sync(desired(schedule=Cron("30 9 * * *")), ConnectorStatus(), START) == after(1800).wall


def test_while_syncs_fail_a_next_sync_is_as_far_ahead_as_a_server_may_put_it() -> None:
    failing = ConnectorStatus(consecutive_failures=1)
    assert farthest_next_sync(desired(), failing, START) == after(6 * HOUR).wall
    assert farthest_next_sync(desired(schedule=Interval(86400.0)), failing, START) == after(86400 * 1.05).wall


def test_a_schedule_that_cannot_be_read_is_due_at_once() -> None:
    assert farthest_next_sync(desired(schedule=Cron("nonsense")), ConnectorStatus(), START) == START.wall
