"""Collects an organization's accounts, teams and memberships: everything, once, or nothing.

An organization is read page by page while people join and leave. A listing that moved while it was read is
read again (`listing`); one that never holds still fails the collection rather than giving half a
picture. What the listings say of one another is compared: a team whose members cannot be found is looked for again, and
so is a team's member who is no member of the organization (`strangers`).

The number of requests is the least that the API allows: ⌈accounts/page⌉ + ⌈teams/page⌉ +
Σ max(1, ⌈team members/page⌉), and one more for a listing of exactly one full page, whose only page without links looks
like one whose links were lost. When each is sent is the api's business (`buildkite.rate_limit`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Protocol

from buildkite_connector.model.directory import (
    Account,
    AccountID,
    Collection,
    CollectionReport,
    Directory,
    Membership,
    Organization,
    OrganizationSlug,
    Role,
    SyncScope,
    Team,
    TeamID,
)
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.sync.listing import MAX_CONCURRENCY, Listing, Page, ReadStatistics, run_concurrently
from buildkite_connector.sync.strangers import meet_strangers


@dataclass(frozen=True, slots=True)
class Member:
    """Someone in a team, as the team's own listing tells it."""

    account: AccountID
    name: str
    role: Role


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a collection is. `pages_known` grows as first pages and teams arrive."""

    pages_read: int
    pages_known: int
    accounts: int
    teams: int
    memberships: int


class TeamNotFound(Exception):  # noqa: N818
    """A team that was listed no longer exists."""


class OrganizationAPI(Protocol):
    """Where accounts and teams are read from. Pages count from 1; ids come interned (`sys.intern`).

    Every call raises `Failure` when it cannot be answered; what was worth another try was tried.
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

    async def organization(self, slug: OrganizationSlug) -> Organization: ...

    async def accounts(self, slug: OrganizationSlug, page: int) -> Page[Account]: ...

    async def account(self, slug: OrganizationSlug, account: AccountID) -> Account | None:
        """None: the organization has no such member."""
        ...

    async def teams(self, slug: OrganizationSlug, page: int) -> Page[Team]: ...

    async def members(self, slug: OrganizationSlug, team: TeamID, page: int) -> Page[Member]:
        """Raises TeamNotFound when the team no longer exists."""
        ...


async def collect(
    api: OrganizationAPI,
    organization: Organization,
    scope: SyncScope,
    *,
    progress: Callable[[Progress], None] | None = None,
) -> Collection:
    """Read what `scope` covers, all or nothing; the first page that fails for good cancels the rest.

    The report's requests and throttled seconds are the api's totals: with a api made for this
    sync they include its preflight. `progress` is called as pages arrive, on the event loop.

    Raises Failure: the api's own, ROSTER_UNSTABLE when a listing never held still, or LIST_INCOMPLETE when the listings
    contradict one another.
    """
    collecting = _Collecting(api, organization, scope, progress)
    await collecting.read()
    return await collecting.result()


def account_listing(
    api: OrganizationAPI,
    slug: OrganizationSlug,
    statistics: ReadStatistics,
    on_page: Callable[[Page[Account]], None] = lambda _: None,
) -> Listing[AccountID, Account]:
    return Listing(
        f"the accounts of {slug}",
        partial(api.accounts, slug),
        attrgetter("id"),
        page_size=api.page_size,
        statistics=statistics,
        on_page=on_page,
    )


def team_listing(
    api: OrganizationAPI,
    slug: OrganizationSlug,
    statistics: ReadStatistics,
    on_page: Callable[[Page[Team]], None] = lambda _: None,
) -> Listing[TeamID, Team]:
    return Listing(
        f"the teams of {slug}",
        partial(api.teams, slug),
        attrgetter("id"),
        page_size=api.page_size,
        statistics=statistics,
        on_page=on_page,
    )


def member_listing(
    api: OrganizationAPI,
    slug: OrganizationSlug,
    team: TeamID,
    statistics: ReadStatistics,
    on_page: Callable[[Page[Member]], None] = lambda _: None,
) -> Listing[AccountID, Member]:
    return Listing(
        f"the members of team {team}",
        partial(api.members, slug, team),
        attrgetter("account"),
        page_size=api.page_size,
        statistics=statistics,
        on_page=on_page,
    )


def team_not_found(team: TeamID) -> Failure:
    """A team that is in the list of teams is in no list once it is deleted."""
    return Failure(
        Reason.LIST_INCOMPLETE,
        f"Expected the members of team {team}, which the list of teams still has, but Buildkite answers that there is"
        " no such team. Nothing is delivered, since C1 would take it for gone. Look whether the token's owner may see"
        " the team, and for a gateway between here and Buildkite that changes or caches answers; the next sync tries"
        " again.",
    )


