"""C1's side: when C1's REST API is looked at, when it is asked to sync, and what is reported of it. Pure.

A look reads what C1 shows of the connector, and asks C1 to sync where a snapshot waits for that. While nothing happens
C1 is looked at every `LOOK_SECONDS`; more often after a delivery or a forced sync, until C1 has ended that sync. The
result of a look that was begun for another generation changes nothing, but for how long C1 wants to be left alone.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from buildkite_connector.connector.shrink_guard import held
from buildkite_connector.connector.state import C1Side, ConnectorState, DesiredState, Trouble, Watch
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.snapshot import SyncID
from buildkite_connector.model.spec import JITTER, C1Spec
from buildkite_connector.model.status import (
    C1Record,
    C1State,
    C1SyncState,
    Condition,
    ConditionStatus,
    ConditionType,
    ConnectorStatus,
    Trigger,
)
from buildkite_connector.timing.clock import LONGEST_PUT_OFF, Backoff, Instant

TRUE, FALSE, UNKNOWN = ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN
Verdict = tuple[ConditionStatus, Reason, str]
"""A condition before it has a generation and a time."""

LOOK_SECONDS = 300.0
"""Seconds between two looks while nothing happens. After a restart the first looks are spread over as many."""
SHORTEST_WATCH, LONGEST_WATCH = 2.0, 60.0
"""Seconds between two looks while C1 works on a sync; they grow with the time that it takes."""
WATCHED_SECONDS = 3600.0
"""How long C1 is looked at more often for one sync, and how long a sync of C1 is waited for."""
AFTER_FAILURE = Backoff(first=30.0, cap=2 * LOOK_SECONDS)
"""Before the next look after one that failed, and before C1 is asked again to sync where it may soon be able to. It is
never longer than `LOOK_SECONDS`, but for what C1 says itself."""
SHOWN_AFTER_SECONDS = 30.0
"""How long a failure that may pass by itself must last before the status says it."""
_TOLERANCE = timedelta(minutes=1)
"""By how much C1's clock may be behind."""
HANGS = (
    "for more than an hour. Find out why on the connector's page in C1, then request a sync with the annotation"
    " connectors.c1.ai/sync-requested-at."
)
NOT_CREATED = "The connector is not created in C1 yet: see the condition CredentialsValid."
NOT_FORCED = "The operator could not make C1 sync, and the snapshot waits until C1 asks:"
"""How the message of a refused forced sync begins."""
_PASSES = frozenset(
    {
        Reason.C1_UNAVAILABLE,
        Reason.C1_UNREACHABLE,
        Reason.C1_CONFLICT,
        Reason.CLOCK_WRONG,
        Reason.INTERNAL_ERROR,
    }
)
"""Reasons for which C1 did not sync that may pass by themselves."""
_OF_C1_ITSELF = frozenset({Reason.C1_SYNC_FAILED, Reason.C1_PAUSED})
"""Reasons for which `C1Synced` is False that follow from what C1 shows."""


def connector_ids(state: ConnectorState) -> tuple[str, str] | None:
    """The IDs of app and connector that C1 is asked for; None: none, or the connector is not created yet."""
    desired, record = state.desired, state.records.c1
    if desired.spec.c1 is None or desired.spec_error is not None or record is None:
        return None
    return (record.app_id, record.connector_id) if record.app_id and record.connector_id else None


# Decisions


def look_due(state: ConnectorState, now: Instant) -> bool:
    """Whether to look at C1 now. A new snapshot that C1 is to take does not wait for the next look."""
    side = state.c1_side
    if not looks(state) or now.monotonic < side.blocked_until:
        return False
    return now.monotonic >= side.look_at or _news(state, now)


def force_due(state: ConnectorState, now: Instant) -> SyncID | None:
    """The staged snapshot for which to make C1 sync now, as far as C1 was read just before; None: it is not to sync.

    While C1 syncs it is asked again when that has ended or hangs, and while it is paused when it was resumed.
    """
    wanted, side, record = _wanted(state, now), state.c1_side, state.records.c1
    if wanted is None or record is None or record.shown is None or now.monotonic < side.blocked_until:
        return None
    if _is_paused(record.shown):
        return None
    if record.shown.state is C1SyncState.RUNNING and _hangs_since(record, now) is None:
        return None
    return None if side.refused_for == wanted and now.monotonic < side.force_at else wanted


