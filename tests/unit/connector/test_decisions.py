"""What a connector begins: single states and moments."""

from dataclasses import replace

import pytest

from buildkite_connector.connector import transitions
from buildkite_connector.connector.actions import (
    CancelSync,
    CheckCredentials,
    OpenC1,
    QueueSync,
)
from buildkite_connector.connector.decisions import decide, farthest_next_sync, why_sync
from buildkite_connector.connector.state import ConnectorState, claimed_identity
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.schedule import Cron, Interval
from buildkite_connector.model.scope import ResourceKind, SyncScope
from buildkite_connector.model.snapshot import SyncID
from buildkite_connector.model.spec import Credentials
from buildkite_connector.model.status import ConnectorStatus, Trigger
from buildkite_connector.timing.clock import Instant
from fakes.connector_states import (
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
LATER = after(1000)
USERS = SyncScope(frozenset({ResourceKind.USER}))


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


def test_a_task_is_no_reason_before_the_backoff_ends() -> None:
    """Also for a sync that waits for a slot and whose own reason has gone meanwhile."""
    failed_at = after(HOUR)
    state = asked(failed(ready(), failed_at), failed_at)
    assert why_sync(state, after(state.retry_at - START.monotonic - 0.001)) is None
    queued = transitions.sync_queued(state, failed_at)
    assert transitions.sync_admitted(queued, SyncID("sync2"), failed_at).sync is None


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


def test_the_end_of_a_backoff_is_why_although_the_wall_clock_was_set_back() -> None:
    state = failed(ready(), after(HOUR))
    earlier = after(HOUR - 1).wall
    assert why_sync(state, Instant(earlier, state.retry_at - 0.001)) is None
    assert why_sync(state, Instant(earlier, state.retry_at)) is Trigger.SCHEDULE


def test_a_connector_that_never_synced_is_due_although_the_clock_was_set_back() -> None:
    assert why_sync(greeted(checked(new())), Instant(after(-HOUR).wall, 200.0)) is Trigger.CHANGE


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
