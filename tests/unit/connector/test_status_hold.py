"""How long the status keeps saying what was true before."""

from dataclasses import replace

import pytest

from buildkite_connector.connector.conditions import derive_status
from buildkite_connector.connector.decisions import next_look
from buildkite_connector.connector.state import HOLD_SECONDS, ConnectorState, claimed_identity
from buildkite_connector.connector.transitions import c1_opened, full_check_begun
from fakes.connector_states import REJECTED, START, after, checked, desired, greeted, new, queued, ready, running


def reported(state: ConnectorState) -> ConnectorState:
    """With a status that says what was true before."""
    return replace(state, records=replace(state.records, conditions=derive_status(ready(), START).conditions))


def opened(state: ConnectorState) -> ConnectorState:
    identity = claimed_identity(state)
    assert identity is not None
    return c1_opened(state, identity, START)


CHECKING = reported(full_check_begun(ready(), START))
GREETING = reported(opened(checked(new())))


@pytest.mark.parametrize("state", [CHECKING, GREETING])
def test_the_status_waits_for_a_check_and_for_c1_s_first_answer(state: ConnectorState) -> None:
    assert state.status_held_until == after(HOLD_SECONDS).monotonic
    assert next_look(state, START) == state.status_held_until


AT_ONCE = {
    "there is no status yet": replace(CHECKING, records=new().records),
    "the connector is suspended": replace(CHECKING, desired=desired(1, suspend=True)),
    "nothing is awaited": reported(ready()),
    "the check has failed": replace(GREETING, check=replace(GREETING.check, failure=REJECTED)),
    "C1 has answered": reported(greeted(checked(new()))),
    "a sync waits for a slot": reported(queued(greeted(checked(new())), START)),
    "a sync runs": reported(running(greeted(checked(new())), START)),
}


@pytest.mark.parametrize("why", AT_ONCE)
def test_anything_else_is_reported_at_once(why: str) -> None:
    assert AT_ONCE[why].status_held_until == float("-inf")
