"""The state after each thing that can happen to a connector. Pure: no function here awaits, logs or asks the time.

A result that is no longer asked for, as that of a check of an older generation, changes nothing. `share`, 0.0 to 1.0,
is the caller's random number, by which waits are spread.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from buildkite_connector.connector.c1_side import side_begun, side_edited
from buildkite_connector.connector.decisions import farthest_next_sync, sync_due, why_sync
from buildkite_connector.connector.shrink_guard import baseline
from buildkite_connector.connector.sight import Sight, seen
from buildkite_connector.connector.state import (
    UNREAD_SECONDS,
    C1Identity,
    C1Phase,
    ConnectorState,
    DesiredState,
    Inputs,
    SessionState,
    SyncRun,
    claimed_identity,
)
from buildkite_connector.model.directory import Counts
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.snapshot import StagedSnapshot, SyncID
from buildkite_connector.model.spec import Credentials, next_time
from buildkite_connector.model.status import (
    HISTORY_LENGTH,
    RECENT_CHANGES,
    ChangeRecord,
    ChangeResult,
    ConditionStatus,
    ConditionType,
    ConnectorStatus,
    DeliveryRecord,
    HistoryEntry,
    Phase,
    ProvisioningRecord,
    SyncRecord,
    Trigger,
)
from buildkite_connector.model.tasks import TaskID
from buildkite_connector.sync.preflight import Preflight
from buildkite_connector.timing.clock import BETWEEN_SYNCS, LONGEST_PUT_OFF, Instant

RECHECK_SECONDS = 300.0
"""Interval between checks of invalid credentials although the Secret is the same."""
UNREAD_RECHECK_SECONDS = 10.0
"""Shortest time to the next check while the Kubernetes API does not give the Secret."""
_OF_KUBERNETES = frozenset({Reason.KUBERNETES_UNAVAILABLE, Reason.KUBERNETES_REFUSED})
"""Failures that say nothing of Buildkite."""
_BLOCKS_WRITING = frozenset(
    {Reason.TOKEN_SCOPE_MISSING, Reason.TOKEN_INVALID, Reason.TOKEN_REJECTED, Reason.TOKEN_EXCHANGE_REJECTED}
)
"""What a change finds out about the token that holds for all changes; anything else may be one team's."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What a check found. `forced`: it was to ask Buildkite in any case; `asked_buildkite`: it did.

    `write_failure`: why memberships cannot be changed although that is enabled. With a failure of the portal alone
    there is a preflight too.
    """

    generation: int
    sync_request: str | None
    credentials: Credentials | None
    preflight: Preflight | None = None
    missing_scopes: tuple[str, ...] = ()
    failure: Failure | None = None
    forced: bool = False
    asked_buildkite: bool = False
    write_failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class SyncResult:
    """A sync that succeeded. `covered`: the number of `TeamChanges` up to which its snapshot shows all changes.

    `sight`: what else it saw.
    """

    record: SyncRecord
    staged: StagedSnapshot
    covered: int = 0
    sight: Sight | None = None


# The desired state


def begin(desired: DesiredState, restored: ConnectorStatus | None, now: Instant, share: float = 0.0) -> ConnectorState:
    """The state of a connector that this process starts to act for. `restored`: the newest status, None if new.

    The time of the next sync is the one in the status, no further ahead than the schedule reaches. A resource that
    changed meanwhile, and a sync that a crash interrupted, are due at once.
    """
    status = restored or ConnectorStatus()
    known = restored is not None and restored.observed_generation == desired.generation
    goes_on = known and status.phase is not Phase.SYNCING
    next_sync = status.next_sync_time
    if not goes_on:
        next_sync = now.wall
    elif next_sync is not None:
        next_sync = min(next_sync, farthest_next_sync(desired, status, now))
    c1_record, c1_side = side_begun(desired, restored, now, share)
    return ConnectorState(
        desired=desired,
        desired_since=now.monotonic if not known else float("-inf"),
        records=replace(status, next_sync_time=next_sync, c1=c1_record),
        collected_for=Inputs(desired.generation, None) if known and status.last_sync is not None else None,
        sync_failure=_restored_failure(status),
        sync_blocked_until=_blocked_until(status, now),
        c1_side=c1_side,
    )


def still_serves(desired: DesiredState, left: ConnectorStatus, now: Instant) -> bool:
    """Whether the snapshot that a former process staged may answer tasks: nothing can have changed since it was taken.

    With provisioning it never does: a killed process may have changed a membership that the snapshot lacks.
    """
    due = left.next_sync_time is None or left.next_sync_time <= now.wall
    known = left.observed_generation == desired.generation and left.phase is not Phase.SYNCING
    return known and not due and not left.consecutive_failures and not desired.spec.provisioning.enabled


def desired_changed(state: ConnectorState, desired: DesiredState, now: Instant) -> ConnectorState:
    """A new generation is due at once, also for the process after this one; annotations alone change no more."""
    if desired.generation == state.desired.generation:
        return replace(state, desired=desired)
    before = state.desired
    state = replace(state, desired=desired, desired_since=now.monotonic)
    return _due_at_once(side_edited(state, before, now), now)


def _due_at_once(state: ConnectorState, now: Instant) -> ConnectorState:
    return replace(state, records=replace(state.records, next_sync_time=now.wall))


def _blocked_until(status: ConnectorStatus, now: Instant) -> float:
    """Until when Buildkite put the next sync off, seen by a former process: further than our backoff goes."""
    ended, at = status.last_sync_time, status.next_sync_time
    if ended is None or at is None or not status.consecutive_failures:
        return 0.0
    if (at - ended).total_seconds() <= BETWEEN_SYNCS.longest(status.consecutive_failures):
        return 0.0
    return now.monotonic + min((at - now.wall).total_seconds(), LONGEST_PUT_OFF)


def _restored_failure(status: ConnectorStatus) -> Failure | None:
    """The sync failure that a former process reported, until a new sync says otherwise."""
    condition = status.condition(ConditionType.SYNCED)
    if condition is None or condition.status is not ConditionStatus.FALSE:
        return None
    return Failure(condition.reason, condition.message)


# The check of the credentials


def forced_check_begun(state: ConnectorState, now: Instant) -> ConnectorState:
    """It also lets an ended session with C1 begin again."""
    requested_at = now.monotonic if state.check_requested else state.check.requested_at
    check = replace(state.check, asking_since=now.monotonic, requested_at=requested_at)
    c1 = replace(state.c1, reopen_at=now.monotonic) if state.c1.ended else state.c1
    return replace(state, check=check, c1=c1)


def check_ended(state: ConnectorState) -> ConnectorState:
    return replace(state, check=replace(state.check, asking_since=None))


def check_finished(state: ConnectorState, result: CheckResult, now: Instant, share: float) -> ConnectorState:
    """A result of another generation is dropped: the next check is due at once."""
    check = replace(state.check, asking_since=None, read_at=now.monotonic, read_wait=0.0)
    if result.generation != state.desired.generation:
        return replace(state, check=check)
    failure = result.failure
    if failure is not None and result.credentials is None and _says_nothing_of_the_secret(state, failure, now):
        check = replace(check, sync_request=result.sync_request if result.forced else check.sync_request)
        return _secret_unread(replace(state, check=check), result.generation, failure, now, share)
    # A Secret that is only read again, and is the same, is no answer to a person's request.
    nothing_new = not result.forced and failure is None and not result.asked_buildkite
    state = _credentials_read(state, result.credentials, now)
    check = replace(
        check,
        generation=result.generation,
        sync_request=check.sync_request if nothing_new else result.sync_request,
        credentials=result.credentials,
        unread=None,
    )
    if failure is not None:
        missing = result.missing_scopes or check.missing_scopes
        check = replace(check, preflight=result.preflight, missing_scopes=missing, write_failure=result.write_failure)
        return credentials_failed(replace(state, check=check), failure, now, share)
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
            forced_due=now.monotonic + RECHECK_SECONDS if result.write_failure is not None else check.forced_due,
        )
    return replace(state, check=check)


def credentials_failed(state: ConnectorState, failure: Failure, now: Instant, share: float) -> ConnectorState:
    """Syncs stop until a check succeeds."""
    failures = state.check.failures + 1
    wait = RECHECK_SECONDS
    if failure.remedy is Remedy.RETRY:
        wait = BETWEEN_SYNCS.wait(failures, share, failure.retry_after)
    check = replace(
        state.check, failure=failure.without_traceback(), failures=failures, forced_due=now.monotonic + wait
    )
    asked = None if failure.reason in _OF_KUBERNETES else failure.retry_after
    return _blocked_for(replace(state, check=check), asked, now)


def _blocked_for(state: ConnectorState, seconds: float | None, now: Instant) -> ConnectorState:
    """Buildkite asked for no requests for so many seconds."""
    until = now.monotonic + min(seconds or 0.0, LONGEST_PUT_OFF)
    return replace(state, sync_blocked_until=max(state.sync_blocked_until, until))


def _says_nothing_of_the_secret(state: ConnectorState, failure: Failure, now: Instant) -> bool:
    """Whether the Kubernetes API did not answer.

    An API server that starts refuses everybody until it has read the roles: a connector that works does not lose its
    credentials by that.
    """
    check = state.check
    if failure.reason is Reason.SECRET_FORBIDDEN and state.checked:
        return check.unread is None or now.monotonic < check.unread_since + UNREAD_SECONDS
    return failure.remedy is Remedy.RETRY


def _secret_unread(
    state: ConnectorState, generation: int, failure: Failure, now: Instant, share: float
) -> ConnectorState:
    """A connector that works goes on with what it has; the failure stops one that was never checked."""
    check = replace(state.check, read_wait=failure.retry_after or 0.0)
    if not state.checked:
        check = replace(check, generation=generation, preflight=None, unread=None)
        return credentials_failed(replace(state, check=check), failure, now, share)
    due = now.monotonic + max(UNREAD_RECHECK_SECONDS, check.read_wait)
    check = replace(check, forced_due=max(check.forced_due, due))
    if check.unread is None or check.unread.reason is not failure.reason:
        sentence = f"{failure.message} The connector continues with the credentials that it read before."
        since = now.monotonic if check.unread is None else check.unread_since
        check = replace(check, unread=Failure(failure.reason, sentence), unread_since=since)
    return replace(state, check=check)


def _credentials_read(state: ConnectorState, credentials: Credentials | None, now: Instant) -> ConnectorState:
    """A Secret whose content changed makes the next sync due at once."""
    before, collected = state.check.credentials, state.collected_for
    if credentials is None or credentials == before:
        return state
    if collected is not None and collected.credentials is None:
        state = replace(state, collected_for=replace(collected, credentials=credentials))
    changed = before is not None or (collected is not None and collected.credentials not in (None, credentials))
    return _due_at_once(state, now) if changed else state


# The session with C1


def c1_opened(state: ConnectorState, identity: C1Identity, now: Instant) -> ConnectorState:
    """The session of another identity starts without the old one's failure."""
    failure = state.c1.failure if state.c1.identity == identity else None
    return replace(state, c1=SessionState(C1Phase.OPEN, identity, phase_since=now.monotonic, failure=failure))


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
    if final:
        session = replace(session, ended=True, reopen_at=now.monotonic + RECHECK_SECONDS)
    return replace(state, c1=session)


