"""The state after a check of the credentials, and after news from the session with C1. Pure.

A result that is no longer asked for, as that of an older generation, changes nothing but that its check has ended.
"""

from dataclasses import dataclass, replace

from buildkite_connector.connector import records
from buildkite_connector.connector.state import (
    UNREAD_SECONDS,
    C1Identity,
    C1Phase,
    C1Session,
    ConnectorState,
    claimed_identity,
)
from buildkite_connector.model.failure import Failure, Reason, Remedy, internal_error
from buildkite_connector.model.spec import Credentials
from buildkite_connector.sync.preflight import Preflight
from buildkite_connector.timing.backoff import BETWEEN_SYNCS, LONGEST_RETRY_AFTER
from buildkite_connector.timing.clock import Instant

RECHECK_SECONDS = 300.0
"""Interval between checks of invalid credentials although the Secret is the same."""
UNREAD_RECHECK_SECONDS = 10.0
"""Shortest time to the next check while the Kubernetes API does not give the Secret."""
_OF_KUBERNETES = frozenset({Reason.KUBERNETES_UNAVAILABLE, Reason.KUBERNETES_REFUSED})
"""Failures that say nothing of Buildkite."""
CHECK = "check"
"""Name of the action that the state marks as under way."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What a check found. `asked_buildkite` False: the Secret was only read again, and is the same.

    `write_failure`: why memberships cannot be changed although that is enabled.
    """

    generation: int
    sync_request: str | None
    credentials: Credentials | None
    preflight: Preflight | None = None
    missing_scopes: tuple[str, ...] = ()
    failure: Failure | None = None
    asked_buildkite: bool = False
    write_failure: Failure | None = None


# The check


def check_started(state: ConnectorState, now: Instant, *, full: bool) -> ConnectorState:
    """A full check also lets an ended session with C1 begin again."""
    requested = full and state.check_requested
    check = replace(
        state.check,
        running_since=now.monotonic,
        full=full,
        requested_at=now.monotonic if requested else state.check.requested_at,
    )
    c1 = replace(state.c1, reopen_at=now.monotonic) if full and state.c1.ended else state.c1
    return replace(state, check=check, c1=c1)


def check_finished(state: ConnectorState, result: CheckResult, now: Instant, share: float) -> ConnectorState:
    """A result of another generation is dropped: the next check is due at once."""
    state = replace(state, check=replace(state.check, read_at=now.monotonic, read_wait=0.0))
    if result.generation != state.desired.generation:
        return _check_ended(state)
    unread = _unread(state, result, now)
    # A Secret that is only read again, and is the same or cannot be read, is no answer to a person's request.
    nothing_new = not state.check.full and (unread or (result.failure is None and not result.asked_buildkite))
    served = state.check.sync_request if nothing_new else result.sync_request
    if unread:
        return _secret_unread(_check_ended(state), result, served, now, share)
    state = _credentials_read(state, result.credentials, now)
    check = replace(
        state.check,
        running_since=None,
        full=False,
        generation=result.generation,
        sync_request=served,
        credentials=result.credentials,
        unread=None,
    )
    if result.failure is not None:
        missing = result.missing_scopes or check.missing_scopes
        check = replace(check, preflight=None, missing_scopes=missing, write_failure=None)
        return credentials_failed(replace(state, check=check), result.failure, now, share)
    if result.asked_buildkite:
        if check.failure is not None and state.records.consecutive_failures:
            state = _due_at_once(state, now)
        check = replace(
            check,
            preflight=result.preflight,
            missing_scopes=result.missing_scopes,
            failure=None,
            write_failure=result.write_failure,
            failures=0,
        )
        if result.write_failure is not None:
            check = replace(check, full_due=now.monotonic + RECHECK_SECONDS)
    return replace(state, check=check)


def credentials_failed(state: ConnectorState, failure: Failure, now: Instant, share: float) -> ConnectorState:
    """Syncs stop until a check succeeds. `share`, 0.0 to 1.0, spreads the wait for the next one (`Backoff.wait`)."""
    failures = state.check.failures + 1
    wait = RECHECK_SECONDS
    if failure.remedy is Remedy.RETRY:
        wait = BETWEEN_SYNCS.wait(failures, share, failure.retry_after)
    check = replace(state.check, failure=failure.without_traceback(), failures=failures, full_due=now.monotonic + wait)
    asked = 0.0 if failure.reason in _OF_KUBERNETES else failure.retry_after or 0.0
    blocked = now.monotonic + min(asked, LONGEST_RETRY_AFTER)
    return replace(state, check=check, sync_blocked_until=max(state.sync_blocked_until, blocked))


def _check_ended(state: ConnectorState) -> ConnectorState:
    return replace(state, check=replace(state.check, running_since=None, full=False))


