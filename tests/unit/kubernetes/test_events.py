"""Events are for transitions: what is worth one, and what is not."""

import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from buildkite_connector.connector import transitions
from buildkite_connector.connector.conditions import derive_status
from buildkite_connector.kubernetes.events import EventDraft, EventType, draft_events, log_event
from buildkite_connector.model.directory import Counts, ResourceKind, SyncScope
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.snapshot import SyncID
from buildkite_connector.model.status import (
    C1Record,
    C1State,
    Condition,
    ConditionStatus,
    ConditionType,
    ConnectorStatus,
    DeliveryRecord,
    SnapshotFile,
    SyncRecord,
    Trigger,
)
from buildkite_connector.model.tasks import TaskID
from fakes.connector_states import PREFLIGHT, START, checked, desired, greeted, new, ready, running

T0 = datetime(2026, 3, 2, 9, tzinfo=UTC)
AWAY = Failure(Reason.BUILDKITE_UNREACHABLE, "Buildkite cannot be reached.")
REFUSED = Failure(Reason.TOKEN_REJECTED, "Buildkite refuses the token.", remedy=Remedy.CREDENTIALS)


def sync(number: int, trigger: Trigger = Trigger.SCHEDULE, accounts: int = 12) -> SyncRecord:
    return SyncRecord(SyncID(f"s{number}"), trigger, T0, T0, Counts(accounts, 5, 30), 8, 0.0, SnapshotFile("ab", 1))


def delivery(number: int, accounts: int = 12) -> DeliveryRecord:
    return DeliveryRecord(T0, TaskID(f"t{number}"), SyncID(f"s{number}"), "ab", 1, Counts(accounts, 5, 30))


SYNCED = ConnectorStatus(last_sync=sync(1), last_delivery=delivery(1))


def told(old: ConnectorStatus | None, new: ConnectorStatus) -> list[tuple[EventType, Reason]]:
    return [(draft.type, draft.reason) for draft in draft_events(old, new)]


def status(records: ConnectorStatus = SYNCED, **changes: object) -> ConnectorStatus:
    """Of a connector that works, but for these changes of its state."""
    state = replace(ready(), records=records, staged=None)
    return derive_status(replace(state, **changes), START)  # type: ignore[arg-type]  # checked by the dataclass


def staged(records: ConnectorStatus, accounts: int) -> ConnectorStatus:
    """With so many accounts, 5 teams and 30 memberships in the newest snapshot."""
    assert records.last_sync is not None
    snapshot = ready().staged
    assert snapshot is not None
    counts = Counts(accounts, 5, 30)
    return status(records, staged=replace(snapshot, sync_id=records.last_sync.id, counts=counts))


def rejected(failure: Failure) -> ConnectorStatus:
    return status(check=replace(ready().check, failure=failure))


def expiring(days: int) -> ConnectorStatus:
    token = replace(PREFLIGHT.token, expires_at=START.wall + timedelta(days=days))
    return status(check=replace(ready().check, preflight=replace(PREFLIGHT, token=token)))


SYNCING = running(greeted(checked(new())), START).sync
NOTHING = ConnectorStatus()
AWAITING = replace(SYNCED, last_sync=sync(2))


def test_a_new_resource_that_waits_for_its_first_sync_is_told_of_by_nothing() -> None:
    assert told(None, derive_status(new(), START)) == []
    assert told(None, status(NOTHING, sync=SYNCING)) == []


def test_becoming_ready_is_told_once() -> None:
    before, after = status(NOTHING, sync=SYNCING), status()
    assert (EventType.NORMAL, Reason.READY) in told(before, after)
    assert told(after, after) == []


def test_a_scheduled_sync_like_the_one_before_is_told_of_by_nothing() -> None:
    before, syncing, waits = status(), status(sync=SYNCING), status(AWAITING)
    delivered = status(replace(AWAITING, last_delivery=delivery(2)))
    assert told(before, syncing) == told(syncing, waits) == told(waits, delivered) == []


@pytest.mark.parametrize("trigger", list(Trigger))
def test_a_sync_that_goes_as_the_one_before_is_told_of_by_nothing_whatever_its_cause(trigger: Trigger) -> None:
    assert told(status(), status(replace(SYNCED, last_sync=sync(2, trigger, accounts=13)))) == []


