"""Collects an organization's accounts, teams, pipelines, clusters, API tokens, and who has access: all, or nothing.

An organization is read page by page while people join and leave. A listing that moved while it was read is read again
(`listing`); one that never holds still fails the collection rather than giving half a picture. What the listings say of
one another is compared. A team whose members cannot be found is looked for again. Somebody who joined or left while the
lists were read is in a team's list of members or in the organization's alone; a list from which something is missing
looks the same, and C1 would take the missing ones for gone: so each such stranger is asked for by id. The same goes
for the people and teams that maintain a cluster; a team that Buildkite does not show to the token's owner is left out
and counted. A pipeline that only a team's list names is added: the list of pipelines may show only what the token's
owner can see.

Where there is a portal, it is read beside the other lists: what it shows of each account, and API tokens. An account
that the portal does not list may have joined or left meanwhile: the portal is read again, then Buildkite is asked for
the account by id. Without its details, an account in use would look as if it had never been used.

The number of requests is the least that the API allows for what is in scope: ⌈accounts/page⌉ + ⌈teams/page⌉ +
Σ max(1, ⌈team members/page⌉) + ⌈pipelines/page⌉ + Σ max(1, ⌈team's pipelines/page⌉) + ⌈clusters/page⌉ + one for each
cluster whose maintainers the list does not show, and one more for a listing of exactly one full page, whose only page
without links looks like one whose links were lost. A portal's listings take ⌈items/page⌉ each. When each is sent is the
client's business (`buildkite.rate_limit`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Container, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import replace
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import TypeVar

from buildkite_connector.model.canonical_id import canonical_id
from buildkite_connector.model.directory import (
    AccessToken,
    Account,
    AccountID,
    ClusterID,
    ClusterMaintainer,
    Collection,
    CollectionReport,
    Directory,
    Membership,
    Organization,
    Pipeline,
    PipelineAccess,
    PipelineID,
    ResourceKind,
    SyncScope,
    Team,
    TeamID,
)
from buildkite_connector.sync import incomplete
from buildkite_connector.sync.listing import MAX_CONCURRENCY, REREADS, Listing, Page, Progress, run_concurrently
from buildkite_connector.sync.portal import PortalListings, portal_missing
from buildkite_connector.sync.ports import BuildkiteAPI, MaintainedCluster, NotFound, PortalAPI

ID = TypeVar("ID", bound=str)
T = TypeVar("T")

Job = tuple[Callable[[TeamID], Awaitable[None]], TeamID]
"""What is to be read of a team, and the team."""


async def collect(
    client: BuildkiteAPI,
    organization: Organization,
    scope: SyncScope,
    portal: PortalAPI | None = None,
    *,
    progress: Callable[[Progress], None] | None = None,
) -> Collection:
    """Read what `scope` covers, all or nothing; the first page that fails for good cancels the rest.

    The report's requests and throttled seconds are the totals of the client and the portal: with a client made for this
    sync they include its preflight. `progress` is called as pages arrive, on the event loop.

    Raises Failure: the client's or portal's own, ROSTER_UNSTABLE when a listing never held still, LIST_INCOMPLETE when
    the listings contradict one another, or SPEC_INVALID when `scope` needs a portal and there is none.
    """
    if scope.wants_api_tokens and portal is None:
        raise portal_missing()
    collector = _Collector(client, portal, organization, scope, progress)
    await collector.read_all()
    await collector.resolve_contradictions()
    return await collector.build()


async def reread(
    client: BuildkiteAPI, collection: Collection, teams: frozenset[TeamID], portal: PortalAPI | None = None
) -> Collection:
    """The collection with the members of `teams` as they are now: ⌈members/page⌉ requests each. The rest stays.

    Teams that the collection does not have are not read. `client` and `portal` are those that collected; the portal is
    asked only about somebody who joined since. Raises as `collect`.
    """
    directory = collection.directory
    changed = [team.id for team in directory.teams if team.id in teams]
    if not changed or not directory.scope.wants_memberships:
        return collection
    collector = _Collector(client, portal, directory.organization, directory.scope)
    await collector.read_again(collection, changed)
    await collector.resolve_contradictions()
    return await collector.build()


class _Collector:
    """One collection: what has been read and what is still to be asked for."""

    def __init__(
        self,
        client: BuildkiteAPI,
        portal: PortalAPI | None,
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
        self._account_listing: Listing[AccountID, Account] = self._listing(
            f"the accounts of {slug}", partial(client.accounts, slug)
        )
        self._team_listing: Listing[TeamID, Team] = self._listing(
            f"the teams of {slug}", partial(client.teams, slug), on_page=self._teams_arrived
        )
        self._pipeline_listing: Listing[PipelineID, Pipeline] = self._listing(
            f"the pipelines of {slug}", partial(client.pipelines, slug)
        )
        self._cluster_listing: Listing[ClusterID, MaintainedCluster] = self._listing(
            f"the clusters of {slug}", partial(client.clusters, slug), "cluster.id"
        )
        self._accounts: dict[AccountID, Account] = {}
        self._portal = PortalListings(portal, slug, self._progress, self._page_arrived) if portal is not None else None
        self._left: set[AccountID] = set()
        """Those of the accounts that Buildkite no longer has: a portal need not show them."""
        self._teams: dict[TeamID, Team] = {}
        self._members: dict[TeamID, list[Membership]] = {}
        self._pipelines: dict[PipelineID, Pipeline] = {}
        self._access: dict[TeamID, list[PipelineAccess]] = {}
        self._clusters: dict[ClusterID, MaintainedCluster] = {}
        self._of_teams: list[tuple[Callable[[TeamID], Awaitable[None]], Container[TeamID]]] = []
        """What is read of each team, and where it is kept."""
        if scope.wants_memberships:
            self._of_teams.append((self._read_members, self._members))
        if scope.wants_pipeline_access:
            self._of_teams.append((self._read_team_pipelines, self._access))
        self._gone: set[TeamID] = set()
        self._queued: set[TeamID] = set()
        self._queue: asyncio.Queue[Job | None] = asyncio.Queue()
        self._before = CollectionReport()
        self._added = 0
        self._pipelines_added = 0
        self._clusters_gone = 0
        self._teams_unseen = 0

    def _listing(
        self,
        what: str,
        ask: Callable[[int], Awaitable[Page[T]]],
        key: str = "id",
        on_page: Callable[[Page[T]], None] | None = None,
    ) -> Listing[ID, T]:
        size, progress, arrived = self._client.page_size, self._progress, on_page or self._page_arrived
        return Listing(what, ask, attrgetter(key), page_size=size, progress=progress, on_page=arrived)

    async def read_all(self) -> None:
        scope = self._scope
        listings: list[tuple[bool, Callable[[], Awaitable[None]]]] = [
            (scope.wants_accounts, self._read_accounts),
            (scope.wants_teams, self._read_teams),
            (scope.wants_pipelines, self._read_pipelines),
            (scope.wants_clusters, self._read_clusters),
        ]
        if self._portal is not None:
            listings += [
                (scope.wants_accounts, self._portal.read_members),
                (scope.wants_api_tokens, self._portal.read_api_tokens),
            ]
        calls = [read for wanted, read in listings if wanted]
        self._progress.pages_known = len(calls)
        if self._of_teams:
            calls.extend([self._read_queued] * MAX_CONCURRENCY)
        await run_concurrently(calls, width=len(calls))

    async def read_again(self, collection: Collection, changed: Iterable[TeamID]) -> None:
        directory = collection.directory
        self._before = collection.report
        self._accounts = {account.id: account for account in directory.accounts}
        if self._portal is not None:
            self._left = self._portal.keep(directory)
        self._teams = {team.id: team for team in directory.teams}
        self._members.update((team.id, []) for team in directory.teams)
        for team, members in groupby(directory.memberships, key=attrgetter("team")):
            self._members[team].extend(members)
            await asyncio.sleep(0)  # many memberships must not hold up the event loop
        self._pipelines = {pipeline.id: pipeline for pipeline in directory.pipelines}
        self._access.update((team.id, []) for team in directory.teams)
        for team, access in groupby(directory.pipeline_access, key=attrgetter("team")):
            self._access[team].extend(access)
            await asyncio.sleep(0)
        maintainers: dict[ClusterID, list[ClusterMaintainer]] = {each.id: [] for each in directory.clusters}
        for each in directory.cluster_maintainers:
            maintainers[each.cluster].append(each)
        self._clusters = {each.id: MaintainedCluster(each, tuple(maintainers[each.id])) for each in directory.clusters}
        for team in changed:
            del self._members[team]
            self._queue.put_nowait((self._read_members, team))
            self._progress.rereads += 1
        for _ in range(MAX_CONCURRENCY):
            self._queue.put_nowait(None)
        await run_concurrently([self._read_queued] * MAX_CONCURRENCY)
        self._left -= {each.account for team in changed for each in self._members.get(team, ())}  # who may be back

    async def _read_accounts(self) -> None:
        self._accounts = await self._account_listing.read()
        self._left.clear()

    async def _read_teams(self) -> None:
        self._teams = await self._team_listing.read()
        for _ in range(MAX_CONCURRENCY):
            self._queue.put_nowait(None)

    async def _read_pipelines(self) -> None:
        self._pipelines = await self._pipeline_listing.read()

    async def _read_clusters(self) -> None:
        """Read the list, and each cluster whose maintainers it does not show by itself.

        A cluster that was deleted meanwhile is in no list any more. Raises Failure where one still is.
        """
        self._clusters = await self._cluster_listing.read()
        missing: set[ClusterID] = set()
        unread: Iterable[ClusterID] = self._clusters
        readings = 1
        while not_found := await self._read_maintainers(unread):
            if still_listed := not_found if readings > REREADS else not_found & missing:
                raise incomplete.gone_but_listed("maintainers", "cluster", min(still_listed))
            readings += 1
            missing |= not_found
            known = self._clusters
            self._clusters = await self._cluster_listing.read()
            self._clusters |= {id_: known[id_] for id_ in self._clusters if id_ in known and id_ not in not_found}
            unread = [id_ for id_ in self._clusters if id_ in not_found or id_ not in known]
        self._clusters_gone = len(missing - self._clusters.keys())

    async def _read_maintainers(self, clusters: Iterable[ClusterID]) -> set[ClusterID]:
        """Ask for those of `clusters` whose maintainers the list does not show. Returns those that are gone."""
        gone: set[ClusterID] = set()

        async def ask(cluster: ClusterID) -> None:
            try:
                self._clusters[cluster] = await self._client.cluster(self._organization.slug, cluster)
            except NotFound:
                gone.add(cluster)
            self._progress.pages_read += 1
            self._page_arrived(cluster)

        if not (self._scope.wants_user_maintainers or self._scope.wants_team_maintainers):
            return gone
        hidden = [cluster for cluster in clusters if not self._clusters[cluster].maintainers]
        self._progress.pages_known += len(hidden)
        await run_concurrently([partial(ask, cluster) for cluster in hidden])
        return gone

    def _teams_arrived(self, page: Page[Team]) -> None:
        """Queue a page's teams at once: they are read while other pages are on their way."""
        for team in page.items:
            if self._of_teams and team.id not in self._queued:
                self._queued.add(team.id)
                for read, _ in self._of_teams:
                    self._queue.put_nowait((read, team.id))
                    self._progress.pages_known += 1
        self._page_arrived(page)

    async def _read_queued(self) -> None:
        while (job := await self._queue.get()) is not None:
            read, team = job
            try:
                await read(team)
            except NotFound:
                self._gone.add(team)

    async def _read_members(self, team: TeamID) -> None:
        listing: Listing[AccountID, Membership] = self._listing(
            f"the members of team {team}", partial(self._client.members, self._organization.slug, team), "account"
        )
        self._members[team] = list((await listing.read()).values())
        self._progress.memberships += len(self._members[team])

    async def _read_team_pipelines(self, team: TeamID) -> None:
        """A team with two levels of access to one pipeline contradicts itself, as a listing with one id twice does."""
        listing: Listing[PipelineID, PipelineAccess] = self._listing(
            f"the pipelines of team {team}",
            partial(self._client.team_pipelines, self._organization.slug, team),
            "pipeline",
        )
        self._access[team] = list((await listing.read()).values())

    def _page_arrived(self, _page: object) -> None:
        self._progress.accounts, self._progress.teams = self._account_listing.items, self._team_listing.items
        self._progress.pipelines, self._progress.clusters = self._pipeline_listing.items, self._cluster_listing.items
        if self._report_progress is not None:
            self._report_progress(self._progress)

    async def _read_teams_again(self) -> None:
        """Read the list of teams again, and the teams that moved up into the place of a deleted one unseen.

        A team that was deleted is in no list any more. Raises Failure where one is, and where the organization is lost.
        """
        self._teams = await self._team_listing.read()
        for team in self._teams:
            missing = [read for read, known in self._of_teams if team not in known]
            try:
                for read in missing:
                    await read(team)
            except NotFound:
                if team in self._gone:
                    what = "members" if team not in self._members else "pipelines"
                    raise incomplete.gone_but_listed(what, "team", team) from None
                self._gone.add(team)
            else:
                self._gone.discard(team)

    def _maintainers(self) -> Iterable[ClusterMaintainer]:
        """Those whose kind is in scope, each once, in the order of their clusters.

        Ids are compared in their canonical form, and an account or a team is named as its list names it.
        """
        scope = self._scope
        wanted = {ResourceKind.USER: scope.wants_user_maintainers, ResourceKind.TEAM: scope.wants_team_maintainers}
        found = [each for cluster in self._clusters.values() for each in cluster.maintainers if wanted[each.kind]]
        listed: dict[ResourceKind, AbstractSet[str]] = {
            ResourceKind.USER: self._accounts.keys(),
            ResourceKind.TEAM: self._teams.keys() | self._gone,
        }
        if all(each.maintainer in listed[each.kind] for each in found):
            return dict.fromkeys(found)
        as_listed = {kind: {canonical_id(id_): id_ for id_ in ids} for kind, ids in listed.items()}

        def named_as_listed(each: ClusterMaintainer) -> ClusterMaintainer:
            id_ = canonical_id(each.maintainer)
            return replace(each, maintainer=AccountID(as_listed[each.kind].get(id_, id_)))

        return dict.fromkeys(map(named_as_listed, found))

    async def _resolve_team_maintainers(self) -> None:
        """Count the teams that maintain a cluster and that Buildkite does not show; `build` leaves them out.

        Each was deleted meanwhile, or is secret, and the token's owner is neither an administrator nor in it.

        Raises Failure LIST_INCOMPLETE when the list lacks teams that Buildkite still has.
        """
        if await self._which_exist(self._strange_teams(), self._team_exists):
            await self._read_teams_again()
            if missing := await self._which_exist(self._strange_teams(), self._team_exists):
                raise incomplete.listing("teams", "every team that maintains a cluster", missing)
        self._teams_unseen = len(self._strange_teams())

    def _strange_teams(self) -> list[TeamID]:
        """Teams that maintain a cluster and are in no list, but for those that are known to be deleted."""
        named = dict.fromkeys(TeamID(each.maintainer) for each in self._maintainers() if each.kind is ResourceKind.TEAM)
        return [team for team in named if team not in self._teams and team not in self._gone]

    async def _team_exists(self, team: TeamID) -> bool:
        return await self._client.team_slug(self._organization.slug, team) is not None

    async def _add_strangers(self) -> None:
        """Give each stranger who left the organization an account with id and name, so that no grant dangles.

        Raises Failure LIST_INCOMPLETE when the list lacks members, or more people are strangers than leavers explain.
        """
        slug = self._organization.slug
        if not self._accounts:
            raise incomplete.no_accounts(slug)
        strangers = await self._strangers()
        if len(strangers) > incomplete.MOST_LEAVERS or await self._which_exist(strangers, self._account_exists):
            await self._read_accounts()
            strangers = await self._strangers()
            too_many = len(strangers) > incomplete.most_leavers(len(self._accounts))
            missing = [*strangers] if too_many else await self._which_exist(strangers, self._account_exists)
            if missing:
                maintainers = " and every maintainer of a cluster" if self._scope.wants_user_maintainers else ""
                raise incomplete.listing("members", f"every member of a team{maintainers}", missing)
        self._added = len(strangers)
        self._accounts |= {id_: Account(id_, name, "") for id_, name in strangers.items()}
        self._left |= strangers.keys()

    async def _strangers(self) -> dict[AccountID, str]:
        """Members of teams and maintainers of clusters who are not among the accounts, by their names."""
        strangers: dict[AccountID, str] = {}
        for team in self._teams:
            if team not in self._gone:
                members = self._members.get(team, ())
                strangers |= {each.account: each.name for each in members if each.account not in self._accounts}
                await asyncio.sleep(0)  # many memberships must not hold up the event loop
        for each in self._maintainers():
            if each.kind is ResourceKind.USER and each.maintainer not in self._accounts:
                strangers.setdefault(AccountID(each.maintainer), each.name)
        return strangers

    async def _account_exists(self, account: AccountID) -> bool:
        return await self._client.account(self._organization.slug, account) is not None

    async def _which_exist(self, strangers: Iterable[ID], exists: Callable[[ID], Awaitable[bool]]) -> list[ID]:
        """Ask Buildkite for each of them by id. Returns those that it has."""
        asked = list(strangers)
        found: set[ID] = set()

        async def ask(stranger: ID) -> None:
            if await exists(stranger):
                found.add(stranger)

        await run_concurrently([partial(ask, stranger) for stranger in asked])
        return [stranger for stranger in asked if stranger in found]

    async def _resolve_details(self, portal: PortalListings) -> None:
        """Find the details of accounts that the portal did not list, or that they have left.

        Raises Failure LIST_INCOMPLETE when the portal lacks accounts that Buildkite still has, or more than leavers
        explain.
        """
        if not portal.lacking(self._accounts, self._left):
            return
        await portal.read_members()
        missing = portal.lacking(self._accounts, self._left)
        too_many = len(missing) > incomplete.most_leavers(len(self._accounts))
        if lacking := missing if too_many else await self._which_exist(missing, self._account_exists):
            raise incomplete.portal(self._organization.slug, lacking)

    def _add_pipeline(self, access: PipelineAccess) -> None:
        """The list of pipelines may show only those that the token's owner can see."""
        if access.pipeline not in self._pipelines:
            slug = access.slug or access.pipeline
            self._pipelines[access.pipeline] = Pipeline(access.pipeline, slug, slug)
            self._pipelines_added += 1

    async def resolve_contradictions(self) -> None:
        """Compare what the listings say of one another; ask Buildkite again where they differ. Raises Failure."""
        self._gone &= self._teams.keys()
        if self._gone:
            await self._read_teams_again()
        await self._resolve_team_maintainers()
        if self._scope.wants_accounts:
            await self._add_strangers()
            if self._portal is not None:
                await self._resolve_details(self._portal)
        self._check_pipelines()

    def _check_pipelines(self) -> None:
        """Raises Failure LIST_INCOMPLETE when the list of pipelines is empty, although a team can access one."""
        named = any(access for team, access in self._access.items() if team in self._teams and team not in self._gone)
        if named and not self._pipelines:
            raise incomplete.no_pipelines(self._organization.slug)

    async def build(self) -> Collection:
        """Put together what was read."""
        teams = {id_: team for id_, team in self._teams.items() if id_ not in self._gone}
        memberships: list[Membership] = []
        access: list[PipelineAccess] = []
        for team in teams:
            memberships += self._members.pop(team, [])
            for each in self._access.pop(team, []):
                self._add_pipeline(each)
                access.append(each)
            await asyncio.sleep(0)  # many memberships must not hold up the event loop
        kept = (each for each in self._maintainers() if each.kind is ResourceKind.USER or each.maintainer in teams)
        api_tokens: tuple[AccessToken, ...] = ()
        requests, throttled_seconds = self._client.requests, self._client.throttled_seconds
        if (portal := self._portal) is not None:
            await portal.add_details(self._accounts)
            api_tokens = await portal.with_owners(self._accounts if self._scope.wants_accounts else None)
            requests += portal.api.requests
            throttled_seconds += portal.api.throttled_seconds
        return Collection(
            Directory(
                self._organization,
                tuple(self._accounts.values()),
                tuple(teams.values()),
                tuple(memberships),
                self._scope,
                pipelines=tuple(self._pipelines.values()),
                pipeline_access=tuple(access),
                clusters=tuple(found.cluster for found in self._clusters.values()),
                cluster_maintainers=tuple(kept),
                api_tokens=api_tokens,
            ),
            CollectionReport(
                requests=requests,
                throttled_seconds=throttled_seconds,
                teams_gone=self._before.teams_gone + len(self._gone),
                accounts_added=self._before.accounts_added + self._added,
                pipelines_added=self._before.pipelines_added + self._pipelines_added,
                clusters_gone=self._before.clusters_gone + self._clusters_gone,
                teams_unseen=self._before.teams_unseen + self._teams_unseen,
                rereads=self._before.rereads + self._progress.rereads,
            ),
        )
