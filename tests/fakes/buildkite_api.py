"""The base of the fakes of `sync.ports.BuildkiteAPI`: what a fake does not answer, nobody may ask it."""

from typing import NoReturn

from buildkite_connector.model.directory import (
    Account,
    AccountID,
    ClusterID,
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
from buildkite_connector.sync.ports import MaintainedCluster


class SilentBuildkite:
    """Its methods are those of the port, and all of them fail."""

    page_size: int = 100
    throttled_seconds: float = 0.0

    @property
    def requests(self) -> int:
        return 0

    async def token(self) -> TokenFacts:
        _unasked("token")

    async def organization(self, choice: OrganizationChoice) -> Organization:
        _unasked("organization", choice)

    async def organizations(self, page: int) -> Page[Organization]:
        _unasked("organizations", page)

    async def accounts(self, slug: OrganizationSlug, page: int) -> Page[Account]:
        _unasked("accounts", slug, page)

    async def account(self, slug: OrganizationSlug, account: AccountID) -> Account | None:
        _unasked("account", slug, account)

    async def teams(self, slug: OrganizationSlug, page: int) -> Page[Team]:
        _unasked("teams", slug, page)

    async def team_slug(self, slug: OrganizationSlug, team: TeamID) -> str | None:
        _unasked("team_slug", slug, team)

    async def members(self, slug: OrganizationSlug, team: TeamID, page: int) -> Page[Membership]:
        _unasked("members", slug, team, page)

    async def pipelines(self, slug: OrganizationSlug, page: int) -> Page[Pipeline]:
        _unasked("pipelines", slug, page)

    async def team_pipelines(self, slug: OrganizationSlug, team: TeamID, page: int) -> Page[PipelineAccess]:
        _unasked("team_pipelines", slug, team, page)

    async def clusters(self, slug: OrganizationSlug, page: int) -> Page[MaintainedCluster]:
        _unasked("clusters", slug, page)

    async def cluster(self, slug: OrganizationSlug, cluster: ClusterID) -> MaintainedCluster:
        _unasked("cluster", slug, cluster)

    async def membership(self, slug: OrganizationSlug, team: TeamID, account: AccountID) -> Membership | None:
        _unasked("membership", slug, team, account)

    async def create(self, slug: OrganizationSlug, wanted: Membership) -> Membership:
        _unasked("create", slug, wanted)

    async def change_role(self, slug: OrganizationSlug, wanted: Membership) -> Membership:
        _unasked("change_role", slug, wanted)

    async def remove(self, slug: OrganizationSlug, membership: Membership) -> None:
        _unasked("remove", slug, membership)


def _unasked(*call: object) -> NoReturn:
    raise AssertionError(f"nobody is to ask this fake: {call}")
