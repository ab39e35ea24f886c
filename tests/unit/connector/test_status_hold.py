"""How long a status is held back because it changes within seconds."""

import math
from dataclasses import replace

import pytest

from buildkite_connector.connector.conditions import derive_status
from buildkite_connector.connector.state import ConnectorState, claimed_identity
from buildkite_connector.connector.status_hold import hold_ends, hold_status
from buildkite_connector.connector.transitions import c1_closing, c1_opened, full_check_begun
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.status import ConnectorStatus
from fakes.connector_states import DOWN, REJECTED, START, after, checked, desired, greeted, new, queued, ready, running

SHORT, LONG = 2.0, 45.0
DAY = 86400.0


def told(state: ConnectorState) -> ConnectorState:
    """With a status that says what was true before."""
    return replace(state, records=replace(state.records, conditions=derive_status(ready(), START).conditions))


def pending(state: ConnectorState) -> ConnectorState:
    """With a status that says that the first sync is to come."""
    return replace(state, records=derive_status(state, START))


def held_for(state: ConnectorState) -> float:
    """Seconds from START for which the status is held: 0, 2, 45, or infinite."""
    for seconds in (0.0, SHORT, LONG, DAY):
        if not hold_status(state, after(seconds)):
            assert seconds == 0.0 or hold_status(state, after(seconds - 0.01))
            return seconds
    return math.inf


def first_end(state: ConnectorState) -> float:
    return next(iter(hold_ends(state)))


def checking(state: ConnectorState) -> ConnectorState:
    return full_check_begun(state, START)


def opened(state: ConnectorState) -> ConnectorState:
    identity = claimed_identity(state)
    assert identity is not None
    return c1_opened(state, identity, START)


WAITING = {
    "a check": checking(new()),
    "C1's first answer": opened(checked(new())),
    "C1's end before another session": c1_closing(opened(checked(new())), START),
    "a slot": queued(greeted(checked(new())), START),
}


@pytest.mark.parametrize("what", WAITING)
def test_what_is_certain_within_seconds_is_awaited_longer_where_there_is_a_status(what: str) -> None:
    assert held_for(WAITING[what]) == SHORT
    assert held_for(told(WAITING[what])) == LONG
    assert list(hold_ends(WAITING[what])) == [after(SHORT).monotonic, after(LONG).monotonic]


@pytest.mark.parametrize("what", WAITING)
def test_a_suspend_is_told_at_once(what: str) -> None:
    assert held_for(told(replace(WAITING[what], desired=desired(1, suspend=True)))) == 0.0


AT_ONCE = {
    "nothing is awaited": ready(),
    "C1 has answered": greeted(checked(new())),
    "C1's answer matters no more": replace(
        WAITING["C1's first answer"], check=replace(checked(new()).check, failure=REJECTED)
    ),
    "no identity": replace(
        WAITING["C1's first answer"], check=replace(checked(new()).check, credentials=None, failure=None)
    ),
    "the sync has its slot": running(greeted(checked(new())), START),
    "the host ID is taken": replace(WAITING["a slot"], host_id_holder="BuildkiteConnector default/older"),
    "C1 is away": replace(WAITING["a slot"], c1=replace(WAITING["a slot"].c1, failure=DOWN)),
    "a delivery failed": replace(WAITING["a slot"], delivery_failure=Failure(Reason.UPLOAD_FAILED, "It failed.")),
}


@pytest.mark.parametrize("what", AT_ONCE)
def test_what_is_certain_already_is_told_at_once(what: str) -> None:
    assert held_for(told(AT_ONCE[what])) == 0.0
    assert list(hold_ends(AT_ONCE[what])) == []


def test_a_check_is_awaited_from_its_own_start_also_while_a_sync_waits() -> None:
    state = queued(greeted(checked(new())), after(-30))
    assert first_end(checking(state)) == after(SHORT).monotonic
    assert first_end(replace(state, c1=opened(state).c1)) == after(SHORT).monotonic
    assert first_end(state) == after(-30 + SHORT).monotonic


TURNS = ["C1's first answer", "C1's end before another session", "a slot"]


@pytest.mark.parametrize("what", TURNS)
def test_a_new_connector_that_waits_for_its_turn_is_told_once(what: str) -> None:
    assert held_for(pending(WAITING[what])) == math.inf


@pytest.mark.parametrize("what", TURNS)
def test_why_memberships_cannot_be_changed_is_told_while_a_new_connector_waits(what: str) -> None:
    state = pending(WAITING[what])
    assert held_for(replace(state, check=replace(state.check, write_failure=REJECTED))) == LONG


def test_an_old_failure_of_c1_is_told_while_its_next_answer_is_awaited() -> None:
    state = pending(WAITING["C1's first answer"])
    assert held_for(replace(state, c1=replace(state.c1, failure=DOWN))) == LONG


def test_a_taken_host_id_is_told_while_the_session_with_c1_ends() -> None:
    state = pending(WAITING["C1's end before another session"])
    assert held_for(replace(state, host_id_holder="BuildkiteConnector default/older")) == LONG


@pytest.mark.parametrize("records", [{"observed_generation": 7}, {"last_sync": ready().records.last_sync}])
def test_an_edit_and_a_later_sync_are_told_while_the_sync_waits_for_a_slot(records: dict[str, object]) -> None:
    state = pending(WAITING["a slot"])
    changed: ConnectorStatus = replace(state.records, **records)  # type: ignore[arg-type]  # checked by the dataclass
    assert held_for(replace(state, records=changed)) == LONG


def test_a_first_check_that_lasts_is_told() -> None:
    assert held_for(pending(checking(new()))) == LONG
