"""The state after each thing that can happen to a connector. Pure: no function here awaits, logs or asks the time.

A result that is no longer asked for (a check of an older generation, a snapshot of a sync that was cancelled)
changes nothing but that its action has ended. How records of syncs and deliveries change is in `records`.
"""

from dataclasses import replace
from datetime import timedelta
from functools import partial

from buildkite_connector.connector import records
from buildkite_connector.connector.credential_transitions import credentials_failed
from buildkite_connector.connector.decisions import CLOCK_WENT_BACK, farthest_next_sync, why_sync
from buildkite_connector.connector.sight import Sight, seen
from buildkite_connector.connector.state import (
    ConnectorState,
    DesiredState,
    Inputs,
    SnapshotRequest,
    SyncPhase,
    SyncRun,
)
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.schedule import next_time
from buildkite_connector.model.snapshot import StagedSnapshot, SyncID
from buildkite_connector.model.status import ConditionStatus, ConditionType, ConnectorStatus, Phase, SyncRecord, Trigger
from buildkite_connector.model.tasks import TaskID
from buildkite_connector.timing.backoff import BETWEEN_SYNCS, LONGEST_RETRY_AFTER
from buildkite_connector.timing.clock import Instant

# The desired state


def begin(desired: DesiredState, restored: ConnectorStatus | None, now: Instant) -> ConnectorState:
    """The state of a connector that this process starts to act for. `restored`: the newest status, None if new.

    The time of the next sync is the one in the status, no further ahead than the schedule reaches; a resource that
    changed meanwhile, and a sync that a crash interrupted, are due at once.
    """
    status = restored or ConnectorStatus()
    blocked_until = _blocked_until(status, now)
    known = restored is not None and restored.observed_generation == desired.generation
    interrupted = status.phase is Phase.SYNCING
    next_sync = status.next_sync_time
    if not known or interrupted:
        status = records.change_seen(status, now.wall)
    elif next_sync is not None:
        status = replace(status, next_sync_time=min(next_sync, farthest_next_sync(desired, status, now)))
    return ConnectorState(
        desired=desired,
        desired_since=now.monotonic if not known else float("-inf"),
        records=status,
        collected_for=Inputs(desired.generation, None) if known and status.last_sync is not None else None,
        sync_failure=_restored_failure(restored),
        sync_blocked_until=blocked_until,
        retry_at=_retry_at(status, now) if known and not interrupted else float("inf"),
    )


def still_serves(desired: DesiredState, left: ConnectorStatus, now: Instant) -> bool:
    """Whether the snapshot that a former process staged may answer tasks: nothing can have changed since it was taken.

    What a killed process changed last of a membership, nobody knows.
    """
    due = left.next_sync_time is None or left.next_sync_time <= now.wall or records.awaits_change(left)
    known = left.observed_generation == desired.generation and left.phase is not Phase.SYNCING
    return known and not due and not left.consecutive_failures and not desired.spec.provisioning.enabled


def desired_changed(state: ConnectorState, desired: DesiredState, now: Instant) -> ConnectorState:
    """A new generation is due at once, also for the process after this one; annotations alone change no more."""
    if desired.generation == state.desired.generation:
        return replace(state, desired=desired)
    due = records.change_seen(state.records, now.wall)
    return replace(state, desired=desired, desired_since=now.monotonic, records=due)


# The sync


def sync_queued(state: ConnectorState, now: Instant) -> ConnectorState:
    return replace(state, sync=SyncRun(SyncPhase.QUEUED, queued_at=now.monotonic))


def sync_admitted(state: ConnectorState, sync_id: SyncID, now: Instant) -> ConnectorState:
    """A slot is there: the sync starts with what is desired now, or not at all when nothing asks for it any more."""
    trigger = why_sync(state, now) if state.can_sync else None
    if trigger is None or state.sync is None or state.sync.phase is not SyncPhase.QUEUED:
        return replace(state, sync=None)
    run = SyncRun(
        SyncPhase.RUNNING,
        state.sync.queued_at,
        id=sync_id,
        trigger=trigger,
        inputs=state.inputs,
        spec=state.desired.spec,
        preflight=state.check.preflight,
        started=now,
        only_for_tasks=why_sync(replace(state, requests=()), now) is None,
    )
    echoed = replace(state.records, last_handled_sync_request=state.desired.sync_request)
    served = replace(state.check, sync_request=state.desired.sync_request)
    requested_at = now.monotonic if trigger is Trigger.REQUEST else state.requested_at
    return replace(
        state,
        sync=run,
        check=served,
        records=echoed,
        changes=state.changes.forgotten(),
        requested_at=requested_at,
    )


def sync_cancelling(state: ConnectorState) -> ConnectorState:
    if state.sync is None:
        return state
    return replace(state, sync=replace(state.sync, phase=SyncPhase.CANCELLING))


def sync_ended(state: ConnectorState) -> ConnectorState:
    """The sync was cancelled, or never started."""
    return replace(state, sync=None)


