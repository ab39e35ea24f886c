"""What is told about a connector: conditions and records, and the rules that derive them.

`session` states the findings; `describe` turns them into the status that people and machines read.
The Kubernetes adapter writes it as JSON. Condition semantics follow the Kubernetes API conventions and kstatus.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from buildkite_connector.directory import Counts, Organization
from buildkite_connector.failure import Failure, Reason, Remedy
from buildkite_connector.staged import SyncID
from buildkite_connector.task import TaskID

HISTORY_LENGTH = 10


class Phase(StrEnum):
    """A word for people; machines read conditions."""

    PENDING = "Pending"
    SYNCING = "Syncing"
    CONNECTED = "Connected"
    DEGRADED = "Degraded"
    ERROR = "Error"
    SUSPENDED = "Suspended"


class ConditionType(StrEnum):
    READY = "Ready"
    CREDENTIALS_VALID = "CredentialsValid"
    SYNCED = "Synced"
    DELIVERED = "Delivered"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"


class Truth(StrEnum):
    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Trigger(StrEnum):
    """Why a sync ran."""

    SCHEDULE = "Schedule"
    REQUEST = "Request"
    TASK = "Task"
    CHANGE = "Change"


@dataclass(frozen=True, slots=True)
class Condition:
    type: ConditionType
    status: Truth
    reason: Reason
    message: str
    observed_generation: int
    last_transition_time: datetime


@dataclass(frozen=True, slots=True)
class Verdict:
    """A condition before it has a time and a generation."""

    status: Truth
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class SyncRecord:
    """One sync that succeeded. `snapshot_bytes` and `snapshot_sha256` (hex) are of the file."""

    id: SyncID
    trigger: Trigger
    started_at: datetime
    finished_at: datetime
    counts: Counts
    requests: int
    throttled_seconds: float
    snapshot_sha256: str
    snapshot_bytes: int


@dataclass(frozen=True, slots=True)
class DeliveryRecord:
    """One snapshot that C1 took. `counts` is what the shrink guard compares with."""

    time: datetime
    task_id: TaskID
    sync_id: SyncID
    sha256: str
    bytes: int
    counts: Counts


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One line on one sync; `reason` is SyncSucceeded or why it failed."""

    id: SyncID
    trigger: Trigger
    started_at: datetime
    finished_at: datetime
    succeeded: bool
    reason: Reason
    counts: Counts | None = None


@dataclass(frozen=True, slots=True)
class ConnectorStatus:
    """The whole status; what is not known is None. It is also all that survives a restart."""

    observed_generation: int = 0
    phase: Phase = Phase.PENDING
    conditions: tuple[Condition, ...] = ()
    organization: Organization | None = None
    token_expires_at: str | None = None
    missing_scopes: tuple[str, ...] = ()
    last_sync_time: datetime | None = None
    last_successful_sync_time: datetime | None = None
    next_sync_time: datetime | None = None
    consecutive_failures: int = 0
    last_sync: SyncRecord | None = None
    last_delivery: DeliveryRecord | None = None
    last_handled_sync_request: str | None = None
    history: tuple[HistoryEntry, ...] = ()

    def condition(self, kind: ConditionType) -> Condition | None:
        return next((each for each in self.conditions if each.type is kind), None)


@dataclass(frozen=True, slots=True)
class Held:
    """Why a snapshot is held back by the shrink guard."""

    sync_id: SyncID
    message: str


@dataclass(frozen=True, slots=True)
class Findings:
    """What a session knows of itself now: the input of `describe`.

    `token_accepted`, `client_accepted`: Buildkite took the token, C1 the client, in this process. The failures are
    the newest of their kind, None when well.
    `progressing` is the sentence on what goes on towards Ready, None when nothing does;
    `awaiting_task` tells that a staged snapshot waits for C1.
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
    held: Held | None = None
    awaiting_task: bool = False


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


def judge(findings: Findings, records: ConnectorStatus) -> Mapping[ConditionType, Verdict]:
    """Each condition's verdict; Reconciling and Stalled are there only while true."""
    verdicts = {
        ConditionType.CREDENTIALS_VALID: _credentials(findings),
        ConditionType.SYNCED: _synced(findings, records),
        ConditionType.DELIVERED: _delivered(findings, records),
    }
    ready = _ready(findings, verdicts)
    result = {ConditionType.READY: ready, **verdicts}
    blocking = _blocking(findings)
    if findings.suspended:
        return result
    if blocking is not None and blocking.remedy is not Remedy.RETRY:
        result[ConditionType.STALLED] = Verdict(Truth.TRUE, blocking.reason, blocking.message)
    elif findings.held is not None:
        result[ConditionType.STALLED] = Verdict(Truth.TRUE, Reason.SHRINK_HELD, findings.held.message)
    elif blocking is not None:
        result[ConditionType.RECONCILING] = Verdict(Truth.TRUE, Reason.RETRYING, blocking.message)
    elif ready.status is not Truth.TRUE or findings.progressing:
        result[ConditionType.RECONCILING] = Verdict(
            Truth.TRUE,
            Reason.SYNCING if findings.syncing else Reason.PENDING,
            findings.progressing or ready.message,
        )
    return result


