"""What C1's ingestion makes of an uploaded `.c1z`: reads it, refuses what is not a sound snapshot, and sums it up.

Independent of the product's own reader and writer on purpose: the two must agree by the file format alone.
Blocking: call it off the event loop.
"""

import contextlib
import json
import sqlite3
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zstandard

from buildkite_connector.proto import connector_pb2 as pb
from simulators.c1.expander import expanded
from simulators.c1.rows import RowChecks

MAGIC = b"C1ZF\0"
READ_SIZE = 1 << 20
SAMPLE = 3
"""How many accounts, teams and memberships a summary shows."""

COLUMNS = {
    "v1_sync_runs": "sync_id started_at ended_at sync_token sync_type parent_sync_id linked_sync_id supports_diff"
    " grants_backfilled stats ingest_invariant_generation ingest_invariant_coverage ingest_invariant_mode",
    "v1_resource_types": "external_id data sync_id discovered_at",
    "v1_resources": "resource_type_id external_id parent_resource_type_id parent_resource_id"
    " data sync_id discovered_at",
    "v1_entitlements": "resource_type_id resource_id external_id data sync_id discovered_at",
    "v1_grants": "resource_type_id resource_id entitlement_id principal_resource_type_id principal_resource_id"
    " external_id expansion needs_expansion data sync_id discovered_at",
    "v1_assets": "external_id content_type data sync_id discovered_at",
    "v1_connector_sessions": "sync_id key value",
}
DATA_TABLES = ("v1_resource_types", "v1_resources", "v1_entitlements", "v1_grants", "v1_assets")


class Rejected(Exception):  # noqa: N818
    """The file is not a snapshot that C1 would take; says why."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What the task's options allow in the file. `kinds` empty: every resource type.

    `expanded`: whether grants that come from others are in it; None where nobody asked.
    """

    sync_type: str | None = None
    kinds: frozenset[str] = frozenset()
    grants: bool = True
    expanded: bool | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """What a snapshot holds. Counts are by resource type. `dangling_grants`: their principal is not in the file."""

    sync_id: str
    sync_type: str
    started_at: str
    ended_at: str
    resource_types: tuple[str, ...]
    resources: dict[str, int]
    entitlements: dict[str, int]
    grants: dict[str, int]
    dangling_grants: int
    accounts: list[dict[str, Any]] = field(repr=False)
    teams: list[dict[str, Any]] = field(repr=False)
    memberships: list[dict[str, Any]] = field(repr=False)


def ingest(path: Path, expected: Expected = Expected()) -> Summary:
    """Raises Rejected."""
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "snapshot.db"
        decompress(path, database)
        with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro&immutable=1", uri=True)) as connection:
            try:
                return _read(connection, expected)
            except (sqlite3.DatabaseError, ValueError) as error:
                raise Rejected(str(error)) from error


def decompress(source: Path, target: Path) -> None:
    """Writes the database that a `.c1z` holds. Raises Rejected."""
    with source.open("rb") as compressed, target.open("wb") as plain:
        if (magic := compressed.read(len(MAGIC))) != MAGIC:
            raise Rejected(f"the file begins with {magic!r}, expected {MAGIC!r}")
        stream = zstandard.ZstdDecompressor().decompressobj()
        try:
            while not stream.eof and (chunk := compressed.read(READ_SIZE)):
                plain.write(stream.decompress(chunk))
        except zstandard.ZstdError as error:
            raise Rejected(f"not a zstd stream: {error}") from error
        if not stream.eof:
            raise Rejected("the zstd stream is cut short")
        if stream.unused_data or compressed.read(1):
            raise Rejected("bytes follow the zstd stream")
    with target.open("rb") as plain:
        header = plain.read(100)
    if header[:16] != b"SQLite format 3\0":
        raise Rejected("the zstd stream holds no SQLite 3 database")
    if header[18:20] != b"\1\1":
        raise Rejected("the database is in WAL mode; expected a rollback journal")
    if int.from_bytes(header[16:18]) != 4096:
        raise Rejected(f"page size {int.from_bytes(header[16:18])}, expected 4096")


