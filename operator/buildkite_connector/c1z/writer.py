"""Writes a `.c1z` file, whole and verified or not at all, from a Directory or from rows of a larger snapshot.

The database is built in a scratch directory beside the target, its rows in one transaction and its indexes after
them, then compressed and renamed. It needs no journal: a file that was not finished is thrown away. Everything here
blocks: call it in a thread (`store` does). SQLite, zstd and SHA-256 let the event loop run while they work.
"""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import datetime
from itertools import chain, islice
from pathlib import Path

from buildkite_connector.c1z.archive import pack, unpack
from buildkite_connector.c1z.expand import expand, wrong_expansions
from buildkite_connector.c1z.files import put_in_place, scratch_directory, translated
from buildkite_connector.c1z.messages import (
    CLUSTER_MAINTAINER,
    AccountSerializer,
    EntitlementMessages,
    GrantSerializer,
    ResourceMessages,
    api_token_resource,
    cluster_messages,
    expansion,
    organization_messages,
    pipeline_messages,
    team_messages,
)
from buildkite_connector.c1z.schema import EMPTY_INDEXES, INDEXES, TABLES, Row, TableRows, insert
from buildkite_connector.c1z.sync_run import StoredSync, resource_kinds, stats, to_row, to_text
from buildkite_connector.c1z.texts import checked_id
from buildkite_connector.model.directory import Directory, ResourceKind
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.snapshot import StagedSnapshot, SyncID
from buildkite_connector.model.words import in_words
from buildkite_connector.process.files import create_own
from buildkite_connector.proto.resource_types import RESOURCE_TYPES

_USER, _TEAM, _ORGANIZATION, _PIPELINE, _CLUSTER, _API_TOKEN = (kind.value for kind in ResourceKind)

_BATCH = 4096
"""Rows between two calls of `stopped`."""

_PRAGMAS = (
    "pragma page_size = 4096",
    "pragma encoding = 'UTF-8'",
    "pragma journal_mode = off",
    "pragma synchronous = off",
    "pragma locking_mode = exclusive",
    # Indexes are sorted in memory, one at a time: SQLite's own temporary directory may not be writable.
    "pragma temp_store = memory",
)


class WriteStopped(Exception):  # noqa: N818
    """The caller no longer wants the snapshot; nothing was replaced."""


def write_snapshot(
    directory: Directory,
    path: Path,
    *,
    sync_id: SyncID,
    started_at: datetime,
    finished_at: datetime,
    stopped: Callable[[], bool] = lambda: False,
) -> StagedSnapshot:
    """Write `directory`, limited to its scope, to `path`; the same input gives the same file.

    `started_at` and `finished_at` (aware) bound the sync. `stopped` is called now and then: True raises WriteStopped.
    Raises Failure: STORAGE_FAILED when the disk refuses, SNAPSHOT_INVALID when the directory contradicts itself.
    On any error the file at `path` is unchanged and nothing is left beside it.
    """
    counts = directory.counts.within(directory.scope)
    run = StoredSync(sync_id, started_at, max(started_at, finished_at), directory.scope, counts)
    return write_rows(rows_of(directory, run), run, path, stopped)


def write_rows(
    tables: Iterator[TableRows], run: StoredSync, path: Path, stopped: Callable[[], bool] = lambda: False
) -> StagedSnapshot:
    """Write `tables`, which must match `run`, to `path`; as `write_snapshot` otherwise."""

    def checkpoint() -> None:
        if stopped():
            raise WriteStopped

    with translated(path, "write the snapshot"), scratch_directory(path.parent) as scratch:
        database, archive = scratch / "database", scratch / "archive"
        create_own(database).close()
        with closing(sqlite3.connect(database, isolation_level=None)) as connection:
            for statement in (*_PRAGMAS, "begin"):
                connection.execute(statement)
            fill(connection, tables, run, checkpoint)
            connection.execute("commit")
        packed = pack(database, archive, checkpoint)
        for _ in unpack(archive):
            checkpoint()
        put_in_place(archive, path)
    return StagedSnapshot(
        sync_id=run.sync_id,
        path=path,
        sha256=packed.sha256,
        size=packed.size,
        counts=run.counts,
        scope=run.scope,
    )


def fill(
    connection: sqlite3.Connection,
    tables: Iterator[TableRows],
    run: StoredSync,
    checkpoint: Callable[[], None] = lambda: None,
) -> None:
    """Make the whole database of `run` in an empty one, and verify it."""
    for statement in (*TABLES, *EMPTY_INDEXES):
        connection.execute(statement)
    for statement, table_rows in tables:
        while connection.executemany(statement, islice(table_rows, _BATCH)).rowcount > 0:
            checkpoint()
    for index in INDEXES:
        checkpoint()
        connection.execute(index)
    expanded: dict[ResourceKind, int] = {}
    if run.scope.expanded:
        expanded = expand(connection, (run.sync_id, to_text(run.ended_at)), checkpoint)
        connection.execute("update v1_sync_runs set stats = ?", (stats(run, expanded),))
    verify(connection, run, expanded)


