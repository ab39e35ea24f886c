"""How a sync and a delivery change the records in the status: pure functions from one status to the next."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from buildkite_connector.connector.shrink_guard import in_scope
from buildkite_connector.model.directory import Counts
from buildkite_connector.model.failure import Failure, Reason
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
    records: ConnectorStatus, sync: SyncRecord, *, next_sync: datetime | None, accepted: str | None = None
) -> ConnectorStatus:
    """`accepted`: id of the sync that the accept-shrink annotation names; its history entry is kept meanwhile."""
    entry = HistoryEntry(
        sync.id, sync.trigger, sync.started_at, sync.finished_at, True, Reason.SYNC_SUCCEEDED, sync.counts
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


def change_seen(records: ConnectorStatus, now: datetime) -> ConnectorStatus:
    """A sync is due at once, also for the process after this one: its time is no later than the last sync's end.

    A time of the schedule is always later than that, so that `awaits_change` needs no clock, which may be set back.
    """
    ended = records.last_sync_time
    return replace(records, next_sync_time=now if ended is None else min(now, ended))


def awaits_change(records: ConnectorStatus) -> bool:
    """Whether the resource or its Secret changed since the last sync, as `change_seen` noted it."""
    ended, due = records.last_sync_time, records.next_sync_time
    return ended is not None and due is not None and due <= ended


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


def delivered(records: ConnectorStatus, file: StagedSnapshot, task: TaskID, time: datetime) -> ConnectorStatus:
    """C1 took `file` under the task. What its scope leaves out counts as it did at the delivery before."""
    before = records.last_delivery.counts if records.last_delivery else Counts(0, 0, 0)
    counts = in_scope(file.counts, file.scope, before)
    record = DeliveryRecord(time, task, file.sync_id, file.sha256, file.size, counts)
    return replace(records, last_delivery=record)


def undelivered(records: ConnectorStatus) -> bool:
    """Whether the newest snapshot has not gone out yet."""
    return records.last_sync is not None and (
        records.last_delivery is None or records.last_delivery.sync_id != records.last_sync.id
    )


def _remember(history: Sequence[HistoryEntry], entry: HistoryEntry, accepted: str | None) -> tuple[HistoryEntry, ...]:
    """The newest ten; the accepted one among them however old it is."""
    kept, cut = (entry, *history)[:HISTORY_LENGTH], (entry, *history)[HISTORY_LENGTH:]
    held = [each for each in cut if each.id == accepted]
    return (*kept[: HISTORY_LENGTH - len(held)], *held)
