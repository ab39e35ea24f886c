"""The state after a check of the credentials, and after news from the session with C1: pure transitions."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from buildkite_connector.connector.decisions import reread_at
from buildkite_connector.connector.state import (
    UNREAD_SECONDS,
    C1Identity,
    C1Phase,
    Check,
    ConnectorState,
    Inputs,
    SessionState,
)
from buildkite_connector.connector.transitions import (
    CheckResult,
    c1_answered,
    c1_closed,
    c1_closing,
    c1_failed,
    c1_greeted,
    c1_opened,
    check_ended,
    check_finished,
    credentials_failed,
    desired_changed,
    forced_check_begun,
)
from buildkite_connector.model.failure import Failure, Reason, Remedy, internal_error
from buildkite_connector.model.spec import Credentials
from fakes.connector_states import (
    CREDENTIALS,
    DOWN,
    NEVER,
    PREFLIGHT,
    REJECTED,
    SHARE,
    START,
    after,
    checked,
    desired,
    new,
    ready,
    restored,
)

OTHER = Credentials("client", "secret", "other token")
HOUR = 3600.0
AWAY = Failure(Reason.KUBERNETES_UNAVAILABLE, "The Kubernetes API does not answer.")
BUSY = Failure(Reason.KUBERNETES_UNAVAILABLE, "429", retry_after=60.0)
REFUSED = Failure(Reason.C1_CLIENT_REJECTED, "C1 refused the client.", remedy=Remedy.CREDENTIALS)
UNREACHABLE = Failure(Reason.C1_UNREACHABLE, "No connection to C1.")
READ = after(10).monotonic


def result(**changes: object) -> CheckResult:
    """The Secret was read and is the same; Buildkite was not asked."""
    return replace(CheckResult(1, None, CREDENTIALS), **changes)  # type: ignore[arg-type]  # checked by the dataclass


def finished(state: ConnectorState, at: float = 10, **changes: object) -> ConnectorState:
    """After a check that ended at so many seconds."""
    return check_finished(state, result(**changes), after(at), SHARE)


def with_check(state: ConnectorState, **changes: object) -> ConnectorState:
    return replace(state, check=replace(state.check, **changes))  # type: ignore[arg-type]  # checked by the dataclass


def ended() -> ConnectorState:
    """C1 refused the client; the session may be opened again much later."""
    state = ready()
    return replace(state, c1=replace(state.c1, ended=True, reopen_at=NEVER))


# The check begins


def test_a_full_check_is_under_way_until_it_ends() -> None:
    state = forced_check_begun(ready(), after(10))
    assert state == with_check(ready(), asking_since=after(10).monotonic)
    assert check_ended(state) == ready()


def test_a_full_check_lets_an_ended_session_begin_again() -> None:
    assert forced_check_begun(ended(), after(10)).c1 == replace(ended().c1, reopen_at=after(10).monotonic)


# The check ends


def test_a_result_of_another_generation_changes_nothing_but_that_the_check_has_ended() -> None:
    state = forced_check_begun(ready(), after(5))
    assert finished(state, generation=7, failure=REJECTED) == with_check(ready(), read_at=READ)


def test_the_same_secret_read_again_changes_only_when_it_is_read_next() -> None:
    state = finished(forced_check_begun(ready(), after(5)), sync_request="now")
    assert state == with_check(ready(), read_at=READ)


def test_a_request_is_answered_by_a_check_that_asks_and_not_by_a_secret_that_is_only_read_again() -> None:
    blocked = checked(ready(), after(5), REJECTED)
    assert finished(blocked, sync_request="now").check.sync_request is None
    assert finished(blocked, sync_request="now", credentials=None, failure=AWAY).check.sync_request is None
    assert finished(blocked, sync_request="now", forced=True).check.sync_request == "now"


def test_a_full_check_of_a_secret_that_cannot_be_read_is_not_repeated_at_once() -> None:
    blocked = with_check(ready(), write_failure=DOWN, forced_due=after(9).monotonic)
    state = finished(blocked, credentials=None, failure=AWAY, forced=True)
    assert state.check.forced_due == after(10 + 10).monotonic


def test_a_good_answer_of_buildkite_ends_the_failure() -> None:
    state = with_check(checked(new(), START, REJECTED), missing_scopes=("read_teams",))
    good = finished(state, sync_request="now", preflight=PREFLIGHT, asked_buildkite=True)
    assert good.check == Check(1, "now", CREDENTIALS, PREFLIGHT, read_at=READ, forced_due=state.check.forced_due)
    assert good.checked


@pytest.mark.parametrize(
    ("check_failed", "failures", "due"), [(True, 1, True), (True, 0, False), (False, 1, False), (False, 0, False)]
)
def test_a_good_check_ends_the_backoff_of_the_syncs_that_the_credentials_failed(
    check_failed: bool, failures: int, due: bool
) -> None:
    state = checked(ready(), after(5), REJECTED) if check_failed else ready()
    state = replace(state, records=replace(state.records, consecutive_failures=failures))
    good = finished(state, preflight=PREFLIGHT, asked_buildkite=True)
    at = after(10) if due else after(HOUR)
    assert good.records == replace(state.records, next_sync_time=at.wall)


def test_a_secret_read_again_does_not_end_the_failure_that_buildkite_told() -> None:
    state = checked(ready(), after(5), REJECTED)
    assert finished(state).check == replace(state.check, read_at=READ)


@pytest.mark.parametrize(("found", "kept"), [(("read_users",), ("read_users",)), ((), ("read_teams",))])
def test_a_failed_check_keeps_the_missing_scopes_that_were_found_last(
    found: tuple[str, ...], kept: tuple[str, ...]
) -> None:
    state = finished(
        with_check(ready(), missing_scopes=("read_teams",)), sync_request="now", missing_scopes=found, failure=REJECTED
    )
    assert state.check.failure is not None
    assert state.check == Check(
        1, "now", CREDENTIALS, None, kept, state.check.failure, 1, forced_due=after(10 + 300).monotonic, read_at=READ
    )


# The Secret's content


def test_another_secret_makes_the_next_sync_due_at_once() -> None:
    state = finished(ready(), credentials=OTHER, preflight=PREFLIGHT, asked_buildkite=True)
    assert state.check.credentials == OTHER
    assert state.records == replace(ready().records, next_sync_time=after(10).wall)
    assert state.collected_for == Inputs(1, CREDENTIALS)
    assert state.outdated


def test_a_new_process_takes_the_secret_that_it_reads_first_for_the_one_of_the_last_snapshot() -> None:
    state = finished(restored(replace(ready().records, observed_generation=1), after(5)))
    assert state.collected_for == Inputs(1, CREDENTIALS)
    assert state.records.next_sync_time == after(HOUR).wall
    assert not state.outdated


def test_a_secret_that_is_gone_is_used_no_more_and_back_the_same_is_no_change() -> None:
    gone = finished(ready(), credentials=None, failure=REJECTED)
    assert gone.check.credentials is None
    assert gone.records == ready().records
    assert gone.collected_for == ready().collected_for
    assert finished(gone).records == ready().records


def test_a_secret_that_is_back_with_other_content_is_a_change() -> None:
    gone = finished(ready(), credentials=None, failure=REJECTED)
    assert finished(gone, credentials=OTHER).records.next_sync_time == after(10).wall


def test_the_first_secret_of_a_new_connector_changes_no_time() -> None:
    state = replace(new(), records=replace(new().records, next_sync_time=after(HOUR).wall))
    assert finished(state).records.next_sync_time == after(HOUR).wall


# The Kubernetes API does not answer


def test_a_connector_that_works_goes_on_while_the_kubernetes_api_is_away() -> None:
    state = finished(ready(), sync_request="now", credentials=None, failure=AWAY)
    unread = state.check.unread
    assert unread is not None
    assert (unread.reason, unread.message) == (
        AWAY.reason,
        f"{AWAY.message} The connector continues with the credentials that it read before.",
    )
    assert state == with_check(
        ready(),
        read_at=READ,
        forced_due=after(10 + 10).monotonic,
        unread=unread,
        unread_since=after(10).monotonic,
    )


def test_what_keeps_a_secret_from_being_read_counts_from_the_first_time_and_ends_with_a_read() -> None:
    state = finished(ready(), credentials=None, failure=AWAY)
    later = finished(state, 200, credentials=None, failure=AWAY)
    assert (later.check.unread, later.check.unread_since) == (state.check.unread, after(10).monotonic)
    refused = finished(later, 250, credentials=None, failure=Failure(Reason.KUBERNETES_REFUSED, "No."))
    assert refused.check.unread is not None
    assert (refused.check.unread.reason, refused.check.unread_since) == (
        Reason.KUBERNETES_REFUSED,
        after(10).monotonic,
    )
    assert finished(refused, 260).check.unread is None


@pytest.mark.parametrize(("seconds", "blocked"), [(UNREAD_SECONDS - 1, False), (UNREAD_SECONDS, True)])
def test_a_secret_that_may_not_be_read_any_more_blocks_a_connector_that_works_after_a_while(
    seconds: float, blocked: bool
) -> None:
    forbidden = Failure(Reason.SECRET_FORBIDDEN, "It may not.", remedy=Remedy.CREDENTIALS)
    state = finished(ready(), 10, credentials=None, failure=forbidden)
    state = finished(state, 10 + seconds, credentials=None, failure=forbidden)
    assert (state.blocked_by is not None) is blocked


def test_after_an_edit_a_secret_that_cannot_be_read_is_a_failure_and_no_more_a_warning() -> None:
    state = finished(ready(), credentials=None, failure=AWAY)
    state = desired_changed(state, desired(2), after(20))
    state = finished(state, 30, generation=2, credentials=None, failure=AWAY)
    assert state.check.failure is not None
    assert (state.check.failure.message, state.check.unread) == (AWAY.message, None)


def test_an_api_server_that_asks_to_wait_is_not_asked_before_and_puts_off_no_sync() -> None:
    state = finished(new(), credentials=None, failure=BUSY)
    assert (state.check.forced_due, state.sync_blocked_until) == (after(10 + 60).monotonic, after(10).monotonic)


def test_a_connector_that_was_never_checked_fails_while_the_kubernetes_api_is_away() -> None:
    new_one = with_check(new(), preflight=PREFLIGHT)
    state = finished(new_one, sync_request="now", credentials=None, failure=AWAY, forced=True)
    assert state.check.failure is not None
    assert state.check.failure.reason is AWAY.reason
    assert state.check == Check(
        1, "now", None, failure=state.check.failure, failures=1, read_at=READ, forced_due=after(32.5).monotonic
    )


def test_a_connector_that_fails_while_the_kubernetes_api_is_away_keeps_the_secret_it_has() -> None:
    state = finished(checked(ready(), after(5), DOWN), credentials=None, failure=AWAY)
    assert state.check.credentials == CREDENTIALS
    assert state.check.failures == 2


# Credentials that fail


def test_credentials_that_only_a_person_can_mend_are_checked_again_after_five_minutes() -> None:
    state = credentials_failed(ready(), REJECTED, after(10), SHARE)
    assert state.check.failure is not None
    assert (state.check.failure.reason, state.check.failure.message) == (REJECTED.reason, REJECTED.message)
    assert state.check.failure.remedy is Remedy.CREDENTIALS
    assert (state.check.failures, state.check.forced_due) == (1, after(10 + 300).monotonic)
    assert state.sync_blocked_until == after(10).monotonic


def test_what_passes_with_time_is_checked_again_after_a_wait_that_doubles() -> None:
    state = credentials_failed(ready(), DOWN, after(10), SHARE)
    assert (state.check.failures, state.check.forced_due) == (1, after(10 + 22.5).monotonic)
    state = credentials_failed(state, DOWN, after(40), SHARE)
    assert (state.check.failures, state.check.forced_due) == (2, after(40 + 45).monotonic)


@pytest.mark.parametrize(("said", "holds"), [(1000.0, 1000.0), (1e6, 6 * HOUR)])
def test_what_buildkite_said_to_a_check_holds_for_checks_and_syncs(said: float, holds: float) -> None:
    limited = Failure(Reason.BUILDKITE_RATE_LIMITED, "Slow down.", retry_after=said)
    state = credentials_failed(ready(), limited, after(10), SHARE)
    assert state.check.forced_due == state.sync_blocked_until == after(10 + holds).monotonic
    again = credentials_failed(state, REJECTED, after(20), SHARE)
    assert again.sync_blocked_until == after(10 + holds).monotonic


def test_a_kept_failure_does_not_keep_the_frames_that_it_went_through() -> None:
    try:
        raise REJECTED
    except Failure as failure:
        state = credentials_failed(ready(), failure, after(10), SHARE)
    assert state.check.failure is not None
    assert state.check.failure.__traceback__ is None


# When the Secret is read next


@pytest.mark.parametrize(
    ("made", "seconds"),
    [
        pytest.param(lambda: finished(ready()), 50, id="well"),
        pytest.param(lambda: checked(ready(), after(10), REJECTED), 8, id="rejected by Buildkite"),
        pytest.param(lambda: c1_failed(finished(ready()), REFUSED, after(40)), 8, id="refused by C1"),
        pytest.param(lambda: c1_failed(finished(ready()), UNREACHABLE, after(40)), 50, id="C1 does not answer"),
        pytest.param(lambda: replace(finished(ready()), host_id_holder="another"), 8, id="another has its host ID"),
        pytest.param(lambda: finished(ready(), credentials=None, failure=AWAY), 8, id="Kubernetes does not answer"),
        pytest.param(lambda: finished(ready(), credentials=None, failure=BUSY), 60, id="Kubernetes asks to wait"),
        pytest.param(lambda: finished(new(), credentials=None, failure=BUSY), 60, id="Kubernetes asks a new one"),
        pytest.param(lambda: finished(finished(ready(), credentials=None, failure=BUSY)), 50, id="well again"),
        pytest.param(lambda: finished(ready(), generation=7), 50, id="an older generation was checked"),
        pytest.param(lambda: replace(ready(), desired=desired(2)), None, id="read by the check of an edit"),
        pytest.param(lambda: finished(replace(ready(), desired=desired(2, suspend=True))), None, id="suspended"),
    ],
)
def test_the_secret_is_read_again(made: Callable[[], ConnectorState], seconds: float | None) -> None:
    """So many seconds after it was read at 10."""
    assert reread_at(made()) == (None if seconds is None else after(10 + seconds).monotonic)


def test_a_check_that_an_annotation_asked_for_is_remembered() -> None:
    blocked = checked(ready(), after(1), REJECTED)
    asked = replace(blocked, desired=replace(blocked.desired, sync_request="new"))
    assert forced_check_begun(asked, after(5)).check.requested_at == after(5).monotonic
    for other in (blocked, ready()):
        assert forced_check_begun(other, after(5)).check.requested_at == float("-inf")


# An error in the operator itself


def test_an_error_of_the_operator_counts_as_a_check_that_failed_and_keeps_the_secret_that_is_known() -> None:
    """`Connector` makes such a result of an error."""
    broken = internal_error(ValueError("a secret"))
    state = finished(ready(), sync_request="now", failure=broken, forced=True, asked_buildkite=True)
    failure = state.check.failure
    assert failure is not None
    assert (failure.reason, failure.remedy) == (Reason.INTERNAL_ERROR, Remedy.RETRY)
    assert "ValueError" in failure.message
    assert "a secret" not in failure.message
    assert state.check == Check(
        1, "now", CREDENTIALS, None, failure=failure, failures=1, read_at=READ, forced_due=after(32.5).monotonic
    )
    assert state.staged == ready().staged


# The session with C1


HERS, OTHERS = C1Identity("client", "secret", "default.acme"), C1Identity("client", "older", "default.acme")
UNAVAILABLE = Failure(Reason.C1_UNAVAILABLE, "C1 is unavailable.")
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
    assert opened == replace(before, c1=SessionState(C1Phase.OPEN, HERS, phase_since=after(10).monotonic, failure=kept))


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
