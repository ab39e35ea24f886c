"""How syncs and deliveries change what is on record."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from buildkite_connector.connector import records as on_record
from buildkite_connector.connector.shrink_guard import held as find_hold
from buildkite_connector.model.directory import Counts
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.scope import FULL_SCOPE, SyncScope
from buildkite_connector.model.snapshot import StagedSnapshot, SyncID
from buildkite_connector.model.status import (
    HISTORY_LENGTH,
    ConnectorStatus,
    DeliveryRecord,
    HistoryEntry,
    SnapshotFile,
    SyncRecord,
    Trigger,
)
from buildkite_connector.model.tasks import TaskID

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
DOWN = Failure(Reason.BUILDKITE_UNAVAILABLE, "503")


def snapshot(name: str, counts: Counts, scope: SyncScope = FULL_SCOPE) -> StagedSnapshot:
    return StagedSnapshot(SyncID(name), Path("x"), "ab", 10, counts, scope)


def synced(records: ConnectorStatus, name: str, counts: Counts, at: datetime = NOW) -> ConnectorStatus:
    record = SyncRecord(SyncID(name), Trigger.SCHEDULE, at, at, counts, 1, 0.0, SnapshotFile("ab", 10))
    return on_record.sync_succeeded(records, record, next_sync=at + timedelta(hours=1))


def failed(records: ConnectorStatus, name: str, accepted: str | None = None) -> ConnectorStatus:
    return on_record.sync_failed(
        records,
        sync_id=SyncID(name),
        trigger=Trigger.SCHEDULE,
        started=NOW,
        finished=NOW,
        failure=DOWN,
        next_sync=NOW,
        accepted=accepted,
    )


FULL = Counts(200, 10, 400)
SHRUNK = Counts(20, 10, 400)
DELIVERED = on_record.delivered(synced(ConnectorStatus(), "one", FULL), snapshot("one", FULL), TaskID("task"), NOW)


def test_failures_in_a_row_are_counted_until_a_success() -> None:
    records = failed(failed(ConnectorStatus(), "one"), "two")
    assert records.consecutive_failures == 2
    assert synced(records, "three", FULL).consecutive_failures == 0


def test_a_failure_keeps_the_last_success_on_record() -> None:
    records = failed(synced(ConnectorStatus(), "one", FULL), "two")
    assert records.last_sync is not None
    assert records.last_sync.id == "one"
    assert records.history[0].reason is Reason.BUILDKITE_UNAVAILABLE


def test_history_holds_the_last_ten_newest_first() -> None:
    records = ConnectorStatus()
    for number in range(15):
        records = synced(records, f"sync{number}", FULL)
    assert len(records.history) == HISTORY_LENGTH
    assert [entry.id for entry in records.history][:2] == ["sync14", "sync13"]


def test_a_success_sets_all_times_and_its_history_entry() -> None:
    begun, ended = NOW, NOW + timedelta(minutes=1)
    before = failed(ConnectorStatus(), "one")
    record = SyncRecord(SyncID("two"), Trigger.TASK, begun, ended, FULL, 1, 0.0, SnapshotFile("ab", 10))
    entry = HistoryEntry(SyncID("two"), Trigger.TASK, begun, ended, True, Reason.SYNC_SUCCEEDED, FULL)
    next_sync = NOW + timedelta(hours=1)
    assert on_record.sync_succeeded(before, record, next_sync=next_sync) == ConnectorStatus(
        last_sync_time=ended,
        last_successful_sync_time=ended,
        next_sync_time=next_sync,
        last_sync=record,
        history=(entry, *before.history),
    )


def test_a_failure_sets_its_times_and_its_history_entry() -> None:
    before = synced(ConnectorStatus(), "one", FULL)
    begun, ended, next_sync = (NOW + timedelta(minutes=each) for each in (1, 2, 3))
    entry = HistoryEntry(SyncID("two"), Trigger.TASK, begun, ended, False, DOWN.reason)
    assert on_record.sync_failed(
        before,
        sync_id=SyncID("two"),
        trigger=Trigger.TASK,
        started=begun,
        finished=ended,
        failure=DOWN,
        next_sync=next_sync,
    ) == replace(
        before,
        last_sync_time=ended,
        next_sync_time=next_sync,
        consecutive_failures=1,
        history=(entry, *before.history),
    )


def test_a_delivery_sets_its_record() -> None:
    before = synced(ConnectorStatus(), "one", FULL)
    record = DeliveryRecord(NOW, TaskID("task"), SyncID("one"), "ab", 10, FULL)
    after = on_record.delivered(before, snapshot("one", FULL), TaskID("task"), NOW)
    assert after == replace(before, last_delivery=record)


def test_what_the_first_delivery_left_out_counts_as_none() -> None:
    partial = snapshot("one", FULL, SyncScope(grants=False))
    delivery = on_record.delivered(ConnectorStatus(), partial, TaskID("task"), NOW).last_delivery
    assert delivery is not None
    assert delivery.counts == Counts(200, 10, 0)


@pytest.mark.parametrize(
    ("accepted", "kept"),
    [
        (None, ["new", *(f"sync{number}" for number in range(9))]),
        ("sync3", ["new", *(f"sync{number}" for number in range(9))]),
        ("sync8", ["new", *(f"sync{number}" for number in range(9))]),
        ("sync9", ["new", *(f"sync{number}" for number in range(8)), "sync9"]),
    ],
)
def test_the_accepted_sync_keeps_the_place_of_the_oldest(accepted: str | None, kept: list[str]) -> None:
    history = tuple(
        HistoryEntry(SyncID(f"sync{number}"), Trigger.SCHEDULE, NOW, NOW, True, Reason.SYNC_SUCCEEDED, FULL)
        for number in range(HISTORY_LENGTH)
    )
    before = ConnectorStatus(history=history)
    record = SyncRecord(SyncID("new"), Trigger.SCHEDULE, NOW, NOW, FULL, 1, 0.0, SnapshotFile("ab", 10))
    succeeded = on_record.sync_succeeded(before, record, next_sync=NOW, accepted=accepted)
    assert [each.id for each in succeeded.history] == kept
    assert [each.id for each in failed(before, "new", accepted).history] == kept


def test_a_new_snapshot_is_undelivered_until_it_went_out() -> None:
    assert on_record.undelivered(synced(DELIVERED, "two", FULL))
    assert not on_record.undelivered(DELIVERED)
    assert not on_record.undelivered(ConnectorStatus())


def test_a_shrunk_snapshot_is_held_with_both_counts_and_the_way_out() -> None:
    records = synced(DELIVERED, "two", SHRUNK)
    assert find_hold(records, snapshot("two", SHRUNK), 50, None) == (
        "Snapshot two has 20 accounts, the last delivered one had 200 (90 % fewer, more than the 50 % of"
        " delivery.shrinkGuard.maxDropPercent). It is held back. If this is right, let it go with the annotation"
        " connectors.c1.ai/accept-shrink=two (in service mode, with --accept-shrink);"
        " if not, look at the token's access in Buildkite."
    )


def test_accepting_the_sync_lets_it_go_and_those_after_it_that_are_like_it() -> None:
    records = synced(DELIVERED, "two", SHRUNK, NOW + timedelta(hours=1))
    assert find_hold(records, snapshot("two", SHRUNK), 50, "two") is None
    records = synced(records, "three", SHRUNK, NOW + timedelta(hours=2))
    assert find_hold(records, snapshot("three", SHRUNK), 50, "two") is None
    assert find_hold(records, snapshot("four", Counts(2, 10, 400)), 50, "two") is not None


def test_accepting_an_older_sync_lets_nothing_go() -> None:
    records = synced(DELIVERED, "two", SHRUNK)
    assert find_hold(records, snapshot("two", SHRUNK), 50, "one") is not None


def test_accepting_a_sync_that_ended_before_the_delivery_lets_nothing_go() -> None:
    records = on_record.delivered(
        synced(synced(ConnectorStatus(), "zero", SHRUNK), "one", FULL), snapshot("one", FULL), TaskID("task"), NOW
    )
    assert find_hold(synced(records, "two", SHRUNK), snapshot("two", SHRUNK), 50, "zero") is not None


def test_what_a_task_left_out_has_not_shrunk() -> None:
    partial = snapshot("two", Counts(200, 10, 0), SyncScope(grants=False))
    assert find_hold(DELIVERED, partial, 50, None) is None
    after = on_record.delivered(DELIVERED, partial, TaskID("task2"), NOW)
    assert after.last_delivery is not None
    assert after.last_delivery.counts == FULL


def test_a_delivered_snapshot_is_never_held() -> None:
    assert find_hold(DELIVERED, snapshot("one", Counts(0, 0, 0)), 50, None) is None


def test_nothing_is_held_before_the_first_delivery() -> None:
    assert find_hold(replace(DELIVERED, last_delivery=None), snapshot("one", Counts(0, 0, 0)), 50, None) is None


@pytest.mark.parametrize(("minutes", "due"), [(30, 0), (-30, -30)])
def test_a_change_is_due_no_later_than_the_last_sync_ended(minutes: int, due: int) -> None:
    records = synced(ConnectorStatus(), "a", Counts(1, 1, 1))
    assert not on_record.awaits_change(records)
    changed = on_record.change_seen(records, NOW + timedelta(minutes=minutes))
    assert changed.next_sync_time == NOW + timedelta(minutes=due)
    assert on_record.awaits_change(changed)


def test_a_change_before_any_sync_is_due_now() -> None:
    changed = on_record.change_seen(ConnectorStatus(), NOW)
    assert changed == ConnectorStatus(next_sync_time=NOW)
    assert not on_record.awaits_change(changed)
