"""Writing gives a whole, verified file or leaves what was there."""

import hashlib
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from buildkite_connector.c1z import StoredSync, WriteStopped, read_snapshot, read_sync_run
from buildkite_connector.c1z.writer import verify
from buildkite_connector.model.directory import AccountID, Directory, Membership, ResourceKind, Role, SyncScope, TeamID
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.snapshot import StagedSnapshot
from unit.c1z.altered_files import unpacked

Write = Callable[..., StagedSnapshot]

FULL_DISK = """
import resource, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from harness.organization import acme
from buildkite_connector.model.failure import Failure
from buildkite_connector.c1z import write_snapshot
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
now = datetime(2026, 1, 1, tzinfo=UTC)
for limit in map(int, sys.argv[2:]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        write_snapshot(acme(), Path(sys.argv[1]), sync_id="s" * 27, started_at=now, finished_at=now)
        print(limit, "written")
    except Failure as failure:
        print(limit, failure.reason.value, failure.message)
"""


@pytest.fixture
def old(tmp_path: Path) -> Iterator[Path]:
    """A file that a failed write must leave alone, with nothing beside it."""
    path = tmp_path / "acme.c1z"
    path.write_bytes(b"the old file")
    yield path
    assert path.read_bytes() == b"the old file"
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_said_of_the_file_is_true_of_it(tmp_path: Path, write: Write) -> None:
    staged = write(tmp_path / "acme.c1z")
    content = staged.path.read_bytes()
    assert staged.sha256 == hashlib.sha256(content).hexdigest()
    assert staged.size == len(content)


def test_the_new_file_takes_the_old_ones_place_and_leaves_nothing_beside_it(tmp_path: Path, write: Write) -> None:
    path = tmp_path / "acme.c1z"
    path.write_bytes(b"the old file")
    write(path)
    assert read_snapshot(path).directory.accounts
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_that_has_the_old_file_open_reads_it_to_its_end(tmp_path: Path, write: Write) -> None:
    path = tmp_path / "acme.c1z"
    path.write_bytes(b"the old file")
    with path.open("rb") as reader:
        write(path)
        assert reader.read() == b"the old file"


def test_tables_of_many_batches_are_written_whole(tmp_path: Path, write: Write, large_directory: Directory) -> None:
    write(tmp_path / "large.c1z", large_directory)
    found = read_snapshot(tmp_path / "large.c1z").directory
    assert found.accounts == large_directory.accounts
    assert found.memberships == large_directory.memberships


def test_an_organization_of_nobody_is_a_snapshot_too(tmp_path: Path, write: Write, acme_directory: Directory) -> None:
    nobody = replace(acme_directory, accounts=(), teams=(), memberships=())
    write(tmp_path / "nobody.c1z", nobody)
    assert read_snapshot(tmp_path / "nobody.c1z").directory.counts == nobody.counts


def test_stopping_leaves_the_old_file(old: Path, write: Write) -> None:
    with pytest.raises(WriteStopped):
        write(old, stopped=lambda: True)


@settings(max_examples=4)
@example(1)
@example(60)  # more often than it is asked
@given(st.integers(min_value=1, max_value=60))
def test_stopping_at_any_time_leaves_the_old_file_or_the_whole_new_one(
    tmp_path_factory: pytest.TempPathFactory, write: Write, large_directory: Directory, questions: int
) -> None:
    path = tmp_path_factory.mktemp("stopped") / "large.c1z"
    path.write_bytes(b"the old file")
    asked = iter(range(questions))
    try:
        write(path, large_directory, stopped=lambda: next(asked, None) is None)
    except WriteStopped:
        assert path.read_bytes() == b"the old file"
    else:
        assert read_snapshot(path).run.counts == large_directory.counts
    assert list(path.parent.iterdir()) == [path]


def test_a_file_torn_while_it_is_written_never_takes_the_old_ones_place(
    old: Path, write: Write, large_directory: Directory
) -> None:
    def tear() -> bool:
        for archive in old.parent.glob(".*/archive"):
            if archive.stat().st_size > 100:
                os.truncate(archive, 100)
        return False

    with pytest.raises(Failure, match="cannot be used as a snapshot") as caught:
        write(old, large_directory, stopped=tear)
    assert caught.value.reason is Reason.SNAPSHOT_INVALID


