"""Events are for transitions: what is worth one, and what is not."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from buildkite_connector.connector.conditions import Findings, describe
from buildkite_connector.kubernetes.events import EventDraft, EventType, draft_events
from buildkite_connector.model.directory import Counts
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.snapshot import SyncID
from buildkite_connector.model.status import ConnectorStatus, DeliveryRecord, SyncRecord, Trigger
from buildkite_connector.model.tasks import TaskID

T0 = datetime(2026, 3, 2, 9, tzinfo=UTC)
WELL = Findings(generation=1, token_accepted=True, client_accepted=True)
AWAY = Failure(Reason.BUILDKITE_UNREACHABLE, "Buildkite cannot be reached.")
REFUSED = Failure(Reason.TOKEN_REJECTED, "Buildkite refuses the token.", remedy=Remedy.CREDENTIALS)


def sync(number: int, trigger: Trigger = Trigger.SCHEDULE, accounts: int = 12) -> SyncRecord:
    return SyncRecord(SyncID(f"s{number}"), trigger, T0, T0, Counts(accounts, 5, 30), 8, 0.0, "ab", 1)


def delivery(number: int, accounts: int = 12) -> DeliveryRecord:
    return DeliveryRecord(T0, TaskID(f"t{number}"), SyncID(f"s{number}"), "ab", 1, Counts(accounts, 5, 30))


SYNCED = ConnectorStatus(last_sync=sync(1), last_delivery=delivery(1))


def told(old: ConnectorStatus | None, new: ConnectorStatus) -> list[tuple[EventType, Reason]]:
    return [(draft.type, draft.reason) for draft in draft_events(old, new)]


def status(findings: Findings, records: ConnectorStatus = SYNCED) -> ConnectorStatus:
    return describe(findings, records, T0)


def test_a_new_resource_that_waits_for_its_first_sync_is_told_of_by_nothing() -> None:
    assert told(None, status(Findings(1, progressing="Starting."), ConnectorStatus())) == []
    assert told(None, status(replace(WELL, syncing=True), ConnectorStatus())) == []


def test_becoming_ready_is_told_once() -> None:
    before, after = status(replace(WELL, syncing=True), ConnectorStatus()), status(WELL)
    assert (EventType.NORMAL, Reason.READY) in told(before, after)
    assert told(after, after) == []


def test_a_scheduled_sync_like_the_one_before_is_told_of_by_nothing() -> None:
    before = status(WELL)
    syncing = status(replace(WELL, syncing=True))
    staged = status(replace(WELL, awaiting_task=True), replace(SYNCED, last_sync=sync(2)))
    delivered = status(WELL, replace(SYNCED, last_sync=sync(2), last_delivery=delivery(2)))
    assert told(before, syncing) == told(syncing, staged) == told(staged, delivered) == []


@pytest.mark.parametrize("trigger", list(Trigger))
def test_a_sync_that_goes_as_the_one_before_is_told_of_by_nothing_whatever_its_cause(trigger: Trigger) -> None:
    assert told(status(WELL), status(WELL, replace(SYNCED, last_sync=sync(2, trigger, accounts=13)))) == []


def test_a_restart_tells_nothing_again() -> None:
    asked = status(WELL, replace(SYNCED, last_sync=sync(1, Trigger.REQUEST)))
    assert told(asked, status(WELL, replace(SYNCED, last_sync=sync(1, Trigger.REQUEST)))) == []


def test_the_first_delivery_is_told() -> None:
    before = status(replace(WELL, awaiting_task=True), ConnectorStatus(last_sync=sync(1)))
    drafts = draft_events(before, status(WELL))
    assert [(draft.reason, draft.message) for draft in drafts] == [
        (Reason.DELIVERED, "C1 took snapshot s1 with 12 accounts, 5 teams and 30 memberships under task t1.")
    ]


def test_a_later_delivery_is_told_of_by_nothing() -> None:
    before = status(replace(WELL, awaiting_task=True))
    after = status(WELL, replace(SYNCED, last_delivery=delivery(2, accounts=13)))
    assert told(before, after) == []


def test_a_delivery_after_trouble_is_told() -> None:
    trouble = Failure(Reason.UPLOAD_FAILED, "C1 hung up.")
    before = status(replace(WELL, delivery_failure=trouble))
    after = status(WELL, replace(SYNCED, last_delivery=delivery(2)))
    assert (EventType.NORMAL, Reason.DELIVERED) in told(before, after)


def test_a_failure_is_one_warning_however_many_conditions_it_shows_in() -> None:
    failed = status(replace(WELL, preflight_failure=REFUSED))
    assert draft_events(status(WELL), failed) == [
        EventDraft(EventType.WARNING, Reason.TOKEN_REJECTED, "Buildkite refuses the token.")
    ]


def test_a_failure_that_lasts_is_not_told_again_though_its_message_changes() -> None:
    first = status(replace(WELL, sync_failure=AWAY))
    again = status(replace(WELL, sync_failure=Failure(AWAY.reason, "Buildkite cannot be reached since 10 minutes.")))
    assert told(first, again) == []


def test_another_reason_is_told() -> None:
    first = status(replace(WELL, sync_failure=AWAY))
    other = status(replace(WELL, sync_failure=Failure(Reason.BUILDKITE_UNAVAILABLE, "503")))
    assert told(first, other) == [(EventType.WARNING, Reason.BUILDKITE_UNAVAILABLE)]


def test_recovering_is_told() -> None:
    assert told(status(replace(WELL, sync_failure=AWAY)), status(WELL)) == [(EventType.NORMAL, Reason.READY)]


def test_a_held_snapshot_is_a_warning() -> None:
    held = status(replace(WELL, held="Half the accounts are gone."))
    assert draft_events(status(WELL), held) == [
        EventDraft(EventType.WARNING, Reason.SHRINK_HELD, "Half the accounts are gone.")
    ]


def test_suspending_and_resuming_are_no_warnings() -> None:
    suspended = status(replace(WELL, suspended=True))
    assert told(status(WELL), suspended) == [(EventType.NORMAL, Reason.SUSPENDED)]
    assert told(suspended, status(WELL)) == [(EventType.NORMAL, Reason.READY)]


def test_a_message_fits_into_an_event() -> None:
    long = Failure(Reason.INTERNAL_ERROR, "x" * 5000)
    (draft,) = draft_events(status(WELL), status(replace(WELL, sync_failure=long)))
    assert len(draft.message) == 1024


def test_a_token_that_expires_soon_is_told_of_once_a_day() -> None:
    before = status(WELL)
    today = status(replace(WELL, token_expires="It expires in 14 days."))
    tomorrow = status(replace(WELL, token_expires="It expires in 13 days."))
    expected = [(EventType.WARNING, Reason.TOKEN_EXPIRES)]
    assert told(before, today) == told(today, tomorrow) == expected
    assert told(today, today) == told(tomorrow, before) == []


def test_a_snapshot_that_shrank_is_told_of_and_its_delivery_too() -> None:
    staged = status(replace(WELL, awaiting_task=True, shrunk="Fewer."), replace(SYNCED, last_sync=sync(2)))
    delivered = status(WELL, replace(SYNCED, last_sync=sync(2), last_delivery=delivery(2)))
    assert told(status(WELL), staged) == [(EventType.WARNING, Reason.SHRUNK)]
    assert told(staged, delivered) == [(EventType.NORMAL, Reason.DELIVERED)]