def sync_succeeded(
    state: ConnectorState,
    record: SyncRecord,
    staged: StagedSnapshot,
    now: Instant,
    share: float,
    covered: int = 0,
    sight: Sight | None = None,
) -> ConnectorState:
    """The snapshot is staged in place of the one before. After an edit meanwhile the next sync is due at once.

    `share`, 0.0 to 1.0, spreads the next sync. `covered`: the number of `TeamChanges` up to which it shows all changes.
    `sight`: what else the sync saw.
    """
    run = state.sync
    inputs = run.inputs if run is not None else None
    current = inputs is not None and inputs.same(state.inputs)
    if sight is not None and current:
        state = seen(state, sight)
    next_sync = next_time(state.desired.spec.schedule, record.started_at, share) if current else now.wall
    return replace(
        state,
        sync=None,
        collected_for=inputs,
        collected_at=run.started.monotonic if run is not None and run.started is not None else float("-inf"),
        staged=staged,
        sync_failure=None,
        retry_at=float("inf"),
        changes=replace(state.changes, covered=covered),
        records=records.sync_succeeded(
            state.records, record, next_sync=next_sync, accepted=state.desired.accept_shrink
        ),
    )


def sync_failed(state: ConnectorState, failure: Failure, now: Instant, share: float) -> ConnectorState:
    """The next sync waits for the backoff, or longer where Buildkite said so; then the wait holds for all triggers.

    What new credentials or an edit must fix blocks syncs altogether; where they came meanwhile, the next sync, with
    them, is due at once, and tasks wait for it.
    """
    run = state.sync
    if run is None or run.started is None or run.id is None:
        return replace(state, sync=None)
    recorded = partial(
        records.sync_failed,
        state.records,
        sync_id=run.id,
        trigger=run.trigger,
        started=run.started.wall,
        finished=now.wall,
        failure=failure,
        accepted=state.desired.accept_shrink,
    )
    if failure.remedy is not Remedy.RETRY and run.inputs is not None and not run.inputs.same(state.inputs):
        # The sync's end is the time of the next: `records.awaits_change` tells a process after this one.
        return replace(state, sync=None, records=recorded(next_sync=now.wall))
    wait = BETWEEN_SYNCS.wait(state.records.consecutive_failures + 1, share, failure.retry_after)
    blocked = now.monotonic + min(failure.retry_after or 0.0, LONGEST_RETRY_AFTER)
    state = replace(
        state,
        sync=None,
        sync_failure=failure.without_traceback(),
        sync_blocked_until=max(state.sync_blocked_until, blocked),
        retry_at=now.monotonic + wait,
        records=recorded(next_sync=now.wall + timedelta(seconds=wait)),
    )
    if failure.remedy is Remedy.RETRY or run.inputs is None:
        return state
    return credentials_failed(state, failure, now, share)


# Snapshots for C1's tasks


def snapshot_requested(state: ConnectorState, request: SnapshotRequest) -> ConnectorState:
    return replace(state, requests=(*state.requests, request))


def request_ended(state: ConnectorState, task: TaskID) -> ConnectorState:
    """The task was answered or refused, or needs no snapshot any more."""
    return replace(state, requests=tuple(each for each in state.requests if each.task != task))


def delivered(state: ConnectorState, task: TaskID, file: StagedSnapshot, now: Instant) -> ConnectorState:
    """C1 has `file`, which is the staged snapshot or was derived from it. The same again changes no record."""
    last = state.records.last_delivery
    if last is not None and (last.task_id, last.sha256) == (task, file.sha256):
        return replace(state, delivery_failure=None)
    record = records.delivered(state.records, file, task, now.wall)
    return replace(state, delivery_failure=None, records=record)


def delivery_failed(state: ConnectorState, snapshot: StagedSnapshot, failure: Failure) -> ConnectorState:
    """A damaged or unreadable file serves no more: the next task gets a new one."""
    damaged = failure.reason in {Reason.SNAPSHOT_INVALID, Reason.STORAGE_FAILED}
    if damaged and state.staged is not None and state.staged.sync_id == snapshot.sync_id:
        state = replace(state, staged=None)
    return replace(state, delivery_failure=failure.without_traceback())


def _blocked_until(status: ConnectorStatus, now: Instant) -> float:
    """Until when Buildkite put the next sync off, seen by a former process: further than our backoff goes.

    A clock that was set back since leaves nothing to tell by.
    """
    ended, at = status.last_sync_time, status.next_sync_time
    if ended is None or at is None or not status.consecutive_failures or now.wall + CLOCK_WENT_BACK < ended:
        return 0.0
    if (at - ended).total_seconds() <= BETWEEN_SYNCS.longest(status.consecutive_failures):
        return 0.0
    return now.monotonic + min((at - now.wall).total_seconds(), LONGEST_RETRY_AFTER)


def _retry_at(status: ConnectorStatus, now: Instant) -> float:
    """When the backoff that a former process began ends, whatever becomes of the wall clock from now on."""
    if not status.consecutive_failures or status.next_sync_time is None:
        return float("inf")
    return now.monotonic + max((status.next_sync_time - now.wall).total_seconds(), 0.0)


def _restored_failure(restored: ConnectorStatus | None) -> Failure | None:
    """The sync failure that a former process reported, until a new sync says otherwise."""
    condition = restored.condition(ConditionType.SYNCED) if restored is not None else None
    if condition is None or condition.status is not ConditionStatus.FALSE:
        return None
    return Failure(condition.reason, condition.message)
