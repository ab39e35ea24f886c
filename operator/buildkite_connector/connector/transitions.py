"""How a sync and a delivery change what is on record: pure functions from one status to the next."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from buildkite_connector.connector.conditions import ShrinkHold
from buildkite_connector.connector.shrink_guard import find_shrink
from buildkite_connector.model.directory import Counts
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.scope import FULL_SCOPE, SyncScope
from buildkite_connector.model.snapshot import StagedSnapshot, SyncID
from buildkite_connector.model.status import (
    HISTORY_LENGTH,
    ConnectorStatus,
    DeliveryRecord,
    HistoryEntry,
    SyncRecord,
    Trigger,
)
from buildkite_connector.model.tasks import TaskID


def sync_succeeded(
    records: ConnectorStatus,
    sync: SyncRecord,
    *,
    scope: SyncScope = FULL_SCOPE,
    next_sync: datetime | None,
    accepted: str | None = None,
) -> ConnectorStatus:
    """`accepted`: the sync whose shrinkage a person accepted; its entry stays as long as it counts."""
    before = records.last_delivery.counts if records.last_delivery else sync.counts
    entry = HistoryEntry(
        sync.id,
        sync.trigger,
        sync.started_at,
        sync.finished_at,
        True,
        Reason.SYNC_SUCCEEDED,
        _in_scope(sync.counts, scope, before),
    )
    return replace(
        records,
        last_sync=sync,
        last_sync_time=sync.finished_at,
        last_successful_sync_time=sync.finished_at,
        next_sync_time=next_sync,
        consecutive_failures=0,
        history=_remember(records.history, entry, accepted),
    )


def sync_failed(
    records: ConnectorStatus,
    *,
    sync_id: SyncID,
    trigger: Trigger,
    started: datetime,
    finished: datetime,
    failure: Failure,
    next_sync: datetime,
    accepted: str | None = None,
) -> ConnectorStatus:
    entry = HistoryEntry(sync_id, trigger, started, finished, False, failure.reason)
    return replace(
        records,
        last_sync_time=finished,
        next_sync_time=next_sync,
        consecutive_failures=records.consecutive_failures + 1,
        history=_remember(records.history, entry, accepted),
    )


def delivered(records: ConnectorStatus, snapshot: StagedSnapshot, task: TaskID, time: datetime) -> ConnectorStatus:
    before = records.last_delivery.counts if records.last_delivery else Counts()
    return replace(
        records,
        last_delivery=DeliveryRecord(
            time,
            task,
            snapshot.sync_id,
            snapshot.sha256,
            snapshot.size,
            _in_scope(snapshot.counts, snapshot.scope, before),
        ),
    )


def undelivered(records: ConnectorStatus) -> bool:
    """Whether the newest snapshot has not gone out yet."""
    return records.last_sync is not None and (
        records.last_delivery is None or records.last_delivery.sync_id != records.last_sync.id
    )


def held(
    records: ConnectorStatus, snapshot: StagedSnapshot, max_drop_percent: int, accepted: str | None
) -> ShrinkHold | None:
    """Why the snapshot must not go out. `accepted` is the sync id that a person let go, if any.

    Accepting one sync makes its counts the ones that later snapshots are compared with, so that a release is
    not undone by the next sync.
    """
    last = records.last_delivery
    if last is None or snapshot.sync_id in {last.sync_id, accepted}:
        return None
    before = last.counts
    for entry in records.history:
        if entry.id == accepted and entry.counts is not None and entry.finished_at > last.time:
            before = entry.counts
    shrink = find_shrink(before, _in_scope(snapshot.counts, snapshot.scope, before), max_drop_percent)
    if shrink is None:
        return None
    return ShrinkHold(
        snapshot.sync_id,
        f"Snapshot {snapshot.sync_id} has {shrink.after} {shrink.what}, the last delivered one had {shrink.before}"
        f" ({shrink.percent} % fewer, more than the {max_drop_percent} % of delivery.shrinkGuard.maxDropPercent)."
        " It is held back. If this is right, let it go with the annotation"
        f" connectors.c1.ai/accept-shrink={snapshot.sync_id}; if not, look at the token's access in Buildkite.",
    )


def _in_scope(counts: Counts, scope: SyncScope, before: Counts) -> Counts:
    """What a snapshot leaves out on request has not shrunk: it counts as it was before."""
    return Counts(
        counts.accounts if scope.wants_accounts else before.accounts,
        counts.teams if scope.wants_teams else before.teams,
        counts.memberships if scope.wants_memberships else before.memberships,
    )


def _remember(history: Sequence[HistoryEntry], entry: HistoryEntry, accepted: str | None) -> tuple[HistoryEntry, ...]:
    """The newest ten; the accepted one among them however old it is."""
    kept, cut = (entry, *history)[:HISTORY_LENGTH], (entry, *history)[HISTORY_LENGTH:]
    held = [each for each in cut if each.id == accepted]
    return (*kept[: HISTORY_LENGTH - len(held)], *held)
