"""Derives the conditions and the phase that people and machines read. Pure.

Condition semantics follow the Kubernetes API conventions and kstatus.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from buildkite_connector.connector.membership_transitions import blocked_writing
from buildkite_connector.connector.records import undelivered
from buildkite_connector.connector.shrink_guard import held, shrunk
from buildkite_connector.connector.sight import sees_less, unprotected
from buildkite_connector.connector.state import ConnectorState, SyncPhase
from buildkite_connector.connector.token_expiry import expires_soon
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.status import (
    Condition,
    ConditionStatus,
    ConditionType,
    ConnectorStatus,
    DeliveryRecord,
    Phase,
    Trigger,
)
from buildkite_connector.timing.clock import Instant


@dataclass(frozen=True, slots=True)
class ConditionValue:
    """A condition before it has a time and a generation."""

    status: ConditionStatus
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Findings:
    """What a session knows of itself now: the input of `describe`.

    `token_accepted`, `client_accepted`: Buildkite took the token, C1 the client, in this process. The failures are
    the newest of their kind, None when well.
    `progressing` is the sentence on what goes on towards Ready, None when nothing does;
    `held`: why the staged snapshot must not go out; `shrunk`: what it lost although it may; `awaiting_task`: it waits
    for C1. `provisions`: memberships may be changed, but for `write_failure`.
    `secret_is_late`: the missing Secret may still be on its way. `token_expires`: soon, as a sentence; `sees_less` and
    `unprotected`: what `sight` tells. `stale_credentials`: why those in use may be old.
    """

    generation: int
    suspended: bool = False
    syncing: bool = False
    progressing: str | None = None
    token_accepted: bool = False
    client_accepted: bool = False
    preflight_failure: Failure | None = None
    c1_failure: Failure | None = None
    sync_failure: Failure | None = None
    delivery_failure: Failure | None = None
    held: str | None = None
    shrunk: str | None = None
    token_expires: str | None = None
    sees_less: str | None = None
    unprotected: str | None = None
    awaiting_task: bool = False
    provisions: bool = False
    write_failure: Failure | None = None
    secret_is_late: bool = False
    stale_credentials: Failure | None = None


CHANGE_WAITS = "The resource or its Secret changed; a sync of it is to come."
CHANGE_SYNCS = "Syncing after a change of the resource or its Secret."
TOKEN_ACCEPTED = "Buildkite accepts the API token."  # noqa: S105
_TOKEN_IS_GOOD = frozenset({Reason.ORGANIZATION_NOT_FOUND, Reason.ORGANIZATION_AMBIGUOUS})
CHECKING = "Checking the credentials with Buildkite and C1."


def derive_status(state: ConnectorState, now: Instant) -> ConnectorStatus:
    """The status of a connector in this state."""
    records, check = state.records, state.check
    organization, expires = records.organization, records.token_expires_at
    if check.preflight is not None:
        organization, expires = check.preflight.organization, check.preflight.token.expires_at
    known = (organization, expires, check.missing_scopes)
    if known != (records.organization, records.token_expires_at, records.missing_scopes):
        records = replace(
            records, organization=organization, token_expires_at=expires, missing_scopes=check.missing_scopes
        )
    return describe(find(state, now), records, now.wall)


def find(state: ConnectorState, now: Instant) -> Findings:
    """What the state means for people: the input of `describe`."""
    desired, running = state.desired, state.sync is not None and state.sync.phase is not SyncPhase.QUEUED
    hold = loss = None
    if state.staged is not None:
        hold = held(state.records, state.staged, desired.spec.max_drop_percent, desired.accept_shrink)
        loss = shrunk(state.records, state.staged, desired.accept_shrink)
    preflight = state.check.preflight
    provisions = desired.spec.provisioning.enabled and desired.spec_error is None
    return Findings(
        generation=desired.generation,
        suspended=desired.spec.suspend,
        syncing=running,
        progressing=_progress(state, running=running),
        token_accepted=preflight is not None,
        client_accepted=state.c1.greeted,
        preflight_failure=state.blocked_by if state.blocked_by is not state.c1.failure else state.check.failure,
        c1_failure=state.c1.failure,
        sync_failure=state.sync_failure,
        delivery_failure=state.delivery_failure,
        held=hold,
        shrunk=loss,
        token_expires=expires_soon(preflight.token.expires_at, now.wall) if preflight is not None else None,
        sees_less=sees_less(state.records.token_access),
        unprotected=unprotected(state),
        awaiting_task=undelivered(state.records),
        provisions=provisions,
        write_failure=blocked_writing(state) if provisions else None,
        secret_is_late=state.secret_is_late(now),
        stale_credentials=state.stale_credentials(now),
    )


def _progress(state: ConnectorState, *, running: bool) -> str | None:
    if running and state.sync is not None and state.sync.trigger is Trigger.CHANGE:
        return CHANGE_SYNCS
    if not state.outdated:
        return None
    return CHECKING if not state.checked and state.check.failure is None else CHANGE_WAITS


def describe(findings: Findings, records: ConnectorStatus, now: datetime) -> ConnectorStatus:
    """`records` with phase, conditions and generation as the findings have them.

    A condition keeps its transition time while its status is the same.
    """
    verdicts = judge(findings, records)
    before = {each.type: each for each in records.conditions}
    conditions = tuple(
        Condition(
            kind,
            verdict.status,
            verdict.reason,
            verdict.message,
            findings.generation,
            before[kind].last_transition_time if kind in before and before[kind].status is verdict.status else now,
        )
        for kind, verdict in verdicts.items()
    )
    return replace(
        records,
        observed_generation=findings.generation,
        phase=_phase(findings, records, verdicts[ConditionType.READY]),
        conditions=conditions,
    )


def judge(findings: Findings, records: ConnectorStatus) -> Mapping[ConditionType, ConditionValue]:
    """Each condition's verdict; Reconciling and Stalled are there only while true."""
    verdicts = {
        ConditionType.CREDENTIALS_VALID: _credentials(findings),
        ConditionType.SYNCED: _synced(findings, records),
        ConditionType.DELIVERED: _delivered(findings, records),
    }
    ready = _ready(findings, verdicts)
    result = {ConditionType.READY: ready, **verdicts}
    if findings.provisions:
        result[ConditionType.PROVISIONING_READY] = _provisioning_ready(findings)
    blocking = _blocking(findings)
    if findings.suspended:
        return result
    if blocking is not None and _is_stalled(findings, blocking):
        result[ConditionType.STALLED] = ConditionValue(ConditionStatus.TRUE, blocking.reason, blocking.message)
    elif findings.held is not None:
        result[ConditionType.STALLED] = ConditionValue(ConditionStatus.TRUE, Reason.SHRINK_HELD, findings.held)
    elif blocking is not None:
        result[ConditionType.RECONCILING] = ConditionValue(ConditionStatus.TRUE, Reason.RETRYING, blocking.message)
    elif ready.status is not ConditionStatus.TRUE or findings.progressing:
        result[ConditionType.RECONCILING] = ConditionValue(
            ConditionStatus.TRUE,
            Reason.SYNCING if findings.syncing else Reason.PENDING,
            findings.progressing or ready.message,
        )
    return result


