"""Granting and revoking team memberships: what C1 asks for, what came of it, and which changes are allowed.

Ids are a contract with C1: a grant that is answered has the id that a snapshot gives it.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from buildkite_connector.model.directory import Membership, Role, TeamID
from buildkite_connector.model.scope import ResourceKind
from buildkite_connector.model.tasks import TaskID

WRITE_SCOPE = "write_teams"
"""The token scope that changing memberships needs."""
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
class Provisioning:
    """Whether C1's grant and revoke tasks are carried out. `protected_teams` are slugs of teams never changed.

    `roles` are those that may be granted; a membership of any role may be revoked.
    """

    enabled: bool = False
    roles: tuple[Role, ...] = tuple(Role)
    protected_teams: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ChangeRecord:
    """One change, or one refusal. `team` and `user` are names for people, never an e-mail address.

    `number` counts in this process; `reason` says why it was refused, or is empty.
    """

    number: int
    time: datetime
    action: ChangeAction
    team: str
    role: Role
    user: str
    task_id: TaskID
    result: ChangeResult
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ProtectedTeam:
    """A team that has, or once had, a protected slug: it is known by its id from then on, as slugs change.

    `slug_now` is the slug that it had when it was last listed, empty when it was not.
    """

    slug: str
    team: TeamID
    slug_now: str


@dataclass(frozen=True, slots=True)
class ProvisioningRecord:
    """Counts since the resource was made. `recent` are this process's changes that may wait for their events.

    `protected`: the teams of the protected slugs, as far as they were seen.
    """

    granted: int = 0
    revoked: int = 0
    refused: int = 0
    last_change: ChangeRecord | None = None
    recent: tuple[ChangeRecord, ...] = ()
    protected: tuple[ProtectedTeam, ...] = ()


def entitlement_id(team: TeamID, role: Role) -> str:
    """C1's id of a role in a team."""
    return f"{ResourceKind.TEAM.value}:{team}:{role.value}"


def grant_id(membership: Membership) -> str:
    """C1's id of a membership."""
    return f"{entitlement_id(membership.team, membership.role)}:{ResourceKind.USER.value}:{membership.account}"


def shown_name(name: str, otherwise: str) -> str:
    """A name fit for events: one line, bounded; the id where there is none, or where it is an e-mail address."""
    line = " ".join("".join(char if char.isprintable() else " " for char in name[: 4 * LONGEST_NAME]).split())
    if not line or "@" in line:
        return otherwise[:LONGEST_NAME]
    return line[:LONGEST_NAME]
