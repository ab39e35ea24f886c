"""A `.c1z` file becomes a Directory again: for the `inspect` command, for restarts and for the tests.

It reads what this connector writes and what the reference connector wrote for Buildkite. What the writer cut
(`text_limits`) comes back cut; the organization is not in the file.
"""

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from buildkite_connector.c1z.archive import invalid
from buildkite_connector.c1z.database import opened
from buildkite_connector.c1z.messages import read_account, read_membership, read_team
from buildkite_connector.c1z.sync_run import FULL, RESOURCES_ONLY, SyncRun, from_text, scope_of
from buildkite_connector.model.directory import Counts, Directory, Organization, OrganizationSlug, ResourceKind
from buildkite_connector.model.snapshot import SyncID

UNNAMED_ORGANIZATION = Organization(id="", slug=OrganizationSlug(""), name="")
"""Stands in a directory that was read from a file."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A file's newest complete sync and all that it holds; the directory's organization is unnamed."""

    run: SyncRun
    directory: Directory


def read_sync_run(path: Path, scratch: Path | None = None, file: BinaryIO | None = None) -> SyncRun:
    """What the file's newest complete sync is, its rows counted. Blocks.

    The database is unpacked in `scratch` meanwhile (default: the system's temporary directory). `file`: the one at
    `path` where it is open already; it is closed here.
    Raises Failure: SNAPSHOT_INVALID, or STORAGE_FAILED when a disk refuses.
    """
    with opened(path, scratch, file) as connection:
        return find_sync_run(connection, path)


def read_snapshot(path: Path, scratch: Path | None = None) -> Snapshot:
    """The file's newest complete sync with everything in it; as `read_sync_run` otherwise."""
    with opened(path, scratch) as connection:
        run = find_sync_run(connection, path)
        resources = "select data from v1_resources where sync_id = ? and resource_type_id = ? order by id"
        grants = "select data from v1_grants where sync_id = ? order by id"
        accounts = connection.execute(resources, (run.sync_id, ResourceKind.USER.value))
        teams = connection.execute(resources, (run.sync_id, ResourceKind.TEAM.value))
        memberships = connection.execute(grants, (run.sync_id,))
        return Snapshot(
            run=run,
            directory=Directory(
                organization=UNNAMED_ORGANIZATION,
                accounts=tuple(read_account(data) for (data,) in accounts),
                teams=tuple(read_team(data) for (data,) in teams),
                memberships=tuple(read_membership(data) for (data,) in memberships),
                scope=run.scope,
            ),
        )


def find_sync_run(connection: sqlite3.Connection, path: Path) -> SyncRun:
    """The newest complete sync in the database of the file at `path`. Raises Failure."""
    row = connection.execute(
        "select sync_id, started_at, ended_at, sync_type, sync_token from v1_sync_runs"
        " where ended_at is not null and sync_type in (?, ?) order by ended_at desc, sync_id desc limit 1",
        (FULL, RESOURCES_ONLY),
    ).fetchone()
    if row is None:
        raise invalid(path, "it holds no complete sync (none that ended)")
    sync_id, started_at, ended_at, sync_type, token = row
    types = connection.execute("select external_id from v1_resource_types where sync_id = ?", (sync_id,))
    kinds = frozenset(ResourceKind(kind) for (kind,) in types)
    resources = dict(
        connection.execute(
            "select resource_type_id, count(*) from v1_resources where sync_id = ? group by 1", (sync_id,)
        )
    )
    (grants,) = connection.execute("select count(*) from v1_grants where sync_id = ?", (sync_id,)).fetchone()
    return SyncRun(
        sync_id=SyncID(sync_id),
        started_at=from_text(started_at),
        ended_at=from_text(ended_at),
        scope=scope_of(kinds, sync_type, token),
        counts=Counts(
            accounts=resources.get(ResourceKind.USER.value, 0),
            teams=resources.get(ResourceKind.TEAM.value, 0),
            memberships=grants,
        ),
    )
