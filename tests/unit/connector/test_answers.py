"""What a connector answers to a task that asks for a snapshot: single states and moments."""

from dataclasses import replace

import pytest

from buildkite_connector.connector import transitions
from buildkite_connector.connector.conditions import derive_status
from buildkite_connector.connector.decisions import Answer, why_sync
from buildkite_connector.connector.state import Check, ConnectorState
from buildkite_connector.model.directory import Counts, ResourceKind, SyncScope
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.snapshot import SyncID
from buildkite_connector.model.status import ConditionType, Trigger
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
    due,
    failed,
    ready,
    running,
    synced,
)

HOUR = 3600.0
LATER = after(1000)
USERS = SyncScope(frozenset({ResourceKind.USER}))


def refusal(state: ConnectorState, now: Instant) -> Failure:
    [refused] = [each for each in due(state, now) if isinstance(each, Failure)]
    return refused


def with_request(state: ConnectorState, value: str = "now") -> ConnectorState:
    return replace(state, desired=replace(state.desired, sync_request=value))


def test_a_fresh_snapshot_answers_with_what_the_task_asks_for() -> None:
    state = asked(ready(), after(10), USERS)
    assert state.staged is not None
    assert due(state, after(10)) == [Answer(state.staged, USERS)]


def test_a_snapshot_is_fresh_until_it_is_as_old_as_the_maximum() -> None:
    assert isinstance(due(asked(ready(), after(604.9)), after(604.9))[0], Answer)
    assert due(asked(ready(), after(605)), after(605))[0] == "sync"


def test_a_snapshot_that_ends_in_the_future_is_not_fresh() -> None:
    now = Instant(after(4).wall, 200.0)
    assert not any(isinstance(each, Answer) for each in due(asked(ready(), now), now))


@pytest.mark.parametrize("age", [0.0, 0.5])
def test_a_snapshot_is_fresh_from_its_end_on(age: float) -> None:
    state = asked(ready(), after(5 + age))
    assert isinstance(due(state, after(5 + age))[0], Answer)


@pytest.mark.parametrize("what", ["no file", "no record", "another sync's record", "less than it asks for"])
def test_a_task_that_no_file_can_answer_asks_for_a_sync(what: str) -> None:
    state = asked(ready(), after(10))
    assert state.staged is not None
    assert state.records.last_sync is not None
    other = replace(state.records.last_sync, id=SyncID("sync2"))
    lacking = {
        "no file": replace(state, staged=None),
        "no record": replace(state, records=replace(state.records, last_sync=None)),
        "another sync's record": replace(state, records=replace(state.records, last_sync=other)),
        "less than it asks for": replace(state, staged=replace(state.staged, scope=USERS)),
    }
    assert why_sync(state, after(10)) is None
    assert why_sync(lacking[what], after(10)) is Trigger.TASK
    assert due(lacking[what], after(10)) == ["sync"]


@pytest.mark.parametrize(("asked_at", "fresh"), [(-0.001, True), (0.0, True), (0.001, False)])
def test_a_sync_that_began_after_the_task_answers_it_whatever_the_maximum_age(asked_at: float, fresh: bool) -> None:
    state = asked(ready(max_snapshot_age=0.0), after(asked_at))
    assert any(isinstance(each, Answer) for each in due(state, after(10))) is fresh


def test_nothing_leaves_while_the_secret_is_gone() -> None:
    state = asked(ready(), after(10))
    state = replace(state, check=Check(generation=1, failure=REJECTED))
    assert refusal(state, after(10)).reason is Reason.TOKEN_REJECTED


def test_nothing_leaves_from_before_an_edit() -> None:
    state = asked(replace(ready(), desired=desired(2)), after(10))
    assert not any(isinstance(each, Answer) for each in due(state, after(10)))


def test_nothing_leaves_to_a_suspended_connectors_task() -> None:
    state = asked(ready(), after(10))
    state = replace(state, desired=replace(state.desired, spec=replace(state.desired.spec, suspend=True)))
    assert not any(isinstance(each, Answer) for each in due(state, after(10)))


def test_a_task_for_none_of_the_kinds_is_told_both_and_which_field_decides() -> None:
    both = frozenset({ResourceKind.USER, ResourceKind.TEAM})
    state = ready(kinds=USERS.kinds)
    state = asked(state, after(10), SyncScope(frozenset({ResourceKind.TEAM})))
    told = refusal(state, after(10))
    expected = "The task asks for team, the connector is set to sync user only (spec.sync.resourceTypes)."
    assert (told.reason, told.message, told.remedy) == (Reason.SPEC_INVALID, expected, Remedy.EDIT)
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
    assert due(state, after(wait)) == ["sync"]


def test_a_task_waits_for_the_sync_that_is_under_way_although_the_one_before_failed() -> None:
    state = with_request(failed(ready(), after(HOUR)))
    state = asked(running(state, after(HOUR + 1)), LATER)
    assert due(state, after(HOUR + 2)) == []


def test_a_task_before_the_time_that_a_check_was_told_is_refused_with_that_time() -> None:
    state = asked(replace(ready(), sync_blocked_until=after(LATER.monotonic).monotonic), LATER)
    told = refusal(state, LATER)
    assert told.reason is Reason.BUILDKITE_RATE_LIMITED
    assert told.message == "Buildkite asked the connector to wait another 100 seconds; the next sync starts then."
    assert told.retry_after == 100.0


def test_that_time_is_over_at_its_last_second() -> None:
    state = asked(replace(ready(), sync_blocked_until=LATER.monotonic), LATER)
    assert due(state, LATER) == ["sync"]


def test_a_held_snapshot_is_refused_with_the_sentence_that_the_status_has() -> None:
    state = synced(delivered(ready()), after(HOUR), "sync2", Counts(10, 10, 300))
    state = asked(state, after(HOUR + 10))
    told = refusal(state, after(HOUR + 10))
    assert told.reason is Reason.SHRINK_HELD
    delivered_condition = derive_status(state, after(HOUR + 10)).condition(ConditionType.DELIVERED)
    assert delivered_condition is not None
    assert told.message == delivered_condition.message


def test_a_held_snapshot_that_a_person_let_go_answers() -> None:
    state = asked(synced(delivered(ready()), after(HOUR), "sync2", Counts(10, 10, 300)), after(HOUR + 10))
    state = replace(state, desired=replace(state.desired, accept_shrink="sync2"))
    assert Answer in [type(each) for each in due(state, after(HOUR + 10))]


def delivered(state: ConnectorState) -> ConnectorState:
    assert state.staged is not None
    return transitions.delivered(state, TaskID("task0"), state.staged, after(20).wall)