def rows_of(directory: Directory, run: StoredSync) -> Iterator[TableRows]:
    """Each table's insert statement and its rows, limited to the run's scope. They are made one by one, when asked for.

    The order of a table's rows is the same for every scope: a derived snapshot (`derive`) copies them.
    Raises Failure while iterated: an id that C1 cannot hold, a membership of a team that is not there.
    """
    scope = run.scope
    stamp = (run.sync_id, to_text(run.ended_at))
    row = to_row(run)
    yield insert("sync_runs", list(row)), iter([tuple(row.values())])
    yield (
        insert("resource_types"),
        ((kind.value, RESOURCE_TYPES[kind].SerializeToString(), *stamp) for kind in resource_kinds(scope)),
    )
    offered = _offered(directory, run)
    teams = offered.pop(_TEAM, {})
    yield (
        insert("resources"),
        chain(
            ((_TEAM, f"{_TEAM}:{team}", parts.resource, *stamp) for team, parts in teams.items()),
            _accounts(directory, stamp) if scope.wants_accounts else (),
            (
                (kind, f"{kind}:{id_}", parts.resource, *stamp)
                for kind, resources in offered.items()
                for id_, parts in resources.items()
            ),
            _api_tokens(directory, stamp) if scope.wants_api_tokens else (),
        ),
    )
    offered = {_TEAM: teams, **offered}
    if scope.entitlements:
        yield (
            insert("entitlements"),
            (
                (kind, id_, entitlement.id, entitlement.entitlement, *stamp)
                for kind, resources in offered.items()
                for id_, parts in resources.items()
                for entitlement in parts.entitlements.values()
            ),
        )
    if scope.wants_grants:
        grants = _Grants(directory, offered, stamp)
        yield (
            insert("grants"),
            chain(
                grants.memberships() if scope.wants_memberships else (),
                grants.organization_roles() if scope.wants_organization_roles else (),
                grants.pipeline_access() if scope.wants_pipeline_access else (),
                grants.cluster_maintainers() if scope.wants_clusters else (),
            ),
        )


def _offered(directory: Directory, run: StoredSync) -> dict[str, dict[str, ResourceMessages]]:
    """The resources that have entitlements, by kind and id."""
    scope, found = run.scope, {}
    if scope.wants_teams:
        found[_TEAM] = {checked_id("team", team.id): team_messages(team) for team in directory.teams}
    if scope.wants_organization:
        organization = directory.organization
        found[_ORGANIZATION] = {checked_id("organization", organization.id): organization_messages(organization)}
    if scope.wants_pipelines:
        found[_PIPELINE] = {checked_id("pipeline", each.id): pipeline_messages(each) for each in directory.pipelines}
    if scope.wants_clusters:
        found[_CLUSTER] = {checked_id("cluster", each.id): cluster_messages(each) for each in directory.clusters}
    return found


def _accounts(directory: Directory, stamp: tuple[str, str]) -> Iterator[Row]:
    serializer = AccountSerializer()
    for account in directory.accounts:
        yield _USER, f"{_USER}:{checked_id('account', account.id)}", serializer.serialize(account), *stamp


def _api_tokens(directory: Directory, stamp: tuple[str, str]) -> Iterator[Row]:
    for token in directory.api_tokens:
        yield _API_TOKEN, f"{_API_TOKEN}:{checked_id('API token', token.id)}", api_token_resource(token), *stamp


