"""What a connector must begin or end now. Pure: the same state and moment give the same answers.

Each function answers one question; `connector`, which knows what runs already, asks them after every change of the
state and performs the answers. `next_look` is the earliest time at which an answer, or the reported status, may change
although nothing happens.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from buildkite_connector.connector.c1_side import hang_times, look_times
from buildkite_connector.connector.conditions import sentence_changes
from buildkite_connector.connector.rotation import creation_times
from buildkite_connector.connector.shrink_guard import held
from buildkite_connector.connector.state import (
    C1Identity,
    C1Phase,
    ConnectorState,
    DesiredState,
    SnapshotRequest,
    claimed_identity,
    for_task,
)
from buildkite_connector.model.directory import SyncScope
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.snapshot import StagedSnapshot
from buildkite_connector.model.spec import JITTER, Interval, next_time
from buildkite_connector.model.status import ConnectorStatus, Trigger
from buildkite_connector.model.words import listed
from buildkite_connector.timing.clock import LONGEST_PUT_OFF, Instant

REQUESTS_APART = 10.0
"""Seconds between the begins of two syncs that are requested by annotation; the last request is always honoured."""
SECRET_SECONDS = 50.0
"""Time after which the Secret of a connector that works is read again."""
INVALID_SECRET_SECONDS = 8.0
"""The same while it does not work, so that a corrected Secret takes effect within 10 seconds."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The staged snapshot serves a task, as far as `scope` goes."""

    snapshot: StagedSnapshot
    scope: SyncScope


# The credentials


def check_due(state: ConnectorState, now: Instant) -> bool:
    """Whether to read the Secret and ask Buildkite although the Secret may be the same."""
    check, desired = state.check, state.desired
    if desired.spec.suspend:
        return False
    unchecked = check.generation != desired.generation
    asked_again = state.check_requested and now.monotonic >= _next_requested_check(state)
    failed = check.failure is not None or check.write_failure is not None
    return unchecked or asked_again or (failed and check.forced_due <= now.monotonic)


def reread_at(state: ConnectorState) -> float | None:
    """When to read the Secret again, in monotonic seconds; None while suspended, or while a check is due anyway."""
    check, desired = state.check, state.desired
    if desired.spec.suspend or check.generation != desired.generation:
        return None
    well = state.blocked_by is None and check.unread is None
    return check.read_at + max(SECRET_SECONDS if well else INVALID_SECRET_SECONDS, check.read_wait)


def _next_requested_check(state: ConnectorState) -> float:
    return max(state.sync_blocked_until, state.check.requested_at + REQUESTS_APART)


# The session with C1


def session_over(state: ConnectorState) -> bool:
    """Whether to close the session: it has ended, or is not the wanted identity's."""
    c1 = state.c1
    return c1.phase is C1Phase.OPEN and (c1.ended or c1.identity != _wanted_identity(state))


def session_due(state: ConnectorState, now: Instant) -> C1Identity | None:
    """As whom to open a session; None: not now."""
    c1, wanted = state.c1, _wanted_identity(state)
    if c1.phase is not C1Phase.CLOSED:
        return None
    return wanted if c1.identity != wanted or not c1.ended or c1.reopen_at <= now.monotonic else None


def _wanted_identity(state: ConnectorState) -> C1Identity | None:
    return claimed_identity(state) if state.host_id_holder is None else None


# The sync


def sync_due(state: ConnectorState, now: Instant) -> Trigger | None:
    """Why to start a sync now, or None. A suspended, unchecked or blocked connector starts none."""
    return why_sync(state, now) if state.can_sync else None


def why_sync(state: ConnectorState, now: Instant) -> Trigger | None:
    """Why a sync is wanted now, or None. Buildkite's Retry-After holds for every trigger; a request skips our backoff.

    What is tried again after a requested sync failed answers the request still.
    Whether the connector can sync is not considered here: see `sync_due`.
    """
    if now.monotonic < state.sync_blocked_until:
        return None
    if state.sync_requested and now.monotonic >= state.requested_at + REQUESTS_APART:
        return Trigger.REQUEST
    at = state.records.next_sync_time
    if (state.outdated and state.sync_failure is None) or at is None or at <= now.wall:
        if _failed_for_request(state):
            return Trigger.REQUEST
        return Trigger.CHANGE if state.outdated else Trigger.SCHEDULE
    needed = any(_needs_sync(state, each, now) for each in state.requests)
    return Trigger.TASK if needed and state.sync_failure is None else None


def _failed_for_request(state: ConnectorState) -> bool:
    """Whether the last sync was a requested one, and failed; also when a former process ran it."""
    history = state.records.history
    return bool(history) and not history[0].succeeded and history[0].trigger is Trigger.REQUEST


def why_cancel(state: ConnectorState, now: Instant) -> str | None:
    """Why to end the sync that runs, or that waits for a slot; None: it goes on."""
    if state.desired.spec.suspend:
        return "the connector is suspended"
    abandoned = state.sync is not None and state.sync.only_for_tasks and not state.requests
    if abandoned and why_sync(state, now) is None:  # nor does the schedule, a request or a change want it meanwhile
        return "the task that asked for it was cancelled"
    return None