def look_times(state: ConnectorState) -> Iterator[float]:
    """When a look may be due although nothing happens, in monotonic seconds."""
    if looks(state):
        yield max(state.c1_side.look_at, state.c1_side.blocked_until)
        yield state.c1_side.blocked_until


def hang_times(state: ConnectorState, now: Instant) -> Iterator[float]:
    """When to say that a sync of C1 hangs, in monotonic seconds."""
    since = _running_since(state.records.c1) if state.records.c1 is not None else None
    if since is not None:
        yield now.monotonic + (since - now.wall).total_seconds() + WATCHED_SECONDS


def looks(state: ConnectorState) -> bool:
    """Whether C1's REST API is asked for this connector at all."""
    return not state.desired.spec.suspend and connector_ids(state) is not None


def _news(state: ConnectorState, now: Instant) -> bool:
    """Whether this process staged a snapshot, for which C1 is to sync, since the last look."""
    wanted = _wanted(state, now)
    return wanted is not None and wanted != state.c1_side.looked_for and not _is_left(state)


def _is_left(state: ConnectorState) -> bool:
    """Whether the staged snapshot is one that a former process left."""
    return state.collected_at == float("-inf")


def _wanted(state: ConnectorState, now: Instant) -> SyncID | None:
    """The staged snapshot that C1 does not have and is to sync for, whatever C1 does at this moment.

    A snapshot that a former process left must be one that answers a task: a restart alone leads to no sync.
    """
    spec, staged, records = state.desired.spec, state.staged, state.records
    last, record = records.last_sync, records.c1
    if spec.c1 is None or record is None or not looks(state):
        return None
    if last is None or staged is None or staged.sync_id != last.id or record.forced_for == last.id:
        return None
    if not state.undelivered or state.outdated or state.blocked_by is not None or not state.c1.greeted:
        return None
    if last.trigger is not Trigger.REQUEST and not (spec.c1.force_sync and last.trigger in _FORCES):
        return None
    if held(records, staged, spec.max_drop_percent, state.desired.accept_shrink) is not None:
        return None
    age = (now.wall - last.finished_at).total_seconds()
    return None if _is_left(state) and not 0 <= age < spec.max_snapshot_age else last.id


_FORCES = frozenset({Trigger.SCHEDULE, Trigger.CHANGE})
"""Why a sync ran that C1 did not ask for, besides a request."""


def _is_paused(shown: C1State) -> bool:
    return shown.state is C1SyncState.DISABLED or shown.paused_at is not None


def _running_since(record: C1Record) -> datetime | None:
    """Since when C1 works on a sync; None: it does not."""
    shown = record.shown
    if shown is None or shown.state is not C1SyncState.RUNNING:
        return None
    ended = shown.completed_at
    of_it = shown.started_at is not None and (ended is None or shown.started_at >= ended)
    return shown.started_at if of_it else record.observed_at


def _hangs_since(record: C1Record, now: Instant) -> datetime | None:
    """Since when C1 has worked on a sync, if that is so long that nobody waits for its end."""
    since = _running_since(record)
    hangs = since is not None and (now.wall - since).total_seconds() >= WATCHED_SECONDS
    return since if hangs else None


# Transitions


def side_begun(
    desired: DesiredState, restored: ConnectorStatus | None, now: Instant, share: float
) -> tuple[C1Record | None, C1Side]:
    """At the start of the process. What it restores it keeps until the first look."""
    record = _record(desired, restored.c1 if restored is not None else None, None)
    if record is None or restored is None:
        return record, C1Side()
    side, condition = C1Side(look_at=now.monotonic + share * LOOK_SECONDS), restored.condition(ConditionType.C1_SYNCED)
    if condition is None or condition.status is not FALSE or condition.reason in _OF_C1_ITSELF:
        return record, side
    if not _same_connector(record, restored.c1):
        return record, side
    trouble = Trouble(now.monotonic, 0, Failure(condition.reason, condition.message))
    if condition.message.startswith(NOT_FORCED):
        return record, replace(side, no_force=trouble)
    return record, replace(side, no_read=trouble)


