"""When a connector is stepped next although nothing happens."""

from dataclasses import replace

from buildkite_connector.connector.actions import (
    CheckCredentials,
)
from buildkite_connector.connector.decisions import decide, wake_at
from buildkite_connector.connector.state import C1Phase
from buildkite_connector.model.directory import TokenFacts
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.schedule import Interval
from fakes.connector_states import (
    NEVER,
    PREFLIGHT,
    REJECTED,
    START,
    after,
    asked,
    checked,
    desired,
    greeted,
    new,
    ready,
    running,
)

HOUR = 3600.0


def test_a_ready_connector_wakes_for_its_schedule() -> None:
    assert wake_at(ready(), after(10)) == after(HOUR).monotonic


def test_a_suspended_connector_does_not_wake() -> None:
    assert wake_at(new(suspend=True), START) is None


def test_the_moment_itself_is_not_one_to_wake_at() -> None:
    state = replace(ready(), sync_blocked_until=after(10).monotonic)
    assert wake_at(state, after(10)) == after(HOUR).monotonic


def test_a_sync_put_off_by_buildkite_wakes_when_it_may_begin() -> None:
    state = replace(ready(), sync_blocked_until=after(2 * HOUR).monotonic)
    assert wake_at(state, after(10)) == after(2 * HOUR).monotonic


def test_a_waiting_task_wakes_when_the_snapshot_grows_too_old() -> None:
    state = running(replace(asked(ready(), after(10)), desired=desired(2)), after(10), "sync2")
    assert wake_at(state, after(10)) == after(605).monotonic


def test_a_token_that_expires_wakes_when_the_days_that_are_left_change() -> None:
    ends = after(15 * 24 * HOUR).wall
    facts = replace(PREFLIGHT, token=TokenFacts("uuid", frozenset(), ends))
    state = ready(schedule=Interval(30 * 24 * HOUR))
    state = replace(state, check=replace(state.check, preflight=facts))
    assert wake_at(state, after(10)) == after(24 * HOUR).monotonic
    assert wake_at(state, after(24 * HOUR)) == after(48 * HOUR).monotonic
    assert wake_at(state, after(15 * 24 * HOUR)) == after(30 * 24 * HOUR).monotonic


def test_a_late_secret_wakes_when_it_is_late_no_more() -> None:
    missing = Failure(Reason.SECRET_NOT_FOUND, "There is no Secret.", remedy=REJECTED.remedy)
    state = checked(new(), START, missing)
    state = replace(state, check=replace(state.check, full_due=NEVER))
    assert wake_at(state, after(10)) == after(180).monotonic


def test_a_failed_check_wakes_when_it_is_repeated() -> None:
    state = checked(new(), START, REJECTED)
    state = greeted(replace(state, desired_since=float("-inf")))
    assert wake_at(state, after(10)) == after(300).monotonic
    assert decide(state, after(299.9)) == []
    assert decide(state, after(300)) == [CheckCredentials(full=True)]


def test_a_session_that_has_ended_wakes_when_it_may_begin_again() -> None:
    ended = replace(ready().c1, ended=True, reopen_at=after(300).monotonic)
    assert wake_at(replace(ready(), c1=replace(ended, phase=C1Phase.CLOSED)), after(10)) == after(300).monotonic
    assert wake_at(replace(ready(), c1=ended), after(10)) == after(HOUR).monotonic


def test_the_schedule_wakes_no_connector_that_cannot_sync_or_does() -> None:
    blocked = checked(ready(), START, REJECTED)
    blocked = replace(blocked, check=replace(blocked.check, full_due=NEVER))
    assert wake_at(blocked, after(200)) == NEVER
    state = replace(running(ready(), after(HOUR)), records=ready().records)
    state = replace(state, records=replace(state.records, next_sync_time=after(2 * HOUR).wall))
    assert wake_at(state, after(HOUR)) is None