def _is_stalled(findings: Findings, blocking: Failure | None) -> bool:
    """Whether only an edit, or new credentials, can help."""
    return blocking is not None and blocking.remedy is not Remedy.RETRY and not findings.secret_is_late


def _blocking(findings: Findings) -> Failure | None:
    """The one failure to tell first: without credentials nothing else matters."""
    return (
        findings.preflight_failure
        or findings.sync_failure
        or findings.c1_failure
        or findings.delivery_failure
        or findings.stale_credentials
    )


def _credentials(findings: Findings) -> ConditionValue:
    failure = findings.preflight_failure
    if failure is None and findings.c1_failure and findings.c1_failure.remedy is Remedy.CREDENTIALS:
        failure = findings.c1_failure
    if failure is None and findings.sync_failure and findings.sync_failure.remedy is Remedy.CREDENTIALS:
        failure = findings.sync_failure
    if failure is not None and failure.reason in _TOKEN_IS_GOOD:
        return ConditionValue(ConditionStatus.UNKNOWN, failure.reason, f"{TOKEN_ACCEPTED} {failure.message}")
    failure = failure or findings.stale_credentials
    if failure is not None:
        status = ConditionStatus.FALSE if failure.remedy is Remedy.CREDENTIALS else ConditionStatus.UNKNOWN
        return ConditionValue(status, failure.reason, failure.message)
    if not findings.client_accepted and findings.c1_failure is not None:
        return ConditionValue(ConditionStatus.UNKNOWN, findings.c1_failure.reason, findings.c1_failure.message)
    if findings.token_accepted and findings.client_accepted:
        warnings = [each for each in (findings.token_expires, findings.sees_less) if each is not None]
        if warnings:
            reason = Reason.TOKEN_EXPIRES if findings.token_expires is not None else Reason.TOKEN_SEES_LESS
            return ConditionValue(ConditionStatus.TRUE, reason, " ".join(warnings))
        return ConditionValue(
            ConditionStatus.TRUE, Reason.VALID, "Buildkite accepts the API token and C1 accepts the client."
        )
    return ConditionValue(ConditionStatus.UNKNOWN, Reason.PENDING, "The credentials have not been checked yet.")


