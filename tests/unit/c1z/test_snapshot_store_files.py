"""The names of the store's files, what it says of a disk that refuses, and narrower snapshots."""

import asyncio
import errno
import hashlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from buildkite_connector.c1z import SnapshotStore, WriteStopped, read_sync_run
from buildkite_connector.c1z import store as module
from buildkite_connector.model.directory import Directory, SyncScope
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.snapshot import OpenSnapshot, StagedSnapshot, SyncID

FIRST, SECOND = SyncID("3MU2vTiRPq8SdRnLeLr03nEgvMK"), SyncID("3MU2vTiRPq8SdRnLeLr03nEgvML")
KEY = "team-a.acme"
NARROWER = SyncScope(grants=False)


@pytest.fixture
def store(tmp_path: Path) -> SnapshotStore:
    return SnapshotStore(tmp_path / "snapshots")


@pytest.fixture
def place(store: SnapshotStore, tmp_path: Path) -> Path:
    return tmp_path / "snapshots"


@pytest.fixture
async def snapshot(store: SnapshotStore, acme_directory: Directory) -> StagedSnapshot:
    return await store.stage(KEY, acme_directory, sync_id=FIRST, started_at=datetime(2026, 11, 22, tzinfo=UTC))


def refuse(*_: object) -> None:
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))


ADVICE = "Read-only file system. Mount that directory writable, or choose another."


@pytest.mark.parametrize(
    ("refused", "call", "message"),
    [
        (
            "open_verified",
            lambda store, snapshot: store.restore(KEY, snapshot.sha256),
            "Could not read the snapshot {file}: ",
        ),
        (
            "remove",
            lambda store, snapshot: asyncio.to_thread(store.remove, snapshot),
            "Could not remove the snapshot {file}: ",
        ),
        ("remove", lambda store, _: store.discard(KEY), "Could not remove a snapshot {place}: "),
        ("remove", lambda store, _: store.prune([]), "Could not remove a snapshot {place}: "),
    ],
    ids=["restore", "remove", "discard", "prune"],
)
async def test_a_disk_that_refuses_is_a_failure_that_says_what_could_not_be_done(
    store: SnapshotStore,
    place: Path,
    snapshot: StagedSnapshot,
    monkeypatch: pytest.MonkeyPatch,
    refused: str,
    call: Callable[[SnapshotStore, StagedSnapshot], Any],
    message: str,
) -> None:
    monkeypatch.setattr(module, refused, refuse)
    with pytest.raises(Failure) as caught:
        await call(store, snapshot)
    assert caught.value.reason is Reason.STORAGE_FAILED
    assert caught.value.message == message.format(file=snapshot.path, place=place) + ADVICE


def test_a_directory_that_cannot_be_used_is_a_failure_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    place = tmp_path / "file" / "snapshots"
    with pytest.raises(Failure) as caught:
        SnapshotStore(place)
    assert caught.value.message == (
        f"Could not use the snapshot directory {place}: Not a directory. Check that the path is right and its parent is"
        " a directory."
    )


def test_the_directory_is_made_with_those_above_it(tmp_path: Path) -> None:
    SnapshotStore(tmp_path / "data" / "of" / "snapshots")
    assert (tmp_path / "data" / "of" / "snapshots").is_dir()


@pytest.mark.parametrize(
    ("key", "readable"),
    [
        ("team-a.acme", "team-a.acme"),
        ("..Team A/é9", "Team_A__9"),
        ("ACME.Zz.", "ACME.Zz."),
        ("X.x", "X.x"),
        ("x" * 400, "x" * 100),
    ],
)
def test_a_files_name_begins_with_what_is_readable_of_its_key(store: SnapshotStore, key: str, readable: str) -> None:
    unique = hashlib.sha256(key.encode()).hexdigest()[:16]
    assert store.path(key, FIRST).name == f"{readable}-{unique}-{FIRST}.c1z"


