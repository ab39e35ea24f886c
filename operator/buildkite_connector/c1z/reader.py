"""Reads a `.c1z` file: for restarts, for `inspect` and `diff`, and for the tests.

It reads what this connector writes and what the reference connector wrote for Buildkite. What the writer cut
(`messages`) comes back cut; the organization is in the file where it was synced as a resource. What grants expanded to
is left out.

A file may come from anywhere. Its tables must be plain tables: a view or a virtual table of that name would run what
its author wrote. The pages of its database must form a tree: a page that is named twice would be read without an end.
The size of the database and of a cell is bounded.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from itertools import filterfalse
from pathlib import Path
from tempfile import gettempdir
from typing import BinaryIO

from google.protobuf.message import DecodeError

from buildkite_connector.c1z.archive import invalid, unpack
from buildkite_connector.c1z.files import scratch_directory, translated
from buildkite_connector.c1z.from_messages import (
    is_inherited,
    read_account,
    read_api_token,
    read_cluster,
    read_cluster_maintainer,
    read_membership,
    read_organization,
    read_pipeline,
    read_pipeline_access,
    read_team,
)
from buildkite_connector.c1z.schema import COLUMNS, rows_in
from buildkite_connector.c1z.sync_run import FULL, RESOURCES_ONLY, StoredSync, from_text, scope_of
from buildkite_connector.model.directory import (
    Counts,
    Directory,
    Organization,
    OrganizationSlug,
    ResourceKind,
    SyncScope,
)
from buildkite_connector.model.redactor import Redactor
from buildkite_connector.model.snapshot import SyncID
from buildkite_connector.process.files import create_own

UNNAMED_ORGANIZATION = Organization(id="", slug=OrganizationSlug(""), name="")
"""Stands in a directory that was read from a file without it."""

LONGEST_CELL = 1 << 20
"""Bytes of one text or blob. The largest that is written for Buildkite is some KB, whatever names people have."""

_USER, _TEAM, _ORGANIZATION, _PIPELINE, _CLUSTER, _API_TOKEN = (kind.value for kind in ResourceKind)

_PLAIN = Redactor()

_NOT_READ = {"expansion", "needs_expansion"}
"""Columns that older files of the SDK lack."""

_TABLES = ("v1_sync_runs", "v1_resource_types", "v1_resources", "v1_entitlements", "v1_grants")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A file's newest complete sync and all that it holds."""

    run: StoredSync
    directory: Directory


def read_sync_run(path: Path, scratch: Path | None = None, file: BinaryIO | None = None) -> StoredSync:
    """The file's newest complete sync, its rows counted. Blocks.

    The database is unpacked in `scratch` meanwhile (default: the system's temporary directory). `file`: the one at
    `path` where it is open already; it is closed here.
    Raises Failure: SNAPSHOT_INVALID, or STORAGE_FAILED when a disk refuses.
    """
    with opened(path, scratch, file) as connection, reading(path):
        return find_sync_run(connection, path)


def read_snapshot(path: Path, scratch: Path | None = None) -> Snapshot:
    """The file's newest complete sync with everything in it; as `read_sync_run` otherwise."""
    with opened(path, scratch) as connection, reading(path):
        run = find_sync_run(connection, path)
        check_ids(connection, run.sync_id)

        def resources(kind: ResourceKind) -> Iterator[bytes]:
            return _cells(connection, "v1_resources", sync_id=run.sync_id, resource_type_id=kind)

        def grants(kind: ResourceKind, **columns: str) -> Iterator[bytes]:
            return _cells(connection, "v1_grants", sync_id=run.sync_id, resource_type_id=kind, **columns)

        maintained = filterfalse(is_inherited, grants(ResourceKind.CLUSTER))
        to_teams = grants(ResourceKind.PIPELINE, principal_resource_type_id=ResourceKind.TEAM)
        return Snapshot(
            run=run,
            directory=Directory(
                organization=next(map(read_organization, resources(ResourceKind.ORGANIZATION)), UNNAMED_ORGANIZATION),
                accounts=tuple(map(read_account, resources(ResourceKind.USER))),
                teams=tuple(map(read_team, resources(ResourceKind.TEAM))),
                memberships=tuple(map(read_membership, grants(ResourceKind.TEAM))),
                scope=run.scope,
                pipelines=tuple(map(read_pipeline, resources(ResourceKind.PIPELINE))),
                pipeline_access=tuple(map(read_pipeline_access, to_teams)),
                clusters=tuple(map(read_cluster, resources(ResourceKind.CLUSTER))),
                cluster_maintainers=tuple(map(read_cluster_maintainer, maintained)),
                api_tokens=tuple(map(read_api_token, resources(ResourceKind.API_TOKEN))),
            ),
        )


def _cells(connection: sqlite3.Connection, table: str, **columns: str) -> Iterator[bytes]:
    """The data of the rows whose columns have these values."""
    which = " and ".join(f"{column} = :{column}" for column in columns)
    # By an index SQLite would sort the rows in memory
    rows = connection.execute(f"select data from {table} not indexed where {which} order by id", columns)  # noqa: S608
    return (data for (data,) in rows)


