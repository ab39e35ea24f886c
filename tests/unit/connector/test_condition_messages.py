"""Each condition's verdict, whole: status, reason and sentence."""

from dataclasses import replace

import pytest

from buildkite_connector.connector.conditions import ConditionValue, Findings, describe, judge
from buildkite_connector.model.directory import Counts
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.snapshot import SyncID
from buildkite_connector.model.status import (
    ConditionStatus,
    ConditionType,
    ConnectorStatus,
    DeliveryRecord,
    Phase,
    SyncRecord,
    Trigger,
)
from buildkite_connector.model.tasks import TaskID
from fakes.connector_states import START

TRUE, FALSE, UNKNOWN = ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN
NOW = START.wall
COUNTS = Counts(230, 9, 450)
NOTHING = ConnectorStatus()
SYNCED = ConnectorStatus(last_sync=SyncRecord(SyncID("sync2"), Trigger.SCHEDULE, NOW, NOW, COUNTS, 14, 0.0, "ab", 1000))
DELIVERED = replace(SYNCED, last_delivery=DeliveryRecord(NOW, TaskID("task1"), SyncID("sync1"), "ab", 1000, COUNTS))
WELL = Findings(generation=3, token_accepted=True, client_accepted=True)
TOKEN = Failure(Reason.TOKEN_REJECTED, "Put a valid token into the Secret.", remedy=Remedy.CREDENTIALS)
CLIENT = Failure(Reason.C1_CLIENT_REJECTED, "C1 refused the client.", remedy=Remedy.CREDENTIALS)
ACCESS = Failure(Reason.ACCESS_DENIED, "The token may not read teams.", remedy=Remedy.CREDENTIALS)
ELSEWHERE = Failure(Reason.ORGANIZATION_NOT_FOUND, "No such organization.", remedy=Remedy.EDIT)
CRON = Failure(Reason.CRON_INVALID, "spec.schedule.cron cannot be used.", remedy=Remedy.EDIT)
DOWN = Failure(Reason.BUILDKITE_UNAVAILABLE, "Buildkite answers 503.")
AWAY = Failure(Reason.C1_UNREACHABLE, "No connection to C1.")
BROKEN = Failure(Reason.UPLOAD_FAILED, "C1 did not take the file.")
HELD = "Half the accounts are gone."
COUNTED = "230 accounts, 9 teams and 450 memberships in snapshot sync2."


def of(status: ConditionStatus, failure: Failure, reason: Reason | None = None) -> ConditionValue:
    return ConditionValue(status, reason or failure.reason, failure.message)


VALID = ConditionValue(TRUE, Reason.VALID, "Buildkite accepts the API token and C1 accepts the client.")
UNCHECKED = ConditionValue(UNKNOWN, Reason.PENDING, "The credentials have not been checked yet.")


@pytest.mark.parametrize(
    ("findings", "expected"),
    [
        (WELL, VALID),
        (replace(WELL, token_accepted=False), UNCHECKED),
        (replace(WELL, client_accepted=False), UNCHECKED),
        (replace(WELL, preflight_failure=TOKEN), of(FALSE, TOKEN)),
        (replace(WELL, preflight_failure=CRON), of(UNKNOWN, CRON)),
        (
            replace(WELL, preflight_failure=ELSEWHERE),
            ConditionValue(UNKNOWN, ELSEWHERE.reason, "Buildkite accepts the API token. No such organization."),
        ),
        (replace(WELL, preflight_failure=DOWN, c1_failure=CLIENT, sync_failure=ACCESS), of(UNKNOWN, DOWN)),
        (replace(WELL, c1_failure=CLIENT, sync_failure=ACCESS), of(FALSE, CLIENT)),
        (replace(WELL, sync_failure=ACCESS), of(FALSE, ACCESS)),
        (replace(WELL, c1_failure=AWAY, sync_failure=ACCESS), of(FALSE, ACCESS)),
        (replace(WELL, sync_failure=DOWN), VALID),
        (replace(WELL, delivery_failure=BROKEN), VALID),
        (replace(WELL, c1_failure=AWAY), VALID),
        (replace(WELL, token_expires="Soon."), ConditionValue(TRUE, Reason.TOKEN_EXPIRES, "Soon.")),
        (replace(WELL, token_expires="Soon.", sync_failure=ACCESS), of(FALSE, ACCESS)),
        (replace(WELL, c1_failure=AWAY, client_accepted=False), of(UNKNOWN, AWAY)),
        (replace(WELL, c1_failure=AWAY, token_accepted=False), UNCHECKED),
    ],
)
def test_the_credentials_are_valid_once_both_sides_took_them(findings: Findings, expected: ConditionValue) -> None:
    assert judge(findings, DELIVERED)[ConditionType.CREDENTIALS_VALID] == expected


