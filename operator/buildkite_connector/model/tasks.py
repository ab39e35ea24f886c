"""C1's tasks and the answers to them.

The C1 adapter turns BatonService's messages into these; the package `tasks` acts on them.
"""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import NewType

from buildkite_connector.model.directory import Membership, ResourceKind, Role, SyncScope, TeamID
from buildkite_connector.model.snapshot import StagedSnapshot

TaskID = NewType("TaskID", str)
"""27 alphanumerics (a KSUID), C1's."""


class Code(IntEnum):
    """The google.rpc codes that this connector finishes a task with."""

    OK = 0
    CANCELLED = 1
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    PERMISSION_DENIED = 7
    FAILED_PRECONDITION = 9
    ABORTED = 10
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


@dataclass(frozen=True, slots=True)
class SyncTask:
    """`sync_full`: deliver a snapshot of this scope.

    `storage_engine` is what C1 asked for (empty: no wish); this connector writes `sqlite`.
    `refusal` says why the task's options cannot be met, or is empty.
    """

    id: TaskID
    scope: SyncScope
    storage_engine: str = ""
    refusal: str = ""

    @property
    def kind(self) -> str:
        return "sync_full"

    @property
    def other_engine(self) -> str:
        """The form that C1 asked for and does not get; empty: none."""
        return "" if self.storage_engine == "sqlite" else self.storage_engine


@dataclass(frozen=True, slots=True)
class HelloTask:
    """Answered with a Hello that carries the task's id; there is no FinishTask for it."""

    id: TaskID


@dataclass(frozen=True, slots=True)
class UnsupportedTask:
    """Anything else; `kind` is the task's field name in C1's contract (`event_feed`, `bulk_create_tickets`, …)."""

    id: TaskID
    kind: str


@dataclass(frozen=True, slots=True)
class MembershipTask:
    """`grant` or `revoke` (`grants` says which) of a role in a team to a person.

    `team_name` and `user_name` are C1's names for them. `refusal` describes what is wrong with the task, or is empty;
    `membership` is None where it cannot be read.
    """

    id: TaskID
    grants: bool
    membership: Membership | None
    team_name: str = ""
    user_name: str = ""
    refusal: str = ""

    @property
    def kind(self) -> str:
        return "grant" if self.grants else "revoke"


Task = SyncTask | HelloTask | MembershipTask | UnsupportedTask


@dataclass(frozen=True, slots=True)
class Poll:
    """The answer to GetTask. `next_poll` in seconds, clamped as the contract says (0–300)."""

    task: Task | None
    next_poll: float


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The answer to Heartbeat. `next_heartbeat` in seconds (1–300)."""

    next_heartbeat: float
    cancelled: bool


@dataclass(frozen=True, slots=True)
class GrantAnswer:
    """The membership is there. `already`: it was before. `replaced`: the membership that it took the place of."""

    membership: Membership
    already: bool = False
    replaced: Membership | None = None


@dataclass(frozen=True, slots=True)
class RevokeAnswer:
    """The membership is not there. `already`: it was not there before."""

    already: bool = False


@dataclass(frozen=True, slots=True)
class TaskOutcome:
    """How a task ended. Code.OK is success (its message may still tell C1 something), with the task's `answer`.

    `reason` (as a condition has it) and `retry_after` (seconds) repeat for machines what the message says.
    `cancels`: a deliberate refusal, on which C1 cancels the request rather than report a broken connector.
    `delivered`: the snapshot that was uploaded under the task.
    """

    code: Code = Code.OK
    message: str = ""
    non_retryable: bool = False
    reason: str = field(default="", compare=False)
    retry_after: float | None = field(default=None, compare=False)
    answer: GrantAnswer | RevokeAnswer | None = None
    cancels: bool = False
    delivered: StagedSnapshot | None = field(default=None, compare=False)


# The ids that C1 knows from snapshots


def entitlement_id(team: TeamID, role: Role) -> str:
    """C1's id of a role in a team."""
    return f"{ResourceKind.TEAM.value}:{team}:{role.value}"


def grant_id(membership: Membership) -> str:
    """C1's id of a membership."""
    return f"{entitlement_id(membership.team, membership.role)}:{ResourceKind.USER.value}:{membership.account}"
