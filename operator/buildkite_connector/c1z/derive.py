"""Writes the snapshot that a task asks for from the staged one: with fewer types or parts, or with the grants of teams
expanded.

C1 reads what is absent from a file as gone and what is present as part of the answer. The file therefore holds exactly
the scope that the task names, as if the writer had written the directory in that scope. Rows are copied from database
to database without decoding them, which keeps time and memory small.
"""

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from buildkite_connector.c1z.archive import invalid
from buildkite_connector.c1z.files import translated
from buildkite_connector.c1z.reader import find_sync_run, opened, reading
from buildkite_connector.c1z.schema import COLUMNS, TableRows, insert, rows_in
from buildkite_connector.c1z.sync_run import StoredSync, to_row
from buildkite_connector.c1z.writer import write_rows
from buildkite_connector.model.directory import SyncScope
from buildkite_connector.model.snapshot import StagedSnapshot, SyncID
from buildkite_connector.process.files import ReplacedError, open_verified


def derive_snapshot(
    whole: StagedSnapshot,
    path: Path,
    *,
    scope: SyncScope,
    sync_id: SyncID,
    stopped: Callable[[], bool] = lambda: False,
) -> StagedSnapshot:
    """Write the part of `whole` that is in `scope` to `path`, under its own sync id, with the times of `whole`. Blocks.

    The scope of `whole` must include `scope` and not be expanded: what grants expanded to is never copied. Both
    databases are unpacked in the directory of `path` meanwhile.
    Raises WriteStopped and Failure like `write_snapshot`, and Failure when the file of `whole` is not the staged one.
    """
    if whole.scope.expanded or not whole.scope.includes(scope):
        raise ValueError(f"a snapshot of {whole.scope} does not hold what one of {scope} needs")
    with translated(whole.path, "read the snapshot"):
        try:
            file = open_verified(whole.path, whole.size, whole.sha256)
        except ReplacedError as error:
            raise invalid(whole.path, str(error.strerror)) from None
    with opened(whole.path, path.parent, file) as connection:
        with reading(whole.path):
            source = find_sync_run(connection, whole.path, scope)
        last_logins = whole.counts.within(scope).last_logins  # which no query counts
        run = replace(source, sync_id=sync_id, counts=replace(source.counts, last_logins=last_logins))
        return write_rows(_rows(connection, source.sync_id, run), run, path, stopped)


def _rows(connection: sqlite3.Connection, source: SyncID, run: StoredSync) -> Iterator[TableRows]:
    """The rows of the sync `source` that are in the run's scope, under the run's id, in the writer's order."""
    row = to_row(run)
    yield insert("sync_runs", list(row)), iter([tuple(row.values())])
    tables = ["resource_types", "resources"]
    if run.scope.entitlements:
        tables.append("entitlements")
    if run.scope.wants_grants:
        tables.append("grants")
    for table in tables:
        which, kinds = rows_in(run.scope, table)
        columns = ", ".join(COLUMNS[table])
        # By an index SQLite would have to sort the rows, all of them in memory
        statement = (
            f"select {columns}, ?, discovered_at from v1_{table} not indexed"  # noqa: S608
            f" where sync_id = ? and {which} order by id"
        )
        yield insert(table), connection.execute(statement, (run.sync_id, source, *kinds))
