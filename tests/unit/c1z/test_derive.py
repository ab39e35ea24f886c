"""A derived snapshot is the very file that the writer makes of the directory in the narrower scope."""

import asyncio
import contextlib
import hashlib
import sqlite3
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from buildkite_connector.c1z import SnapshotStore, WriteStopped, read_snapshot, reader, write_snapshot
from buildkite_connector.c1z import store as module
from buildkite_connector.c1z.derive import derive_snapshot
from buildkite_connector.c1z.reader import count_rows
from buildkite_connector.model.directory import (
    ALL_KINDS,
    DEFAULT_KINDS,
    FULL_SCOPE,
    Counts,
    Directory,
    ResourceKind,
    SyncScope,
)
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.snapshot import StagedSnapshot, SyncID
from harness.directories import directories
from harness.examples import examples
from harness.organization import access

STARTED = datetime(2026, 11, 22, 23, 28, 6, 230336, tzinfo=UTC)
FINISHED = STARTED + timedelta(minutes=11)
WHOLE, NARROWER = SyncID("3MU2vTiRPq8SdRnLeLr03nEgvMK"), SyncID("3MU2vTiRPq8SdRnLeLr03nEgvML")

USERS, TEAMS = frozenset({ResourceKind.USER}), frozenset({ResourceKind.TEAM})
TEAMS_ONLY = SyncScope(TEAMS)
EXPANDED = SyncScope(ALL_KINDS, expanded=True)
SCOPES = [SyncScope(*parts) for parts in product((DEFAULT_KINDS, USERS, TEAMS), (True, False), (True, False))]


def write(directory: Directory, path: Path, sync_id: SyncID = WHOLE) -> StagedSnapshot:
    return write_snapshot(directory, path, sync_id=sync_id, started_at=STARTED, finished_at=FINISHED)


@pytest.fixture
async def store(tmp_path: Path) -> SnapshotStore:
    return SnapshotStore(tmp_path / "snapshots")


@pytest.fixture
async def whole(store: SnapshotStore, acme_directory: Directory) -> StagedSnapshot:
    return await store.stage("team-a.acme", acme_directory, sync_id=WHOLE, started_at=STARTED)


@pytest.mark.parametrize("scope", SCOPES)
def test_of_every_scope_it_is_the_file_that_the_writer_makes(
    tmp_path: Path, acme_directory: Directory, scope: SyncScope
) -> None:
    whole = write(acme_directory, tmp_path / "whole.c1z")
    expected = write(replace(acme_directory, scope=scope), tmp_path / "expected.c1z", NARROWER)
    derived = derive_snapshot(whole, tmp_path / "derived.c1z", scope=scope, sync_id=NARROWER)
    assert replace(derived, path=expected.path) == expected
    assert derived.path.read_bytes() == expected.path.read_bytes()


@settings(max_examples=examples(20))
@given(directories())
def test_of_any_organization_it_is_the_file_that_the_writer_makes(
    tmp_path_factory: pytest.TempPathFactory, directory: Directory
) -> None:
    place = tmp_path_factory.mktemp("any")
    whole = write(directory, place / "whole.c1z")
    for scope in SCOPES:
        if directory.scope.includes(scope):
            derived = derive_snapshot(whole, place / "derived.c1z", scope=scope, sync_id=NARROWER)
            expected = write(replace(directory, scope=scope), place / "expected.c1z", NARROWER)
            assert replace(derived, path=expected.path) == expected
            assert derived.path.read_bytes() == expected.path.read_bytes()


def test_tables_of_many_batches_are_derived_whole(tmp_path: Path, large_directory: Directory) -> None:
    whole = write(large_directory, tmp_path / "whole.c1z")
    derived = derive_snapshot(whole, tmp_path / "derived.c1z", scope=TEAMS_ONLY, sync_id=NARROWER)
    assert read_snapshot(derived.path).directory.memberships == large_directory.memberships


def test_one_can_be_derived_from_one_that_is_not_full(tmp_path: Path, acme_directory: Directory) -> None:
    whole = write(replace(acme_directory, scope=TEAMS_ONLY), tmp_path / "whole.c1z")
    narrower = SyncScope(TEAMS, grants=False)
    derived = derive_snapshot(whole, tmp_path / "derived.c1z", scope=narrower, sync_id=NARROWER)
    assert (
        derived.path.read_bytes()
        == write(replace(acme_directory, scope=narrower), tmp_path / "expected.c1z", NARROWER).path.read_bytes()
    )


