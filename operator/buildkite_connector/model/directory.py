"""A Buildkite organization: its accounts, teams, pipelines and clusters, who has access, and the scope of a sync.

Nothing here does I/O. `collect` fills a `Directory`, the snapshot adapter writes it to a file.

C1 takes what is absent from a snapshot for deleted. A task that asks for less than the staged whole is therefore
answered with a file of exactly that scope (`c1z.derive`), never with the whole and never with less.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal, NewType

from buildkite_connector.model.words import API_TOKEN, TokenWords, counted, in_words, listed


class ResourceKind(StrEnum):
    """The resource types that a snapshot holds, by their ids in C1."""

    USER = "user"
    TEAM = "team"
    ORGANIZATION = "organization"
    PIPELINE = "pipeline"
    CLUSTER = "cluster"
    API_TOKEN = "api_token"  # noqa: S105


ALL_KINDS = frozenset(ResourceKind)
DEFAULT_KINDS = frozenset({ResourceKind.USER, ResourceKind.TEAM})
"""What is synced where nobody chooses. The other kinds are opt-in, in the spec and in C1."""


@dataclass(frozen=True, slots=True)
class SyncScope:
    """C1's task options and the resource's `sync.resourceTypes` in one value; two scopes are compared by `==`.

    `kinds` are the resource types in the snapshot. `entitlements=False` leaves entitlements and grants out
    (C1's `resources_only`), `grants=False` leaves grants out. `expanded`: what a team can access is also granted to
    each of its members (C1's `skip_expand_grants` unset); it is False wherever there is nothing to expand.
    """

    kinds: frozenset[ResourceKind] = DEFAULT_KINDS
    entitlements: bool = True
    grants: bool = True
    expanded: bool = False

    def __post_init__(self) -> None:
        expandable = self.wants_accounts and (self.wants_pipeline_access or self.wants_team_maintainers)
        if self.expanded and not expandable:
            object.__setattr__(self, "expanded", False)

    @property
    def wants_accounts(self) -> bool:
        return ResourceKind.USER in self.kinds

    @property
    def wants_teams(self) -> bool:
        return ResourceKind.TEAM in self.kinds

    @property
    def wants_memberships(self) -> bool:
        """Memberships are the grants of team resources."""
        return self.wants_teams and self.wants_grants

    # Of the opt-in kinds, a grant is in the snapshot only where the kind of its principal is too, as in C1's SDK

    @property
    def wants_grants(self) -> bool:
        return self.entitlements and self.grants

    @property
    def wants_organization(self) -> bool:
        return ResourceKind.ORGANIZATION in self.kinds

    @property
    def wants_organization_roles(self) -> bool:
        return self.wants_organization and self.wants_accounts and self.wants_grants

    @property
    def wants_pipelines(self) -> bool:
        return ResourceKind.PIPELINE in self.kinds

    @property
    def wants_pipeline_access(self) -> bool:
        return self.wants_pipelines and self.wants_teams and self.wants_grants

    @property
    def wants_clusters(self) -> bool:
        return ResourceKind.CLUSTER in self.kinds

    @property
    def wants_api_tokens(self) -> bool:
        return ResourceKind.API_TOKEN in self.kinds

    @property
    def wants_user_maintainers(self) -> bool:
        return self.wants_clusters and self.wants_accounts and self.wants_grants

    @property
    def wants_team_maintainers(self) -> bool:
        return self.wants_clusters and self.wants_teams and self.wants_grants

    def includes(self, other: "SyncScope") -> bool:
        """Whether a snapshot of this scope holds all that one of `other` needs. Every scope includes itself.

        A snapshot can be expanded, but an expanded one cannot be reduced.
        """
        return (
            other.kinds <= self.kinds
            and (self.entitlements or not other.entitlements)
            and (self.grants or not other.grants)
            and (other.expanded or not self.expanded)
        )


FULL_SCOPE = SyncScope()

_PRINCIPALS: Mapping[ResourceKind, tuple[ResourceKind, ...]] = {
    ResourceKind.ORGANIZATION: (ResourceKind.USER,),
    ResourceKind.PIPELINE: (ResourceKind.TEAM,),
    ResourceKind.CLUSTER: (ResourceKind.USER, ResourceKind.TEAM),
}
"""Whom the grants of each opt-in kind are for."""


def without_grants(kinds: frozenset[ResourceKind]) -> str:
    """Which of these kinds have no grants because the kinds of their principals are missing; "" where none is."""
    lacking = (
        f"{kind} has no grants without {' or '.join(principals)}"
        for kind, principals in _PRINCIPALS.items()
        if kind in kinds and kinds.isdisjoint(principals)
    )
    return "; ".join(lacking)


AccountID = NewType("AccountID", str)
"""A Buildkite user's UUID."""
TeamID = NewType("TeamID", str)
"""A Buildkite team's UUID."""
PipelineID = NewType("PipelineID", str)
"""A Buildkite pipeline's UUID."""
ClusterID = NewType("ClusterID", str)
"""A Buildkite cluster's UUID."""
AccessTokenID = NewType("AccessTokenID", str)
"""The UUID of somebody's API access token, which is not the token itself."""
OrganizationSlug = NewType("OrganizationSlug", str)
"""A slug that may be shown: a person wrote it where others may read it, or Buildkite confirmed it."""


class Role(StrEnum):
    """A member's role in a team; a maintainer does not hold the member role as well."""

    MEMBER = "member"
    MAINTAINER = "maintainer"


@dataclass(frozen=True, slots=True)
class Organization:
    """The organization that the API token was found to reach.

    `web_url` is Buildkite's text, or empty; it is no part of the status.
    """

    id: Annotated[str, "The organization's ID in Buildkite."]
    slug: Annotated[OrganizationSlug, "The organization's slug."]
    name: Annotated[str, "The organization's name."]
    web_url: str = field(default="", repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class AccountDetails:
    """What only a portal shows of a member. Times are aware.

    `last_seen_at`: None where Buildkite knows of no activity in the organization. `machine`: a machine user; None where
    the portal's document does not ask for it.
    """

    last_seen_at: datetime | None
    two_factor: bool
    machine: bool | None = None
    member_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """An organization member. `email` is Buildkite's text, valid or not; empty when unknown.

    `role` in the organization (`admin`, `member`) and `sso_mode` (`required`, `optional`) are Buildkite's own words,
    None when it does not say: older answers lack both, and only an organization admin's token sees `sso_mode`.
    `details`: None without a portal, and for somebody who left while the lists were read.
    """

    id: AccountID
    name: str
    email: str
    role: str | None = None
    sso_mode: str | None = None
    details: AccountDetails | None = None

    @property
    def two_factor(self) -> bool | None:
        """None without details."""
        return self.details.two_factor if self.details else None

    @property
    def machine(self) -> bool | None:
        """Whether it is a machine user; None where that is not known."""
        return self.details.machine if self.details else None


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


class OrganizationRole(StrEnum):
    """A member's role in the organization; an administrator does not hold the member role as well."""

    MEMBER = "member"
    ADMIN = "admin"


class AccessLevel(StrEnum):
    """What a team's members can do with a pipeline, by Buildkite's names. Each level includes those before it."""

    READ_ONLY = "read_only"
    BUILD_AND_READ = "build_and_read"
    MANAGE_BUILD_AND_READ = "manage_build_and_read"


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A pipeline. Texts but the id and the slug may be empty, times are Buildkite's own text.

    One that only a team's list names (the token's owner may not see it) has the slug, or the id where that is unknown,
    for its name and nothing else.
    """

    id: PipelineID
    slug: str
    name: str
    description: str = ""
    web_url: str = ""
    repository: str = ""
    visibility: str = ""
    cluster_id: str = ""
    archived_at: str = ""


@dataclass(frozen=True, slots=True)
class PipelineAccess:
    """What the members and maintainers of a team can do with a pipeline. `slug` is the pipeline's, as the team's list
    of pipelines has it; empty when unknown."""

    pipeline: PipelineID
    team: TeamID
    level: AccessLevel
    slug: str = field(default="", repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster. Texts but the id may be empty."""

    id: ClusterID
    name: str
    description: str = ""
    web_url: str = ""


@dataclass(frozen=True, slots=True)
class ClusterMaintainer:
    """A person or a team that maintains a cluster. `name` is the person's, as the cluster has it."""

    cluster: ClusterID
    maintainer: AccountID | TeamID
    kind: Literal[ResourceKind.USER, ResourceKind.TEAM]
    name: str = field(default="", repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class AccessToken:
    """Somebody's API access token, without the secret. Times are aware; `scopes` are written as in `TokenFacts`.

    `owner`: None where Buildkite does not say. `expires_at`: None for a token that never expires. `last_used_at`: None
    for one that was never used.
    """

    id: AccessTokenID
    owner: AccountID | None
    description: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Counts:
    """The size of a directory or snapshot, as the shrink guard compares it.

    What belongs to an opt-in kind is None where the kind, or that of its principals, is not in scope; accounts, teams
    and memberships are 0 then.
    """

    accounts: Annotated[int, "Accounts in the snapshot."]
    teams: Annotated[int, "Teams in the snapshot."]
    memberships: Annotated[int, "Memberships of accounts in teams in the snapshot."]
    organization_roles: Annotated[
        int | None, "Accounts with a role in the organization, if the snapshot has the roles."
    ] = None
    pipelines: Annotated[int | None, "Pipelines, if the snapshot has them."] = None
    pipeline_access: Annotated[
        int | None, "Teams with access to a pipeline, counted for each pipeline, if the snapshot has them."
    ] = None
    clusters: Annotated[int | None, "Clusters, if the snapshot has them."] = None
    cluster_maintainers: Annotated[
        int | None, "Accounts that maintain a cluster, counted for each cluster, if the snapshot has them."
    ] = None
    cluster_team_maintainers: Annotated[
        int | None, "Teams that maintain a cluster, counted for each cluster, if the snapshot has them."
    ] = None
    api_tokens: Annotated[int | None, "People's API access tokens, if the snapshot has them."] = None
    last_logins: Annotated[int | None, "Accounts with a last login, if the snapshot is read with a portal."] = None

    def within(self, scope: SyncScope) -> "Counts":
        """The counts of a snapshot that is reduced to `scope`."""
        return self.filled(scope, Counts(0, 0, 0))

    def filled(self, scope: SyncScope, before: "Counts") -> "Counts":
        """The counts with those of `before` for everything that `scope` leaves out."""
        return replace(
            self, **{name: getattr(before, name) for name, covers in COVERED_BY.items() if not covers(scope)}
        )

    @property
    def all_cluster_maintainers(self) -> int | None:
        """Accounts and teams together; None where neither is in scope."""
        known = [each for each in (self.cluster_maintainers, self.cluster_team_maintainers) if each is not None]
        return sum(known) if known else None

    def amounts(self) -> tuple[tuple[str, int], ...]:
        """What is counted, in words for people, and how much of it; without what is not in scope."""
        known = ((each.name, getattr(self, each.name)) for each in fields(self))
        return tuple((in_words(name), amount) for name, amount in known if amount is not None)

    def __str__(self) -> str:
        return listed(counted(amount, what) for what, amount in self.amounts())


COVERED_BY: Mapping[str, Callable[[SyncScope], bool]] = {
    "accounts": lambda scope: scope.wants_accounts,
    "teams": lambda scope: scope.wants_teams,
    "memberships": lambda scope: scope.wants_memberships,
    "organization_roles": lambda scope: scope.wants_organization_roles,
    "pipelines": lambda scope: scope.wants_pipelines,
    "pipeline_access": lambda scope: scope.wants_pipeline_access,
    "clusters": lambda scope: scope.wants_clusters,
    "cluster_maintainers": lambda scope: scope.wants_user_maintainers,
    "cluster_team_maintainers": lambda scope: scope.wants_team_maintainers,
    "api_tokens": lambda scope: scope.wants_api_tokens,
    "last_logins": lambda scope: scope.wants_accounts,
}
"""The scopes that each of the `Counts` is in."""


@dataclass(frozen=True, slots=True)
class Directory:
    """One organization at one time. Ids are unique; every membership's team is among `teams`.

    When accounts were collected, every membership's account is among `accounts`; likewise whatever a pipeline's access
    or a cluster's maintainer names is there where its kind was collected. A repr leaves the lists out: it would be a
    hundred megabytes long, and asyncio makes one of a task's result.
    """

    organization: Organization
    accounts: tuple[Account, ...] = field(repr=False)
    teams: tuple[Team, ...] = field(repr=False)
    memberships: tuple[Membership, ...] = field(repr=False)
    scope: SyncScope = FULL_SCOPE
    pipelines: tuple[Pipeline, ...] = field(default=(), repr=False)
    pipeline_access: tuple[PipelineAccess, ...] = field(default=(), repr=False)
    clusters: tuple[Cluster, ...] = field(default=(), repr=False)
    cluster_maintainers: tuple[ClusterMaintainer, ...] = field(default=(), repr=False)
    api_tokens: tuple[AccessToken, ...] = field(default=(), repr=False)

    @property
    def counts(self) -> Counts:
        return Counts(
            accounts=len(self.accounts),
            teams=len(self.teams),
            memberships=len(self.memberships),
            organization_roles=self._organization_roles if self.scope.wants_organization_roles else None,
            pipelines=len(self.pipelines),
            pipeline_access=len(self.pipeline_access),
            clusters=len(self.clusters),
            cluster_maintainers=self._maintainers(ResourceKind.USER),
            cluster_team_maintainers=self._maintainers(ResourceKind.TEAM),
            api_tokens=len(self.api_tokens),
            last_logins=self._last_logins,
        ).within(self.scope)

    @property
    def _organization_roles(self) -> int:
        return sum(account.role in _ORGANIZATION_ROLES for account in self.accounts)

    @property
    def _last_logins(self) -> int | None:
        """None without a portal."""
        known = [account.details for account in self.accounts if account.details is not None]
        return sum(details.last_seen_at is not None for details in known) if known else None

    def _maintainers(self, kind: ResourceKind) -> int:
        return sum(each.kind is kind for each in self.cluster_maintainers)


_ORGANIZATION_ROLES = frozenset(OrganizationRole)


@dataclass(frozen=True, slots=True)
class CollectionReport:
    """How a collection went, for the status and the sync's summary line.

    `throttled_seconds`: time spent waiting for a rate-limit window.
    `teams_gone`: teams deleted between the list and their members, left out.
    `accounts_added`: accounts known only from a team or a cluster, added so that no grant dangles.
    `pipelines_added`: pipelines known only from a team's list, added likewise.
    `clusters_gone`: clusters deleted between the list and their maintainers, left out.
    `teams_unseen`: teams that maintain a cluster and that Buildkite does not show to the token's owner, left out.
    `rereads`: listings read again because they moved.
    """

    requests: int = 0
    throttled_seconds: float = 0.0
    teams_gone: int = 0
    accounts_added: int = 0
    pipelines_added: int = 0
    clusters_gone: int = 0
    teams_unseen: int = 0
    rereads: int = 0


@dataclass(frozen=True, slots=True)
class Collection:
    """The result of `collect`: the directory, and how the collection went."""

    directory: Directory
    report: CollectionReport = field(default_factory=CollectionReport)


@dataclass(frozen=True, slots=True)
class TokenFacts:
    """Buildkite's description of the API token. `expires_at` is in UTC, None for a token that never expires.

    `owner_email`: of the person whose token it is, empty when unknown; it is never shown. `words`: what it is called.
    """

    uuid: str
    scopes: frozenset[str]
    expires_at: datetime | None = None
    owner_email: str = field(default="", repr=False)
    words: TokenWords = API_TOKEN
