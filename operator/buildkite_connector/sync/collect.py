"""Collects an organization's accounts, teams and memberships: everything, once, or nothing.

An organization is read page by page while people join and leave. A listing that moved while it was read is read again
(`listing`); one that never holds still fails the collection rather than giving half a picture. What the listings say of
one another is compared. A team whose members cannot be found is looked for again. Somebody who joined or left while the
lists were read is in a team's list of members or in the organization's alone; a list from which something is missing
looks the same, and C1 would take the missing ones for gone: so each such stranger is asked for by id.

The number of requests is the least that the API allows: ⌈accounts/page⌉ + ⌈teams/page⌉ +
Σ max(1, ⌈team members/page⌉), and one more for a listing of exactly one full page, whose only page without links looks
like one whose links were lost. When each is sent is the client's business (`buildkite.rate_limit`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from itertools import groupby
from operator import attrgetter

from buildkite_connector.model.directory import (
    Account,
    AccountID,
    Collection,
    CollectionReport,
    Directory,
    Membership,
    Organization,
    SyncScope,
    Team,
    TeamID,
)
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.sync.listing import MAX_CONCURRENCY, Listing, Page, Progress, run_concurrently
from buildkite_connector.sync.ports import BuildkiteAPI, NotFound

MOST_LEAVERS = 10
"""How many strangers are asked for one by one at first. After the list of members was read again, it may be
MOST_LEAVERS_SHARE of the accounts if that is more: a directory that removes many people at once is no fault."""
MOST_LEAVERS_SHARE = 0.02
MOST_NAMED = 3
"""How many ids a message has."""


async def collect(
    client: BuildkiteAPI,
    organization: Organization,
    scope: SyncScope,
    *,
    progress: Callable[[Progress], None] | None = None,
) -> Collection:
    """Read what `scope` covers, all or nothing; the first page that fails for good cancels the rest.

    The report's requests and throttled seconds are the client's totals: with a client made for this sync they include
    its preflight. `progress` is called as pages arrive, on the event loop.

    Raises Failure: the client's own, ROSTER_UNSTABLE when a listing never held still, or LIST_INCOMPLETE when the
    listings contradict one another.
    """
    collector = _Collector(client, organization, scope, progress)
    await collector.read_all()
    return await collector.result()


async def reread(client: BuildkiteAPI, collection: Collection, teams: frozenset[TeamID]) -> Collection:
    """The collection with the members of `teams` as they are now: ⌈members/page⌉ requests each.

    Teams that the collection does not have are not read. `client` is the one that collected. Raises as `collect`.
    """
    directory = collection.directory
    changed = [team.id for team in directory.teams if team.id in teams]
    if not changed or not directory.scope.wants_memberships:
        return collection
    collector = _Collector(client, directory.organization, directory.scope)
    await collector.read_again(collection, changed)
    return await collector.result()


class _Collector:
    """One collection: what has been read and what is still to be asked for."""

    def __init__(
        self,
        client: BuildkiteAPI,
        organization: Organization,
        scope: SyncScope,
        report_progress: Callable[[Progress], None] | None = None,
    ) -> None:
        slug = organization.slug
        self._client = client
        self._organization = organization
        self._scope = scope
        self._report_progress = report_progress
        self._progress = Progress()
        self._account_listing = Listing[AccountID, Account](
            f"the accounts of {slug}",
            partial(client.accounts, slug),
            attrgetter("id"),
            page_size=client.page_size,
            progress=self._progress,
            on_page=self._page_arrived,
        )
        self._team_listing = Listing[TeamID, Team](
            f"the teams of {slug}",
            partial(client.teams, slug),
            attrgetter("id"),
            page_size=client.page_size,
            progress=self._progress,
            on_page=self._teams_arrived,
        )
        self._accounts: dict[AccountID, Account] = {}
        self._teams: dict[TeamID, Team] = {}
        self._members: dict[TeamID, list[Membership]] = {}
        self._gone: set[TeamID] = set()
        self._queued: set[TeamID] = set()
        self._queue: asyncio.Queue[TeamID | None] = asyncio.Queue()
        self._before = CollectionReport()
        self._added = 0

    async def read_all(self) -> None:
        calls: list[Callable[[], Awaitable[None]]] = []
        if self._scope.wants_accounts:
            calls.append(self._read_accounts)
        if self._scope.wants_teams:
            calls.append(self._read_teams)
        if self._scope.wants_memberships:
            calls.extend([self._read_queued_teams] * MAX_CONCURRENCY)
        self._progress.pages_known = self._scope.wants_accounts + self._scope.wants_teams
        await run_concurrently(calls, width=len(calls))

    async def read_again(self, collection: Collection, changed: Iterable[TeamID]) -> None:
        directory = collection.directory
        self._before = collection.report
        self._accounts = {account.id: account for account in directory.accounts}
        self._teams = {team.id: team for team in directory.teams}
        self._members = {team.id: [] for team in directory.teams}
        for team, members in groupby(directory.memberships, key=attrgetter("team")):
            self._members[team].extend(members)
            await asyncio.sleep(0)  # many memberships must not hold up the event loop
        for team in changed:
            del self._members[team]
            self._queue.put_nowait(team)
            self._progress.rereads += 1
        for _ in range(MAX_CONCURRENCY):
            self._queue.put_nowait(None)
        await run_concurrently([self._read_queued_teams] * MAX_CONCURRENCY)

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
                    self._progress.pages_known += 1
        self._page_arrived(page)

    async def _read_queued_teams(self) -> None:
        while (team := await self._queue.get()) is not None:
            try:
                await self._read_team(team)
            except NotFound:
                self._gone.add(team)

    async def _read_team(self, team: TeamID) -> None:
        listing = Listing[AccountID, Membership](
            f"the members of team {team}",
            partial(self._client.members, self._organization.slug, team),
            attrgetter("account"),
            page_size=self._client.page_size,
            progress=self._progress,
            on_page=self._page_arrived,
        )
        self._members[team] = list((await listing.read()).values())
        self._progress.memberships += len(self._members[team])

    def _page_arrived(self, _page: object) -> None:
        self._progress.accounts, self._progress.teams = self._account_listing.items, self._team_listing.items
        if self._report_progress is not None:
            self._report_progress(self._progress)

    async def _look_for_gone_teams(self) -> None:
        """Read the list of teams again, and the teams that moved up into the place of a deleted one unseen.

        A team that was deleted is in no list any more. Raises Failure where one is, and where the organization is lost.
        """
        self._teams = await self._team_listing.read()
        for team in self._teams.keys() - self._members.keys():
            try:
                await self._read_team(team)
            except NotFound:
                if team in self._gone:
                    raise _team_not_found(team) from None
                self._gone.add(team)
            else:
                self._gone.discard(team)

    async def _add_strangers(self) -> None:
        """Give each stranger who left the organization an account with id and name, so that no membership dangles.

        Raises Failure LIST_INCOMPLETE when the list lacks members, or more people are strangers than leavers explain.
        """
        slug = self._organization.slug
        if not self._accounts:
            raise Failure(
                Reason.LIST_INCOMPLETE,
                f"Expected the accounts of {slug} to have at least the API token's owner, but the list is empty. Check"
                " for a gateway between here and Buildkite that changes or caches answers; the next sync tries again.",
            )
        strangers = await self._strangers()
        if await self._still_members(strangers, MOST_LEAVERS):
            self._accounts = await self._account_listing.read()
            strangers = await self._strangers()
            most = max(MOST_LEAVERS, round(len(self._accounts) * MOST_LEAVERS_SHARE))
            if missing := await self._still_members(strangers, most):
                named = ", ".join(missing[:MOST_NAMED]) + ("" if len(missing) <= MOST_NAMED else ", …")
                raise Failure(
                    Reason.LIST_INCOMPLETE,
                    "Expected the organization's list of members to contain every member of a team, but it lacks"
                    f" {len(missing)} of them, also when it is read again ({named}). Nothing is delivered, because"
                    " C1 would treat them as deleted. Check for a gateway between here and Buildkite that changes or"
                    " caches answers; the next sync tries again.",
                )
        self._added = len(strangers)
        self._accounts |= {id_: Account(id_, name, "") for id_, name in strangers.items()}

    async def _strangers(self) -> dict[AccountID, str]:
        """Members of teams who are not among the accounts, by their names."""
        strangers: dict[AccountID, str] = {}
        for team in self._teams:
            if team not in self._gone:
                members = self._members.get(team, ())
                strangers |= {each.account: each.name for each in members if each.account not in self._accounts}
                await asyncio.sleep(0)  # many memberships must not hold up the event loop
        return strangers

    async def _still_members(self, strangers: dict[AccountID, str], most: int) -> list[AccountID]:
        """Which of them are members of the organization; all of them when they are too many to have left."""
        if len(strangers) > most:
            return list(strangers)
        found: set[AccountID] = set()

        async def ask(stranger: AccountID) -> None:
            if await self._client.account(self._organization.slug, stranger) is not None:
                found.add(stranger)

        await run_concurrently([partial(ask, stranger) for stranger in strangers])
        return [stranger for stranger in strangers if stranger in found]

    async def result(self) -> Collection:
        """Compare what the listings say of one another and put them together. Raises Failure."""
        self._gone &= self._teams.keys()
        if self._gone:
            await self._look_for_gone_teams()
        if self._scope.wants_accounts:
            await self._add_strangers()
        teams = tuple(team for team in self._teams.values() if team.id not in self._gone)
        memberships: list[Membership] = []
        for team in teams:
            memberships += self._members.pop(team.id, [])
            await asyncio.sleep(0)  # many memberships must not hold up the event loop
        return Collection(
            Directory(self._organization, tuple(self._accounts.values()), teams, tuple(memberships), self._scope),
            CollectionReport(
                requests=self._client.requests,
                throttled_seconds=self._client.throttled_seconds,
                teams_gone=self._before.teams_gone + len(self._gone),
                accounts_added=self._before.accounts_added + self._added,
                rereads=self._before.rereads + self._progress.rereads,
            ),
        )


def _team_not_found(team: TeamID) -> Failure:
    """A team that is in the list of teams is in no list once it is deleted."""
    return Failure(
        Reason.LIST_INCOMPLETE,
        f"Expected the members of team {team}, which the list of teams still has, but Buildkite answers that the"
        " team does not exist. Nothing is delivered, because C1 would treat it as deleted. Check whether the token's"
        " owner can see the team, and check for a gateway between here and Buildkite that changes or caches answers;"
        " the next sync tries again.",
    )
