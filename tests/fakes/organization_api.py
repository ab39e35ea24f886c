"""An organization in memory that is read page by page and may change meanwhile: a `sync.ports.BuildkiteAPI`."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from buildkite_connector.model.directory import (
    ALL_KINDS,
    FULL_SCOPE,
    AccessLevel,
    Account,
    AccountID,
    Cluster,
    ClusterID,
    ClusterMaintainer,
    Membership,
    Organization,
    OrganizationSlug,
    Pipeline,
    PipelineAccess,
    PipelineID,
    ResourceKind,
    Role,
    SyncScope,
    Team,
    TeamID,
)
from buildkite_connector.sync.listing import Page
from buildkite_connector.sync.ports import MaintainedCluster, NotFound
from fakes.buildkite_api import SilentBuildkite

T = TypeVar("T")

REST_KINDS = ALL_KINDS - {ResourceKind.API_TOKEN}
"""What is read without a portal."""

ACME = Organization("9f2d1a52", OrganizationSlug("acme"), "Acme")


def account(number: int, name: str | None = None) -> Account:
    return Account(AccountID(f"account-{number}"), name or f"Ann {number}", f"ann{number}@example.com")


def team(number: int) -> Team:
    return Team(
        TeamID(f"team-{number}"), f"Team {number}", f"team-{number}", "", "visible", False, "2023-03-14T00:45:16Z"
    )


def member(number: int, of: int = 0, role: Role = Role.MEMBER) -> Membership:
    return Membership(TeamID(f"team-{of}"), AccountID(f"account-{number}"), role, f"Ann {number}")


def pipeline(number: int) -> Pipeline:
    return Pipeline(PipelineID(f"pipeline-{number}"), f"deploy-{number}", f"Deploy {number}", repository="git@x:y.git")


def access(number: int, of: int = 0, level: AccessLevel = AccessLevel.READ_ONLY) -> PipelineAccess:
    return PipelineAccess(PipelineID(f"pipeline-{number}"), TeamID(f"team-{of}"), level, f"deploy-{number}")


def cluster(number: int, users: Sequence[int] = (), teams: Sequence[int] = ()) -> MaintainedCluster:
    id_ = ClusterID(f"cluster-{number}")
    maintainers = [
        *(ClusterMaintainer(id_, AccountID(f"account-{each}"), ResourceKind.USER, f"Ann {each}") for each in users),
        *(ClusterMaintainer(id_, TeamID(f"team-{each}"), ResourceKind.TEAM) for each in teams),
    ]
    return MaintainedCluster(Cluster(id_, f"Cluster {number}"), tuple(maintainers))


@dataclass
class FakeOrganizationAPI(SilentBuildkite):
    """Serves what it holds at the time of each answer, which comes once `wait` has ended.

    A team without members or pipelines in `listed_members` and `listed_access` is gone; with members alone, it can
    access no pipeline. `shows_maintainers`: whether the list of clusters does.
    `before` is called with (listing, page) before each answer and may change the organization or raise;
    `spoil` may change the page that is answered with.
    """

    listed_accounts: list[Account] = field(default_factory=list)
    listed_teams: list[Team] = field(default_factory=list)
    listed_members: dict[TeamID, list[Membership]] = field(default_factory=dict)
    listed_pipelines: list[Pipeline] = field(default_factory=list)
    listed_access: dict[TeamID, list[PipelineAccess]] = field(default_factory=dict)
    listed_clusters: list[MaintainedCluster] = field(default_factory=list)
    shows_maintainers: bool = True
    page_size: int = 3
    tells_last: bool = True
    before: Callable[[str, int], None] = lambda _listing, _page: None
    wait: Callable[[], Awaitable[None]] = lambda: asyncio.sleep(0)
    spoil: Callable[[str, int, Page[Any]], Page[Any]] = lambda _listing, _number, page: page
    asked: list[tuple[str, int]] = field(default_factory=list)
    out: int = 0
    most_out: int = 0
    cancelled: int = 0
    throttled_seconds: float = 1.5

    @property
    def requests(self) -> int:
        return len(self.asked)

    @property
    def minimum(self) -> int:
        return self.minimum_of(FULL_SCOPE)

    def minimum_of(self, scope: SyncScope) -> int:
        """The fewest requests that show what the scope covers. One more for each listing of exactly one full page: that
        nothing follows must be asked."""
        sizes = [
            len(listed)
            for wanted, listed in (
                (scope.wants_accounts, self.listed_accounts),
                (scope.wants_teams, self.listed_teams),
                (scope.wants_pipelines, self.listed_pipelines),
                (scope.wants_clusters, self.listed_clusters),
            )
            if wanted
        ]
        for team in self.listed_teams:
            if scope.wants_memberships:
                sizes.append(len(self.listed_members[team.id]))
            if scope.wants_pipeline_access:
                sizes.append(len(self.listed_access.get(team.id, ())))
        hidden = 0
        if scope.wants_user_maintainers or scope.wants_team_maintainers:
            hidden = sum(not (self.shows_maintainers and each.maintainers) for each in self.listed_clusters)
        return hidden + sum(max(1, -(-size // self.page_size)) + (size == self.page_size) for size in sizes)

    @property
    def repeats(self) -> set[tuple[str, int]]:
        return {question for question, times in Counter(self.asked).items() if times > 1}

    async def accounts(self, slug: OrganizationSlug, page: int) -> Page[Account]:
        await self._answer("accounts", page)
        return self._page("accounts", self.listed_accounts, page)

    async def account(self, slug: OrganizationSlug, account: AccountID) -> Account | None:
        await self._answer(f"account {account}", 1)
        return next((each for each in self.listed_accounts if each.id == account), None)

    async def teams(self, slug: OrganizationSlug, page: int) -> Page[Team]:
        await self._answer("teams", page)
        return self._page("teams", self.listed_teams, page)

    async def members(self, slug: OrganizationSlug, team: TeamID, page: int) -> Page[Membership]:
        await self._answer(team, page)
        if team not in self.listed_members:
            raise NotFound
        return self._page(team, self.listed_members[team], page)

    async def team_slug(self, slug: OrganizationSlug, team: TeamID) -> str | None:
        await self._answer(f"team {team}", 1)
        return next((each.slug for each in self.listed_teams if each.id == team), None)

    async def pipelines(self, slug: OrganizationSlug, page: int) -> Page[Pipeline]:
        await self._answer("pipelines", page)
        return self._page("pipelines", self.listed_pipelines, page)

    async def team_pipelines(self, slug: OrganizationSlug, team: TeamID, page: int) -> Page[PipelineAccess]:
        listing = f"pipelines of {team}"
        await self._answer(listing, page)
        if team not in self.listed_members and team not in self.listed_access:
            raise NotFound
        return self._page(listing, self.listed_access.get(team, []), page)

    async def clusters(self, slug: OrganizationSlug, page: int) -> Page[MaintainedCluster]:
        await self._answer("clusters", page)
        listed = self.listed_clusters
        if not self.shows_maintainers:
            listed = [MaintainedCluster(each.cluster) for each in listed]
        return self._page("clusters", listed, page)

    async def cluster(self, slug: OrganizationSlug, cluster: ClusterID) -> MaintainedCluster:
        await self._answer(cluster, 1)
        for each in self.listed_clusters:
            if each.cluster.id == cluster:
                return each
        raise NotFound

    async def _answer(self, listing: str, page: int) -> None:
        self.asked.append((listing, page))
        self.out += 1
        self.most_out = max(self.most_out, self.out)
        try:
            await self.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.out -= 1
        self.before(listing, page)

    def _page(self, listing: str, items: Sequence[T], number: int) -> Page[T]:
        """What the client makes of a page whose links came through: the only page of a listing has none."""
        last = max(1, -(-len(items) // self.page_size))
        here = items[(number - 1) * self.page_size : number * self.page_size]
        if number < last:
            page = Page(here, last if self.tells_last else None, more=True)
        elif number == 1 and len(here) == self.page_size:
            page = Page(here, None)
        else:
            page = Page(here, last if number - 1 > last else number)
        return self.spoil(listing, number, page)


def organization(accounts: int = 0, members: Sequence[Sequence[int]] = ()) -> FakeOrganizationAPI:
    """So many accounts, and a team for each list of account numbers."""
    return FakeOrganizationAPI(
        listed_accounts=[account(number) for number in range(accounts)],
        listed_teams=[team(number) for number in range(len(members))],
        listed_members={
            team(number).id: [member(each, number) for each in listed] for number, listed in enumerate(members)
        },
    )