# The sync


def sync_admitted(state: ConnectorState, sync_id: SyncID, now: Instant) -> ConnectorState:
    """A slot is there: the sync starts with what is desired now, or not at all when nothing asks for it any more."""
    trigger = sync_due(state, now)
    credentials, preflight = state.check.credentials, state.check.preflight
    if trigger is None or credentials is None or preflight is None:
        return state
    request = state.desired.sync_request
    run = SyncRun(
        sync_id,
        trigger,
        state.desired.generation,
        credentials,
        state.desired.spec,
        preflight,
        now,
        only_for_tasks=why_sync(replace(state, requests=()), now) is None,
    )
    return replace(
        state,
        sync=run,
        check=replace(state.check, sync_request=request),
        records=replace(state.records, last_handled_sync_request=request),
        changes=state.changes.forgotten(),
        requested_at=now.monotonic if trigger is Trigger.REQUEST else state.requested_at,
    )


def sync_ended(state: ConnectorState) -> ConnectorState:
    """The sync has ended in whatever way."""
    return replace(state, sync=None)


def sync_succeeded(
    state: ConnectorState, run: SyncRun, result: SyncResult, now: Instant, share: float
) -> ConnectorState:
    """The snapshot is staged in place of the one before. After an edit meanwhile the next sync is due at once."""
    record, current = result.record, run.inputs.same(state.inputs)
    if result.sight is not None and current:
        state = seen(state, result.sight)
    entry = HistoryEntry(
        record.id, record.trigger, record.started_at, record.finished_at, True, Reason.SYNC_SUCCEEDED, record.counts
    )
    return replace(
        state,
        sync=None,
        collected_for=run.inputs,
        collected_at=run.started.monotonic,
        staged=result.staged,
        sync_failure=None,
        changes=replace(state.changes, covered=result.covered),
        records=replace(
            state.records,
            last_sync=record,
            last_sync_time=record.finished_at,
            last_successful_sync_time=record.finished_at,
            next_sync_time=next_time(state.desired.spec.schedule, record.started_at, share) if current else now.wall,
            consecutive_failures=0,
            history=_history(state, entry),
        ),
    )