def _synced(findings: Findings, records: ConnectorStatus) -> ConditionValue:
    if findings.sync_failure is not None:
        return ConditionValue(ConditionStatus.FALSE, findings.sync_failure.reason, findings.sync_failure.message)
    if records.last_sync is None:
        return ConditionValue(ConditionStatus.UNKNOWN, Reason.AWAITING_SYNC, "No sync has finished yet.")
    counts = records.last_sync.counts
    return ConditionValue(
        ConditionStatus.TRUE,
        Reason.SYNC_SUCCEEDED,
        f"{counts.accounts} accounts, {counts.teams} teams and {counts.memberships} memberships"
        f" in snapshot {records.last_sync.id}.",
    )


def _delivered(findings: Findings, records: ConnectorStatus) -> ConditionValue:
    if findings.held is not None:
        return ConditionValue(ConditionStatus.FALSE, Reason.SHRINK_HELD, findings.held)
    failure = findings.delivery_failure or findings.c1_failure
    if failure is not None:
        return ConditionValue(ConditionStatus.FALSE, failure.reason, failure.message)
    if findings.awaiting_task and records.last_sync is not None:
        waits = f"Snapshot {records.last_sync.id} is staged and goes out when C1 asks for a sync."
        if findings.shrunk is not None:
            return ConditionValue(ConditionStatus.FALSE, Reason.SHRUNK, f"{findings.shrunk} {waits}")
        return ConditionValue(ConditionStatus.FALSE, Reason.AWAITING_TASK, waits)
    if records.last_delivery is not None:
        return ConditionValue(
            ConditionStatus.TRUE,
            Reason.DELIVERED,
            _taken(records.last_delivery),
        )
    return ConditionValue(ConditionStatus.FALSE, Reason.AWAITING_SYNC, "There is no snapshot to deliver yet.")


def _provisioning_ready(findings: Findings) -> ConditionValue:
    failure = findings.write_failure
    if failure is None:
        reason = Reason.READY if findings.unprotected is None else Reason.PROTECTED_TEAM_UNKNOWN
        also = f" {findings.unprotected}" if findings.unprotected is not None else ""
        return ConditionValue(ConditionStatus.TRUE, reason, f"C1's grants and revokes are carried out.{also}")
    status = ConditionStatus.UNKNOWN if failure.reason is Reason.PENDING else ConditionStatus.FALSE
    return ConditionValue(status, failure.reason, failure.message)


def _taken(delivery: DeliveryRecord) -> str:
    taken = f"C1 took snapshot {delivery.sync_id} under task {delivery.task_id}."
    if not delivery.engine_asked:
        return taken
    return f"{taken} It asked for the {delivery.engine_asked} form and got sqlite, which is what this connector writes."


def _ready(findings: Findings, verdicts: Mapping[ConditionType, ConditionValue]) -> ConditionValue:
    if findings.suspended:
        return ConditionValue(
            ConditionStatus.FALSE,
            Reason.SUSPENDED,
            "spec.suspend is true: no syncs and no contact with C1 until it is false.",
        )
    blocking = _blocking(findings)
    if blocking is not None:
        return ConditionValue(ConditionStatus.FALSE, blocking.reason, blocking.message)
    if findings.held is not None:
        return ConditionValue(ConditionStatus.FALSE, Reason.SHRINK_HELD, findings.held)
    synced = verdicts[ConditionType.SYNCED]
    if (
        synced.status is ConditionStatus.TRUE
        and verdicts[ConditionType.CREDENTIALS_VALID].status is ConditionStatus.TRUE
    ):
        return ConditionValue(ConditionStatus.TRUE, Reason.READY, synced.message)
    if findings.syncing:
        return ConditionValue(ConditionStatus.UNKNOWN, Reason.SYNCING, "The first sync is under way.")
    return ConditionValue(ConditionStatus.UNKNOWN, Reason.PENDING, findings.progressing or synced.message)


def _phase(findings: Findings, records: ConnectorStatus, ready: ConditionValue) -> Phase:
    if findings.suspended:
        return Phase.SUSPENDED
    if findings.syncing:
        return Phase.SYNCING
    if ready.status is ConditionStatus.TRUE:
        return Phase.CONNECTED
    if ready.status is ConditionStatus.UNKNOWN:
        return Phase.PENDING
    if findings.secret_is_late:
        return Phase.PENDING
    stalled = _is_stalled(findings, _blocking(findings))
    return Phase.ERROR if stalled or records.last_sync is None else Phase.DEGRADED
