"""The connector's status: what is reported of it, and all that survives a restart.

Each field is one of the resource's JSON, in camel case, and the text beside it is what `kubectl explain` shows
(`kubernetes.schema.status_json`). An object without a field that has no default and cannot be None counts as absent
when it is read. `connector.conditions` derives the conditions.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, StrEnum, auto
from typing import Annotated, Final

from buildkite_connector.model.directory import Counts, Organization, Role, TeamID
from buildkite_connector.model.failure import Reason
from buildkite_connector.model.snapshot import SyncID
from buildkite_connector.model.tasks import TaskID


class InJson(Enum):
    """INLINE: the object's own fields stand in its place. NOT_ZERO: left out while it is 0. NEVER: in memory only."""

    INLINE = auto()
    NOT_ZERO = auto()
    NEVER = auto()


ATOMIC: Final[Mapping[str, str]] = {"x-kubernetes-list-type": "atomic"}
"""For a list's schema: server-side apply replaces it as a whole."""


# Changes of memberships

LONGEST_NAME = 100
"""Characters of a team's or a person's name that are shown."""
RECENT_CHANGES = 50
"""How many changes are kept until they are reported as events."""


class ChangeAction(StrEnum):
    """What C1 asks for; the values are the names of its tasks."""

    GRANT = "grant"
    REVOKE = "revoke"


class ChangeResult(StrEnum):
    """What came of it. ALREADY: nothing had to be changed."""

    GRANTED = "Granted"
    ROLE_CHANGED = "RoleChanged"
    REVOKED = "Revoked"
    ALREADY = "Already"
    REFUSED = "Refused"


@dataclass(frozen=True, slots=True)
class ChangeRecord:
    """The newest membership change that C1 asked for, or its refusal.

    `team` and `user` are names for people, never an e-mail address. `number` counts in this process.
    """

    time: Annotated[datetime, "When the operator made or refused the change."]
    action: Annotated[ChangeAction, "grant or revoke."]
    team: Annotated[str, "The team's name or ID."]
    role: Annotated[Role, "member or maintainer."]
    user: Annotated[str, "The person's name or ID."]
    task_id: Annotated[TaskID, "The ID of C1's task."]
    result: Annotated[ChangeResult, "Granted, RoleChanged, Revoked or Refused."]
    reason: Annotated[str, "Why the operator refused the change."] = ""
    number: Annotated[int, InJson.NEVER] = 0


@dataclass(frozen=True, slots=True)
class ProtectedTeam:
    """A team with a protected slug. It stays protected after it is renamed."""

    slug: Annotated[str, "The slug in spec.provisioning.protectedTeams."]
    id: Annotated[TeamID, "The team's ID in Buildkite."]
    slug_now: Annotated[str, "The team's current slug; absent if the team is not listed."] = ""


@dataclass(frozen=True, slots=True)
class ProvisioningRecord:
    """What C1's grant and revoke tasks changed since the resource was created.

    `recent` are this process's changes that may wait for their events.
    """

    granted: Annotated[int, "Memberships added, or changed to another role."]
    revoked: Annotated[int, "Memberships removed."]
    refused: Annotated[int, "Tasks refused by spec.provisioning."]
    last_change: ChangeRecord | None = None
    recent: Annotated[tuple[ChangeRecord, ...], InJson.NEVER] = ()
    protected_teams: Annotated[
        tuple[ProtectedTeam, ...],
        "The teams of spec.provisioning.protectedTeams, by ID after the operator first sees them.",
        ATOMIC,
    ] = ()


def shown_name(name: str, otherwise: str) -> str:
    """A name fit for events: one line, bounded; the id where there is none, or where it is an e-mail address."""
    line = " ".join("".join(char if char.isprintable() else " " for char in name[: 4 * LONGEST_NAME]).split())
    if not line or "@" in line:
        return otherwise[:LONGEST_NAME]
    return line[:LONGEST_NAME]


# The connector in C1


class C1SyncState(StrEnum):
    """What C1 does with the connector, in C1's words without their prefix."""

    RUNNING = "RUNNING"
    DONE = "DONE"
    ERROR = "ERROR"
    DISABLED = "DISABLED"