def side_edited(state: ConnectorState, before: DesiredState, now: Instant) -> ConnectorState:
    """After a change of the resource C1 is looked at again, with the IDs and the access that it names now.

    For how long C1 wants to be left alone holds even where spec.c1 is removed: it may come back before.

    Who switches forced syncs off need not read any more that C1 refuses them.
    """
    old, side = state.records.c1, state.c1_side
    record = _record(state.desired, old, before.spec.c1)
    if record is None:
        side = C1Side(blocked_until=side.blocked_until)
    elif _same_connector(record, old):
        forces = state.desired.spec.c1 is None or state.desired.spec.c1.force_sync
        side = replace(side, look_at=now.monotonic, no_force=side.no_force if forces else None)
    else:
        side = C1Side(look_at=now.monotonic, blocked_until=side.blocked_until)
    return replace(state, c1_side=side, records=replace(state.records, c1=record))


def _record(desired: DesiredState, record: C1Record | None, before: C1Spec | None) -> C1Record | None:
    """The record for what is desired now: of another connector in C1 nothing is kept.

    The IDs of one that the operator creates come with its creation. While the spec is invalid, nothing is forgotten.
    """
    if desired.spec_error is not None:
        return record
    spec = desired.spec.c1
    if spec is None:
        return None
    if spec.create is not None:
        by_hand = before is not None and before.create is None
        return C1Record() if record is None or by_hand or not _is_of_creation(record) else record
    if record is None or (record.app_id, record.connector_id) != (spec.app_id, spec.connector_id):
        return C1Record(spec.app_id, spec.connector_id)
    return replace(record, creating=None, creating_since=None, credential=None)


def _is_of_creation(record: C1Record) -> bool:
    """Whether these IDs can only come from the creation. Others were set by hand, or the creation finds them again."""
    return not record.connector_id or record.creating is not None or record.credential is not None


def _same_connector(one: C1Record, other: C1Record | None) -> bool:
    return other is not None and (one.app_id, one.connector_id) == (other.app_id, other.connector_id)


def looked(state: ConnectorState, generation: int, shown: C1State, now: Instant, share: float) -> ConnectorState:
    """C1 showed the connector. The status changes only where that is something else than before."""
    record, side, wanted = state.records.c1, state.c1_side, _wanted(state, now)
    if record is None or generation != state.desired.generation:
        return state
    if shown != record.shown:
        record = replace(record, shown=shown, observed_at=now.wall)
    watch, lost = side.watch, _lost(state, shown)
    if lost is not None:
        record = replace(record, forced_for=None)
        side = replace(side, forced_again=lost, refused_for=lost, force_at=now.monotonic + LOOK_SECONDS)
        wanted = lost
    if watch is not None and (_ended(shown, watch) or now.monotonic >= watch.since + WATCHED_SECONDS):
        watch = None
    elif watch is None and shown.state is C1SyncState.RUNNING and wanted not in (None, side.looked_for):
        watch = Watch(now.monotonic, now.wall)
    wait = LOOK_SECONDS * (1 + JITTER * share)
    if watch is not None:
        wait = min(max((now.monotonic - watch.since) / 4, SHORTEST_WATCH), LONGEST_WATCH)
    refused = _still_refused(state, now)
    side = replace(side, look_at=now.monotonic + wait, looked_for=wanted, watch=watch, no_read=None, no_force=refused)
    return replace(state, c1_side=side, records=replace(state.records, c1=record))


def _still_refused(state: ConnectorState, now: Instant) -> Trouble | None:
    """What counts of a refusal to sync: while no snapshot waits for it, only what a person must fix."""
    refused = state.c1_side.no_force
    if refused is None or _wanted(state, now) is not None:
        return refused
    return None if refused.shown is None or refused.shown.reason in _PASSES else refused


