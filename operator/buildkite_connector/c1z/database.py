"""Opens the database of a `.c1z` file, whoever wrote it: nothing in it may cost more than its size explains.

A file may come from anywhere. Its tables must be plain tables: a view or a virtual table of that name would run what
its author wrote. Steps of SQLite's machine and the length of a cell are bounded.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import gettempdir
from typing import BinaryIO

from google.protobuf.message import DecodeError

from buildkite_connector.c1z.archive import invalid, unpack
from buildkite_connector.c1z.atomic_file import scratch_directory
from buildkite_connector.c1z.errors import translated
from buildkite_connector.process.files import create_own

LONGEST_CELL = 1 << 20
"""Bytes of one text or blob. The largest that is written for Buildkite is some KB, whatever names people have."""
STEPS_PER_BYTE = 1
"""Steps of SQLite's machine for each byte of the database. Reading all costs a hundredth of that, comparing a
fortieth."""
FREE_STEPS = 10_000_000
_STEPS_AT_ONCE = 1_000_000

_TABLES = ("v1_sync_runs", "v1_resource_types", "v1_resources", "v1_entitlements", "v1_grants")


@contextmanager
def opened(path: Path, scratch: Path | None, file: BinaryIO | None = None) -> Iterator[sqlite3.Connection]:
    """The file's database, read only. What is wrong with it, found while it is used, comes out as Failure.

    It is unpacked in `scratch` meanwhile (default: the system's temporary directory). `file`: the one at `path` where
    it is open already; it is closed here.
    """
    with translated(path, "read the snapshot"), scratch_directory(scratch or Path(gettempdir())) as place:
        database = place / "database"
        with create_own(database) as target:
            for chunk in unpack(path, file):
                target.write(chunk)
        size = database.stat().st_size
        uri = f"{database.absolute().as_uri()}?mode=ro&immutable=1"
        with reading(path), closing(sqlite3.connect(uri, uri=True)) as connection:
            _restrict(connection, size)
            _check_tables(connection)
            yield connection


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """What goes wrong with a database's rows is the failure of the file at `path`."""
    try:
        yield
    except (sqlite3.Error, DecodeError, TypeError, ValueError) as error:
        raise invalid(path, f"its database is not that of a snapshot ({error})") from error


def _restrict(connection: sqlite3.Connection, size: int) -> None:
    left = FREE_STEPS + STEPS_PER_BYTE * size

    def stop() -> bool:
        nonlocal left
        left -= _STEPS_AT_ONCE
        return left < 0

    connection.set_progress_handler(stop, _STEPS_AT_ONCE)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_CELL)
    connection.execute("pragma trusted_schema = off")
    connection.execute("pragma temp_store = memory")  # SQLite's own temporary directory may not be writable


def _check_tables(connection: sqlite3.Connection) -> None:
    """Raises ValueError."""
    places = ", ".join("?" * len(_TABLES))
    found = connection.execute(
        f"select lower(name), sql from sqlite_master where lower(name) in ({places})",  # noqa: S608
        _TABLES,
    ).fetchall()
    for name, statement in found:
        if not str(statement).lower().startswith("create table"):
            raise ValueError(f"{name} is no table")
        computed = "select 1 from pragma_table_xinfo(?) where hidden <> 0"
        if connection.execute(computed, (name,)).fetchone():
            raise ValueError(f"{name} has computed columns")
    missing = sorted(set(_TABLES) - {name for name, _ in found})
    if missing:
        raise ValueError(f"it has no table {missing[0]}")