def find_sync_run(connection: sqlite3.Connection, path: Path, scope: SyncScope | None = None) -> StoredSync:
    """The newest complete sync in the database of the file at `path`, or what of it is in `scope`. Raises Failure."""
    row = connection.execute(
        "select sync_id, started_at, ended_at, sync_type, sync_token from v1_sync_runs"
        " where ended_at is not null and sync_type in (?, ?) order by ended_at desc, sync_id desc limit 1",
        (FULL, RESOURCES_ONLY),
    ).fetchone()
    if row is None:
        raise invalid(path, "it contains no complete sync")
    sync_id, started_at, ended_at, sync_type, token = row
    if scope is None:
        types = connection.execute("select external_id from v1_resource_types where sync_id = ?", (sync_id,))
        kinds = frozenset(ResourceKind(kind) for (kind,) in types)
        scope = scope_of(kinds, sync_type, token)
    return StoredSync(
        sync_id=SyncID(sync_id),
        started_at=from_text(started_at),
        ended_at=from_text(ended_at),
        scope=scope,
        counts=count_rows(connection, sync_id, scope),
    )


def check_ids(connection: sqlite3.Connection, sync_id: SyncID) -> None:
    """Raise ValueError where an id comes twice: each of its rows would be joined with each of the others."""
    for table in ("v1_resources", "v1_grants"):
        twice = f"select 1 from {table} where sync_id = ? group by external_id having count(*) > 1 limit 1"  # noqa: S608
        if connection.execute(twice, (sync_id,)).fetchone():
            raise ValueError(f"{table} has an id twice")


def count_rows(connection: sqlite3.Connection, sync_id: str, scope: SyncScope) -> Counts:
    """The rows of the sync that are in `scope`, but for those that grants expanded to. Last logins are not counted."""
    found: dict[str, Counter[tuple[str, ...]]] = {}
    for table, columns in (
        ("resources", "resource_type_id"),
        ("grants", "resource_type_id, principal_resource_type_id"),
    ):
        which, kinds = rows_in(scope, table)
        statement = f"select {columns}, count(*) from v1_{table} where sync_id = ? and {which} group by {columns}"  # noqa: S608
        rows = connection.execute(statement, (sync_id, *kinds))
        found[table] = Counter({tuple(row[:-1]): row[-1] for row in rows})
    resources, grants = found["resources"], found["grants"]
    maintaining, maintaining_teams = (grants[_CLUSTER, principal] for principal in (_USER, _TEAM))
    if maintaining and maintaining_teams:  # some users may maintain through their teams alone
        of_users = _cells(
            connection, "v1_grants", sync_id=sync_id, resource_type_id=_CLUSTER, principal_resource_type_id=_USER
        )
        maintaining = sum(not is_inherited(data) for data in of_users)
    return Counts(
        accounts=resources[_USER,],
        teams=resources[_TEAM,],
        memberships=sum(count for (kind, _), count in grants.items() if kind == _TEAM),
        organization_roles=grants[_ORGANIZATION, _USER],
        pipelines=resources[_PIPELINE,],
        pipeline_access=grants[_PIPELINE, _TEAM],
        clusters=resources[_CLUSTER,],
        cluster_maintainers=maintaining,
        cluster_team_maintainers=maintaining_teams,
        api_tokens=resources[_API_TOKEN,],
    ).within(scope)


@contextmanager
def opened(path: Path, scratch: Path | None = None, file: BinaryIO | None = None) -> Iterator[sqlite3.Connection]:
    """The file's database, read only; `scratch` and `file` as in `read_sync_run`.

    Raises Failure when the file cannot be used; what the caller raises is not touched. Use `reading` around queries.
    """
    with ExitStack() as stack:
        with translated(path, "read the snapshot"), reading(path):
            database = stack.enter_context(scratch_directory(scratch or Path(gettempdir()))) / "database"
            with create_own(database) as target:
                for chunk in unpack(path, file):
                    target.write(chunk)
            connection = stack.enter_context(closing(sqlite3.connect(database_uri(database), uri=True)))
            _restrict(connection)
            _check_tables(connection)
        yield connection


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raise Failure that blames the file at `path` when its rows cannot be read. What it repeats of them is cut."""
    try:
        yield
    except (sqlite3.Error, DecodeError, TypeError, ValueError) as error:
        raise invalid(path, f"its database is not that of a snapshot ({_PLAIN.quote(str(error))})") from error


def database_uri(database: Path) -> str:
    """The URI with which SQLite opens a database that is not written any more."""
    return f"{database.absolute().as_uri()}?mode=ro&immutable=1"


def _restrict(connection: sqlite3.Connection) -> None:
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_CELL)
    connection.execute("pragma trusted_schema = off")
    connection.execute("pragma ignore_check_constraints = on")  # those are the author's code
    connection.execute("pragma temp_store = memory")  # SQLite's own temporary directory may not be writable


def _check_tables(connection: sqlite3.Connection) -> None:
    """Raises ValueError and sqlite3.Error."""
    places = ", ".join("?" * len(_TABLES))
    found = connection.execute(
        f"select lower(name), sql from sqlite_master where lower(name) in ({places})",  # noqa: S608
        _TABLES,
    ).fetchall()
    for name, statement in found:
        if not str(statement).lower().startswith("create table"):
            raise ValueError(f"{name} is not a table")
        computed = "select 1 from pragma_table_xinfo(?) where hidden <> 0"
        if connection.execute(computed, (name,)).fetchone():
            raise ValueError(f"{name} has computed columns")
        columns = {column for (column,) in connection.execute("select name from pragma_table_info(?)", (name,))}
        if lacking := sorted({*COLUMNS.get(name.removeprefix("v1_"), ()), "sync_id"} - _NOT_READ - columns):
            raise ValueError(f"{name} has no column {lacking[0]}")
        (verdict,) = connection.execute(f"pragma quick_check({name})").fetchone()
        if verdict != "ok":
            raise ValueError(f"{name}: {' '.join(verdict.split())}")
    missing = sorted(set(_TABLES) - {name for name, _ in found})
    if missing:
        raise ValueError(f"it has no table {missing[0]}")