@dataclass(frozen=True, slots=True)
class C1State:
    """What C1's REST API says of the connector. Its texts are bounded and cleaned.

    `state` None: C1 has not synced it yet, or names a state that this version does not know.
    """

    state: Annotated[C1SyncState | None, "The connector's state in C1: RUNNING, DONE, ERROR or DISABLED."] = None
    started_at: Annotated[datetime | None, "When C1's last sync started."] = None
    completed_at: Annotated[datetime | None, "When C1's last sync ended."] = None
    last_error: Annotated[str, "Why C1's last sync failed, in C1's words."] = ""
    paused_at: Annotated[datetime | None, "When C1 paused the connector; absent if it is not paused."] = None
    paused_reason: Annotated[str, "Why C1 paused the connector, in C1's words."] = ""
    schedule: Annotated[str, "C1's own schedule for the connector, as a cron and its time zone."] = ""


class C1Step(StrEnum):
    """What the operator creates in C1 now. It is in the status before the call is made."""

    APP = "App"
    CONNECTOR = "Connector"
    CREDENTIAL = "Credential"


@dataclass(frozen=True, slots=True)
class C1CredentialRecord:
    """The credential that the operator created for the connector."""

    id: Annotated[str, "The credential's ID in C1."]
    expires_at: Annotated[datetime | None, "When the credential expires; absent if it does not expire."] = None
    rotates_at: Annotated[datetime | None, "When the operator replaces the credential; absent if it never does."] = None
    retiring: Annotated[tuple[str, ...], "The IDs of the credentials before it, until they are revoked.", ATOMIC] = ()


@dataclass(frozen=True, slots=True)
class C1Record:
    """The connector in C1, while spec.c1 is set."""

    app_id: Annotated[str, "The ID of the app in C1."] = ""
    connector_id: Annotated[str, "The ID of the connector in C1."] = ""
    shown: Annotated[C1State | None, InJson.INLINE] = None
    observed_at: Annotated[
        datetime | None, "When the operator first observed this state. It is not updated while the state is the same."
    ] = None
    forced_for: Annotated[
        SyncID | None, "The ID of the sync after which the operator last made C1 sync, as in lastSync.id."
    ] = None
    creating: Annotated[C1Step | None, "What the operator is creating in C1: App, Connector or Credential."] = None
    creating_since: Annotated[datetime | None, "When the operator began to create it."] = None
    credential: C1CredentialRecord | None = None


# The status


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
    C1_SYNCED = "C1Synced"
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
    """One aspect of the connector's state, as in the Kubernetes API conventions."""

    type: Annotated[
        ConditionType,
        "Ready, CredentialsValid, Synced or Delivered; ProvisioningReady while provisioning is enabled;"
        " Reconciling and Stalled only while true.",
    ]
    status: Annotated[ConditionStatus, "True, False or Unknown."]
    reason: Annotated[Reason, "The reason for the status, as one CamelCase word from a closed list."]
    message: Annotated[str, "The reason for the status as a sentence, and what to do about it."]
    observed_generation: Annotated[int, "The metadata.generation that the condition is based on."] = 0
    last_transition_time: Annotated[datetime, "When the status of the condition last changed."] = field(kw_only=True)


@dataclass(frozen=True, slots=True)
class TokenAccess:
    """How much of the organization the token of the last sync saw."""

    administrator: Annotated[
        bool | None,
        "Whether the token's owner, or the subject of the token exchange, is an administrator of the organization, who"
        " can see all teams; absent if Buildkite does not report it.",
    ]
    secret_teams: Annotated[int, "How many secret teams the last sync saw."]
    secret_teams_before: Annotated[
        int, "How many secret teams it saw before most of them disappeared; absent unless most did.", InJson.NOT_ZERO
    ] = 0


@dataclass(frozen=True, slots=True)
class TokenStatus:
    """What Buildkite reports about the API token, or about token exchange."""

    expires_at: Annotated[
        datetime | None, "When the token expires; absent if it does not expire.", {"format": None}
    ] = None
    missing_scopes: Annotated[
        tuple[str, ...], "The scopes that the token lacks, or that the token exchange app does not grant."
    ] = ()
    access: Annotated[TokenAccess | None, InJson.INLINE] = None


@dataclass(frozen=True, slots=True)
class SnapshotFile:
    """The snapshot file that the sync wrote."""

    sha256: Annotated[str, "The SHA-256 checksum of the file, in hexadecimal."]
    bytes: Annotated[int, "The size of the file in bytes."]