def test_a_restart_tells_nothing_again() -> None:
    asked = replace(SYNCED, last_sync=sync(1, Trigger.REQUEST))
    assert told(status(asked), status(asked)) == []


def test_the_first_delivery_is_told() -> None:
    drafts = draft_events(status(ConnectorStatus(last_sync=sync(1))), status())
    assert [(draft.reason, draft.message) for draft in drafts] == [
        (Reason.DELIVERED, "C1 accepted snapshot s1 with 12 accounts, 5 teams and 30 memberships under task t1.")
    ]


def test_a_delivery_tells_what_the_file_had_and_not_what_counts_on_from_before() -> None:
    first = ready()
    assert first.staged is not None
    before = transitions.delivered(first, TaskID("t1"), first.staged, START.wall)
    before = replace(before, delivery_failure=Failure(Reason.UPLOAD_FAILED, "C1 hung up."))
    scope = SyncScope(frozenset({ResourceKind.USER}))
    counts = first.staged.counts.within(scope)
    narrow = replace(first.staged, sync_id=SyncID("sync2"), sha256="narrow", scope=scope, counts=counts)
    after = transitions.delivered(before, TaskID("t2"), narrow, START.wall)
    drafts = draft_events(derive_status(before, START), derive_status(after, START))
    told = [draft.message for draft in drafts if draft.reason is Reason.DELIVERED]
    assert told == ["C1 accepted snapshot sync2 with 100 accounts, 0 teams and 0 memberships under task t2."]


def test_a_later_delivery_is_told_of_by_nothing() -> None:
    after = status(replace(AWAITING, last_delivery=delivery(2, accounts=13)))
    assert told(status(AWAITING), after) == []


def test_a_delivery_after_trouble_is_told() -> None:
    trouble = Failure(Reason.UPLOAD_FAILED, "C1 hung up.")
    before = status(delivery_failure=trouble)
    after = status(replace(AWAITING, last_delivery=delivery(2)))
    assert (EventType.NORMAL, Reason.DELIVERED) in told(before, after)


def test_a_failure_is_one_warning_however_many_conditions_it_shows_in() -> None:
    assert draft_events(status(), rejected(REFUSED)) == [
        EventDraft(EventType.WARNING, Reason.TOKEN_REJECTED, "Buildkite refuses the token.")
    ]


def test_a_failure_that_lasts_is_not_told_again_though_its_message_changes() -> None:
    first = status(sync_failure=AWAY)
    again = status(sync_failure=Failure(AWAY.reason, "Buildkite cannot be reached since 10 minutes."))
    assert told(first, again) == []


def test_another_reason_is_told() -> None:
    first = status(sync_failure=AWAY)
    other = status(sync_failure=Failure(Reason.BUILDKITE_UNAVAILABLE, "503"))
    assert told(first, other) == [(EventType.WARNING, Reason.BUILDKITE_UNAVAILABLE)]


def test_recovering_is_told() -> None:
    assert told(status(sync_failure=AWAY), status()) == [(EventType.NORMAL, Reason.READY)]


def test_a_held_snapshot_is_a_warning() -> None:
    (draft,) = draft_events(status(), staged(AWAITING, accounts=5))
    assert (draft.type, draft.reason) == (EventType.WARNING, Reason.SHRINK_HELD)
    assert draft.message.startswith("Snapshot s2 has 5 accounts, the last delivered one had 12")


def test_suspending_and_resuming_are_no_warnings() -> None:
    suspended = status(desired=desired(1, suspend=True))
    assert told(status(), suspended) == [(EventType.NORMAL, Reason.SUSPENDED)]
    assert told(suspended, status()) == [(EventType.NORMAL, Reason.READY)]


def test_a_message_fits_into_an_event() -> None:
    long = Failure(Reason.INTERNAL_ERROR, "x" * 5000)
    (draft,) = draft_events(status(), status(sync_failure=long))
    assert len(draft.message) == 1024


def test_a_token_that_expires_soon_is_told_of_once_a_day() -> None:
    before, today, tomorrow = status(), expiring(14), expiring(13)
    expected = [(EventType.WARNING, Reason.TOKEN_EXPIRES)]
    assert told(before, today) == told(today, tomorrow) == expected
    assert told(today, today) == told(tomorrow, before) == []


