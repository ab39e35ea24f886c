"""What is told of a connector: conditions, phase and their rules."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from buildkite_connector.connector.conditions import Findings, describe
from buildkite_connector.model.directory import Counts
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.snapshot import SyncID
from buildkite_connector.model.status import (
    Condition,
    ConditionStatus,
    ConditionType,
    ConnectorStatus,
    DeliveryRecord,
    Phase,
    SyncRecord,
    Trigger,
)
from buildkite_connector.model.tasks import TaskID

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
COUNTS = Counts(230, 9, 450)
SYNCED = ConnectorStatus(last_sync=SyncRecord(SyncID("sync1"), Trigger.SCHEDULE, NOW, NOW, COUNTS, 14, 0.0, "ab", 1000))
DELIVERED = replace(SYNCED, last_delivery=DeliveryRecord(NOW, TaskID("task1"), SyncID("sync1"), "ab", 1000, COUNTS))
WELL = Findings(generation=3, token_accepted=True, client_accepted=True)
TOKEN = Failure(Reason.TOKEN_REJECTED, "Put a valid token into the Secret.", remedy=Remedy.CREDENTIALS)
DOWN = Failure(Reason.BUILDKITE_UNAVAILABLE, "Buildkite answers 503.")
AWAY = Failure(Reason.C1_UNREACHABLE, "No connection to C1.")
CRON = Failure(Reason.CRON_INVALID, "spec.schedule.cron cannot be used.", remedy=Remedy.EDIT)


def told(findings: Findings, records: ConnectorStatus = DELIVERED) -> dict[str, tuple[str, str]]:
    conditions = describe(findings, records, NOW).conditions
    return {each.type.value: (each.status.value, each.reason.value) for each in conditions}


@pytest.mark.parametrize(
    ("name", "findings", "records", "ready", "phase"),
    [
        ("well", WELL, DELIVERED, ("True", "Ready"), Phase.CONNECTED),
        ("awaiting a task", replace(WELL, awaiting_task=True), SYNCED, ("True", "Ready"), Phase.CONNECTED),
        ("nothing yet", Findings(1), ConnectorStatus(), ("Unknown", "Pending"), Phase.PENDING),
        ("first sync", replace(WELL, syncing=True), ConnectorStatus(), ("Unknown", "Syncing"), Phase.SYNCING),
        ("later sync", replace(WELL, syncing=True), DELIVERED, ("True", "Ready"), Phase.SYNCING),
        ("token", replace(WELL, preflight_failure=TOKEN), DELIVERED, ("False", "TokenRejected"), Phase.ERROR),
        ("spec", replace(WELL, preflight_failure=CRON), DELIVERED, ("False", "CronInvalid"), Phase.ERROR),
        ("sync", replace(WELL, sync_failure=DOWN), DELIVERED, ("False", "BuildkiteUnavailable"), Phase.DEGRADED),
        ("first", replace(WELL, sync_failure=DOWN), ConnectorStatus(), ("False", "BuildkiteUnavailable"), Phase.ERROR),
        ("c1", replace(WELL, c1_failure=AWAY), DELIVERED, ("False", "C1Unreachable"), Phase.DEGRADED),
        (
            "held",
            replace(WELL, held="held"),
            DELIVERED,
            ("False", "ShrinkHeld"),
            Phase.DEGRADED,
        ),
        ("suspended", replace(WELL, suspended=True), DELIVERED, ("False", "Suspended"), Phase.SUSPENDED),
    ],
)
def test_ready_and_phase_follow_the_findings(
    name: str, findings: Findings, records: ConnectorStatus, ready: tuple[str, str], phase: Phase
) -> None:
    assert told(findings, records)["Ready"] == ready
    assert describe(findings, records, NOW).phase is phase


@pytest.mark.parametrize("failure", [TOKEN, CRON])
def test_what_only_a_person_can_mend_is_stalled(failure: Failure) -> None:
    conditions = told(replace(WELL, preflight_failure=failure))
    assert conditions["Stalled"] == ("True", failure.reason.value)
    assert "Reconciling" not in conditions


@pytest.mark.parametrize("findings", [replace(WELL, sync_failure=DOWN), replace(WELL, c1_failure=AWAY)])
def test_what_passes_with_time_is_reconciling(findings: Findings) -> None:
    conditions = told(findings)
    assert conditions["Reconciling"] == ("True", "Retrying")
    assert "Stalled" not in conditions


def test_reconciling_and_stalled_are_absent_when_all_is_well() -> None:
    assert set(told(WELL)) == {"Ready", "CredentialsValid", "Synced", "Delivered"}


def test_a_suspended_connector_is_neither_reconciling_nor_stalled() -> None:
    conditions = told(replace(WELL, suspended=True, preflight_failure=TOKEN, sync_failure=DOWN))
    assert not {"Reconciling", "Stalled"} & set(conditions)


def test_a_transient_failure_leaves_the_credentials_unknown() -> None:
    assert told(replace(WELL, preflight_failure=DOWN))["CredentialsValid"] == ("Unknown", "BuildkiteUnavailable")


def test_a_client_that_c1_took_once_stays_valid_while_c1_is_away() -> None:
    assert told(replace(WELL, c1_failure=AWAY))["CredentialsValid"] == ("True", "Valid")
    assert told(replace(WELL, client_accepted=False, c1_failure=AWAY))["CredentialsValid"] == (
        "Unknown",
        "C1Unreachable",
    )


def test_credentials_come_before_other_troubles() -> None:
    findings = replace(WELL, preflight_failure=TOKEN, sync_failure=DOWN, c1_failure=AWAY)
    assert told(findings)["Ready"] == ("False", "TokenRejected")


def test_a_transition_time_moves_only_when_the_status_does() -> None:
    first = describe(WELL, DELIVERED, NOW)
    later = NOW + timedelta(hours=1)
    same = describe(replace(WELL, awaiting_task=True), first, later)
    broken = describe(replace(WELL, sync_failure=DOWN), same, later)
    assert same.condition(ConditionType.READY) == first.condition(ConditionType.READY)
    assert _time(same, ConditionType.DELIVERED) == later
    assert _time(broken, ConditionType.READY) == later
    assert _time(broken, ConditionType.CREDENTIALS_VALID) == NOW


def test_the_same_findings_give_the_same_status() -> None:
    first = describe(WELL, DELIVERED, NOW)
    assert describe(WELL, first, NOW + timedelta(days=1)) == first


def test_every_condition_observes_the_generation() -> None:
    status = describe(WELL, DELIVERED, NOW)
    assert status.observed_generation == 3
    assert {each.observed_generation for each in status.conditions} == {3}


@pytest.mark.parametrize(
    "findings", [Findings(1), WELL, replace(WELL, suspended=True), replace(WELL, sync_failure=DOWN)]
)
def test_every_condition_has_a_message(findings: Findings) -> None:
    assert all(each.message for each in describe(findings, DELIVERED, NOW).conditions)


def _time(status: ConnectorStatus, kind: ConditionType) -> datetime:
    found = status.condition(kind)
    assert isinstance(found, Condition)
    assert found.status in ConditionStatus
    return found.last_transition_time
