"""The state after checks of the credentials and after news from C1: pure transitions."""

from dataclasses import replace

import pytest

from buildkite_connector.connector import credential_transitions as on_credentials
from buildkite_connector.connector.credential_transitions import CheckResult
from buildkite_connector.connector.state import C1Phase, ConnectorState, Inputs, claimed_identity
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.spec import Credentials
from fakes.connector_states import (
    CREDENTIALS,
    DOWN,
    NEVER,
    PREFLIGHT,
    REJECTED,
    START,
    after,
    checked,
    desired,
    failed,
    greeted,
    new,
    ready,
    restored,
    waits,
)

OTHER = Credentials("client", "secret", "other")
GONE = Failure(Reason.SECRET_NOT_FOUND, "There is no Secret.", remedy=Remedy.CREDENTIALS)
API_AWAY = Failure(Reason.KUBERNETES_UNAVAILABLE, "The API server did not answer.")
AWAY = Failure(Reason.C1_UNREACHABLE, "No connection to C1.")
REFUSED = Failure(Reason.C1_CLIENT_REJECTED, "C1 refused the client.", remedy=Remedy.CREDENTIALS)
BROKEN = Failure(Reason.INTERNAL_ERROR, "An error in the operator.")
LATER = after(100)


def finished(state: ConnectorState, **result: object) -> ConnectorState:
    """After a check that began and ended at LATER, of the Secret alone unless `result` says more."""
    state = on_credentials.check_started(state, LATER, full=False)
    known = {"generation": state.desired.generation, "sync_request": None, "credentials": CREDENTIALS}
    return on_credentials.check_finished(state, CheckResult(**{**known, **result}), LATER, waits())  # type: ignore[arg-type]  # checked by the dataclass


def seconds(time: float) -> float:
    """From LATER on."""
    return time - LATER.monotonic


def test_a_check_under_way_says_since_when_and_whether_it_asks_buildkite() -> None:
    state = on_credentials.check_started(ready(), LATER, full=True)
    assert (state.check.running_since, state.check.full) == (LATER.monotonic, True)
    state = finished(state)
    assert (state.check.running_since, state.check.full) == (None, False)


@pytest.mark.parametrize(("full", "ended", "reopens"), [(True, True, True), (True, False, False), (False, True, False)])
def test_a_full_check_lets_an_ended_session_begin_again(full: bool, ended: bool, reopens: bool) -> None:
    state = ready()
    state = replace(state, c1=replace(state.c1, ended=ended, reopen_at=NEVER))
    state = on_credentials.check_started(state, LATER, full=full)
    assert (state.c1.reopen_at == LATER.monotonic) is reopens


def test_a_check_of_an_older_generation_is_dropped() -> None:
    state = replace(ready(), desired=desired(2))
    before = replace(state, check=replace(state.check, running_since=None, full=False))
    assert finished(state, generation=1, failure=REJECTED, credentials=None) == before


def test_a_check_that_asked_buildkite_clears_the_failure_and_keeps_what_it_found() -> None:
    state = checked(new(), START, REJECTED)
    assert state.check.preflight is None
    state = finished(state, preflight=PREFLIGHT, asked_buildkite=True)
    assert state.checked
    assert (state.check.failure, state.check.failures, state.check.preflight) == (None, 0, PREFLIGHT)


def test_a_secret_that_is_the_same_clears_no_failure() -> None:
    state = finished(checked(new(), START, REJECTED))
    assert state.check.failure is not None


def test_scopes_that_were_missing_are_told_until_a_check_succeeds() -> None:
    state = finished(ready(), missing_scopes=("read_teams",), failure=REJECTED, asked_buildkite=True)
    assert state.check.missing_scopes == ("read_teams",)
    state = finished(state, failure=DOWN, asked_buildkite=True)
    assert state.check.missing_scopes == ("read_teams",)
    assert finished(state, preflight=PREFLIGHT, asked_buildkite=True).check.missing_scopes == ()


def test_corrected_credentials_make_a_sync_that_had_failed_due_at_once() -> None:
    state = finished(failed(ready(), after(3600), REJECTED), preflight=PREFLIGHT, asked_buildkite=True)
    assert state.records.next_sync_time == LATER.wall


def test_credentials_that_work_again_make_no_sync_due_when_none_has_failed() -> None:
    state = finished(checked(ready(), after(50), REJECTED), preflight=PREFLIGHT, asked_buildkite=True)
    assert state.records.next_sync_time == after(3600).wall


def test_another_content_of_the_secret_makes_a_sync_due_at_once() -> None:
    state = finished(ready(), credentials=OTHER, preflight=PREFLIGHT, asked_buildkite=True)
    assert state.check.credentials == OTHER
    assert state.records.next_sync_time == after(5).wall
    assert state.outdated


