"""The ports of a connector in memory: Buildkite, C1, the store, the Secret, the status.

Each does what its adapter does, as far as a connector can see.
"""

import asyncio
import io
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from buildkite_connector.model.directory import (
    Account,
    AccountID,
    ClusterID,
    Directory,
    Membership,
    Organization,
    OrganizationSlug,
    Pipeline,
    PipelineAccess,
    ResourceKind,
    Role,
    SyncScope,
    Team,
    TeamID,
    TokenFacts,
)
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.snapshot import OpenSnapshot, StagedSnapshot, SyncID, snapshot_unreadable
from buildkite_connector.model.spec import ConnectorKey, Credentials, OrganizationChoice
from buildkite_connector.model.status import ConnectorStatus
from buildkite_connector.model.tasks import Heartbeat, Poll, Task, TaskID, TaskOutcome
from buildkite_connector.sync.listing import Page
from buildkite_connector.sync.ports import MaintainedCluster
from fakes.buildkite_api import SilentBuildkite

ORGANIZATION = Organization("0f7d", OrganizationSlug("acme-inc"), "Acme Inc")
KEY = ConnectorKey("default.acme")
MINUTE = 60.0
HOUR = 3600.0
USERS = SyncScope(frozenset({ResourceKind.USER}))
SYNC_SLOTS = 4


def down() -> Failure:
    """What any server answers on a bad day."""
    return Failure(Reason.BUILDKITE_UNAVAILABLE, "Buildkite answered 503.")


def rate_limited(seconds: float = 1800.0) -> Failure:
    return Failure(Reason.BUILDKITE_RATE_LIMITED, "Buildkite answered 429.", retry_after=seconds)


def client_rejected() -> Failure:
    return Failure(Reason.C1_CLIENT_REJECTED, "C1 refused the client.", remedy=Remedy.CREDENTIALS)


def directory_of(accounts: int, scope: SyncScope) -> Directory:
    """A directory of one team that everybody is in, cut to a scope."""
    people = tuple(Account(AccountID(f"a{n}"), f"Account {n}", f"a{n}@example.com") for n in range(accounts))
    team = Team(TeamID("t-1"), "Team", "team", "", "visible", False, "2026-01-01T00:00:00Z")
    return Directory(
        ORGANIZATION,
        people if scope.wants_accounts else (),
        (team,) if scope.wants_teams else (),
        tuple(Membership(team.id, each.id, Role.MEMBER) for each in people) if scope.wants_memberships else (),
        scope,
    )


@dataclass
class Buildkite:
    """`failures` are raised by the next collections, in order; `seconds` is how long one takes.

    `edit` changes what a collection gives. `refusal` is raised by each preflight while set; `preflight_seconds` is how
    long one takes, `chosen` the organizations that were asked for.
    """

    accounts: int = 10
    seconds: float = 5.0
    preflight_seconds: float = 0.0
    collections: list[SyncScope] = field(default_factory=list)
    chosen: list[str] = field(default_factory=list)
    rereads: list[frozenset[TeamID]] = field(default_factory=list)
    reread_seconds: float = 0.0
    preflights: int = 0
    refusal: Failure | None = None
    token_expires_at: datetime | None = datetime(2027, 1, 1, tzinfo=UTC)
    failures: deque[Failure | Exception] = field(default_factory=deque)
    active: int = 0
    most_active: int = 0
    edit: Callable[[Directory], Directory] = lambda directory: directory
    throttled_seconds: float = 0.0

    async def rereading(self, team: TeamID) -> None:
        """Called when the members of a team are read again."""
        self.rereads.append(frozenset({team}))
        await asyncio.sleep(self.reread_seconds)

    def client(self) -> "BuildkiteReader":
        """For one sync or check."""
        return BuildkiteReader(self)

    async def collecting(self) -> Directory:
        """What there is at the end of a collection; called once for each."""
        self.active += 1
        self.most_active = max(self.active, self.most_active)
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.active -= 1
        if self.failures:
            raise self.failures.popleft()
        return self.edit(directory_of(self.accounts, SyncScope()))