@pytest.mark.parametrize(
    ("findings", "records", "expected"),
    [
        (WELL, NOTHING, ConditionValue(UNKNOWN, Reason.AWAITING_SYNC, "No sync has finished yet.")),
        (WELL, SYNCED, ConditionValue(TRUE, Reason.SYNC_SUCCEEDED, COUNTED)),
        (replace(WELL, sync_failure=DOWN), SYNCED, of(FALSE, DOWN)),
        (replace(WELL, sync_failure=DOWN), NOTHING, of(FALSE, DOWN)),
    ],
)
def test_synced_tells_the_last_sync(findings: Findings, records: ConnectorStatus, expected: ConditionValue) -> None:
    assert judge(findings, records)[ConditionType.SYNCED] == expected


STAGED = ConditionValue(FALSE, Reason.AWAITING_TASK, "Snapshot sync2 is staged and goes out when C1 asks for a sync.")
TAKEN = ConditionValue(TRUE, Reason.DELIVERED, "C1 took snapshot sync1 under task task1.")
SHRUNK = ConditionValue(FALSE, Reason.SHRUNK, f"Fewer. {STAGED.message}")
OTHER_FORM = DeliveryRecord(NOW, TaskID("task1"), SyncID("sync1"), "sha", 1, Counts(), "pebble")
OTHER_FORM_TAKEN = ConditionValue(
    TRUE,
    Reason.DELIVERED,
    f"{TAKEN.message} It asked for the pebble form and got sqlite, which is what this connector writes.",
)
EMPTY = ConditionValue(FALSE, Reason.AWAITING_SYNC, "There is no snapshot to deliver yet.")


@pytest.mark.parametrize(
    ("findings", "records", "expected"),
    [
        (WELL, NOTHING, EMPTY),
        (replace(WELL, awaiting_task=True), NOTHING, EMPTY),
        (WELL, DELIVERED, TAKEN),
        (replace(WELL, awaiting_task=True), DELIVERED, STAGED),
        (replace(WELL, shrunk="Fewer."), DELIVERED, TAKEN),
        (replace(WELL, shrunk="Fewer.", awaiting_task=True), DELIVERED, SHRUNK),
        (WELL, replace(DELIVERED, last_delivery=OTHER_FORM), OTHER_FORM_TAKEN),
        (replace(WELL, c1_failure=AWAY, awaiting_task=True), DELIVERED, of(FALSE, AWAY)),
        (replace(WELL, c1_failure=AWAY, delivery_failure=BROKEN), DELIVERED, of(FALSE, BROKEN)),
        (
            replace(WELL, held=HELD, delivery_failure=BROKEN),
            DELIVERED,
            ConditionValue(FALSE, Reason.SHRINK_HELD, HELD),
        ),
        (replace(WELL, sync_failure=DOWN, preflight_failure=TOKEN), DELIVERED, TAKEN),
    ],
)
def test_delivered_tells_what_c1_has(findings: Findings, records: ConnectorStatus, expected: ConditionValue) -> None:
    assert judge(findings, records)[ConditionType.DELIVERED] == expected


PENDING = Failure(Reason.PENDING, "The credentials are being checked.")
WRITES = replace(WELL, provisions=True)
CARRIED_OUT = ConditionValue(TRUE, Reason.READY, "C1's grants and revokes are carried out.")


@pytest.mark.parametrize(
    ("findings", "expected"),
    [
        (WELL, None),
        (replace(WELL, write_failure=TOKEN), None),
        (WRITES, CARRIED_OUT),
        (replace(WRITES, write_failure=PENDING), of(UNKNOWN, PENDING)),
        (replace(WRITES, write_failure=TOKEN), of(FALSE, TOKEN)),
        (replace(WRITES, write_failure=DOWN, suspended=True), of(FALSE, DOWN)),
    ],
)
def test_provisioning_ready_tells_whether_memberships_can_be_changed(
    findings: Findings, expected: ConditionValue | None
) -> None:
    assert judge(findings, DELIVERED).get(ConditionType.PROVISIONING_READY) == expected


SUSPENDED = ConditionValue(
    FALSE, Reason.SUSPENDED, "spec.suspend is true: no syncs and no contact with C1 until it is false."
)