def _ended(shown: C1State, watch: Watch) -> bool:
    """Whether C1 has ended the sync that is watched. A paused connector begins none."""
    if _is_paused(shown):
        return True
    if shown.state not in {C1SyncState.DONE, C1SyncState.ERROR}:
        return False
    if shown.completed_at is None:
        return shown.state is C1SyncState.ERROR
    return shown.completed_at != watch.before and shown.completed_at >= watch.after - _TOLERANCE


def _lost(state: ConnectorState, shown: C1State) -> SyncID | None:
    """The snapshot for which C1 was made to sync, if C1 failed without taking it: it is made to sync once more."""
    side, record, last = state.c1_side, state.records.c1, state.records.last_sync
    if side.watch is None or record is None or last is None or record.forced_for != last.id or not state.undelivered:
        return None
    failed = shown.state is C1SyncState.ERROR and _ended(shown, side.watch)
    return last.id if failed and side.forced_again != last.id else None


def look_failed(state: ConnectorState, generation: int, failure: Failure, now: Instant, share: float) -> ConnectorState:
    """C1, or the access to it, could not be read. What C1 showed before stays until the failure has lasted."""
    state = _put_off(state, failure, now)
    if generation != state.desired.generation:
        return state
    side, trouble = state.c1_side, _once_more(state.c1_side.no_read, failure, now)
    look_at = now.monotonic + _backoff(trouble, share)
    return replace(state, c1_side=replace(side, look_at=look_at, looked_for=_wanted(state, now), no_read=trouble))


def forced(
    state: ConnectorState, generation: int, sync_id: SyncID, shown: C1State, now: Instant, share: float
) -> ConnectorState:
    """C1 accepted to sync for this snapshot; it is not asked for it again, by another process neither.

    `shown`: what C1 shows right after that. It counts where C1 has begun; else the next look shows how it goes on.
    """
    record = state.records.c1
    if record is None or generation != state.desired.generation:
        return state
    before = record.shown.completed_at if record.shown is not None else None
    side = replace(
        state.c1_side,
        look_at=now.monotonic + SHORTEST_WATCH,
        watch=Watch(now.monotonic, now.wall, before),
        no_force=None,
    )
    state = replace(state, c1_side=side, records=replace(state.records, c1=replace(record, forced_for=sync_id)))
    return looked(state, generation, shown, now, share) if shown.state is C1SyncState.RUNNING else state


def force_failed(
    state: ConnectorState, generation: int, sync_id: SyncID, failure: Failure, now: Instant, share: float
) -> ConnectorState:
    """C1 refused to sync, or did not answer: the snapshot waits for C1's own sync, and C1 is asked again later."""
    state = _put_off(state, failure, now)
    if generation != state.desired.generation:
        return state
    said = Failure(failure.reason, f"{NOT_FORCED} {failure.message}", remedy=failure.remedy)
    side, trouble = state.c1_side, _once_more(state.c1_side.no_force, said, now)
    passes = failure.remedy is Remedy.RETRY
    at = now.monotonic + (_backoff(trouble, share) if passes else LOOK_SECONDS)
    side = replace(side, look_at=min(side.look_at, at), no_force=trouble, refused_for=sync_id, force_at=at)
    return replace(state, c1_side=side)


def delivery_watched(state: ConnectorState, now: Instant) -> ConnectorState:
    """C1 has just taken a snapshot: it is looked at until it has ended that sync."""
    if not looks(state):
        return state
    watch, shown = state.c1_side.watch, state.records.c1.shown if state.records.c1 is not None else None
    before = watch.before if watch is not None else shown.completed_at if shown is not None else None
    side = replace(
        state.c1_side,
        look_at=now.monotonic + SHORTEST_WATCH,
        watch=Watch(now.monotonic, now.wall, before),
        no_force=_still_refused(state, now),
    )
    return replace(state, c1_side=side)


def _once_more(trouble: Trouble | None, failure: Failure, now: Instant) -> Trouble:
    """What may pass by itself is shown only once it has lasted; until then what was shown before stays."""
    times = trouble.times + 1 if trouble is not None else 1
    since = trouble.since if trouble is not None and trouble.times else now.monotonic
    lasts = failure.remedy is not Remedy.RETRY or now.monotonic - since >= SHOWN_AFTER_SECONDS
    before = trouble.shown if trouble is not None else None
    return Trouble(since, times, failure.without_traceback() if lasts else before)