def _blocking(findings: Findings) -> Failure | None:
    """The one failure to tell first: without credentials nothing else matters."""
    return findings.preflight_failure or findings.sync_failure or findings.c1_failure or findings.delivery_failure


def _credentials(findings: Findings) -> Verdict:
    failure = findings.preflight_failure
    if failure is None and findings.c1_failure and findings.c1_failure.remedy is Remedy.CREDENTIALS:
        failure = findings.c1_failure
    if failure is None and findings.sync_failure and findings.sync_failure.remedy is Remedy.CREDENTIALS:
        failure = findings.sync_failure
    if failure is not None:
        status = Truth.FALSE if failure.remedy is Remedy.CREDENTIALS else Truth.UNKNOWN
        return Verdict(status, failure.reason, failure.message)
    if not findings.client_accepted and findings.c1_failure is not None:
        return Verdict(Truth.UNKNOWN, findings.c1_failure.reason, findings.c1_failure.message)
    if findings.token_accepted and findings.client_accepted:
        return Verdict(Truth.TRUE, Reason.VALID, "Buildkite accepts the API token and C1 accepts the client.")
    return Verdict(Truth.UNKNOWN, Reason.PENDING, "The credentials have not been checked yet.")


def _synced(findings: Findings, records: ConnectorStatus) -> Verdict:
    if findings.sync_failure is not None:
        return Verdict(Truth.FALSE, findings.sync_failure.reason, findings.sync_failure.message)
    if records.last_sync is None:
        return Verdict(Truth.UNKNOWN, Reason.AWAITING_SYNC, "No sync has finished yet.")
    counts = records.last_sync.counts
    return Verdict(
        Truth.TRUE,
        Reason.SYNC_SUCCEEDED,
        f"{counts.accounts} accounts, {counts.teams} teams and {counts.memberships} memberships"
        f" in snapshot {records.last_sync.id}.",
    )


def _delivered(findings: Findings, records: ConnectorStatus) -> Verdict:
    if findings.held is not None:
        return Verdict(Truth.FALSE, Reason.SHRINK_HELD, findings.held.message)
    failure = findings.delivery_failure or findings.c1_failure
    if failure is not None:
        return Verdict(Truth.FALSE, failure.reason, failure.message)
    if findings.awaiting_task and records.last_sync is not None:
        return Verdict(
            Truth.FALSE,
            Reason.AWAITING_TASK,
            f"Snapshot {records.last_sync.id} is staged and goes out when C1 asks for a sync.",
        )
    if records.last_delivery is not None:
        return Verdict(
            Truth.TRUE,
            Reason.DELIVERED,
            f"C1 took snapshot {records.last_delivery.sync_id} under task {records.last_delivery.task_id}.",
        )
    return Verdict(Truth.FALSE, Reason.AWAITING_SYNC, "There is no snapshot to deliver yet.")


def _ready(findings: Findings, verdicts: Mapping[ConditionType, Verdict]) -> Verdict:
    if findings.suspended:
        return Verdict(
            Truth.FALSE,
            Reason.SUSPENDED,
            "spec.suspend is true: no syncs and no contact with C1 until it is false.",
        )
    blocking = _blocking(findings)
    if blocking is not None:
        return Verdict(Truth.FALSE, blocking.reason, blocking.message)
    if findings.held is not None:
        return Verdict(Truth.FALSE, Reason.SHRINK_HELD, findings.held.message)
    synced = verdicts[ConditionType.SYNCED]
    if synced.status is Truth.TRUE and verdicts[ConditionType.CREDENTIALS_VALID].status is Truth.TRUE:
        return Verdict(Truth.TRUE, Reason.READY, synced.message)
    if findings.syncing:
        return Verdict(Truth.UNKNOWN, Reason.SYNCING, "The first sync is under way.")
    return Verdict(Truth.UNKNOWN, Reason.PENDING, findings.progressing or synced.message)


def _phase(findings: Findings, records: ConnectorStatus, ready: Verdict) -> Phase:
    if findings.suspended:
        return Phase.SUSPENDED
    if findings.syncing:
        return Phase.SYNCING
    if ready.status is Truth.TRUE:
        return Phase.CONNECTED
    if ready.status is Truth.UNKNOWN:
        return Phase.PENDING
    stalled = (blocking := _blocking(findings)) is not None and blocking.remedy is not Remedy.RETRY
    return Phase.ERROR if stalled or records.last_sync is None else Phase.DEGRADED