def sync_failed(state: ConnectorState, run: SyncRun, failure: Failure, now: Instant, share: float) -> ConnectorState:
    """The next sync waits for the backoff, or longer where Buildkite said so; then the wait holds for all triggers.

    What new credentials or an edit must fix blocks syncs altogether; where they came meanwhile, the next sync, with
    them, is due at once, and tasks wait for it.
    """
    failures, final = state.records.consecutive_failures + 1, failure.remedy is not Remedy.RETRY
    superseded = final and not run.inputs.same(state.inputs)
    wait = 0.0 if superseded else BETWEEN_SYNCS.wait(failures, share, failure.retry_after)
    entry = HistoryEntry(run.id, run.trigger, run.started.wall, now.wall, False, failure.reason)
    records = replace(
        state.records,
        last_sync_time=now.wall,
        next_sync_time=now.wall + timedelta(seconds=wait),
        consecutive_failures=failures,
        history=_history(state, entry),
    )
    state = replace(state, sync=None, records=records)
    if superseded:
        return state
    state = _blocked_for(replace(state, sync_failure=failure.without_traceback()), failure.retry_after, now)
    return credentials_failed(state, failure, now, share) if final else state


def _history(state: ConnectorState, entry: HistoryEntry) -> tuple[HistoryEntry, ...]:
    """The newest ten; the sync that the accept-shrink annotation names is kept however old it is."""
    entries = (entry, *state.records.history)
    kept, cut = entries[:HISTORY_LENGTH], entries[HISTORY_LENGTH:]
    accepted = [each for each in cut if each.id == state.desired.accept_shrink]
    return (*kept[: HISTORY_LENGTH - len(accepted)], *accepted)