@dataclass(frozen=True, slots=True)
class SyncRecord:
    """The last successful sync."""

    id: Annotated[SyncID, "The ID of the sync, as in the snapshot and the logs."]
    trigger: Annotated[Trigger, "What triggered the sync: Schedule, Request, Task or Change."]
    started_at: Annotated[datetime, "When the sync started."]
    finished_at: Annotated[datetime, "When the sync finished."]
    counts: Annotated[Counts, InJson.INLINE]
    requests: Annotated[int, "How many requests the sync made to Buildkite."]
    throttled_seconds: Annotated[float, "How many seconds the sync waited for Buildkite's rate limits."]
    snapshot: SnapshotFile


@dataclass(frozen=True, slots=True)
class DeliveryRecord:
    """The last snapshot that C1 accepted. The shrink guard compares new snapshots with its counts. For what the
    snapshot left out, they are those of the delivery before, or of an accepted sync after it.

    `delivered` are the counts of the snapshot alone.
    """

    time: Annotated[datetime, "When C1 accepted the snapshot."]
    task_id: Annotated[TaskID, "The ID of C1's task that the delivery answered."]
    sync_id: Annotated[SyncID, "The ID of the sync that created the snapshot."]
    sha256: Annotated[str, "The SHA-256 checksum of the file, in hexadecimal."]
    bytes: Annotated[int, "The size of the file in bytes."]
    counts: Annotated[Counts, InJson.INLINE]
    delivered: Counts | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One sync, successful or not."""

    id: Annotated[SyncID, "The ID of the sync."]
    trigger: Annotated[Trigger, "What triggered the sync: Schedule, Request, Task or Change."]
    started_at: Annotated[datetime, "When the sync started."]
    finished_at: Annotated[datetime, "When the sync ended."]
    succeeded: Annotated[bool, "Whether the sync succeeded."]
    reason: Annotated[Reason, "SyncSucceeded, or the reason for the failure."]
    counts: Annotated[
        Counts | None,
        InJson.INLINE,
        {
            "accounts": {"description": "Accounts, if the sync succeeded."},
            "teams": {"description": "Teams, if the sync succeeded."},
            "memberships": {"description": "Memberships, if the sync succeeded."},
            "organizationRoles": {"description": "Accounts with a role in the organization, if synced."},
            "pipelines": {"description": "Pipelines, if synced."},
            "pipelineAccess": {"description": "Teams with access to a pipeline, if synced."},
            "clusters": {"description": "Clusters, if synced."},
            "clusterMaintainers": {"description": "Accounts that maintain a cluster, if synced."},
            "clusterTeamMaintainers": {"description": "Teams that maintain a cluster, if synced."},
            "apiTokens": {"description": "People's API access tokens, if synced."},
            "lastLogins": {"description": "Accounts with a last login, if there is a portal."},
        },
    ] = None


@dataclass(frozen=True, slots=True)
class ConnectorStatus:
    """What the operator observed and did. The operator sets all of it."""

    observed_generation: Annotated[int, "The metadata.generation that the status is based on."] = 0
    phase: Annotated[
        Phase,
        "A one-word summary for people: Pending, Syncing, Connected, Degraded, Error or Suspended. In automation, use"
        " the conditions.",
    ] = Phase.PENDING
    conditions: Annotated[
        tuple[Condition, ...],
        "Ready, CredentialsValid, Synced and Delivered; ProvisioningReady while provisioning is enabled;"
        " Reconciling and Stalled only while true.",
        {"x-kubernetes-list-map-keys": ["type"], "x-kubernetes-list-type": "map"},
    ] = ()
    organization: Organization | None = None
    token: TokenStatus = field(default_factory=TokenStatus)
    last_sync_time: Annotated[datetime | None, "When the last sync ended, successful or not."] = None
    last_successful_sync_time: Annotated[datetime | None, "When the last successful sync ended."] = None
    next_sync_time: Annotated[datetime | None, "When the next scheduled sync starts."] = None
    consecutive_failures: Annotated[int, "How many syncs have failed since the last successful one."] = 0
    last_sync: SyncRecord | None = None
    last_delivery: DeliveryRecord | None = None
    last_handled_sync_request: Annotated[
        str | None, "The value of the annotation connectors.c1.ai/sync-requested-at that the operator last acted on."
    ] = None
    provisioning: ProvisioningRecord | None = None
    c1: C1Record | None = None
    history: Annotated[tuple[HistoryEntry, ...], "The last 10 syncs, newest first.", ATOMIC] = ()

    def condition(self, kind: ConditionType) -> Condition | None:
        return next((each for each in self.conditions if each.type is kind), None)
