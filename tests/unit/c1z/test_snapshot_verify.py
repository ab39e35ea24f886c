"""Nothing is staged that lost a row on its way to the disk or refers to what is not there."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from buildkite_connector.c1z import SyncRun, read_sync_run
from buildkite_connector.c1z.archive import unpack
from buildkite_connector.c1z.verify import verify
from buildkite_connector.model.directory import ResourceKind, SyncScope
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.snapshot import StagedSnapshot

Write = Callable[..., StagedSnapshot]


@pytest.fixture
def run(tmp_path: Path, write: Write) -> SyncRun:
    write(tmp_path / "x.c1z")
    return read_sync_run(tmp_path / "x.c1z")


@pytest.fixture
def database(tmp_path: Path, run: SyncRun) -> Iterator[sqlite3.Connection]:
    path = tmp_path / "db"
    path.write_bytes(b"".join(unpack(tmp_path / "x.c1z")))
    with closing(sqlite3.connect(path)) as connection:
        yield connection


def test_a_whole_database_passes(database: sqlite3.Connection, run: SyncRun) -> None:
    verify(database, run)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("update v1_sync_runs set ended_at = null", "0 sync runs, expected 1"),
        ("delete from v1_resource_types where id = 1", "1 resource types, expected 2"),
        ("delete from v1_resources where external_id like 'user:%' limit 1", "229 accounts, expected 230"),
        ("delete from v1_resources where external_id like 'team:%' limit 1", "8 teams, expected 9"),
        ("delete from v1_entitlements where id = 1", "17 entitlements, expected 18"),
        ("delete from v1_grants where id = 1", "449 grants, expected 450"),
        ("update v1_entitlements set resource_id = 'x' where id = 1", "1 entitlements without their team"),
        ("update v1_grants set entitlement_id = 'x' where id = 1", "1 entitlements with grants that do not"),
        ("update v1_grants set principal_resource_id = 'x' where id < 3", "1 accounts with grants that do not"),
    ],
)
def test_what_is_missing_or_points_nowhere_is_told_with_its_number(
    database: sqlite3.Connection, run: SyncRun, change: str, why: str
) -> None:
    database.execute(change)
    with pytest.raises(Failure, match=why) as caught:
        verify(database, run)
    assert caught.value.reason is Reason.SNAPSHOT_INVALID


def test_without_accounts_in_scope_grants_may_name_whom_the_file_does_not_list(
    tmp_path: Path, write: Write, database: sqlite3.Connection, run: SyncRun
) -> None:
    database.execute("delete from v1_resources where resource_type_id = 'user'")
    database.execute("delete from v1_resource_types where external_id = 'user'")
    teams_alone = SyncRun(
        sync_id=run.sync_id,
        started_at=run.started_at,
        ended_at=run.ended_at,
        scope=SyncScope(kinds=frozenset({ResourceKind.TEAM})),
        counts=type(run.counts)(accounts=0, teams=run.counts.teams, memberships=run.counts.memberships),
    )
    verify(database, teams_alone)
