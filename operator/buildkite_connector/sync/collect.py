"""Collects an organization's accounts, teams and memberships: everything, once, or nothing.

A api is read page by page while people join and leave. A listing that moved while it was read is
read again (`listing`); one that never holds still fails the collection rather than giving half a
picture. The number of requests is the least that the API allows: ⌈accounts/page⌉ + ⌈teams/page⌉ +
Σ max(1, ⌈team members/page⌉). When each is sent is the api's business (`buildkite.pacer`).
"""

import asyncio
from collections.abc import Awaitable, Callable
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
    Team,
    TeamID,
)
from buildkite_connector.model.scope import SyncScope
from buildkite_connector.sync.listing import MAX_CONCURRENCY, Listing, Page, ReadStatistics, run_concurrently


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

    Raises Failure: the api's own, or ROSTER_UNSTABLE when a listing never held still.
    """
    collecting = _Collecting(api, organization, scope, progress)
    await collecting.read()
    return await collecting.result()


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
        self._account_listing = Listing[AccountID, Account](
            f"the accounts of {slug}",
            partial(api.accounts, slug),
            attrgetter("id"),
            page_size=api.page_size,
            statistics=self._statistics,
            on_page=self._tell,
        )
        self._team_listing = Listing[TeamID, Team](
            f"the teams of {slug}",
            partial(api.teams, slug),
            attrgetter("id"),
            page_size=api.page_size,
            statistics=self._statistics,
            on_page=self._teams_arrived,
        )
        self._accounts: dict[AccountID, Account] = {}
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
            # A lost organization looks like every team deleted: its own answer tells them apart.
            await self._api.organization(self._organization.slug)

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
        listing = Listing[AccountID, Member](
            f"the members of team {team}",
            partial(self._api.members, self._organization.slug, team),
            attrgetter("account"),
            page_size=self._api.page_size,
            statistics=self._statistics,
            on_page=self._tell,
        )
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
        added: dict[AccountID, Account] = {}
        for team in teams:
            members = self._members.pop(team.id, [])
            memberships += members
            if self._scope.wants_accounts:
                for member in members:
                    if member.account not in self._accounts and member.account not in added:
                        added[member.account] = Account(member.account, self._names[member.account], "")
            await asyncio.sleep(0)  # many memberships must not hold up the event loop
        directory = Directory(
            organization=self._organization,
            accounts=(*self._accounts.values(), *added.values()),
            teams=teams,
            memberships=tuple(memberships),
            scope=self._scope,
        )
        report = CollectionReport(
            requests=self._api.requests,
            throttled_seconds=self._api.throttled_seconds,
            teams_gone=len(self._gone),
            accounts_added=len(added),
            duplicates=self._statistics.duplicates,
            rereads=self._statistics.rereads,
        )
        return Collection(directory, report)
