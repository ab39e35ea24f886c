"""When the credentials are checked, the session with C1 opened and closed."""

from dataclasses import replace

import pytest

from buildkite_connector.connector import transitions
from buildkite_connector.connector.actions import Action, CheckCredentials, CloseC1, OpenC1
from buildkite_connector.connector.credential_transitions import check_started
from buildkite_connector.connector.decisions import decide
from buildkite_connector.connector.state import C1Identity, C1Phase, ConnectorState
from fakes.connector_states import NEVER, REJECTED, START, after, checked, desired, new, ready, running

HOUR = 3600.0
FULL = CheckCredentials(full=True)
HERS, OTHERS = C1Identity("client", "secret", "default.acme"), C1Identity("client", "older", "default.acme")


def with_check(state: ConnectorState, **changes: object) -> ConnectorState:
    return replace(state, check=replace(state.check, **changes))  # type: ignore[arg-type]  # checked by the dataclass


def with_session(**changes: object) -> ConnectorState:
    state = ready()
    return replace(state, c1=replace(state.c1, **changes))  # type: ignore[arg-type]  # checked by the dataclass


def with_request(state: ConnectorState) -> ConnectorState:
    return replace(state, desired=replace(state.desired, sync_request="now"))


def rejected() -> ConnectorState:
    """Checked and rejected; Buildkite is not due."""
    return with_check(checked(ready(), START, REJECTED), full_due=NEVER)


# Checks


def test_an_edit_is_checked_unless_a_check_is_under_way_or_the_connector_suspended() -> None:
    edited = replace(ready(), desired=desired(2))
    assert decide(edited, after(10)) == [FULL]
    assert decide(check_started(edited, after(9), full=False), after(10)) == []
    assert FULL not in decide(replace(ready(), desired=desired(2, suspend=True)), after(10))


def test_a_request_has_credentials_that_block_checked_again_once_buildkite_allows_it() -> None:
    state = replace(rejected(), sync_blocked_until=after(100).monotonic)
    assert decide(with_request(state), after(99.999)) == []
    assert decide(with_request(state), after(100)) == [FULL]
    assert decide(with_check(with_request(state), sync_request="now"), after(100)) == []
    assert FULL not in decide(with_request(ready()), after(100))


def test_credentials_that_fail_are_checked_again_at_their_time() -> None:
    state = with_check(rejected(), full_due=after(300).monotonic)
    assert decide(state, after(299.999)) == []
    assert decide(state, after(300)) == [FULL]
    assert decide(with_check(ready(), full_due=START.monotonic), after(300)) == []


# The session with C1


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({}, [], id="open and well"),
        pytest.param({"ended": True}, [CloseC1()], id="open and ended"),
        pytest.param({"identity": OTHERS}, [CloseC1()], id="open with an old secret"),
        pytest.param({"identity": OTHERS, "ended": True}, [CloseC1()], id="ended with an old secret"),
        pytest.param({"identity": replace(OTHERS, client_id="other")}, [CloseC1()], id="open as another client"),
        pytest.param({"identity": replace(OTHERS, host_id="other")}, [CloseC1()], id="open as another host"),
        pytest.param({"phase": C1Phase.CLOSING, "ended": True}, [], id="closing"),
        pytest.param({"phase": C1Phase.CLOSED}, [OpenC1(HERS)], id="closed"),
        pytest.param({"phase": C1Phase.CLOSED, "ended": True, "reopen_at": after(10.001).monotonic}, [], id="ended"),
        pytest.param(
            {"phase": C1Phase.CLOSED, "ended": True, "reopen_at": after(10).monotonic}, [OpenC1(HERS)], id="due again"
        ),
        pytest.param(
            {"phase": C1Phase.CLOSED, "identity": OTHERS, "ended": True, "reopen_at": NEVER},
            [OpenC1(HERS)],
            id="ended as another",
        ),
    ],
)
def test_the_session_is_open_as_who_the_connector_is(changes: dict[str, object], expected: list[Action]) -> None:
    assert decide(with_session(**changes), after(10)) == expected


def test_while_another_connector_holds_the_host_id_there_is_no_session() -> None:
    holder = "BuildkiteConnector default/older"
    assert decide(replace(ready(), host_id_holder=holder), after(10)) == [CloseC1()]
    assert decide(replace(with_session(phase=C1Phase.CLOSED), host_id_holder=holder), after(10)) == []


# A sync under way


def test_a_sync_that_a_person_asked_for_goes_on_although_its_request_counts_as_handled() -> None:
    assert decide(running(with_request(ready()), after(10)), after(20)) == []


def test_a_sync_that_waits_for_a_slot_goes_on_although_nothing_asks_for_it_any_more() -> None:
    assert decide(transitions.sync_queued(ready(), after(10)), after(20)) == []


def test_a_new_connector_that_is_suspended_does_nothing() -> None:
    assert decide(new(suspend=True), START) == []