def test_the_first_read_after_a_restart_makes_nothing_due_and_is_what_the_snapshot_was_taken_with() -> None:
    state = restored(replace(ready().records, observed_generation=1), START)
    state = finished(state, preflight=PREFLIGHT, asked_buildkite=True)
    assert state.collected_for == Inputs(1, CREDENTIALS)
    assert state.records.next_sync_time == after(3600).wall


def test_a_secret_that_came_back_with_another_content_is_a_change() -> None:
    state = finished(ready(), credentials=None, failure=GONE)
    assert state.check.credentials is None
    state = finished(state, credentials=OTHER, preflight=PREFLIGHT, asked_buildkite=True)
    assert state.records.next_sync_time == after(5).wall


def test_a_secret_that_came_back_the_same_is_no_change() -> None:
    state = finished(finished(ready(), credentials=None, failure=GONE), preflight=PREFLIGHT, asked_buildkite=True)
    assert state.records.next_sync_time == after(3600).wall
    assert not state.outdated


# When the Secret is read, and Buildkite asked, again


def test_the_secret_of_a_connector_that_works_is_read_every_fifty_seconds() -> None:
    assert seconds(finished(ready()).check.secret_due) == pytest.approx(45)  # the middle of 40 to 50


def test_the_secret_of_a_blocked_connector_is_read_every_ten_seconds() -> None:
    assert seconds(finished(checked(ready(), after(50), REJECTED)).check.secret_due) == pytest.approx(9)


def test_invalid_credentials_are_checked_again_every_five_minutes() -> None:
    assert seconds(finished(ready(), failure=REJECTED, asked_buildkite=True).check.full_due) == 300


def test_a_check_that_could_not_be_made_is_repeated_with_a_growing_backoff() -> None:
    state = finished(ready(), failure=DOWN, asked_buildkite=True)
    assert (seconds(state.check.full_due), state.check.failures) == (22.5, 1)
    state = finished(state, failure=DOWN, asked_buildkite=True)
    assert (seconds(state.check.full_due), state.check.failures) == (45, 2)


@pytest.mark.parametrize(("said", "holds"), [(1000.0, 1000.0), (1e6, 6 * 3600.0)])
def test_what_buildkite_said_to_a_check_holds_for_checks_and_syncs(said: float, holds: float) -> None:
    limited = Failure(Reason.BUILDKITE_RATE_LIMITED, "Slow down.", retry_after=said)
    state = finished(ready(), failure=limited, asked_buildkite=True)
    assert (seconds(state.check.full_due), seconds(state.sync_blocked_until)) == (holds, holds)
    state = finished(replace(state, sync_blocked_until=NEVER), failure=limited, asked_buildkite=True)
    assert state.sync_blocked_until == NEVER


def test_a_connector_that_works_goes_on_while_the_api_server_is_away() -> None:
    state = finished(ready(), credentials=None, failure=API_AWAY, sync_request="now")
    assert state.checked
    assert state.check.credentials == CREDENTIALS
    assert seconds(state.check.secret_due) == pytest.approx(10)


def test_an_edit_waits_for_the_api_server_with_a_backoff() -> None:
    edited = on_credentials.check_started(replace(ready(), desired=desired(2)), LATER, full=True)
    result = CheckResult(2, "now", None, failure=API_AWAY)
    state = on_credentials.check_finished(edited, result, LATER, waits())
    assert (state.check.generation, state.check.sync_request, state.check.preflight) == (2, "now", None)
    assert state.check.failure is not None
    assert seconds(state.check.full_due) == 22.5


def test_an_error_of_the_operator_blocks_syncs_and_repeats_no_text_of_its_own() -> None:
    state = on_credentials.check_started(replace(ready(), desired=desired(2), restoring=True), LATER, full=True)
    state = on_credentials.failed_unexpectedly(state, on_credentials.CHECK, RuntimeError("token-123"), LATER, waits())
    assert state.check.failure is not None
    assert state.check.failure.reason is Reason.INTERNAL_ERROR
    assert "token-123" not in state.check.failure.message
    assert (state.restoring, state.check.generation, state.check.running_since) == (True, 2, None)
    assert not state.check.full
    assert state.check.preflight is None


def test_a_restore_that_breaks_has_ended() -> None:
    state = replace(ready(), restoring=True)
    broken = on_credentials.failed_unexpectedly(state, on_credentials.RESTORE, RuntimeError(), LATER, waits())
    assert not broken.restoring