# Snapshots for C1's tasks


def request_ended(state: ConnectorState, task: TaskID) -> ConnectorState:
    """The task was answered or refused, or needs no snapshot any more."""
    return replace(state, requests=tuple(each for each in state.requests if each.task != task))


def delivered(state: ConnectorState, task: TaskID, file: StagedSnapshot, time: datetime) -> ConnectorState:
    """C1 has `file`, which is the staged snapshot or was derived from it. The same again changes no record.

    What its scope leaves out counts as it did at the delivery before, or in the accepted sync where that is newer:
    otherwise what C1 does not take would undo what a person accepted.
    """
    last = state.records.last_delivery
    if last is not None and (last.task_id, last.sha256) == (task, file.sha256):
        return replace(state, delivery_failure=None)
    counts = file.counts.filled(file.scope, baseline(state.records, state.desired.accept_shrink) or Counts(0, 0, 0))
    record = DeliveryRecord(time, task, file.sync_id, file.sha256, file.size, counts, file.counts)
    return replace(state, delivery_failure=None, records=replace(state.records, last_delivery=record))


def delivery_failed(state: ConnectorState, snapshot: StagedSnapshot, failure: Failure) -> ConnectorState:
    """A damaged or unreadable file is removed, as it is no longer `staged`: the next task gets a new one.

    One that is whole and only too large for what a task asks stays: what helps is an edit, and not another sync.
    """
    damaged = failure.reason in {Reason.SNAPSHOT_INVALID, Reason.STORAGE_FAILED} and failure.remedy is not Remedy.EDIT
    if damaged and state.staged is not None and state.staged.sync_id == snapshot.sync_id:
        state = replace(state, staged=None)
    return replace(state, delivery_failure=failure.without_traceback())


# Changes of memberships


def change_recorded(state: ConnectorState, change: ChangeRecord) -> ConnectorState:
    """A change or a refusal comes into the status. `number` of the change is set here."""
    before = state.records.provisioning or ProvisioningRecord(0, 0, 0)
    number = before.recent[-1].number + 1 if before.recent else 1
    change = replace(change, number=number)
    record = replace(
        before,
        granted=before.granted + (change.result in {ChangeResult.GRANTED, ChangeResult.ROLE_CHANGED}),
        revoked=before.revoked + (change.result is ChangeResult.REVOKED),
        refused=before.refused + (change.result is ChangeResult.REFUSED),
        last_change=change,
        recent=(*before.recent, change)[-RECENT_CHANGES:],
    )
    return replace(state, records=replace(state.records, provisioning=record))


def change_failed(state: ConnectorState, failure: Failure, now: Instant) -> ConnectorState:
    """A token that cannot write stops changes until a check finds that it can; syncs go on."""
    if failure.reason not in _BLOCKS_WRITING or not state.desired.spec.provisioning.enabled:
        return state
    check = replace(state.check, write_failure=failure.without_traceback(), forced_due=now.monotonic + RECHECK_SECONDS)
    return replace(state, check=check)
