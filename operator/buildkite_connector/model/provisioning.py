"""Granting and revoking team memberships: what C1 asks for, what came of it, and which changes are allowed.

Ids are a contract with C1: a grant that is answered has the id that a snapshot gives it.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from buildkite_connector.model.directory import Membership, Role, TeamID
from buildkite_connector.model.in_json import ATOMIC, InJson
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