class BuildkiteReader(SilentBuildkite):
    """A client of `Buildkite`: the first call of a collection waits until all of it is there, on one page each."""

    page_size = 1_000_000

    def __init__(self, buildkite: Buildkite) -> None:
        self._buildkite = buildkite
        self.throttled_seconds = buildkite.throttled_seconds
        self._requests = 0
        self._number = -1
        self._found: asyncio.Future[Directory] | None = None
        self._read: set[TeamID] = set()

    @property
    def requests(self) -> int:
        return self._requests

    async def token(self) -> TokenFacts:
        self._buildkite.preflights += 1
        await asyncio.sleep(self._buildkite.preflight_seconds)
        if self._buildkite.refusal is not None:
            raise self._buildkite.refusal
        scopes = frozenset({"read_organizations", "read_teams", "read_pipelines", "read_clusters", "write_teams"})
        return TokenFacts("uuid", scopes, self._buildkite.token_expires_at)

    async def organization(self, choice: OrganizationChoice) -> Organization:
        self._buildkite.chosen.append(choice.slug)
        return ORGANIZATION

    async def organizations(self, page: int) -> Page[Organization]:
        return Page([ORGANIZATION], 1)

    async def accounts(self, slug: OrganizationSlug, page: int) -> Page[Account]:
        return Page((await self._collected(ResourceKind.USER)).accounts, 1)

    async def teams(self, slug: OrganizationSlug, page: int) -> Page[Team]:
        return Page((await self._collected(ResourceKind.TEAM)).teams, 1)

    async def members(self, slug: OrganizationSlug, team: TeamID, page: int) -> Page[Membership]:
        directory = await self._collected(ResourceKind.TEAM)
        if team in self._read:
            await self._buildkite.rereading(team)
        self._read.add(team)
        return Page([each for each in directory.memberships if each.team == team], 1)

    async def pipelines(self, slug: OrganizationSlug, page: int) -> Page[Pipeline]:
        return Page((await self._collected(ResourceKind.PIPELINE)).pipelines, 1)

    async def team_pipelines(self, slug: OrganizationSlug, team: TeamID, page: int) -> Page[PipelineAccess]:
        directory = await self._collected(ResourceKind.PIPELINE)
        return Page([each for each in directory.pipeline_access if each.team == team], 1)

    async def clusters(self, slug: OrganizationSlug, page: int) -> Page[MaintainedCluster]:
        directory = await self._collected(ResourceKind.CLUSTER)
        maintainers = directory.cluster_maintainers
        return Page(
            [
                MaintainedCluster(found, tuple(each for each in maintainers if each.cluster == found.id))
                for found in directory.clusters
            ],
            1,
        )

    async def cluster(self, slug: OrganizationSlug, cluster: ClusterID) -> MaintainedCluster:
        return next(found for found in (await self.clusters(slug, 1)).items if found.cluster.id == cluster)

    async def _collected(self, kind: ResourceKind) -> Directory:
        self._requests += 1
        collections = self._buildkite.collections
        if self._found is None:
            self._found = asyncio.get_running_loop().create_future()
            self._number = len(collections)
            collections.append(SyncScope(frozenset({kind})))
            try:
                self._found.set_result(await self._buildkite.collecting())
            except BaseException:
                self._found.cancel()
                raise
        else:
            collections[self._number] = SyncScope(collections[self._number].kinds | {kind})
        return await asyncio.shield(self._found)


@dataclass
class C1:
    """`refusal` is raised by hello and next_task while set; `silent`: hello gets no answer. Tasks come in order.

    The failures in each deque are raised by the next calls of that method. An upload sends for `upload_seconds`, then
    C1 has the file whole and answers after `answer_seconds`.
    """

    tasks: deque[Task] = field(default_factory=deque)
    refusal: Failure | None = None
    silent: bool = False
    poll_failures: deque[Failure] = field(default_factory=deque)
    upload_failures: deque[Exception] = field(default_factory=deque)
    finish_failures: deque[Exception] = field(default_factory=deque)
    upload_seconds: float = 0.0
    answer_seconds: float = 0.0
    heartbeat_failures: int = 0
    cancelled: set[TaskID] = field(default_factory=set)
    next_poll: float = 30.0
    hellos: list[TaskID | None] = field(default_factory=list)
    polls: int = 0
    heartbeats: list[tuple[TaskID, float]] = field(default_factory=list)
    uploads: list[tuple[TaskID, str]] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    finished: dict[TaskID, TaskOutcome] = field(default_factory=dict)
    finish_attempts: int = 0
    closed: int = 0
    close_failures: deque[Exception] = field(default_factory=deque)

    async def hello(self, task_id: TaskID | None = None) -> None:
        if self.refusal is not None:
            raise self.refusal
        if self.silent:
            await asyncio.Event().wait()
        self.hellos.append(task_id)

    async def next_task(self) -> Poll:
        self.polls += 1
        if self.refusal is not None:
            raise self.refusal
        if self.poll_failures:
            raise self.poll_failures.popleft()
        return Poll(self.tasks.popleft() if self.tasks else None, self.next_poll)

    async def heartbeat(self, task_id: TaskID) -> Heartbeat:
        self.heartbeats.append((task_id, asyncio.get_running_loop().time()))
        if self.heartbeat_failures:
            self.heartbeat_failures -= 1
            raise Failure(Reason.C1_UNAVAILABLE, "C1 is down")
        return Heartbeat(10.0, task_id in self.cancelled)

    async def upload(self, task_id: TaskID, file: OpenSnapshot, sent: Callable[[], None]) -> None:
        if self.upload_failures:
            raise self.upload_failures.popleft()
        await asyncio.sleep(self.upload_seconds)
        sent()
        await asyncio.sleep(self.answer_seconds)
        assert not file.file.closed
        self.uploads.append((task_id, file.snapshot.sha256))
        self.files.append(file.snapshot.path)

    async def finish(self, task_id: TaskID, outcome: TaskOutcome) -> None:
        self.finish_attempts += 1
        if self.finish_failures:
            raise self.finish_failures.popleft()
        self.finished[task_id] = outcome

    async def aclose(self) -> None:
        self.closed += 1
        if self.close_failures:
            raise self.close_failures.popleft()