class _Collecting:
    """One collection: what has been read and what is still to be asked for."""

    def __init__(
        self,
        api: OrganizationAPI,
        organization: Organization,
        scope: SyncScope,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        slug = organization.slug
        self._api = api
        self._organization = organization
        self._scope = scope
        self._progress = progress
        self._statistics = ReadStatistics()
        self._account_listing = account_listing(api, slug, self._statistics, self._tell)
        self._team_listing = team_listing(api, slug, self._statistics, self._teams_arrived)
        self._accounts: Mapping[AccountID, Account] = {}
        self._added = 0
        self._teams: dict[TeamID, Team] = {}
        self._members: dict[TeamID, list[Membership]] = {}
        self._names: dict[AccountID, str] = {}
        self._memberships = 0
        self._gone: set[TeamID] = set()
        self._queued: set[TeamID] = set()
        self._queue: asyncio.Queue[TeamID | None] = asyncio.Queue()

    async def read(self) -> None:
        calls: list[Callable[[], Awaitable[None]]] = []
        if self._scope.wants_accounts:
            calls.append(self._read_accounts)
        if self._scope.wants_teams:
            calls.append(self._read_teams)
        if self._scope.wants_memberships:
            calls.extend([self._read_queued_teams] * MAX_CONCURRENCY)
        self._statistics.pages_known = self._scope.wants_accounts + self._scope.wants_teams
        await run_concurrently(calls, width=len(calls))
        self._gone &= self._teams.keys()
        if self._gone:
            await self._look_for_gone_teams()
        if self._scope.wants_accounts:
            await self._look_for_strangers()

    async def _look_for_gone_teams(self) -> None:
        """Read the list of teams again, and the teams that moved up into the place of a deleted one unseen.

        A team that was deleted is in no list any more. Raises Failure where one is, and where the organization is lost.
        """
        listed = self._teams = await self._team_listing.read()
        for team in listed.keys() - self._members.keys():
            try:
                await self._read_team(team)
            except TeamNotFound:
                if team in self._gone:
                    raise team_not_found(team) from None
                self._gone.add(team)
            else:
                self._gone.discard(team)

    async def _look_for_strangers(self) -> None:
        slug = self._organization.slug
        if not self._accounts:
            raise Failure(
                Reason.LIST_INCOMPLETE,
                f"Expected the accounts of {slug} to have at least the API token's owner, but the list is empty. Look"
                " for a gateway between here and Buildkite that changes or caches answers; the next sync tries again.",
            )
        self._accounts, self._added = await meet_strangers(
            self._accounts, self._strangers, partial(self._api.account, slug), self._account_listing.read
        )

    def _strangers(self, accounts: Mapping[AccountID, Account]) -> Mapping[AccountID, str]:
        """By their names; nobody of a team that is gone."""
        if not self._names.keys() - accounts.keys():
            return {}
        return {
            each.account: self._names[each.account]
            for team, members in self._members.items()
            if team in self._teams and team not in self._gone
            for each in members
            if each.account not in accounts
        }

    async def _read_accounts(self) -> None:
        self._accounts = await self._account_listing.read()

    async def _read_teams(self) -> None:
        self._teams = await self._team_listing.read()
        for _ in range(MAX_CONCURRENCY):
            self._queue.put_nowait(None)

    def _teams_arrived(self, page: Page[Team]) -> None:
        """Queue a page's teams at once: their members are read while other pages are on their way."""
        if self._scope.wants_memberships:
            for team in page.items:
                if team.id not in self._queued:
                    self._queued.add(team.id)
                    self._queue.put_nowait(team.id)
                    self._statistics.pages_known += 1
        self._tell(page)

    async def _read_queued_teams(self) -> None:
        while (team := await self._queue.get()) is not None:
            try:
                await self._read_team(team)
            except TeamNotFound:
                self._gone.add(team)

    async def _read_team(self, team: TeamID) -> None:
        listing = member_listing(self._api, self._organization.slug, team, self._statistics, self._tell)
        members = (await listing.read()).values()
        self._members[team] = [Membership(team, member.account, member.role) for member in members]
        self._memberships += len(members)
        for member in members:
            self._names.setdefault(member.account, member.name)

    def _tell(self, _page: object) -> None:
        if self._progress is not None:
            self._progress(
                Progress(
                    pages_read=self._statistics.pages_read,
                    pages_known=self._statistics.pages_known,
                    accounts=self._account_listing.items,
                    teams=self._team_listing.items,
                    memberships=self._memberships,
                )
            )

    async def result(self) -> Collection:
        teams = tuple(team for team in self._teams.values() if team.id not in self._gone)
        memberships: list[Membership] = []
        for team in teams:
            memberships += self._members.pop(team.id, [])
            await asyncio.sleep(0)  # many memberships must not hold up the event loop
        directory = Directory(
            organization=self._organization,
            accounts=tuple(self._accounts.values()),
            teams=teams,
            memberships=tuple(memberships),
            scope=self._scope,
        )
        report = CollectionReport(
            requests=self._api.requests,
            throttled_seconds=self._api.throttled_seconds,
            teams_gone=len(self._gone),
            accounts_added=self._added,
            rereads=self._statistics.rereads,
        )
        return Collection(directory, report)