def _read(connection: sqlite3.Connection, expected: Expected) -> Summary:
    if (told := connection.execute("pragma quick_check(1)").fetchone()[0]) != "ok":
        raise Rejected(f"the database is damaged: {told}")
    _check_tables(connection)
    run = _sync_run(connection, expected)
    for table in DATA_TABLES:
        strays = f"select count(*) from {table} where sync_id != ?"  # noqa: S608
        if (count := connection.execute(strays, (run["sync_id"],)).fetchone()[0]) > 0:
            raise Rejected(f"{table}: {count} rows of another sync")
        twice = f"select external_id from {table} group by external_id having count(*) > 1 limit 1"  # noqa: S608
        if (row := connection.execute(twice).fetchone()) is not None:
            raise Rejected(f"{table}: {row[0]} comes twice")
    checks = RowChecks(connection, sample=SAMPLE)
    checks.run()
    summary = Summary(
        sync_id=run["sync_id"],
        sync_type=run["sync_type"],
        started_at=run["started_at"],
        ended_at=run["ended_at"],
        resource_types=tuple(checks.types),
        resources=dict(checks.resources),
        entitlements=dict(checks.entitlements),
        grants=dict(checks.grants),
        dangling_grants=checks.dangling_grants,
        accounts=checks.accounts,
        teams=checks.teams,
        memberships=checks.memberships,
    )
    _check_scope(summary, expected)
    if expected.expanded is False and checks.inherited_grants:
        raise Rejected(f"{checks.inherited_grants} grants come from others, although the task says skip_expand_grants")
    if checks.inherited_grants or (expected.expanded and checks.expandable_grants):
        _check_expansion(connection)
    _check_stats(run["stats"], summary)
    return summary


def _check_tables(connection: sqlite3.Connection) -> None:
    for table, names in COLUMNS.items():
        present = {row[1] for row in connection.execute(f"pragma table_info({table})")}
        if not present:
            raise Rejected(f"table {table} is missing")
        if missing := sorted({"id", *names.split()} - present):
            raise Rejected(f"{table}: columns missing: {', '.join(missing)}")


def _sync_run(connection: sqlite3.Connection, expected: Expected) -> sqlite3.Row:
    cursor = connection.cursor()
    cursor.row_factory = sqlite3.Row
    runs = cursor.execute("select * from v1_sync_runs").fetchall()
    if len(runs) != 1:
        raise Rejected(f"v1_sync_runs: expected one sync, got {len(runs)}")
    run: sqlite3.Row = runs[0]
    if not run["ended_at"]:
        raise Rejected(f"sync {run['sync_id']} has no ended_at: it is not complete")
    if run["ended_at"] < run["started_at"]:
        raise Rejected(f"sync {run['sync_id']} ended before it started")
    if len(run["sync_id"]) != 27 or not run["sync_id"].isalnum():
        raise Rejected(f"sync_id {run['sync_id']!r} is not a KSUID")
    if expected.sync_type not in (None, run["sync_type"]):
        raise Rejected(f"sync_type {run['sync_type']}, the task asks for {expected.sync_type}")
    return run


def _check_scope(summary: Summary, expected: Expected) -> None:
    if expected.kinds and (others := set(summary.resources) - expected.kinds):
        raise Rejected(f"resources of types that the task does not ask for: {', '.join(sorted(others))}")
    if summary.sync_type == "resources_only" and (summary.entitlements or summary.grants):
        raise Rejected("entitlements or grants in a resources_only sync")
    if not expected.grants and summary.grants:
        raise Rejected("grants, although the task says skip_grants")


def _check_expansion(connection: sqlite3.Connection) -> None:
    """Whether the grants are those that expanding makes. Raises ValueError too."""
    grants = expanded(connection, afresh=True)
    rows = dict(connection.execute("select external_id, data from v1_grants"))
    for grant_id in sorted({*grants, *rows}):
        if grant_id not in rows or grant_id not in grants or grants[grant_id] != pb.Grant.FromString(rows[grant_id]):
            raise Rejected(f"{grant_id}: not as grants expand")


def _check_stats(stats: str | None, summary: Summary) -> None:
    """`stats` may be absent; what it says must be so."""
    actual: dict[str, Any] = {"resource_types": len(summary.resource_types)}
    for name in ("resources", "entitlements", "grants"):
        by_type = getattr(summary, name)
        actual[name] = sum(by_type.values())
        actual[f"{name}_by_resource_type"] = by_type
    for name, told in json.loads(stats or "{}").items():
        stated = {kind: count for kind, count in told.items() if count} if isinstance(told, dict) else told
        if name in actual and stated != actual[name]:
            raise Rejected(f"stats: {name} is {stated}, the rows make {actual[name]}")
