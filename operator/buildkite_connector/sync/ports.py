"""Buildkite as the core needs it, with one connector's token. `buildkite.BuildkiteClient` is the adapter."""

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from buildkite_connector.model.directory import (
    AccessToken,
    Account,
    AccountDetails,
    AccountID,
    Cluster,
    ClusterID,
    ClusterMaintainer,
    Membership,
    Organization,
    OrganizationSlug,
    Pipeline,
    PipelineAccess,
    Team,
    TeamID,
    TokenFacts,
)
from buildkite_connector.model.spec import OrganizationChoice
from buildkite_connector.sync.listing import Page

T = TypeVar("T")


class NotFound(Exception):  # noqa: N818
    """Buildkite answers 404: the team, or the membership, is not there."""


class WriteRefused(Exception):  # noqa: N818
    """Buildkite does not take the change (422); `said` is its reason, fit to be shown."""

    def __init__(self, said: str) -> None:
        super().__init__(said)
        self.said = said


PORTAL_PAGE = 500
"""Items of one page of a portal: the most that Buildkite's GraphQL gives at once."""


@dataclass(frozen=True, slots=True)
class MaintainedCluster:
    """A cluster and who maintains it, as one response has it. The list of clusters may leave the maintainers out."""

    cluster: Cluster
    maintainers: tuple[ClusterMaintainer, ...] = ()


class BuildkiteAPI(Protocol):
    """Pages count from 1; ids and names come interned (`sys.intern`). Every method raises Failure.

    Reads are tried again where that can help. A write is sent again only where Buildkite refused it for its rate limit:
    after any other failure, it may have taken effect, which only reading the membership shows.
    """

    @property
    def page_size(self) -> int:
        """How many items every page but the last holds."""
        ...

    @property
    def requests(self) -> int:
        """Requests made so far, failed tries included."""
        ...

    @property
    def throttled_seconds(self) -> float:
        """Wall time spent so far waiting for a rate-limit window."""
        ...

    async def token(self) -> TokenFacts: ...

    async def organization(self, choice: OrganizationChoice) -> Organization:
        """Raises Failure ORGANIZATION_NOT_FOUND when the token cannot access it."""
        ...

    async def organizations(self, page: int) -> Page[Organization]:
        """All that the token can access."""
        ...

    async def accounts(self, slug: OrganizationSlug, page: int) -> Page[Account]: ...

    async def account(self, slug: OrganizationSlug, account: AccountID) -> Account | None:
        """None: the organization has no such member."""
        ...

    async def teams(self, slug: OrganizationSlug, page: int) -> Page[Team]: ...

    async def team_slug(self, slug: OrganizationSlug, team: TeamID) -> str | None:
        """None: the organization has no such team. Raises Failure ORGANIZATION_NOT_FOUND where that one is gone."""
        ...

    async def members(self, slug: OrganizationSlug, team: TeamID, page: int) -> Page[Membership]:
        """Raises NotFound when the team no longer exists."""
        ...

    async def pipelines(self, slug: OrganizationSlug, page: int) -> Page[Pipeline]:
        """Those that the token's owner can see."""
        ...

    async def team_pipelines(self, slug: OrganizationSlug, team: TeamID, page: int) -> Page[PipelineAccess]:
        """Raises NotFound when the team no longer exists."""
        ...

    async def clusters(self, slug: OrganizationSlug, page: int) -> Page[MaintainedCluster]: ...

    async def cluster(self, slug: OrganizationSlug, cluster: ClusterID) -> MaintainedCluster:
        """With all its maintainers. Raises NotFound when the cluster no longer exists."""
        ...

    async def membership(self, slug: OrganizationSlug, team: TeamID, account: AccountID) -> Membership | None:
        """None: there is no such membership, or no such team."""
        ...

    async def create(self, slug: OrganizationSlug, wanted: Membership) -> Membership:
        """Returns the membership as it is now. Raises NotFound and WriteRefused."""
        ...

    async def change_role(self, slug: OrganizationSlug, wanted: Membership) -> Membership:
        """Returns the membership as it is now. Raises NotFound and WriteRefused."""
        ...

    async def remove(self, slug: OrganizationSlug, membership: Membership) -> None:
        """Raises NotFound and WriteRefused."""
        ...


@dataclass(frozen=True, slots=True)
class CursorPage(Generic[T]):
    """One page of a listing that goes on at a cursor. `following`: that of the next page, None on the last."""

    items: tuple[T, ...]
    following: str | None


class PortalAPI(Protocol):
    """One organization as the operations of a stored GraphQL document show it. `buildkite.portal` is the adapter.

    `first`: how many items a page may have. Every method raises Failure; reads are tried again where that can help.
    """

    @property
    def requests(self) -> int:
        """Requests made so far, failed tries included."""
        ...

    @property
    def throttled_seconds(self) -> float:
        """Wall time spent so far waiting for the portal's rate-limit window."""
        ...

    async def members(
        self, after: str | None = None, first: int = PORTAL_PAGE
    ) -> CursorPage[tuple[AccountID, AccountDetails]]: ...

    async def api_tokens(self, after: str | None = None, first: int = PORTAL_PAGE) -> CursorPage[AccessToken]:
        """The API access tokens of all people in the organization."""
        ...