def test_an_error_of_another_action_leaves_the_check_under_way() -> None:
    state = on_credentials.check_started(ready(), LATER, full=True)
    state = on_credentials.failed_unexpectedly(state, "discard", RuntimeError(), LATER, waits())
    assert (state.check.running_since, state.check.full, state.restoring) == (LATER.monotonic, True, False)


# The session with C1


def test_a_session_is_open_unsettled_and_then_greeted() -> None:
    state = checked(new())
    identity = claimed_identity(state)
    assert identity is not None
    state = on_credentials.c1_opened(state, identity, LATER)
    c1 = state.c1
    assert (c1.phase, c1.identity, c1.phase_since, c1.settled) == (C1Phase.OPEN, identity, LATER.monotonic, False)
    c1 = on_credentials.c1_greeted(replace(state, c1=replace(c1, failure=AWAY))).c1
    assert (c1.settled, c1.greeted, c1.failure) == (True, True, None)


def test_a_session_closes_in_two_steps() -> None:
    state = on_credentials.c1_closing(ready(), LATER)
    assert (state.c1.phase, state.c1.phase_since) == (C1Phase.CLOSING, LATER.monotonic)
    c1 = on_credentials.c1_closed(state).c1
    assert (c1.phase, c1.settled, c1.greeted) == (C1Phase.CLOSED, False, False)


@pytest.mark.parametrize("changed", [True, False])
def test_a_session_that_gives_way_to_another_identity_leaves_no_failure(changed: bool) -> None:
    state = on_credentials.c1_failed(ready(), REFUSED, LATER, waits())
    if changed:
        state = replace(state, desired=desired(2, host_id="another"))
    c1 = on_credentials.c1_closing(state, LATER).c1
    assert (c1.failure is None, c1.ended) == (changed, not changed)


def test_a_session_that_nobody_wants_any_more_keeps_its_failure() -> None:
    state = on_credentials.c1_failed(ready(), REFUSED, LATER, waits())
    state = replace(state, desired=desired(2, suspend=True))
    assert on_credentials.c1_closing(state, LATER).c1.failure is not None


def test_c1_out_of_reach_ends_no_session_and_is_over_when_c1_answers() -> None:
    state = on_credentials.c1_failed(ready(), AWAY, LATER, waits())
    assert state.c1.failure is not None
    assert not state.c1.ended
    assert state.blocked_by is None
    assert on_credentials.c1_answered(state).c1.failure is None


def test_an_answer_before_hello_was_answered_clears_nothing() -> None:
    state = ready()
    state = replace(state, c1=replace(state.c1, settled=False, failure=AWAY))
    assert on_credentials.c1_answered(state) == state
    assert on_credentials.c1_answered(ready()) == ready()


@pytest.mark.parametrize("failure", [REFUSED, BROKEN])
def test_a_refusal_or_an_error_of_ours_ends_the_session_for_five_minutes(failure: Failure) -> None:
    state = on_credentials.c1_failed(ready(), failure, LATER, waits())
    assert (state.c1.ended, seconds(state.c1.reopen_at)) == (True, 300)
    assert state.c1.settled


def test_the_secret_of_a_refused_client_is_read_sooner() -> None:
    state = on_credentials.c1_failed(ready(), REFUSED, LATER, waits())
    assert seconds(state.check.secret_due) == pytest.approx(9)


def test_the_same_reason_again_is_no_news_another_one_is() -> None:
    state = on_credentials.c1_failed(ready(), AWAY, LATER, waits())
    again = Failure(AWAY.reason, "Other words.")
    assert on_credentials.c1_failed(state, again, LATER, waits()) == state
    other = Failure(Reason.C1_UNAVAILABLE, "C1 said UNAVAILABLE.")
    assert on_credentials.c1_failed(state, other, LATER, waits()).c1.failure is not state.c1.failure


def test_the_first_answer_of_a_session_that_was_opened_again_counts_although_it_is_the_same_failure() -> None:
    state = on_credentials.c1_failed(ready(), AWAY, LATER, waits())
    state = replace(state, c1=replace(state.c1, settled=False))
    assert on_credentials.c1_failed(state, AWAY, LATER, waits()).c1.settled


def test_another_holder_of_the_host_id_blocks_syncs() -> None:
    state = on_credentials.holder_changed(ready(), "BuildkiteConnector default/older")
    assert state.blocked_by is not None
    assert state.blocked_by.reason is Reason.HOST_ID_TAKEN
    assert state.blocked_by.remedy is Remedy.EDIT
    assert "default/older uses the same C1 client ID and host ID 'default.acme'" in state.blocked_by.message
    assert on_credentials.holder_changed(state, None).blocked_by is None


def test_a_greeted_session_of_a_checked_connector_can_sync() -> None:
    assert not checked(new()).can_sync
    assert greeted(checked(new())).can_sync
