"""The connector's status: its records (last sync, last delivery, history) and its conditions.

`connector.conditions` derives the conditions; the Kubernetes adapter writes the status as JSON. It is also all that
survives a restart.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from buildkite_connector.model.directory import Counts, Organization
from buildkite_connector.model.failure import Reason
from buildkite_connector.model.provisioning import ProvisioningRecord
from buildkite_connector.model.snapshot import SyncID
from buildkite_connector.model.tasks import TaskID

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
    PROVISIONING_READY = "ProvisioningReady"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"


class ConditionStatus(StrEnum):
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
    status: ConditionStatus
    reason: Reason
    message: str
    observed_generation: int
    last_transition_time: datetime


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
    """One snapshot that C1 took. `counts` is what the shrink guard compares with.

    `engine_asked`: the form that C1 asked for, where that is not the one that this connector writes.
    """

    time: datetime
    task_id: TaskID
    sync_id: SyncID
    sha256: str
    bytes: int
    counts: Counts
    engine_asked: str = ""


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
class TokenAccess:
    """How much of the organization the last sync's token saw. `administrator`: whether its owner is one, None where
    Buildkite does not say. `secret_teams_before`: how many were seen before most of them were lost, 0 while none are.
    """

    administrator: bool | None = None
    secret_teams: int = 0
    secret_teams_before: int = 0


@dataclass(frozen=True, slots=True)
class ConnectorStatus:
    """The whole status; what is not known is None. It is also all that survives a restart."""

    observed_generation: int = 0
    phase: Phase = Phase.PENDING
    conditions: tuple[Condition, ...] = ()
    organization: Organization | None = None
    token_expires_at: datetime | None = None
    missing_scopes: tuple[str, ...] = ()
    token_access: TokenAccess | None = None
    last_sync_time: datetime | None = None
    last_successful_sync_time: datetime | None = None
    next_sync_time: datetime | None = None
    consecutive_failures: int = 0
    last_sync: SyncRecord | None = None
    last_delivery: DeliveryRecord | None = None
    last_handled_sync_request: str | None = None
    history: tuple[HistoryEntry, ...] = ()
    provisioning: ProvisioningRecord | None = None

    def condition(self, kind: ConditionType) -> Condition | None:
        return next((each for each in self.conditions if each.type is kind), None)