def farthest_next_sync(desired: DesiredState, status: ConnectorStatus, now: Instant) -> datetime:
    """The latest time that a next sync can have: a status that names a later one was written by a wrong clock.

    While syncs fail, that is also as far as a server may put the next one off.
    """
    schedule = desired.spec.schedule
    try:
        if isinstance(schedule, Interval):
            reach = now.wall + timedelta(seconds=schedule.seconds * (1 + JITTER))
        else:
            reach = next_time(schedule, now.wall)
    except Failure:
        return now.wall  # the check reports the schedule
    if status.consecutive_failures:
        reach = max(reach, now.wall + timedelta(seconds=LONGEST_PUT_OFF))
    return reach


# Snapshots for C1's tasks


def answer(state: ConnectorState, request: SnapshotRequest, now: Instant) -> Answer | Failure | None:
    """The snapshot for C1's task, or why there is none.

    None: the request waits for the sync that is under way or begins, or for the session's end.
    """
    wanted, spec = _wanted(state, request), state.desired.spec
    if not wanted.kinds:
        return _kinds_missing(request.scope, state.desired.scope)
    if state.staged is not None and _is_fresh(state, request, now):
        hold = held(state.records, state.staged, spec.max_drop_percent, state.desired.accept_shrink)
        if hold is not None:
            return Failure(Reason.SHRINK_HELD, hold, remedy=Remedy.RETRY)
        return None if spec.suspend else Answer(state.staged, wanted)
    if state.blocked_by is not None:
        return for_task(state.blocked_by)
    if state.sync is not None or why_sync(state, now) is not None:  # it may wait for a slot
        return None
    return state.sync_failure or _put_off(state.sync_blocked_until - now.monotonic)


def _wanted(state: ConnectorState, request: SnapshotRequest) -> SyncScope:
    """The task's scope, limited to the resource types that the connector syncs."""
    return replace(request.scope, kinds=request.scope.kinds & state.desired.spec.kinds)


def _needs_sync(state: ConnectorState, request: SnapshotRequest, now: Instant) -> bool:
    return bool(_wanted(state, request).kinds) and not _is_fresh(state, request, now)


def _is_fresh(state: ConnectorState, request: SnapshotRequest, now: Instant) -> bool:
    """Whether the staged snapshot may answer the request at once.

    It may when it is of the desired state, holds what the task asks for, and is younger than `maxSnapshotAge` or
    was begun after the task asked; and no membership was changed since that it does not show.
    """
    staged, last = state.staged, state.records.last_sync
    if staged is None or last is None or last.id != staged.sync_id:
        return False
    if state.changes.contradict or state.outdated:
        return False
    if state.check.credentials is None:  # the Secret may have changed
        return False
    if not staged.scope.includes(_wanted(state, request)):
        return False
    age = (now.wall - last.finished_at).total_seconds()
    return state.collected_at >= request.asked_at or 0 <= age < state.desired.spec.max_snapshot_age


def _put_off(seconds: float) -> Failure:
    """Buildkite said so to a check that has succeeded since, with new credentials."""
    return Failure(
        Reason.BUILDKITE_RATE_LIMITED,
        f"Buildkite asked the connector to wait another {seconds:.0f} seconds; the next sync starts then.",
        retry_after=seconds,
    )


def _kinds_missing(asked: SyncScope, desired: SyncScope) -> Failure:
    return Failure(
        Reason.SPEC_INVALID,
        f"The task asks for {_names(asked)}, the connector is set to sync {_names(desired)} only"
        " (spec.sync.resourceTypes).",
        remedy=Remedy.EDIT,
    )


def _names(scope: SyncScope) -> str:
    return listed(sorted(scope.kinds))


# When to look again


def next_look(state: ConnectorState, now: Instant) -> float | None:
    """Monotonic seconds; None: not until something happens."""
    times = [] if state.desired.spec.suspend else [*_times(state, now)]
    return min((each for each in times if each > now.monotonic), default=None)


def _times(state: ConnectorState, now: Instant) -> Iterator[float]:
    check, c1, records = state.check, state.c1, state.records
    if state.check_requested:
        yield _next_requested_check(state)
    if check.failure is not None or check.write_failure is not None:
        yield check.forced_due
    if check.failure is not None:
        yield state.sync_blocked_until
        yield state.secret_late_until
    if check.unread is not None:
        yield state.unread_shown_at
    changes = sentence_changes(check.preflight.token.expires_at, now.wall) if check.preflight is not None else None
    if changes is not None:
        yield now.monotonic + (changes - now.wall).total_seconds()
    if c1.phase is C1Phase.CLOSED and c1.ended:
        yield c1.reopen_at
    yield state.status_held_until
    if state.can_sync and state.sync is None:
        at = records.next_sync_time or now.wall
        yield max(now.monotonic + (at - now.wall).total_seconds(), state.sync_blocked_until)
        yield state.sync_blocked_until
        if state.sync_requested:
            yield state.requested_at + REQUESTS_APART
    if state.requests and state.staged is not None and records.last_sync is not None:
        age = (now.wall - records.last_sync.finished_at).total_seconds()
        yield now.monotonic + state.desired.spec.max_snapshot_age - age
    yield from look_times(state)
    yield from hang_times(state, now)
    yield from creation_times(state, now)
