"""What a state says of itself."""

from dataclasses import replace

import pytest

from buildkite_connector.connector.conditions import derive_status
from buildkite_connector.connector.decisions import next_look
from buildkite_connector.connector.state import (
    HOLD_SECONDS,
    C1Identity,
    ConnectorState,
    Inputs,
    accepted_by_c1,
    blocked_writing,
    claimed_identity,
    for_task,
    host_id_taken,
)
from buildkite_connector.connector.transitions import c1_opened, forced_check_begun
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.spec import Credentials
from fakes.connector_states import (
    CREDENTIALS,
    DOWN,
    REJECTED,
    START,
    after,
    checked,
    desired,
    greeted,
    new,
    ready,
    restored,
    running,
)

OTHER = Credentials("client", "secret", "other token")
HOLDER = "BuildkiteConnector default/older"
REFUSED = Failure(Reason.C1_CLIENT_REJECTED, "C1 refused the client.", remedy=Remedy.CREDENTIALS)
UNREACHABLE = Failure(Reason.C1_UNREACHABLE, "No connection to C1.")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (Inputs(1, CREDENTIALS), Inputs(1, CREDENTIALS), True),
        (Inputs(1, CREDENTIALS), Inputs(1, OTHER), False),
        (Inputs(1, CREDENTIALS), Inputs(2, CREDENTIALS), False),
        (Inputs(1, None), Inputs(1, CREDENTIALS), True),
        (Inputs(1, CREDENTIALS), Inputs(1, None), True),
        (Inputs(1, None), Inputs(2, None), False),
    ],
)
def test_credentials_that_are_not_known_any_more_count_as_the_same(one: Inputs, other: Inputs, same: bool) -> None:
    assert one.same(other) is same


def test_a_taken_host_id_is_told_with_the_other_connector_and_the_ways_out() -> None:
    told = host_id_taken("BuildkiteConnector team-a/older.name.eu", "acme")
    assert (told.reason, told.remedy) == (Reason.HOST_ID_TAKEN, Remedy.EDIT)
    uses = (
        "BuildkiteConnector team-a/older.name.eu uses the same C1 client ID and host ID 'acme', and C1 treats the two"
    )
    assert told.message.startswith(f"{uses} as one. This connector does not contact C1 and does not sync: ")
    assert told.message.endswith(": set another spec.delivery.hostID or client, or delete one of the two.")


def test_a_task_that_came_before_its_host_id_was_found_taken_is_the_other_connectors() -> None:
    taken = host_id_taken(HOLDER, "acme")
    handed_back = for_task(taken)
    assert (handed_back.reason, handed_back.message, handed_back.remedy) == (taken.reason, taken.message, Remedy.RETRY)
    assert for_task(REJECTED) is REJECTED
    blocked = blocked_writing(replace(ready(), host_id_holder=HOLDER))
    assert blocked is not None
    assert blocked.remedy is Remedy.RETRY


def test_a_check_s_failure_blocks_before_a_taken_host_id_and_that_before_c1() -> None:
    state = replace(ready(), c1=replace(ready().c1, failure=REFUSED))
    assert state.blocked_by is REFUSED
    state = replace(state, host_id_holder=HOLDER)
    assert state.blocked_by is not None
    assert state.blocked_by.message == host_id_taken(HOLDER, "default.acme").message
    state = replace(state, check=replace(state.check, failure=REJECTED))
    assert state.blocked_by is REJECTED


def test_c1_out_of_reach_blocks_nothing() -> None:
    state = replace(ready(), c1=replace(ready().c1, failure=UNREACHABLE))
    assert state.blocked_by is None
    assert state.can_sync


@pytest.mark.parametrize(
    "why",
    ["suspend", "never checked", "older generation", "failed check", "host ID", "C1 has not answered"],
)
def test_a_connector_that_lacks_anything_cannot_sync(why: str) -> None:
    state = ready()
    assert state.can_sync
    lacking = {
        "suspend": replace(state, desired=desired(1, suspend=True)),
        "never checked": replace(state, check=replace(state.check, preflight=None)),
        "older generation": replace(state, desired=desired(2)),
        "failed check": replace(state, check=replace(state.check, failure=DOWN)),
        "host ID": replace(state, host_id_holder=HOLDER),
        "C1 has not answered": replace(state, c1=replace(state.c1, settled=False)),
    }
    assert not lacking[why].can_sync


@pytest.mark.parametrize("reason", [Reason.SECRET_NOT_FOUND, Reason.SECRET_KEY_MISSING, Reason.SECRET_KEY_EMPTY])
def test_a_secret_may_be_late_for_three_minutes_and_only_when_it_or_a_key_is_missing(reason: Reason) -> None:
    state = checked(new(), START, Failure(reason, "It is not there.", remedy=Remedy.CREDENTIALS))
    missing = reason is not Reason.SECRET_KEY_EMPTY
    assert state.secret_is_late(after(179.9)) is missing
    assert not state.secret_is_late(after(180))


def test_a_secret_that_was_there_before_a_restart_is_not_late() -> None:
    missing = Failure(Reason.SECRET_NOT_FOUND, "It is not there.", remedy=Remedy.CREDENTIALS)
    state = restored(replace(ready().records, observed_generation=1), START)
    assert not checked(state, START, missing).secret_is_late(START)
    assert not ready().secret_is_late(START)


def test_a_connector_claims_the_identity_of_its_secret_and_its_spec() -> None:
    assert claimed_identity(ready()) == C1Identity("client", "secret", "default.acme")
    invalid = Failure(Reason.SPEC_INVALID, "spec.quota is wrong.", remedy=Remedy.EDIT)
    nobody = [
        new(),
        replace(ready(), desired=desired(1, suspend=True)),
        replace(ready(), desired=replace(desired(), spec_error=invalid)),
    ]
    assert [claimed_identity(each) for each in nobody] == [None, None, None]


# How long the status keeps saying what was true before


def reported(state: ConnectorState) -> ConnectorState:
    """With a status that says what was true before."""
    return replace(state, records=replace(state.records, conditions=derive_status(ready(), START).conditions))


def opened(state: ConnectorState) -> ConnectorState:
    identity = claimed_identity(state)
    assert identity is not None
    return c1_opened(state, identity, START)


CHECKING = reported(forced_check_begun(ready(), START))
GREETING = reported(opened(checked(new())))


@pytest.mark.parametrize("state", [CHECKING, GREETING])
def test_the_status_waits_for_a_check_and_for_c1_s_first_answer(state: ConnectorState) -> None:
    assert state.status_held_until == after(HOLD_SECONDS).monotonic
    assert next_look(state, START) == state.status_held_until


AT_ONCE = {
    "there is no status yet": replace(CHECKING, records=new().records),
    "the connector is suspended": replace(CHECKING, desired=desired(1, suspend=True)),
    "the check has failed": replace(GREETING, check=replace(GREETING.check, failure=REJECTED)),
    "C1 has answered": reported(greeted(checked(new()))),
    "a sync runs": reported(running(greeted(checked(new())), START)),
}


@pytest.mark.parametrize("why", AT_ONCE)
def test_anything_else_is_reported_at_once(why: str) -> None:
    assert AT_ONCE[why].status_held_until == float("-inf")


def test_c1_accepts_an_identity_with_the_answer_to_the_first_hello() -> None:
    state = checked(new())
    identity = claimed_identity(state)
    assert identity is not None
    assert [accepted_by_c1(each) for each in (state, c1_opened(state, identity, START), greeted(state))] == [
        None,
        None,
        True,
    ]
    other = replace(greeted(state), desired=desired(host_id="other"))
    assert accepted_by_c1(other) is None