def test_a_full_disk_is_a_storage_failure_that_names_the_file_and_what_to_do(old: Path) -> None:
    """The system refuses to let any file of the writing process grow beyond each limit, in bytes."""
    limits = ["0", "5", "100000", "400000"]
    done = subprocess.run(  # noqa: S603 (our own script)
        [sys.executable, "-c", FULL_DISK, str(old), *limits],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    said = done.stdout.splitlines()
    assert len(said) == len(limits)
    for line, limit in zip(said, limits, strict=True):
        assert line.startswith(f"{limit} StorageFailed Could not write the snapshot {old}: ")
        assert "Free disk space" in line


@pytest.mark.parametrize(
    ("parent", "advice"),
    [
        ("missing", "Check that the path is right and its directory exists"),
        ("acme.c1z", "Check that the path is right and its parent is a directory"),
    ],
)
def test_a_directory_that_is_none_is_a_storage_failure(old: Path, write: Write, parent: str, advice: str) -> None:
    with pytest.raises(Failure, match=re.escape(advice)) as caught:
        write(old.parent / parent / "new.c1z")
    assert caught.value.reason is Reason.STORAGE_FAILED


def test_a_path_that_is_a_directory_is_a_storage_failure(tmp_path: Path, write: Write) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(Failure, match="Choose the path of a file") as caught:
        write(tmp_path / "taken")
    assert caught.value.reason is Reason.STORAGE_FAILED
    assert [entry.name for entry in tmp_path.iterdir()] == ["taken"]


@pytest.mark.parametrize(
    "doubled",
    [
        lambda acme: replace(acme, accounts=(*acme.accounts, acme.accounts[0])),
        lambda acme: replace(acme, teams=(*acme.teams, acme.teams[0])),
        lambda acme: replace(acme, memberships=(*acme.memberships, acme.memberships[0])),
    ],
)
def test_an_id_that_comes_twice_is_never_written(
    old: Path, write: Write, acme_directory: Directory, doubled: Callable[[Directory], Directory]
) -> None:
    with pytest.raises(Failure) as caught:
        write(old, doubled(acme_directory))
    assert caught.value.reason is Reason.SNAPSHOT_INVALID


@pytest.mark.parametrize(
    ("team", "account", "missing"),
    [
        ("22d5e5d1-1180-5313-bced-c1584f06efcd", "nobody", "account 'nobody'"),
        ("nowhere", "8f95f1b9-4f80-5f6c-bd49-d773b289bbc8", "team 'nowhere'"),
    ],
)
def test_a_membership_that_points_nowhere_is_never_written(
    old: Path, write: Write, acme_directory: Directory, team: str, account: str, missing: str
) -> None:
    dangling = Membership(TeamID(team), AccountID(account), Role.MEMBER)
    with pytest.raises(Failure, match=missing) as caught:
        write(old, replace(acme_directory, memberships=(*acme_directory.memberships, dangling)))
    assert caught.value.reason is Reason.SNAPSHOT_INVALID


@pytest.mark.parametrize(
    "altered",
    [
        lambda acme: replace(acme, accounts=(replace(acme.accounts[0], id="\ud800"),)),
        lambda acme: replace(acme, teams=(replace(acme.teams[0], id="\ud800"),)),
        lambda acme: replace(
            acme,
            memberships=(replace(acme.memberships[0], account="\ud800"),),
            scope=SyncScope(kinds=frozenset({ResourceKind.TEAM})),
        ),
    ],
)
def test_an_id_that_c1_cannot_hold_is_never_written(
    old: Path, write: Write, acme_directory: Directory, altered: Callable[[Directory], Directory]
) -> None:
    with pytest.raises(Failure, match="the id '\\\\ud800'") as caught:
        write(old, altered(acme_directory))
    assert caught.value.reason is Reason.SNAPSHOT_INVALID


@pytest.fixture
def run(tmp_path: Path, write: Write) -> StoredSync:
    write(tmp_path / "x.c1z")
    return read_sync_run(tmp_path / "x.c1z")


@pytest.fixture
def database(tmp_path: Path, run: StoredSync) -> Iterator[sqlite3.Connection]:
    path = tmp_path / "db"
    path.write_bytes(unpacked(tmp_path / "x.c1z"))
    with closing(sqlite3.connect(path)) as connection:
        yield connection


def test_a_whole_database_passes(database: sqlite3.Connection, run: StoredSync) -> None:
    verify(database, run)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("update v1_sync_runs set ended_at = null", "0 sync runs, expected 1"),
        ("delete from v1_resource_types where id = 1", "1 resource types, expected 2"),
        ("delete from v1_resources where external_id like 'user:%' limit 1", "229 accounts, expected 230"),
        ("delete from v1_resources where external_id like 'team:%' limit 1", "8 teams, expected 9"),
        ("delete from v1_entitlements where id = 1", "17 entitlements on teams, expected 18"),
        ("delete from v1_grants where id = 1", "449 grants on teams, expected 450"),
        ("update v1_entitlements set resource_id = 'x' where id = 1", "1 entitlements without their resource"),
        ("update v1_grants set entitlement_id = 'x' where id = 1", "1 entitlements with grants that do not"),
        (
            "update v1_grants set principal_resource_id = 'x' where id < 3",
            "1 accounts or teams with grants that",
        ),
    ],
)
def test_what_is_missing_or_points_nowhere_is_told_with_its_number(
    database: sqlite3.Connection, run: StoredSync, change: str, why: str
) -> None:
    database.execute(change)
    with pytest.raises(Failure, match=why) as caught:
        verify(database, run)
    assert caught.value.reason is Reason.SNAPSHOT_INVALID


def test_without_accounts_in_scope_grants_may_name_whom_the_file_does_not_list(
    tmp_path: Path, write: Write, database: sqlite3.Connection, run: StoredSync
) -> None:
    database.execute("delete from v1_resources where resource_type_id = 'user'")
    database.execute("delete from v1_resource_types where external_id = 'user'")
    teams_alone = StoredSync(
        sync_id=run.sync_id,
        started_at=run.started_at,
        ended_at=run.ended_at,
        scope=SyncScope(kinds=frozenset({ResourceKind.TEAM})),
        counts=type(run.counts)(accounts=0, teams=run.counts.teams, memberships=run.counts.memberships),
    )
    verify(database, teams_alone)