class _Grants:
    """The rows of grants of each kind. `offered`: the resources in the file, by kind and id."""

    def __init__(
        self, directory: Directory, offered: dict[str, dict[str, ResourceMessages]], stamp: tuple[str, str]
    ) -> None:
        self._directory = directory
        self._offered = offered
        self._stamp = stamp
        self._accounts: set[str] = {account.id for account in directory.accounts}
        self._to_user, self._to_team = GrantSerializer(ResourceKind.USER), GrantSerializer(ResourceKind.TEAM)

    def memberships(self) -> Iterator[Row]:
        for membership in self._directory.memberships:
            team, account = membership.team, membership.account
            if account not in self._accounts:
                if self._directory.scope.wants_accounts:
                    raise _dangling(f"account {account!r} of team {team!r} is not among the accounts")
                self._accounts.add(checked_id("account", account))
            entitlement = self._entitlement(_TEAM, team, membership.role, f"account {account!r}")
            yield self._user_row(_TEAM, team, entitlement, account)

    def organization_roles(self) -> Iterator[Row]:
        organization = self._directory.organization.id
        entitlements = self._offered[_ORGANIZATION][organization].entitlements
        for account in self._directory.accounts:
            if account.role and (entitlement := entitlements.get(account.role)):
                yield self._user_row(_ORGANIZATION, organization, entitlement, account.id)

    def pipeline_access(self) -> Iterator[Row]:
        for access in self._directory.pipeline_access:
            entitlement = self._entitlement(_PIPELINE, access.pipeline, access.level, f"team {access.team!r}")
            yield self._team_row(_PIPELINE, access.pipeline, entitlement, access.team)

    def cluster_maintainers(self) -> Iterator[Row]:
        scope = self._directory.scope
        for each in self._directory.cluster_maintainers:
            holder = f"{each.kind} {each.maintainer!r}"
            entitlement = self._entitlement(_CLUSTER, each.cluster, CLUSTER_MAINTAINER, holder)
            if each.kind is ResourceKind.TEAM and scope.wants_teams:
                yield self._team_row(_CLUSTER, each.cluster, entitlement, each.maintainer)
            elif each.kind is ResourceKind.USER and scope.wants_accounts:
                if each.maintainer not in self._accounts:
                    raise _dangling(
                        f"account {each.maintainer!r} of cluster {each.cluster!r} is not among the accounts"
                    )
                yield self._user_row(_CLUSTER, each.cluster, entitlement, each.maintainer)

    def _entitlement(self, kind: str, id_: str, slug: str, holder: str) -> EntitlementMessages:
        parts = self._offered[kind].get(id_)
        if parts is None:
            raise _dangling(f"{kind} {id_!r} of {holder} is not among the {kind}s")
        return parts.entitlements[slug]

    def _user_row(self, kind: str, id_: str, entitlement: EntitlementMessages, account: str) -> Row:
        grant_id, grant = self._to_user.serialize(entitlement, account)
        return kind, id_, entitlement.id, _USER, account, grant_id, None, 0, grant, *self._stamp

    def _team_row(self, kind: str, id_: str, entitlement: EntitlementMessages, team: str) -> Row:
        if team not in self._offered[_TEAM]:
            raise _dangling(f"team {team!r} of {kind} {id_!r} is not among the teams")
        grant_id, grant = self._to_team.serialize(entitlement, team)
        return kind, id_, entitlement.id, _TEAM, team, grant_id, expansion(team), 1, grant, *self._stamp


def _dangling(what: str) -> Failure:
    return Failure(
        Reason.SNAPSHOT_INVALID,
        f"A grant is inconsistent: {what}. Nothing was written; the next sync reads everything again.",
    )


# What must hold of a database before it may be staged. A row lost between the directory and the disk, or a grant
# that points nowhere, would end in C1 as access that someone lost


_SYNC_RUNS = "select count(*) from v1_sync_runs where ended_at is not null"
_RESOURCE_TYPES = "select count(*) from v1_resource_types"

_DANGLING = {
    "entitlements without their resource": """
        select count(*) from v1_entitlements e where not exists (
            select 1 from v1_resources r
            where r.external_id = e.resource_type_id || ':' || e.resource_id and r.sync_id = e.sync_id)""",
    "entitlements with grants that do not exist": """
        select count(*) from (select distinct entitlement_id, sync_id from v1_grants) g where not exists (
            select 1 from v1_entitlements e
            where e.external_id = g.entitlement_id and e.sync_id = g.sync_id)""",
    "accounts or teams with grants that do not exist": """
        select count(*) from (
            select distinct principal_resource_type_id as type, principal_resource_id as id from v1_grants{which}
        ) g where not exists (select 1 from v1_resources r where r.external_id = g.type || ':' || g.id)""",
}


def verify(connection: sqlite3.Connection, run: StoredSync, expanded: Mapping[ResourceKind, int] | None = None) -> None:
    """Raise Failure unless the database holds what `run` says, every reference resolved. Takes its indexes.

    `expanded`: the rows of each kind that grants expanded to. Who is in a team is among the resources only where
    accounts are in scope.
    """
    _expect("sync runs", _count(connection, _SYNC_RUNS), 1)
    _expect("resource types", _count(connection, _RESOURCE_TYPES), len(run.scope.kinds))
    grants = Counter(run.grants) + Counter(expanded or {})
    for table, expected in (("resources", run.resources), ("entitlements", run.entitlements), ("grants", grants)):
        found = dict(connection.execute(f"select resource_type_id, count(*) from v1_{table} group by 1"))  # noqa: S608
        for kind in {**expected, **found}:
            what = in_words(kind)
            _expect(what if table == "resources" else f"{table} on {what}", found.get(kind, 0), expected.get(kind, 0))
    not_listed = "" if run.scope.wants_accounts else f" where resource_type_id <> '{_TEAM}'"
    for what, query in _DANGLING.items():
        _expect(what, _count(connection, query.format(which=not_listed)), 0)
    _expect("teams whose grants do not expand to their own members", wrong_expansions(connection), 0)


def _count(connection: sqlite3.Connection, query: str) -> int:
    (found,) = connection.execute(query).fetchone()
    return int(found)


def _expect(what: str, found: int, expected: int) -> None:
    if found != expected:
        raise Failure(
            Reason.SNAPSHOT_INVALID,
            f"The snapshot of this sync holds {found} {what}, expected {expected}. "
            "It was not staged and the previous one is untouched; the next sync takes a new one.",
        )
