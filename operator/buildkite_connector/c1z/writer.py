"""Writes a `.c1z` file, whole and verified or not at all, from a Directory or from rows of a larger snapshot.

The database is built in a scratch directory beside the target, its rows in one transaction and its indexes after
them, then compressed and renamed. It needs no journal: a file that was not finished is thrown away. Everything here
blocks: call it in a thread (`store` does). SQLite, zstd and SHA-256 let the event loop run while they work.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime
from itertools import chain, islice
from pathlib import Path

from buildkite_connector.c1z.archive import pack, unpack
from buildkite_connector.c1z.files import put_in_place, scratch_directory, translated
from buildkite_connector.c1z.messages import (
    RESOURCE_TYPES,
    AccountSerializer,
    GrantSerializer,
    TeamMessages,
    checked_id,
    team_messages,
)
from buildkite_connector.c1z.schema import EMPTY_INDEXES, INDEXES, TABLES, Row, TableRows, insert
from buildkite_connector.c1z.sync_run import StoredSync, resource_kinds, to_row, to_text
from buildkite_connector.model.directory import Directory, ResourceKind
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.snapshot import StagedSnapshot, SyncID
from buildkite_connector.process.files import create_own

_USER, _TEAM = ResourceKind.USER.value, ResourceKind.TEAM.value

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
    return write_rows(_rows(directory, run), run, path, stopped)


def write_rows(
    tables: Iterator[TableRows], run: StoredSync, path: Path, stopped: Callable[[], bool] = lambda: False
) -> StagedSnapshot:
    """Write `tables`, which must match `run`, to `path`; as `write_snapshot` otherwise."""

    def checkpoint() -> None:
        if stopped():
            raise WriteStopped

    with translated(path, "write the snapshot"), scratch_directory(path.parent) as scratch:
        database, archive = scratch / "database", scratch / "archive"
        _build(database, tables, run, checkpoint)
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


def _build(database: Path, tables: Iterator[TableRows], run: StoredSync, checkpoint: Callable[[], None]) -> None:
    create_own(database).close()
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        for pragma in _PRAGMAS:
            connection.execute(pragma)
        connection.execute("begin")
        for statement in (*TABLES, *EMPTY_INDEXES):
            connection.execute(statement)
        for insert, table_rows in tables:
            while connection.executemany(insert, islice(table_rows, _BATCH)).rowcount > 0:
                checkpoint()
        for index in INDEXES:
            checkpoint()
            connection.execute(index)
        connection.execute("commit")
        verify(connection, run)


def _rows(directory: Directory, run: StoredSync) -> Iterator[TableRows]:
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
    teams = {}
    if scope.wants_teams:
        teams = {checked_id("team", team.id): team_messages(team) for team in directory.teams}
    yield (
        insert("resources"),
        chain(
            ((_TEAM, f"{_TEAM}:{team}", parts.resource, *stamp) for team, parts in teams.items()),
            _accounts(directory, stamp) if scope.wants_accounts else (),
        ),
    )
    if scope.entitlements:
        yield (
            insert("entitlements"),
            (
                (_TEAM, team, role.id, role.entitlement, *stamp)
                for team, parts in teams.items()
                for role in parts.roles.values()
            ),
        )
    if scope.wants_memberships:
        yield insert("grants"), _grants(directory, teams, stamp)


def _accounts(directory: Directory, stamp: tuple[str, str]) -> Iterator[Row]:
    serializer = AccountSerializer()
    for account in directory.accounts:
        yield _USER, f"{_USER}:{checked_id('account', account.id)}", serializer.serialize(account), *stamp


def _grants(directory: Directory, teams: dict[str, TeamMessages], stamp: tuple[str, str]) -> Iterator[Row]:
    serializer = GrantSerializer()
    known: set[str] = {account.id for account in directory.accounts}
    for membership in directory.memberships:
        team, account = membership.team, membership.account
        if account not in known:
            if directory.scope.wants_accounts:
                raise _dangling(f"account {account!r} of team {team!r} is not among the accounts")
            known.add(checked_id("account", account))
        parts = teams.get(team)
        if parts is None:
            raise _dangling(f"team {team!r} of account {account!r} is not among the teams")
        role = parts.roles[membership.role]
        yield _TEAM, team, role.id, _USER, account, *serializer.serialize(role, account), *stamp


def _dangling(what: str) -> Failure:
    return Failure(
        Reason.SNAPSHOT_INVALID,
        f"A membership is inconsistent: {what}. Nothing was written; the next sync reads everything again.",
    )


# What must hold of a database before it may be staged. A row lost between the directory and the disk, or a grant
# that points nowhere, would end in C1 as access that someone lost


_COUNTS = {
    "sync runs": "select count(*) from v1_sync_runs where ended_at is not null",
    "resource types": "select count(*) from v1_resource_types",
    "accounts": "select count(*) from v1_resources where resource_type_id = 'user'",
    "teams": "select count(*) from v1_resources where resource_type_id = 'team'",
    "entitlements": "select count(*) from v1_entitlements",
    "grants": "select count(*) from v1_grants",
}

_DANGLING = {
    "entitlements without their team": """
        select count(*) from v1_entitlements e where not exists (
            select 1 from v1_resources r
            where r.external_id = e.resource_type_id || ':' || e.resource_id and r.sync_id = e.sync_id)""",
    "entitlements with grants that do not exist": """
        select count(*) from (select distinct entitlement_id, sync_id from v1_grants) g where not exists (
            select 1 from v1_entitlements e
            where e.external_id = g.entitlement_id and e.sync_id = g.sync_id)""",
}
_DANGLING_PRINCIPALS = {
    "accounts with grants that do not exist": """
        select count(*) from (
            select distinct principal_resource_type_id as type, principal_resource_id as id from v1_grants
        ) g where not exists (select 1 from v1_resources r where r.external_id = g.type || ':' || g.id)""",
}


def verify(connection: sqlite3.Connection, run: StoredSync) -> None:
    """Raise Failure unless the database holds what `run` says, every reference resolved. Takes its indexes.

    Principals are among the resources only where accounts are in scope.
    """
    expected = {
        "sync runs": 1,
        "resource types": len(run.scope.kinds),
        "accounts": run.counts.accounts,
        "teams": run.counts.teams,
        "entitlements": run.entitlements,
        "grants": run.counts.memberships,
    }
    for what, query in _COUNTS.items():
        _expect(connection, what, query, expected[what])
    references = _DANGLING | (_DANGLING_PRINCIPALS if run.scope.wants_accounts else {})
    for what, query in references.items():
        _expect(connection, what, query, 0)


def _expect(connection: sqlite3.Connection, what: str, query: str, expected: int) -> None:
    (found,) = connection.execute(query).fetchone()
    if found != expected:
        raise Failure(
            Reason.SNAPSHOT_INVALID,
            f"The snapshot of this sync holds {found} {what}, expected {expected}. "
            "It was not staged and the previous one is untouched; the next sync takes a new one.",
        )