def test_the_rows_are_counted_once(tmp_path: Path, acme_directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = write(acme_directory, tmp_path / "whole.c1z")
    counted = []

    def count(connection: sqlite3.Connection, sync_id: str, scope: SyncScope) -> Counts:
        counted.append(scope)
        return count_rows(connection, sync_id, scope)

    monkeypatch.setattr(reader, "count_rows", count)
    derive_snapshot(whole, tmp_path / "derived.c1z", scope=TEAMS_ONLY, sync_id=NARROWER)
    assert counted == [TEAMS_ONLY]


def test_what_the_whole_lacks_cannot_be_derived(tmp_path: Path, acme_directory: Directory) -> None:
    whole = write(replace(acme_directory, scope=TEAMS_ONLY), tmp_path / "whole.c1z")
    with pytest.raises(ValueError, match="does not hold what"):
        derive_snapshot(whole, tmp_path / "derived.c1z", scope=FULL_SCOPE, sync_id=NARROWER)


def test_deriving_can_be_stopped_and_leaves_nothing(tmp_path: Path, acme_directory: Directory) -> None:
    whole = write(acme_directory, tmp_path / "whole.c1z")
    with pytest.raises(WriteStopped):
        derive_snapshot(whole, tmp_path / "derived.c1z", scope=TEAMS_ONLY, sync_id=NARROWER, stopped=lambda: True)
    assert list(tmp_path.iterdir()) == [whole.path]


async def test_the_store_opens_it_without_a_name_and_leaves_the_whole(
    store: SnapshotStore, whole: StagedSnapshot, tmp_path: Path
) -> None:
    before = whole.path.read_bytes()
    with await store.open(whole, TEAMS_ONLY) as opened:
        derived, content = opened.snapshot, opened.file.read()
    assert (derived.sync_id, derived.scope) == (whole.sync_id, TEAMS_ONLY)
    assert derived.counts == replace(whole.counts, accounts=0)
    assert list(whole.path.parent.iterdir()) == [whole.path]
    assert whole.path.read_bytes() == before
    (tmp_path / "copy.c1z").write_bytes(content)
    assert (len(content), hashlib.sha256(content).hexdigest()) == (derived.size, derived.sha256)
    assert read_snapshot(tmp_path / "copy.c1z").run.counts == derived.counts


async def test_two_may_be_derived_at_once_and_the_whole_may_go_meanwhile(
    store: SnapshotStore, whole: StagedSnapshot
) -> None:
    teams, users = await asyncio.gather(store.open(whole, TEAMS_ONLY), store.open(whole, SyncScope(USERS)))
    with teams, users:
        await store.discard("team-a.acme")
        assert list(whole.path.parent.iterdir()) == []
        for each in (teams, users):
            assert hashlib.sha256(each.file.read()).hexdigest() == each.snapshot.sha256
    assert (teams.snapshot.scope, users.snapshot.scope) == (TEAMS_ONLY, SyncScope(USERS))


async def test_files_with_expanded_grants_are_written_one_after_the_other_and_hold_no_other_up(
    store: SnapshotStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = await store.stage("team-a.acme", access(SyncScope(ALL_KINDS)), sync_id=WHOLE, started_at=STARTED)
    met, together = threading.Barrier(2), []

    def derive(*arguments: Any, scope: SyncScope, **others: Any) -> StagedSnapshot:
        with contextlib.suppress(threading.BrokenBarrierError):
            met.wait(0.2)
            together.append(scope)
        return derive_snapshot(*arguments, scope=scope, **others)

    monkeypatch.setattr(module, "derive_snapshot", derive)
    for scopes in ([EXPANDED, TEAMS_ONLY], [EXPANDED, EXPANDED]):
        for opened in await asyncio.gather(*(store.open(whole, scope) for scope in scopes)):
            opened.file.close()
    assert sorted(scope.expanded for scope in together) == [False, True]


async def test_the_next_file_with_expanded_grants_waits_for_the_thread_of_one_that_was_cancelled(
    store: SnapshotStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = await store.stage("team-a.acme", access(SyncScope(ALL_KINDS)), sync_id=WHOLE, started_at=STARTED)
    begun, ends, others = threading.Event(), threading.Event(), threading.Event()

    def derive(*arguments: Any, **more: Any) -> StagedSnapshot:
        if begun.is_set():
            others.set()
            return derive_snapshot(*arguments, **more)
        begun.set()
        ends.wait(10)
        raise WriteStopped

    monkeypatch.setattr(module, "derive_snapshot", derive)
    cancelled = asyncio.create_task(store.open(whole, EXPANDED))
    await asyncio.to_thread(begun.wait, 10)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    waiting = asyncio.create_task(store.open(whole, EXPANDED))
    assert not await asyncio.to_thread(others.wait, 0.2)
    ends.set()
    (await asyncio.wait_for(waiting, 10)).file.close()


async def test_a_whole_that_is_damaged_is_a_failure_that_asks_for_a_new_sync(
    store: SnapshotStore, whole: StagedSnapshot
) -> None:
    with whole.path.open("r+b") as file:
        file.truncate(whole.size - 1)
    with pytest.raises(Failure, match="Take a new one with a sync") as caught:
        await store.open(whole, TEAMS_ONLY)
    assert caught.value.reason is Reason.SNAPSHOT_INVALID
    assert list(whole.path.parent.iterdir()) == [whole.path]


def test_what_a_process_that_was_killed_had_derived_is_removed_at_start(tmp_path: Path) -> None:
    (tmp_path / "x-1.derived").touch()
    (tmp_path / "x-1.c1z").touch()
    SnapshotStore(tmp_path)
    assert [path.suffix for path in tmp_path.iterdir()] == [".c1z"]
