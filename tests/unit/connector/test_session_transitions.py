"""The state after news from the session with C1: pure transitions."""

from dataclasses import replace

import pytest

from buildkite_connector.connector.state import C1Identity, C1Phase, C1Session, ConnectorState
from buildkite_connector.connector.transitions import (
    c1_answered,
    c1_closed,
    c1_closing,
    c1_failed,
    c1_greeted,
    c1_opened,
)
from buildkite_connector.model.failure import Failure, Reason, Remedy
from fakes.connector_states import NEVER, after, checked, new, ready

HERS, OTHERS = C1Identity("client", "secret", "default.acme"), C1Identity("client", "older", "default.acme")
UNREACHABLE = Failure(Reason.C1_UNREACHABLE, "No connection to C1.")
UNAVAILABLE = Failure(Reason.C1_UNAVAILABLE, "C1 is unavailable.")
REFUSED = Failure(Reason.C1_CLIENT_REJECTED, "C1 refused the client.", remedy=Remedy.CREDENTIALS)
BROKEN = Failure(Reason.INTERNAL_ERROR, "Internal error.")


def with_session(**changes: object) -> ConnectorState:
    """With a session that C1 has answered, and these changes."""
    state = ready()
    return replace(state, c1=replace(state.c1, **changes))  # type: ignore[arg-type]  # checked by the dataclass


def told(failure: Failure | None) -> tuple[Reason, str, Remedy] | None:
    return (failure.reason, failure.message, failure.remedy) if failure is not None else None


@pytest.mark.parametrize(("identity", "kept"), [(HERS, UNREACHABLE), (OTHERS, None)])
def test_a_session_of_another_identity_starts_without_the_old_ones_failure(
    identity: C1Identity, kept: Failure | None
) -> None:
    before = with_session(identity=identity, phase=C1Phase.CLOSED, failure=UNREACHABLE, ended=True, reopen_at=NEVER)
    opened = c1_opened(before, HERS, after(10))
    assert opened == replace(before, c1=C1Session(C1Phase.OPEN, HERS, phase_since=after(10).monotonic, failure=kept))


@pytest.mark.parametrize(("identity", "cleared"), [(HERS, False), (OTHERS, True)])
def test_the_failure_of_a_session_that_gives_way_to_another_identitys_counts_no_more(
    identity: C1Identity, cleared: bool
) -> None:
    before = with_session(identity=identity, failure=REFUSED, ended=True)
    closing = replace(before.c1, phase=C1Phase.CLOSING, phase_since=after(10).monotonic)
    if cleared:
        closing = replace(closing, failure=None, ended=False)
    assert c1_closing(before, after(10)) == replace(before, c1=closing)


def test_a_session_that_closes_for_good_keeps_its_failure() -> None:
    before = with_session(failure=REFUSED, ended=True)
    before = replace(before, check=replace(before.check, credentials=None))
    closing = c1_closing(before, after(10)).c1
    assert (closing.failure, closing.ended) == (REFUSED, True)


def test_a_closed_session_says_nothing_of_the_client_any_more() -> None:
    before = with_session(phase=C1Phase.CLOSING, failure=REFUSED, ended=True)
    closed = replace(before.c1, phase=C1Phase.CLOSED, settled=False, greeted=False)
    assert c1_closed(before) == replace(before, c1=closed)


def test_a_greeting_settles_the_session_and_ends_its_failure() -> None:
    before = c1_opened(checked(new()), HERS, after(10))
    before = replace(before, c1=replace(before.c1, failure=UNREACHABLE))
    greeted = replace(before.c1, settled=True, greeted=True, failure=None)
    assert c1_greeted(before) == replace(before, c1=greeted)


@pytest.mark.parametrize(("settled", "kept"), [(True, None), (False, UNREACHABLE)])
def test_an_answer_ends_the_failure_once_the_first_hello_was_answered(settled: bool, kept: Failure | None) -> None:
    before = with_session(failure=UNREACHABLE, settled=settled)
    assert c1_answered(before) == replace(before, c1=replace(before.c1, failure=kept))
    assert c1_answered(ready()) == ready()


def test_c1_out_of_reach_settles_the_session_and_does_not_end_it() -> None:
    before = with_session(settled=False)
    after_it = c1_failed(before, UNREACHABLE, after(10))
    assert told(after_it.c1.failure) == told(UNREACHABLE)
    assert after_it == replace(before, c1=replace(before.c1, settled=True, failure=after_it.c1.failure))


@pytest.mark.parametrize(
    ("settled", "failure", "same"), [(True, UNREACHABLE, True), (False, UNREACHABLE, False), (True, UNAVAILABLE, False)]
)
def test_the_same_failure_again_changes_nothing_while_the_session_is_settled(
    settled: bool, failure: Failure, same: bool
) -> None:
    before = with_session(settled=settled, failure=UNREACHABLE)
    state = c1_failed(before, failure, after(10))
    assert (state == before) is same
    assert state.c1.settled
    assert told(state.c1.failure) == told(failure)


@pytest.mark.parametrize("failure", [REFUSED, BROKEN])
@pytest.mark.parametrize("before", [None, REFUSED, BROKEN])
def test_a_refusal_and_an_error_of_this_side_end_the_session(failure: Failure, before: Failure | None) -> None:
    state = c1_failed(with_session(failure=before), failure, after(10))
    assert told(state.c1.failure) == told(failure)
    assert (state.c1.ended, state.c1.settled, state.c1.reopen_at) == (True, True, after(10 + 300).monotonic)


def test_a_kept_failure_of_c1_does_not_keep_the_frames_that_it_went_through() -> None:
    try:
        raise UNREACHABLE
    except Failure as failure:
        kept = c1_failed(ready(), failure, after(10)).c1.failure
    assert kept is not None
    assert kept.__traceback__ is None