def test_a_snapshot_that_shrank_is_told_of_and_its_delivery_too() -> None:
    shrunk, delivered = staged(AWAITING, accounts=8), status(replace(AWAITING, last_delivery=delivery(2)))
    assert told(status(), shrunk) == [(EventType.WARNING, Reason.SHRUNK)]
    assert told(shrunk, delivered) == [(EventType.NORMAL, Reason.DELIVERED)]


def in_c1(
    condition: ConditionStatus | None, reason: Reason = Reason.C1_SYNCED, ended: datetime | None = None
) -> ConnectorStatus:
    """Of a connector that works, with this C1Synced; None: without one. C1 has ended its last sync then."""
    found = status()
    if condition is None:
        return found
    c1_synced = Condition(
        ConditionType.C1_SYNCED, condition, reason, f"{reason.value} now.", 1, last_transition_time=T0
    )
    record = C1Record(shown=C1State(completed_at=ended))
    return replace(found, conditions=(*found.conditions, c1_synced), c1=record)


TRUE, FALSE, UNKNOWN = ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN
AWAITED = in_c1(UNKNOWN, Reason.C1_AWAITING_SYNC)
DONE, DONE_AND_SYNCING = in_c1(TRUE), in_c1(TRUE, Reason.C1_SYNCING)
PAUSED, BROKEN = in_c1(FALSE, Reason.C1_PAUSED), in_c1(FALSE, Reason.C1_SYNC_FAILED)
IN_C1 = {
    "looked at for the first time": ([in_c1(None), AWAITED], []),
    "its first sync": ([AWAITED, in_c1(UNKNOWN, Reason.C1_SYNCING), DONE], []),
    "a connector that C1 has synced before": ([AWAITED, DONE], []),
    "a later sync": ([DONE, DONE_AND_SYNCING, DONE], []),
    "a pause": ([DONE, PAUSED, PAUSED], [(EventType.WARNING, Reason.C1_PAUSED)]),
    "a pause and a failure": (
        [PAUSED, BROKEN],
        [(EventType.WARNING, Reason.C1_SYNC_FAILED)],
    ),
    "one failure after the other": ([DONE, BROKEN, BROKEN, BROKEN], [(EventType.WARNING, Reason.C1_SYNC_FAILED)]),
    "a recovery": ([BROKEN, DONE], [(EventType.NORMAL, Reason.C1_SYNCED)]),
    "a sync after a pause, or the end of one that hung": (
        [in_c1(UNKNOWN, Reason.C1_SYNCING, ended=T0), DONE],
        [(EventType.NORMAL, Reason.C1_SYNCED)],
    ),
    "no longer looked at": ([PAUSED, in_c1(None)], []),
    "looked at again": ([in_c1(None), DONE], []),
    "a restart": ([DONE, DONE], []),
}


@pytest.mark.parametrize("title", IN_C1)
def test_what_c1_does_with_the_connector_is_told_on_transitions(title: str) -> None:
    statuses, expected = IN_C1[title]
    assert [each for old, new in pairwise(statuses) for each in told(old, new)] == expected


def test_what_both_of_c1s_interfaces_say_is_told_once() -> None:
    gone = replace(
        status(),
        conditions=tuple(
            Condition(kind, FALSE, Reason.C1_UNREACHABLE, "No connection to C1.", 1, last_transition_time=T0)
            for kind in (ConditionType.DELIVERED, ConditionType.C1_SYNCED)
        ),
    )
    assert told(DONE, gone) == [(EventType.WARNING, Reason.C1_UNREACHABLE)]


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        (Reason.GRANTED, "membership changed"),
        (Reason.ROLE_CHANGED, "membership changed"),
        (Reason.REVOKED, "membership changed"),
        (Reason.CHANGE_NOT_ALLOWED, "membership change refused"),
        (Reason.READY, "condition changed"),
    ],
)
def test_the_log_tells_memberships_from_conditions(
    reason: Reason, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    log_event("default.acme", EventDraft(EventType.NORMAL, reason, "What happened."))
    (line,) = caplog.records
    assert line.getMessage() == message
    assert vars(line)["detail"] == "What happened."