def _unread(state: ConnectorState, result: CheckResult, now: Instant) -> bool:
    """Whether the Kubernetes API did not answer, so that nothing new is known of the Secret.

    An API server that starts refuses everybody until it has read the roles: a connector that works does not lose its
    credentials by that.
    """
    failure, check = result.failure, state.check
    if result.credentials is not None or failure is None:
        return False
    if failure.reason is Reason.SECRET_FORBIDDEN and state.checked:
        return check.unread is None or now.monotonic < check.unread_since + UNREAD_SECONDS
    return failure.remedy is Remedy.RETRY


def _secret_unread(
    state: ConnectorState, result: CheckResult, served: str | None, now: Instant, share: float
) -> ConnectorState:
    """A connector that works goes on with what it has; the failure stops one that was never checked."""
    failure = result.failure
    asked = (failure and failure.retry_after) or 0.0
    state = replace(state, check=replace(state.check, read_wait=asked))
    if failure is None or state.checked:
        check = state.check
        due = now.monotonic + max(UNREAD_RECHECK_SECONDS, asked)
        check = replace(check, sync_request=served, full_due=max(check.full_due, due))
        if failure is not None and (check.unread is None or check.unread.reason is not failure.reason):
            since = now.monotonic if check.unread is None else check.unread_since
            check = replace(check, unread=_stale(failure), unread_since=since)
        return replace(state, check=check)
    check = replace(state.check, generation=result.generation, sync_request=served, preflight=None, unread=None)
    return credentials_failed(replace(state, check=check), failure, now, share)


def _stale(failure: Failure) -> Failure:
    sentence = f"{failure.message} The connector goes on with the credentials that it has read before."
    return Failure(failure.reason, sentence)


def _credentials_read(state: ConnectorState, credentials: Credentials | None, now: Instant) -> ConnectorState:
    """A Secret whose content changed makes the next sync due at once."""
    before, collected = state.check.credentials, state.collected_for
    if credentials is None or credentials == before:
        return state
    if collected is not None and collected.credentials is None:
        state = replace(state, collected_for=replace(collected, credentials=credentials))
    changed = before is not None or (collected is not None and collected.credentials not in (None, credentials))
    return _due_at_once(state, now) if changed else state


def _due_at_once(state: ConnectorState, now: Instant) -> ConnectorState:
    return replace(state, records=records.change_seen(state.records, now.wall))


# The session with C1


def c1_opened(state: ConnectorState, identity: C1Identity, now: Instant) -> ConnectorState:
    """The session of another identity starts without the old one's failure."""
    failure = state.c1.failure if state.c1.identity == identity else None
    return replace(state, c1=C1Session(C1Phase.OPEN, identity, phase_since=now.monotonic, failure=failure))


def c1_closing(state: ConnectorState, now: Instant) -> ConnectorState:
    """The failure of a session that gives way to another identity's counts no more."""
    c1 = replace(state.c1, phase=C1Phase.CLOSING, phase_since=now.monotonic)
    wanted = claimed_identity(state)
    if wanted is not None and wanted != c1.identity:
        c1 = replace(c1, failure=None, ended=False)
    return replace(state, c1=c1)


def c1_closed(state: ConnectorState) -> ConnectorState:
    return replace(state, c1=replace(state.c1, phase=C1Phase.CLOSED, greeted=False, settled=False))


def c1_greeted(state: ConnectorState) -> ConnectorState:
    return replace(state, c1=replace(state.c1, settled=True, greeted=True, failure=None))


def c1_answered(state: ConnectorState) -> ConnectorState:
    """C1 answers again after a failure."""
    if state.c1.failure is None or not state.c1.settled:
        return state
    return replace(state, c1=replace(state.c1, failure=None))


def c1_failed(state: ConnectorState, failure: Failure, now: Instant) -> ConnectorState:
    """C1 does not answer any more, or refused the client, or this side failed: then the session has ended."""
    final = failure.remedy is not Remedy.RETRY or failure.reason is Reason.INTERNAL_ERROR
    before = state.c1.failure
    if before is not None and before.reason is failure.reason and not final and state.c1.settled:
        return state
    session = replace(state.c1, settled=True, failure=failure.without_traceback())
    if not final:
        return replace(state, c1=session)
    return replace(state, c1=replace(session, ended=True, reopen_at=now.monotonic + RECHECK_SECONDS))


def holder_changed(state: ConnectorState, holder: str | None) -> ConnectorState:
    return replace(state, host_id_holder=holder)


def failed_unexpectedly(
    state: ConnectorState, what: str, error: Exception, now: Instant, share: float
) -> ConnectorState:
    """An error in the operator itself ended the action `what`; a check that is under way goes on.

    The error's own text is not repeated: it may hold anything. The desired state counts as checked, so that a check
    that breaks again and again is repeated at intervals.
    """
    desired = state.desired
    check = replace(state.check, generation=desired.generation, sync_request=desired.sync_request, preflight=None)
    if what == CHECK:
        check = replace(check, running_since=None, full=False, read_at=now.monotonic)
    return credentials_failed(replace(state, check=check), internal_error(error), now, share)