def _backoff(trouble: Trouble, share: float) -> float:
    return min(AFTER_FAILURE.wait(trouble.times, share), LOOK_SECONDS)


def _put_off(state: ConnectorState, failure: Failure, now: Instant) -> ConnectorState:
    """C1 asked for no requests for so many seconds: that holds for whatever becomes due, after an edit too."""
    if not failure.retry_after:
        return state
    until = now.monotonic + min(failure.retry_after, LONGEST_PUT_OFF)
    return replace(state, c1_side=replace(state.c1_side, blocked_until=max(state.c1_side.blocked_until, until)))


# What is reported


def c1_synced(state: ConnectorState, now: Instant) -> Verdict:
    """The condition `C1Synced`, while the resource names a connector in C1.

    A sync that C1 refused stays visible until C1 accepts one, unless what C1 shows is worse, or the reason was one that
    passes and no snapshot waits any more.
    """
    side, record = state.c1_side, state.records.c1
    if record is None or connector_ids(state) is None:
        return UNKNOWN, Reason.C1_NOT_CREATED, NOT_CREATED
    if side.no_read is not None and side.no_read.shown is not None:
        return FALSE, side.no_read.shown.reason, side.no_read.shown.message
    status, reason, message = _shown(record, state.records.condition(ConditionType.C1_SYNCED), now)
    refused = side.no_force.shown if side.no_force is not None else None
    if refused is None or reason is Reason.C1_PAUSED:
        return status, reason, message
    if reason is Reason.C1_SYNC_FAILED:
        return FALSE, reason, f"{message.rstrip('.')}. {refused.message}"
    return FALSE, refused.reason, refused.message


def _shown(record: C1Record, before: Condition | None, now: Instant) -> Verdict:
    """What C1 shows, as a condition."""
    shown = record.shown
    if shown is None:
        return UNKNOWN, Reason.C1_AWAITING_SYNC, "C1 has not been asked for the connector's state yet."
    if _is_paused(shown):
        return FALSE, Reason.C1_PAUSED, _paused(shown)
    if shown.state is C1SyncState.ERROR:
        why = shown.last_error or "C1 does not say why."
        return FALSE, Reason.C1_SYNC_FAILED, f"C1's last sync of the connector failed: {why}"
    if shown.state is C1SyncState.RUNNING:
        return _running(record, before, now)
    if shown.state is C1SyncState.DONE:
        when = f" at {_time(shown.completed_at)}" if shown.completed_at is not None else ""
        return TRUE, Reason.C1_SYNCED, f"C1's last sync of the connector succeeded{when}."
    return UNKNOWN, Reason.C1_AWAITING_SYNC, "C1 has not synced the connector yet."


def _running(record: C1Record, before: Condition | None, now: Instant) -> Verdict:
    """While C1 syncs again, what its last sync led to stays, a failure with its cause; but not for ever."""
    if (since := _hangs_since(record, now)) is not None:
        return UNKNOWN, Reason.C1_SYNCING, f"C1 has been syncing the connector since {_time(since)}, {HANGS}"
    if before is not None and before.reason is Reason.C1_SYNC_FAILED:
        return FALSE, before.reason, before.message.partition(f" {NOT_FORCED}")[0]
    well = before is not None and before.status is TRUE
    return TRUE if well else UNKNOWN, Reason.C1_SYNCING, "C1 syncs the connector."


def _paused(shown: C1State) -> str:
    paused = "is paused in C1"
    if shown.paused_at is not None:
        paused = f"has been paused in C1 since {_time(shown.paused_at)}"
    why = f" C1's reason: {shown.paused_reason.rstrip('.')}." if shown.paused_reason else ""
    return (
        f"The connector {paused}: C1 does not sync it and hands out no grants or revokes.{why}"
        " Find out why on the connector's page in C1, then resume it or confirm its changes there."
    )


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