async def test_a_whole_file_that_is_no_snapshot_is_a_failure_that_names_it(
    store: SnapshotStore, place: Path, snapshot: StagedSnapshot
) -> None:
    snapshot.path.write_bytes(b"no archive")
    with pytest.raises(Failure, match=str(snapshot.path)) as caught:
        await store.restore(KEY, hashlib.sha256(b"no archive").hexdigest())
    assert caught.value.reason is Reason.SNAPSHOT_INVALID


async def test_a_snapshot_is_restored_where_the_systems_temporary_directory_is_not_writable(
    store: SnapshotStore, snapshot: StagedSnapshot, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The container's file system is read-only: everything happens in the data directory."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    assert await store.restore(KEY, snapshot.sha256) == snapshot


async def test_of_two_files_of_the_same_hash_one_is_restored_and_the_other_removed(
    store: SnapshotStore, place: Path, snapshot: StagedSnapshot
) -> None:
    shutil.copy(snapshot.path, store.path(KEY, SECOND))
    restored = await store.restore(KEY, snapshot.sha256)
    assert restored is not None
    assert list(place.iterdir()) == [restored.path]


async def test_every_snapshot_that_is_removed_is_counted(store: SnapshotStore, snapshot: StagedSnapshot) -> None:
    shutil.copy(snapshot.path, store.path("team-b.acme", SECOND))
    assert await store.prune(["team-c.acme"]) == 2


# A narrower snapshot


async def test_a_narrower_snapshot_is_a_file_of_its_own_and_the_whole_one_is_the_staged_one(
    store: SnapshotStore, place: Path, snapshot: StagedSnapshot, tmp_path: Path
) -> None:
    for scope in (NARROWER, snapshot.scope):
        with await store.open(snapshot, scope) as opened:
            copy = tmp_path / "copy.c1z"
            copy.write_bytes(opened.file.read())
            found = read_sync_run(copy)
        assert (opened.snapshot.scope, found.scope, found.sync_id) == (scope, scope, FIRST)
        assert opened.snapshot.counts == found.counts == snapshot.counts.within(scope)
    assert list(place.iterdir()) == [snapshot.path]


async def test_a_narrower_file_that_cannot_be_removed_now_is_removed_at_the_next_start(
    store: SnapshotStore, place: Path, snapshot: StagedSnapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(module, "remove", refuse)
        with await store.open(snapshot, NARROWER) as opened:
            assert opened.file.read(4)
    assert len(list(place.iterdir())) == 2
    SnapshotStore(place)
    assert list(place.iterdir()) == [snapshot.path]


async def test_a_narrower_snapshot_that_nobody_waits_for_any_more_is_told_to_stop(
    store: SnapshotStore, snapshot: StagedSnapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, told = threading.Event(), threading.Event()

    def derive(*_: object, stopped: Callable[[], bool], **__: object) -> StagedSnapshot:
        begun.set()
        for _attempt in range(1000):
            if stopped():
                told.set()
                raise WriteStopped
            time.sleep(0.01)
        raise AssertionError("nobody told it")

    monkeypatch.setattr(module, "derive_snapshot", derive)
    opening = asyncio.create_task(store.open(snapshot, NARROWER))
    await asyncio.to_thread(begun.wait, 10)
    opening.cancel()
    assert await asyncio.to_thread(told.wait, 10)
    with pytest.raises(asyncio.CancelledError):
        await opening


async def test_an_open_that_fails_after_it_was_cancelled_disturbs_nobody(
    store: SnapshotStore, snapshot: StagedSnapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, may_go, unhandled = threading.Event(), threading.Event(), list[dict[str, Any]]()

    def open_late(_: StagedSnapshot) -> OpenSnapshot:
        begun.set()
        may_go.wait(10)
        raise Failure(Reason.SNAPSHOT_INVALID, "it has changed")

    monkeypatch.setattr(module, "_verified", open_late)
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
    opening = asyncio.create_task(store.open(snapshot, snapshot.scope))
    await asyncio.to_thread(begun.wait, 10)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    may_go.set()
    await asyncio.get_running_loop().shutdown_default_executor()
    await asyncio.sleep(0)
    assert unhandled == []
