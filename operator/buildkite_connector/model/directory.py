"""A Buildkite organization: its accounts, its teams, the memberships between them, and the scope of a sync.

Nothing here does I/O. `collect` fills a `Directory`, the snapshot adapter writes it to a file.

C1 takes what is absent from a snapshot for deleted. A task that asks for less than the staged whole is therefore
answered with a file of exactly that scope (`c1z.derive`), never with the whole and never with less.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Annotated, NewType


class ResourceKind(StrEnum):
    """The resource types that a snapshot holds, by their ids in C1."""

    USER = "user"
    TEAM = "team"


ALL_KINDS = frozenset(ResourceKind)


@dataclass(frozen=True, slots=True)
class SyncScope:
    """C1's task options and the resource's `sync.resourceTypes` in one value; two scopes are compared by `==`.

    `kinds` are the resource types in the snapshot. `entitlements=False` leaves entitlements and grants out
    (C1's `resources_only`), `grants=False` leaves grants out.
    """

    kinds: frozenset[ResourceKind] = ALL_KINDS
    entitlements: bool = True
    grants: bool = True

    @property
    def wants_accounts(self) -> bool:
        return ResourceKind.USER in self.kinds

    @property
    def wants_teams(self) -> bool:
        return ResourceKind.TEAM in self.kinds

    @property
    def wants_memberships(self) -> bool:
        """Memberships are the grants of team resources."""
        return self.wants_teams and self.entitlements and self.grants

    def includes(self, other: "SyncScope") -> bool:
        """Whether a snapshot of this scope holds all that one of `other` needs. Every scope includes itself."""
        return (
            other.kinds <= self.kinds
            and (self.entitlements or not other.entitlements)
            and (self.grants or not other.grants)
        )


FULL_SCOPE = SyncScope()

AccountID = NewType("AccountID", str)
"""A Buildkite user's UUID."""
TeamID = NewType("TeamID", str)
"""A Buildkite team's UUID."""
OrganizationSlug = NewType("OrganizationSlug", str)
"""A slug that may be shown: a person wrote it where others may read it, or Buildkite confirmed it."""


_UUID = re.compile(
    r"(?:urn:uuid:)?(\{)?([0-9a-f]{8})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{12})(?(1)\})",
    re.I | re.A,
)


def canonical_id(text: str) -> str:
    """An id as Buildkite writes it: a UUID in any of its forms (upper case, braces, `urn:uuid:`) in lower case with
    dashes; anything else as it is. Ids are compared in this form."""
    found = _UUID.fullmatch(text)
    return "-".join(found.groups()[1:]).lower() if found else text


class Role(StrEnum):
    """A member's role in a team; a maintainer does not hold the member role as well."""

    MEMBER = "member"
    MAINTAINER = "maintainer"


@dataclass(frozen=True, slots=True)
class Organization:
    """The organization that the API token was found to reach."""

    id: Annotated[str, "The organization's ID in Buildkite."]
    slug: Annotated[OrganizationSlug, "The organization's slug."]
    name: Annotated[str, "The organization's name."]


@dataclass(frozen=True, slots=True)
class Account:
    """An organization member. `email` is Buildkite's text, valid or not; empty when unknown.

    `role` in the organization (`admin`, `member`) and `sso_mode` (`required`, `optional`) are Buildkite's own words,
    None when it does not say: older answers lack both, and only an organization admin's token sees `sso_mode`.
    """

    id: AccountID
    name: str
    email: str
    role: str | None = None
    sso_mode: str | None = None


@dataclass(frozen=True, slots=True)
class Team:
    """A team. `created_at` is Buildkite's own text (ISO 8601). Texts but the id and the slug may be empty.

    What follows `created_at` is the role that new members get and what members may do, by Buildkite's names; these and
    `is_default` are None when Buildkite does not say.
    """

    id: TeamID
    name: str
    slug: str
    description: str
    privacy: str
    is_default: bool | None
    created_at: str
    default_member_role: str | None = None
    members_can_create_pipelines: bool | None = None
    members_can_create_suites: bool | None = None
    members_can_create_registries: bool | None = None
    members_can_destroy_registries: bool | None = None
    members_can_destroy_packages: bool | None = None


@dataclass(frozen=True, slots=True)
class Membership:
    """An account in a team. `name` is the account's, as the team's list of members has it; empty when unknown."""

    team: TeamID
    account: AccountID
    role: Role
    name: str = field(default="", repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Counts:
    """The size of a directory or snapshot, as the shrink guard compares it."""

    accounts: Annotated[int, "Accounts in the snapshot."]
    teams: Annotated[int, "Teams in the snapshot."]
    memberships: Annotated[int, "Memberships of accounts in teams in the snapshot."]

    def within(self, scope: SyncScope) -> "Counts":
        """The counts of a snapshot that is reduced to `scope`."""
        return Counts(
            accounts=self.accounts if scope.wants_accounts else 0,
            teams=self.teams if scope.wants_teams else 0,
            memberships=self.memberships if scope.wants_memberships else 0,
        )


@dataclass(frozen=True, slots=True)
class Directory:
    """One organization at one time. Ids are unique; every membership's team is among `teams`.

    When accounts were collected, every membership's account is among `accounts`. A repr leaves the people out: it
    would be a hundred megabytes long, and asyncio makes one of a task's result.
    """

    organization: Organization
    accounts: tuple[Account, ...] = field(repr=False)
    teams: tuple[Team, ...] = field(repr=False)
    memberships: tuple[Membership, ...] = field(repr=False)
    scope: SyncScope = FULL_SCOPE

    @property
    def counts(self) -> Counts:
        return Counts(len(self.accounts), len(self.teams), len(self.memberships))


@dataclass(frozen=True, slots=True)
class CollectionReport:
    """How a collection went, for the status and the sync's summary line.

    `throttled_seconds`: time spent waiting for a rate-limit window.
    `teams_gone`: teams deleted between the list and their members, left out.
    `accounts_added`: accounts known only from a team, added so that no membership dangles.
    `rereads`: listings read again because they moved.
    """

    requests: int = 0
    throttled_seconds: float = 0.0
    teams_gone: int = 0
    accounts_added: int = 0
    rereads: int = 0


@dataclass(frozen=True, slots=True)
class Collection:
    """The result of `collect`: the directory, and how the collection went."""

    directory: Directory
    report: CollectionReport = field(default_factory=CollectionReport)


@dataclass(frozen=True, slots=True)
class TokenFacts:
    """Buildkite's description of the API token. `expires_at` is in UTC, None for a token that never expires.

    `owner_email`: of the person whose token it is, empty when unknown; it is never shown.
    """

    uuid: str
    scopes: frozenset[str]
    expires_at: datetime | None = None
    owner_email: str = field(default="", repr=False)


REQUIRED_SCOPES: Mapping[ResourceKind, tuple[str, ...]] = {
    ResourceKind.USER: ("read_organizations",),
    ResourceKind.TEAM: ("read_teams",),
}
"""The token scopes that collecting each kind needs; `read_organizations` is always needed."""

WRITE_SCOPE = "write_teams"
"""The token scope that changing memberships needs."""
