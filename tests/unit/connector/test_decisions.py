"""What a connector begins and ends, and when it looks again: single states and moments."""

from dataclasses import replace

import pytest

from buildkite_connector.connector import transitions
from buildkite_connector.connector.decisions import farthest_next_sync, next_look, why_sync
from buildkite_connector.connector.state import C1Identity, C1Phase, ConnectorState, claimed_identity
from buildkite_connector.model.directory import ResourceKind, SyncScope, TokenFacts
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.snapshot import SyncID
from buildkite_connector.model.spec import Credentials, Cron, Interval
from buildkite_connector.model.status import ConnectorStatus, Trigger
from fakes.connector_states import (
    NEVER,
    PREFLIGHT,
    REJECTED,
    START,
    after,
    asked,
    checked,
    desired,
    due,
    failed,
    greeted,
    new,
    queued,
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
    assert due(new(), START) == ["check"]


def test_a_checked_connector_opens_its_session_and_awaits_its_answer_before_it_syncs() -> None:
    state = checked(new())
    identity = claimed_identity(state)
    assert identity is not None
    assert due(state, START) == [identity]
    assert due(greeted(state), START) == ["sync"]


def test_a_ready_connector_does_nothing() -> None:
    assert due(ready(), after(10)) == []


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
    assert why_sync(state, after(HOUR + 22.4)) is None
    assert transitions.sync_admitted(queued(state, failed_at), SyncID("sync2"), failed_at).sync is None


def test_a_task_for_none_of_the_kinds_is_no_reason() -> None:
    state = asked(ready(kinds=USERS.kinds), LATER, SyncScope(frozenset({ResourceKind.TEAM})))
    assert why_sync(state, LATER) is None


@pytest.mark.parametrize(("retry_after", "waits_for"), [(50.0, 50.0), (1e6, 6 * HOUR)])
def test_what_buildkite_said_holds_for_a_request_up_to_that_second(retry_after: float, waits_for: float) -> None:
    limited = Failure(Reason.BUILDKITE_RATE_LIMITED, "Buildkite said 429.", retry_after=retry_after)
    state = with_request(failed(with_request(ready(), "first"), after(10), limited), "second")
    assert why_sync(state, after(10 + waits_for - 0.001)) is None
    assert why_sync(state, after(10 + waits_for)) is Trigger.REQUEST


# A sync under way


def test_a_sync_that_only_a_task_wanted_ends_with_it() -> None:
    state = running(asked(ready(), LATER), LATER, "sync2")
    assert due(replace(state, requests=()), LATER) == ["the task that asked for it was cancelled"]


def test_a_sync_that_another_task_wants_too_goes_on() -> None:
    state = running(asked(ready(), LATER), LATER, "sync2")
    assert due(state, LATER) == []


def test_a_task_s_sync_that_the_schedule_wants_meanwhile_goes_on() -> None:
    state = running(asked(ready(), LATER), LATER, "sync2")
    assert due(replace(state, requests=()), after(HOUR)) == []


def test_a_suspend_cancels_a_sync_that_waits_for_a_slot() -> None:
    state = greeted(checked(new()))
    state = replace(state, desired=replace(state.desired, spec=replace(state.desired.spec, suspend=True)))
    assert "the connector is suspended" in due(queued(state, START), START)


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


# Checks and sessions

HERS, OTHERS = C1Identity("client", "secret", "default.acme"), C1Identity("client", "older", "default.acme")


def with_check(state: ConnectorState, **changes: object) -> ConnectorState:
    return replace(state, check=replace(state.check, **changes))  # type: ignore[arg-type]  # checked by the dataclass


def with_session(**changes: object) -> ConnectorState:
    state = ready()
    return replace(state, c1=replace(state.c1, **changes))  # type: ignore[arg-type]  # checked by the dataclass


def rejected() -> ConnectorState:
    """Checked and rejected; Buildkite is not due."""
    return with_check(checked(ready(), START, REJECTED), full_due=NEVER)


def test_an_edit_is_checked_unless_a_check_is_under_way_or_the_connector_suspended() -> None:
    edited = replace(ready(), desired=desired(2))
    assert due(edited, after(10)) == ["check"]
    assert due(edited, after(10), "check") == []
    assert "check" not in due(replace(ready(), desired=desired(2, suspend=True)), after(10))


def test_a_request_has_credentials_that_block_checked_again_once_buildkite_allows_it() -> None:
    state = replace(rejected(), sync_blocked_until=after(100).monotonic)
    assert due(with_request(state), after(99.999)) == []
    assert due(with_request(state), after(100)) == ["check"]
    assert due(with_check(with_request(state), sync_request="now"), after(100)) == []
    assert "check" not in due(with_request(ready()), after(100))


def test_credentials_that_fail_are_checked_again_at_their_time() -> None:
    state = with_check(rejected(), full_due=after(300).monotonic)
    assert due(state, after(299.999)) == []
    assert due(state, after(300)) == ["check"]
    assert due(with_check(ready(), full_due=START.monotonic), after(300)) == []


# The session with C1


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({}, [], id="open and well"),
        pytest.param({"ended": True}, ["close C1"], id="open and ended"),
        pytest.param({"identity": OTHERS}, ["close C1"], id="open with an old secret"),
        pytest.param({"identity": OTHERS, "ended": True}, ["close C1"], id="ended with an old secret"),
        pytest.param({"identity": replace(OTHERS, client_id="other")}, ["close C1"], id="open as another client"),
        pytest.param({"identity": replace(OTHERS, host_id="other")}, ["close C1"], id="open as another host"),
        pytest.param({"phase": C1Phase.CLOSING, "ended": True}, [], id="closing"),
        pytest.param({"phase": C1Phase.CLOSED}, [HERS], id="closed"),
        pytest.param({"phase": C1Phase.CLOSED, "ended": True, "reopen_at": after(10.001).monotonic}, [], id="ended"),
        pytest.param(
            {"phase": C1Phase.CLOSED, "ended": True, "reopen_at": after(10).monotonic}, [HERS], id="due again"
        ),
        pytest.param(
            {"phase": C1Phase.CLOSED, "identity": OTHERS, "ended": True, "reopen_at": NEVER},
            [HERS],
            id="ended as another",
        ),
    ],
)
def test_the_session_is_open_as_who_the_connector_is(changes: dict[str, object], expected: list[object]) -> None:
    assert due(with_session(**changes), after(10)) == expected