@dataclass
class Store:
    """`files` by key and sync id, `derivations` the scopes of narrower files that were made.

    `opened` are the files that tasks got.

    `made` is every snapshot ever staged or derived, by its path. `restores_any` True: a file is restored whatever its
    hash, as no adapter should do.
    """

    files: dict[tuple[ConnectorKey, SyncID], StagedSnapshot] = field(default_factory=dict)
    derivations: list[SyncScope] = field(default_factory=list)
    made: dict[Path, StagedSnapshot] = field(default_factory=dict)
    restores_any: bool = False
    open_failures: deque[Failure] = field(default_factory=deque)
    opened: list[OpenSnapshot] = field(default_factory=list)

    async def stage(
        self, key: ConnectorKey, directory: Directory, *, sync_id: SyncID, started_at: datetime
    ) -> StagedSnapshot:
        path = Path("/nowhere") / sync_id
        staged = StagedSnapshot(sync_id, path, f"sha-{sync_id}", 1000, directory.counts, directory.scope)
        self.files[key, sync_id] = self.made[path] = staged
        return staged

    async def open(self, snapshot: StagedSnapshot, scope: SyncScope) -> OpenSnapshot:
        if self.open_failures:
            raise self.open_failures.popleft()
        if snapshot not in self.files.values():
            raise snapshot_unreadable(snapshot, FileNotFoundError())
        if scope != snapshot.scope:
            assert snapshot.scope.includes(scope)
            self.derivations.append(scope)
            counts = directory_of(snapshot.counts.accounts, scope).counts
            sha256 = f"derived-{snapshot.sha256}"
            path = snapshot.path / f"part{len(self.made)}"
            snapshot = replace(snapshot, path=path, sha256=sha256, size=500, counts=counts, scope=scope)
            self.made[path] = snapshot
        self.opened.append(OpenSnapshot(snapshot, io.BytesIO()))
        return self.opened[-1]

    async def restore(self, key: ConnectorKey, sha256: str) -> StagedSnapshot | None:
        staged = [
            each
            for (owner, _), each in self.files.items()
            if owner == key and (each.sha256 == sha256 or self.restores_any)
        ]
        return staged[0] if staged else None

    def replace_file(self, **changes: object) -> None:
        """Somebody puts another file in place of the newest one: with another hash, of another sync, of a part."""
        name = next(reversed(self.files))
        self.files[name] = replace(self.files[name], **changes)  # type: ignore[arg-type]  # checked by the dataclass

    def remove(self, snapshot: StagedSnapshot) -> None:
        self.files = {name: each for name, each in self.files.items() if each != snapshot}

    async def discard(self, key: ConnectorKey) -> None:
        self.files = {name: each for name, each in self.files.items() if name[0] != key}

    async def prune(self, keys: Iterable[ConnectorKey]) -> int:
        kept = {name: each for name, each in self.files.items() if name[0] in set(keys)}
        removed, self.files = len(self.files) - len(kept), kept
        return removed


@dataclass
class SecretCredentials:
    credentials: Credentials = field(default_factory=lambda: Credentials("id", "secret", "token"))
    failure: Failure | None = None
    seconds: float = 0.0
    reads: int = 0

    async def read(self) -> Credentials:
        self.reads += 1
        await asyncio.sleep(self.seconds)
        if self.failure is not None:
            raise self.failure
        return self.credentials


@dataclass
class Reports:
    """The statuses written, newest last; `failures` are raised by the next writes."""

    written: list[ConnectorStatus] = field(default_factory=list)
    failures: deque[Failure] = field(default_factory=deque)
    seconds: float = 0.0
    completed: int = 0

    async def report(self, before: ConnectorStatus | None, after: ConnectorStatus) -> None:
        """`seconds` is how long the answer to a write takes."""
        if self.failures:
            raise self.failures.popleft()
        self.written.append(after)
        await asyncio.sleep(self.seconds)
        self.completed += 1
