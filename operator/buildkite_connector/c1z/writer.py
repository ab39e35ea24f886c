"""Rows become a `.c1z` file: verified, whole, or not there at all. They come from a Directory or a larger snapshot.

The database is built in a scratch directory beside the target, its rows in one transaction and its indexes
after them, then compressed and renamed. Nothing is needed of a journal: a file that was not finished is
thrown away. Everything here blocks: call it in a thread (`store` does). SQLite, zstd and SHA-256 let the
event loop run while they work.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime
from itertools import islice
from pathlib import Path

from buildkite_connector.c1z.archive import pack, unpack
from buildkite_connector.c1z.atomic_file import put_in_place, scratch_directory
from buildkite_connector.c1z.errors import translated
from buildkite_connector.c1z.rows import rows
from buildkite_connector.c1z.schema import EMPTY_INDEXES, INDEXES, TABLES, TableRows
from buildkite_connector.c1z.sync_run import SyncRun
from buildkite_connector.c1z.verify import verify
from buildkite_connector.model.directory import Directory
from buildkite_connector.model.snapshot import StagedSnapshot, SyncID
from buildkite_connector.process.files import create_own

_BATCH = 4096
"""Rows between two questions whether to go on."""

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
    """The caller wanted no snapshot any more; nothing was replaced."""


def write_snapshot(
    directory: Directory,
    path: Path,
    *,
    sync_id: SyncID,
    started_at: datetime,
    finished_at: datetime,
    stopped: Callable[[], bool] = lambda: False,
) -> StagedSnapshot:
    """Write `directory`, as far as its scope goes, to `path`; the same input gives the same file.

    `started_at` and `finished_at` (aware) bound the sync. `stopped` is asked now and then: True raises WriteStopped.
    Raises Failure: STORAGE_FAILED when the disk refuses, SNAPSHOT_INVALID when the directory contradicts itself.
    On any error what was at `path` is still there, and nothing else is.
    """

    counts = directory.counts.within(directory.scope)
    run = SyncRun(sync_id, started_at, max(started_at, finished_at), directory.scope, counts)
    return write_rows(rows(directory, run), run, path, stopped)


def write_rows(
    tables: Iterator[TableRows], run: SyncRun, path: Path, stopped: Callable[[], bool] = lambda: False
) -> StagedSnapshot:
    """Write `tables`, which must be what `run` says, to `path`; as `write_snapshot` otherwise."""

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


def _build(database: Path, tables: Iterator[TableRows], run: SyncRun, checkpoint: Callable[[], None]) -> None:
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