@pytest.mark.parametrize(
    ("findings", "records", "expected"),
    [
        (replace(WELL, suspended=True, preflight_failure=TOKEN), DELIVERED, SUSPENDED),
        (
            replace(WELL, preflight_failure=TOKEN, sync_failure=DOWN, c1_failure=AWAY, delivery_failure=BROKEN),
            DELIVERED,
            of(FALSE, TOKEN),
        ),
        (replace(WELL, sync_failure=DOWN, c1_failure=AWAY, delivery_failure=BROKEN), DELIVERED, of(FALSE, DOWN)),
        (replace(WELL, c1_failure=AWAY, delivery_failure=BROKEN), DELIVERED, of(FALSE, AWAY)),
        (replace(WELL, delivery_failure=BROKEN, held=HELD), DELIVERED, of(FALSE, BROKEN)),
        (replace(WELL, held=HELD), DELIVERED, ConditionValue(FALSE, Reason.SHRINK_HELD, HELD)),
        (WELL, DELIVERED, ConditionValue(TRUE, Reason.READY, COUNTED)),
        (replace(WELL, syncing=True), DELIVERED, ConditionValue(TRUE, Reason.READY, COUNTED)),
        (
            replace(WELL, syncing=True, progressing="A sync of it is to come."),
            NOTHING,
            ConditionValue(UNKNOWN, Reason.SYNCING, "The first sync is under way."),
        ),
        (WELL, NOTHING, ConditionValue(UNKNOWN, Reason.PENDING, "No sync has finished yet.")),
        (
            replace(WELL, token_accepted=False, progressing="Checking."),
            DELIVERED,
            ConditionValue(UNKNOWN, Reason.PENDING, "Checking."),
        ),
    ],
)
def test_ready_tells_the_first_trouble_or_what_was_synced(
    findings: Findings, records: ConnectorStatus, expected: ConditionValue
) -> None:
    assert judge(findings, records)[ConditionType.READY] == expected


STALLED, RECONCILING = ConditionType.STALLED, ConditionType.RECONCILING


@pytest.mark.parametrize(
    ("findings", "records", "expected"),
    [
        (WELL, DELIVERED, {}),
        (replace(WELL, syncing=True), DELIVERED, {}),
        (replace(WELL, suspended=True, held=HELD, progressing="Checking."), DELIVERED, {}),
        (replace(WELL, preflight_failure=TOKEN, held=HELD), DELIVERED, {STALLED: of(TRUE, TOKEN)}),
        (
            replace(WELL, preflight_failure=TOKEN, secret_is_late=True),
            DELIVERED,
            {RECONCILING: of(TRUE, TOKEN, Reason.RETRYING)},
        ),
        (replace(WELL, sync_failure=DOWN), DELIVERED, {RECONCILING: of(TRUE, DOWN, Reason.RETRYING)}),
        (
            replace(WELL, sync_failure=DOWN, held=HELD),
            DELIVERED,
            {STALLED: ConditionValue(TRUE, Reason.SHRINK_HELD, HELD)},
        ),
        (
            WELL,
            NOTHING,
            {RECONCILING: ConditionValue(TRUE, Reason.PENDING, "No sync has finished yet.")},
        ),
        (
            replace(WELL, syncing=True),
            NOTHING,
            {RECONCILING: ConditionValue(TRUE, Reason.SYNCING, "The first sync is under way.")},
        ),
        (
            replace(WELL, progressing="A sync of it is to come."),
            DELIVERED,
            {RECONCILING: ConditionValue(TRUE, Reason.PENDING, "A sync of it is to come.")},
        ),
        (
            replace(WELL, syncing=True, progressing="Syncing after a change."),
            DELIVERED,
            {RECONCILING: ConditionValue(TRUE, Reason.SYNCING, "Syncing after a change.")},
        ),
    ],
)
def test_stalled_and_reconciling_tell_who_must_act(
    findings: Findings, records: ConnectorStatus, expected: dict[ConditionType, ConditionValue]
) -> None:
    verdicts = judge(findings, records)
    assert {kind: verdicts[kind] for kind in (STALLED, RECONCILING) if kind in verdicts} == expected


@pytest.mark.parametrize(
    ("findings", "records", "phase"),
    [
        (replace(WELL, suspended=True, syncing=True), DELIVERED, Phase.SUSPENDED),
        (replace(WELL, preflight_failure=TOKEN, secret_is_late=True), NOTHING, Phase.PENDING),
        (replace(WELL, preflight_failure=TOKEN, secret_is_late=True), DELIVERED, Phase.PENDING),
        (replace(WELL, preflight_failure=TOKEN), DELIVERED, Phase.ERROR),
        (replace(WELL, held=HELD), NOTHING, Phase.ERROR),
        (replace(WELL, held=HELD), DELIVERED, Phase.DEGRADED),
    ],
)
def test_the_phase_is_one_word_for_it(findings: Findings, records: ConnectorStatus, phase: Phase) -> None:
    assert describe(findings, records, NOW).phase is phase