def test_while_another_connector_holds_the_host_id_there_is_no_session() -> None:
    holder = "BuildkiteConnector default/older"
    assert due(replace(ready(), host_id_holder=holder), after(10)) == ["close C1"]
    assert due(replace(with_session(phase=C1Phase.CLOSED), host_id_holder=holder), after(10)) == []


# A sync under way


def test_a_sync_that_a_person_asked_for_goes_on_although_its_request_counts_as_handled() -> None:
    assert due(running(with_request(ready()), after(10)), after(20)) == []


def test_a_sync_that_waits_for_a_slot_goes_on_although_nothing_asks_for_it_any_more() -> None:
    assert due(queued(ready(), after(10)), after(20)) == []


def test_a_new_connector_that_is_suspended_does_nothing() -> None:
    assert due(new(suspend=True), START) == []


# When to look again


def test_a_ready_connector_wakes_for_its_schedule() -> None:
    assert next_look(ready(), after(10)) == after(HOUR).monotonic


def test_a_suspended_connector_does_not_wake() -> None:
    assert next_look(new(suspend=True), START) is None


def test_the_moment_itself_is_not_one_to_next_look() -> None:
    state = replace(ready(), sync_blocked_until=after(10).monotonic)
    assert next_look(state, after(10)) == after(HOUR).monotonic


def test_a_sync_put_off_by_buildkite_wakes_when_it_may_begin() -> None:
    state = replace(ready(), sync_blocked_until=after(2 * HOUR).monotonic)
    assert next_look(state, after(10)) == after(2 * HOUR).monotonic


def test_a_waiting_task_wakes_when_the_snapshot_grows_too_old() -> None:
    state = running(replace(asked(ready(), after(10)), desired=desired(2)), after(10), "sync2")
    assert next_look(state, after(10)) == after(605).monotonic


def test_a_token_that_expires_wakes_when_the_days_that_are_left_change() -> None:
    ends = after(15 * 24 * HOUR).wall
    facts = replace(PREFLIGHT, token=TokenFacts("uuid", frozenset(), ends))
    state = ready(schedule=Interval(30 * 24 * HOUR))
    state = replace(state, check=replace(state.check, preflight=facts))
    assert next_look(state, after(10)) == after(24 * HOUR).monotonic
    assert next_look(state, after(24 * HOUR)) == after(48 * HOUR).monotonic
    assert next_look(state, after(15 * 24 * HOUR)) == after(30 * 24 * HOUR).monotonic


def test_a_late_secret_wakes_when_it_is_late_no_more() -> None:
    missing = Failure(Reason.SECRET_NOT_FOUND, "There is no Secret.", remedy=REJECTED.remedy)
    state = checked(new(), START, missing)
    state = replace(state, check=replace(state.check, full_due=NEVER))
    assert next_look(state, after(10)) == after(180).monotonic


def test_a_failed_check_wakes_when_it_is_repeated() -> None:
    state = checked(new(), START, REJECTED)
    state = greeted(replace(state, desired_since=float("-inf")))
    assert next_look(state, after(10)) == after(300).monotonic
    assert due(state, after(299.9)) == []
    assert due(state, after(300)) == ["check"]


def test_a_session_that_has_ended_wakes_when_it_may_begin_again() -> None:
    ended = replace(ready().c1, ended=True, reopen_at=after(300).monotonic)
    assert next_look(replace(ready(), c1=replace(ended, phase=C1Phase.CLOSED)), after(10)) == after(300).monotonic
    assert next_look(replace(ready(), c1=ended), after(10)) == after(HOUR).monotonic


def test_the_schedule_wakes_no_connector_that_cannot_sync_or_does() -> None:
    blocked = checked(ready(), START, REJECTED)
    blocked = replace(blocked, check=replace(blocked.check, full_due=NEVER))
    assert next_look(blocked, after(200)) == NEVER
    state = replace(running(ready(), after(HOUR)), records=ready().records)
    state = replace(state, records=replace(state.records, next_sync_time=after(2 * HOUR).wall))
    assert next_look(state, after(HOUR)) is None
