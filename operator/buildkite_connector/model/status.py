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
    """The newest change of a membership that C1 asked for, or refusal of one.

    `team` and `user` are names for people, never an e-mail address. `number` counts in this process.
    """

    time: Annotated[datetime, "When it was made."]
    action: Annotated[ChangeAction, "grant or revoke."]
    team: Annotated[str, "The team's name, or its id."]
    role: Annotated[Role, "member or maintainer."]
    user: Annotated[str, "The person's name, or their id."]
    task_id: Annotated[TaskID, "C1's task."]
    result: Annotated[ChangeResult, "Granted, RoleChanged, Revoked or Refused."]
    reason: Annotated[str, "Why it was refused."] = ""
    number: Annotated[int, InJson.NEVER] = 0


@dataclass(frozen=True, slots=True)
class ProtectedTeam:
    """A team with a protected slug. It stays protected when it is renamed."""

    slug: Annotated[str, "The slug in spec.provisioning.protectedTeams."]
    id: Annotated[TeamID, "Buildkite's id of the team."]
    slug_now: Annotated[str, "The slug that it has now; absent when it is not listed."] = ""


@dataclass(frozen=True, slots=True)
class ProvisioningRecord:
    """What C1's grant and revoke tasks changed since the resource was made.

    `recent` are this process's changes that may wait for their events.
    """

    granted: Annotated[int, "Memberships made, or given another role."]
    revoked: Annotated[int, "Memberships removed."]
    refused: Annotated[int, "Tasks refused by spec.provisioning."]
    last_change: ChangeRecord | None = None
    recent: Annotated[tuple[ChangeRecord, ...], InJson.NEVER] = ()
    protected_teams: Annotated[
        tuple[ProtectedTeam, ...],
        "The teams of spec.provisioning.protectedTeams, by id since they were first seen.",
        ATOMIC,
    ] = ()


def shown_name(name: str, otherwise: str) -> str:
    """A name fit for events: one line, bounded; the id where there is none, or where it is an e-mail address."""
    line = " ".join("".join(char if char.isprintable() else " " for char in name[: 4 * LONGEST_NAME]).split())
    if not line or "@" in line:
        return otherwise[:LONGEST_NAME]
    return line[:LONGEST_NAME]


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
        " and only while true, Reconciling and Stalled.",
    ]
    status: Annotated[ConditionStatus, "True, False or Unknown."]
    reason: Annotated[Reason, "Why, as one CamelCase word of a closed list."]
    message: Annotated[str, "Why, as a sentence, and what to do about it."]
    observed_generation: Annotated[int, "The metadata.generation that this was found for."] = 0
    last_transition_time: Annotated[datetime, "When status changed last."] = field(kw_only=True)


@dataclass(frozen=True, slots=True)
class TokenAccess:
    """How much of the organization the last sync's token saw."""

    administrator: Annotated[
        bool | None,
        "Whether its owner is an administrator of the organization, who sees all teams; absent where Buildkite does not"
        " say.",
    ]
    secret_teams: Annotated[int, "How many secret teams the last sync saw."]
    secret_teams_before: Annotated[
        int, "How many it saw before most of them were lost; absent while none are.", InJson.NOT_ZERO
    ] = 0


@dataclass(frozen=True, slots=True)
class TokenStatus:
    """What Buildkite says of the API token."""

    expires_at: Annotated[datetime | None, "When it expires; absent when it does not.", {"format": None}] = None
    missing_scopes: Annotated[tuple[str, ...], "The scopes that it lacks."] = ()
    access: Annotated[TokenAccess | None, InJson.INLINE] = None


@dataclass(frozen=True, slots=True)
class SnapshotFile:
    """The file that the sync wrote."""

    sha256: Annotated[str, "Its checksum, in hexadecimal."]
    bytes: Annotated[int, "Its size."]


@dataclass(frozen=True, slots=True)
class SyncRecord:
    """The last sync that succeeded."""

    id: Annotated[SyncID, "The sync's id, the same in the snapshot and the logs."]
    trigger: Annotated[Trigger, "Why it ran: Schedule, Request, Task or Change."]
    started_at: Annotated[datetime, "When it started."]
    finished_at: Annotated[datetime, "When it finished."]
    counts: Annotated[Counts, InJson.INLINE]
    requests: Annotated[int, "How many requests it made to Buildkite."]
    throttled_seconds: Annotated[float, "How long it waited for Buildkite's rate limits."]
    snapshot: SnapshotFile


@dataclass(frozen=True, slots=True)
class DeliveryRecord:
    """The last snapshot that C1 took. The shrink guard compares with its counts."""

    time: Annotated[datetime, "When C1 took it."]
    task_id: Annotated[TaskID, "C1's task that it answered."]
    sync_id: Annotated[SyncID, "The sync that made it."]
    sha256: Annotated[str, "Its checksum, in hexadecimal."]
    bytes: Annotated[int, "Its size."]
    counts: Annotated[Counts, InJson.INLINE]


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One sync, whether it succeeded or not."""

    id: Annotated[SyncID, "The sync's id."]
    trigger: Annotated[Trigger, "Why it ran: Schedule, Request, Task or Change."]
    started_at: Annotated[datetime, "When it started."]
    finished_at: Annotated[datetime, "When it ended."]
    succeeded: Annotated[bool, "Whether it succeeded."]
    reason: Annotated[Reason, "SyncSucceeded, or why it failed."]
    counts: Annotated[
        Counts | None,
        InJson.INLINE,
        {
            "accounts": {"description": "Accounts, when it succeeded."},
            "teams": {"description": "Teams, when it succeeded."},
            "memberships": {"description": "Memberships, when it succeeded."},
        },
    ] = None


@dataclass(frozen=True, slots=True)
class ConnectorStatus:
    """What the operator found and did. Nothing here is set by hand."""

    observed_generation: Annotated[int, "The metadata.generation that this status is about."] = 0
    phase: Annotated[
        Phase,
        "A word for people: Pending, Syncing, Connected, Degraded, Error or Suspended. Machines read the conditions.",
    ] = Phase.PENDING
    conditions: Annotated[
        tuple[Condition, ...],
        "Ready, CredentialsValid, Synced and Delivered; ProvisioningReady while provisioning is enabled;"
        " and only while true, Reconciling and Stalled.",
        {"x-kubernetes-list-map-keys": ["type"], "x-kubernetes-list-type": "map"},
    ] = ()
    organization: Organization | None = None
    token: TokenStatus = field(default_factory=TokenStatus)
    last_sync_time: Annotated[datetime | None, "When the last sync ended, whether it succeeded or not."] = None
    last_successful_sync_time: Annotated[datetime | None, "When the last sync that succeeded ended."] = None
    next_sync_time: Annotated[datetime | None, "When the next scheduled sync starts."] = None
    consecutive_failures: Annotated[int, "How many syncs have failed since one succeeded."] = 0
    last_sync: SyncRecord | None = None
    last_delivery: DeliveryRecord | None = None
    last_handled_sync_request: Annotated[
        str | None, "The value of the annotation connectors.c1.ai/sync-requested-at that was acted on last."
    ] = None
    provisioning: ProvisioningRecord | None = None
    history: Annotated[tuple[HistoryEntry, ...], "The last 10 syncs, newest first.", ATOMIC] = ()

    def condition(self, kind: ConditionType) -> Condition | None:
        return next((each for each in self.conditions if each.type is kind), None)
