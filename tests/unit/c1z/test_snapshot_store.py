"""The store keeps the snapshots of each connector until they are removed, and one across restarts."""

import asyncio
import hashlib
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import BufferedReader
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkite_connector.c1z import SnapshotStore, WriteStopped, read_snapshot
from buildkite_connector.c1z import store as module
from buildkite_connector.model.directory import Directory, SyncScope
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.snapshot import StagedSnapshot, SyncID
from buildkite_connector.process.files import open_verified

STARTED = datetime(2026, 11, 22, 23, 28, 6, 230336, tzinfo=UTC)


T = TypeVar("T")
FIRST, SECOND = SyncID("3MU2vTiRPq8SdRnLeLr03nEgvMK"), SyncID("3MU2vTiRPq8SdRnLeLr03nEgvML")


class FixedClock:
    """Ten minutes after the sync began, at all times."""

    def now(self) -> datetime:
        return STARTED + timedelta(minutes=10)

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "snapshots"


@pytest.fixture
def store(place: Path) -> SnapshotStore:
    return SnapshotStore(place, FixedClock())


def files(place: Path) -> list[Path]:
    return list(place.iterdir())


def telling(items: tuple[T, ...], tell: Callable[[], object]) -> tuple[T, ...]:
    """The items, telling when somebody begins to go through them."""

    class Telling(tuple[T, ...]):
        __slots__ = ()

        def __iter__(self) -> Iterator[T]:
            tell()
            return super().__iter__()

    return Telling(items)


async def staged(
    store: SnapshotStore, directory: Directory, key: str = "team-a.acme", sync_id: SyncID = FIRST
) -> StagedSnapshot:
    return await store.stage(key, directory, sync_id=sync_id, started_at=STARTED)


async def test_a_staged_snapshot_is_a_file_of_that_sync(
    store: SnapshotStore, place: Path, acme_directory: Directory
) -> None:
    snapshot = await staged(store, acme_directory)
    found = read_snapshot(snapshot.path)
    assert files(place) == [snapshot.path]
    assert found.run.sync_id == snapshot.sync_id == FIRST
    assert found.run.ended_at == FixedClock().now()
    assert found.run.counts == snapshot.counts == acme_directory.counts


async def test_a_snapshot_that_is_removed_is_read_to_the_end_by_whoever_has_it_open(
    store: SnapshotStore, place: Path, acme_directory: Directory
) -> None:
    older = await staged(store, acme_directory)
    newest = await staged(store, acme_directory, sync_id=SECOND)
    with await store.open(older, older.scope) as opened:
        store.remove(older)
        store.remove(older)
        assert files(place) == [newest.path]
        assert (opened.snapshot, hashlib.sha256(opened.file.read()).hexdigest()) == (older, older.sha256)
    assert read_snapshot(newest.path).run.sync_id == SECOND


async def test_keys_do_not_touch_one_another(store: SnapshotStore, acme_directory: Directory) -> None:
    one = await staged(store, acme_directory, "team-a.acme")
    other = await staged(store, acme_directory, "team-b.acme", SECOND)
    await store.discard("team-a.acme")
    assert not one.path.exists()
    assert read_snapshot(other.path).run.sync_id == SECOND


@given(st.lists(st.text(max_size=400), unique=True, min_size=2, max_size=8))
def test_every_key_has_a_file_name_of_its_own_inside_the_directory(
    tmp_path_factory: pytest.TempPathFactory, keys: list[str]
) -> None:
    place = tmp_path_factory.mktemp("keys")
    paths = {SnapshotStore(place).path(key, FIRST) for key in keys}
    assert len(paths) == len(keys)
    for path in paths:
        assert path.parent == place
        assert len(path.name.encode()) <= 255
        assert not path.name.startswith(".")


async def test_after_a_restart_the_snapshot_of_that_hash_is_restored_as_it_was(
    store: SnapshotStore, place: Path, acme_directory: Directory
) -> None:
    directory = replace(acme_directory, memberships=(), scope=SyncScope(grants=False))
    snapshot = await staged(store, directory)
    assert await SnapshotStore(place).restore("team-a.acme", snapshot.sha256) == snapshot


@pytest.mark.parametrize("recorded", [0, 1])
async def test_the_file_of_the_recorded_hash_is_restored_and_the_keys_others_are_removed(
    store: SnapshotStore, acme_directory: Directory, recorded: int
) -> None:
    """A process may be killed between staging a snapshot and recording it, or before it removed the older one."""
    both = [await staged(store, acme_directory), await staged(store, acme_directory, sync_id=SECOND)]
    stranger = await staged(store, acme_directory, "team-b.acme")
    assert await store.restore("team-a.acme", both[recorded].sha256) == both[recorded]
    assert [snapshot.path.exists() for snapshot in both] == [recorded == 0, recorded == 1]
    assert stranger.path.exists()


async def test_files_that_are_not_of_that_hash_are_removed(
    store: SnapshotStore, place: Path, acme_directory: Directory
) -> None:
    await staged(store, acme_directory)
    assert await store.restore("team-a.acme", "0" * 64) is None
    assert files(place) == []


async def test_a_damaged_file_is_not_restored(store: SnapshotStore, acme_directory: Directory) -> None:
    snapshot = await staged(store, acme_directory)
    with snapshot.path.open("r+b") as file:
        file.truncate(snapshot.size - 1)
    assert await store.restore("team-a.acme", snapshot.sha256) is None


async def test_where_nothing_was_staged_nothing_is_restored(store: SnapshotStore) -> None:
    assert await store.restore("team-a.acme", "0" * 64) is None


async def test_a_key_whose_name_begins_with_anothers_file_name_is_not_taken_for_it(
    store: SnapshotStore, acme_directory: Directory
) -> None:
    one = await staged(store, acme_directory, "team-a.acme")
    prefix = one.path.name.removesuffix(f"-{FIRST}.c1z")
    alike = await staged(store, acme_directory, f"{prefix}-x")
    await store.discard("team-a.acme")
    assert not one.path.exists()
    assert alike.path.exists()


async def test_discarding_removes_all_of_a_key(store: SnapshotStore, place: Path, acme_directory: Directory) -> None:
    await staged(store, acme_directory)
    await staged(store, acme_directory, sync_id=SECOND)
    await store.discard("team-a.acme")
    assert files(place) == []


async def test_discarding_twice_is_no_error(store: SnapshotStore, place: Path, acme_directory: Directory) -> None:
    await staged(store, acme_directory)
    await store.discard("team-a.acme")
    await store.discard("team-a.acme")
    assert files(place) == []


async def test_snapshots_of_connectors_that_are_no_more_are_removed(
    store: SnapshotStore, acme_directory: Directory
) -> None:
    one = await staged(store, acme_directory, "team-a.acme")
    other = await staged(store, acme_directory, "team-b.acme", SECOND)
    assert await store.prune(["team-b.acme", "team-c.acme"]) == 1
    assert not one.path.exists()
    assert other.path.exists()


def test_a_directory_that_cannot_be_made_is_a_storage_failure_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Failure, match=str(tmp_path / "file" / "snapshots")) as caught:
        SnapshotStore(tmp_path / "file" / "snapshots")
    assert caught.value.reason is Reason.STORAGE_FAILED


def test_the_directory_is_made_for_this_user_alone(store: SnapshotStore, place: Path) -> None:
    assert place.stat().st_mode & 0o777 == 0o700


# What another process puts in a file's place


def link(path: Path) -> None:
    other = path.parent.parent / "elsewhere.c1z"
    path.replace(other)
    path.symlink_to(other)


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "inner").touch()


OTHERS: list[Callable[[Path], None]] = [link, fifo, folder]


@pytest.mark.parametrize("put", OTHERS)
async def test_what_is_no_file_of_the_stores_is_not_restored_and_is_removed(
    store: SnapshotStore, place: Path, acme_directory: Directory, put: Callable[[Path], None]
) -> None:
    """Even where the content behind a link is the same: it may be another's tomorrow."""
    snapshot = await staged(store, acme_directory)
    put(snapshot.path)
    assert await store.restore("team-a.acme", snapshot.sha256) is None
    assert files(place) == []
    assert (place.parent / "elsewhere.c1z").exists() is (put is link)


@pytest.mark.parametrize("put", OTHERS)
@pytest.mark.parametrize("removal", ["remove", "discard", "prune"])
async def test_removing_takes_the_link_and_never_what_it_leads_to(
    store: SnapshotStore, place: Path, acme_directory: Directory, put: Callable[[Path], None], removal: str
) -> None:
    snapshot = await staged(store, acme_directory)
    put(snapshot.path)
    if removal == "remove":
        store.remove(snapshot)
    elif removal == "discard":
        await store.discard("team-a.acme")
    else:
        assert await store.prune(["team-b.acme"]) == 1
    assert files(place) == []
    assert (place.parent / "elsewhere.c1z").exists() is (put is link)


def device(path: Path) -> None:
    """Through a link, because only root makes devices."""
    path.unlink()
    path.symlink_to("/dev/zero")


def listener(path: Path) -> None:
    path.unlink()
    os.mknod(path, stat.S_IFSOCK | 0o600)


def alien(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(path, 65532, 65532)


def flip(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"!")


@pytest.mark.parametrize("scope", [SyncScope(), SyncScope(grants=False)], ids=["whole", "part"])
@pytest.mark.parametrize(
    ("put", "what"),
    [
        (flip, "its SHA-256 differs"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "its size differs"),
        (lambda path: path.write_bytes(b""), "its size differs"),
        (link, "it is a symbolic link"),
        (device, "it is a symbolic link"),
        (fifo, "it is not a regular file"),
        (folder, "it is not a regular file"),
        (listener, "it is not a regular file"),
        (alien, "it belongs to another user"),
    ],
)
async def test_what_is_not_the_staged_file_is_not_opened(
    store: SnapshotStore,
    place: Path,
    acme_directory: Directory,
    put: Callable[[Path], object],
    what: str,
    scope: SyncScope,
) -> None:
    snapshot = await staged(store, acme_directory)
    put(snapshot.path)
    with pytest.raises(Failure, match=what) as caught:
        await store.open(snapshot, scope)
    assert (caught.value.reason, caught.value.remedy) == (Reason.SNAPSHOT_INVALID, Remedy.RETRY)
    if scope == snapshot.scope:
        assert f"The staged snapshot {snapshot.path.name} has changed since" in caught.value.message
    assert files(place) == [snapshot.path]


async def test_another_snapshot_that_took_the_staged_ones_place_is_not_opened(
    store: SnapshotStore, acme_directory: Directory
) -> None:
    """Another tenant's, whole and valid."""
    snapshot = await staged(store, acme_directory)
    other = await staged(store, replace(acme_directory, memberships=()), "team-b.acme", SECOND)
    other.path.replace(snapshot.path)
    for scope in (SyncScope(), SyncScope(grants=False)):
        with pytest.raises(Failure, match=r"its size differs|its SHA-256 differs"):
            await store.open(snapshot, scope)


async def test_a_file_that_is_gone_is_a_failure_of_storage(store: SnapshotStore, acme_directory: Directory) -> None:
    snapshot = await staged(store, acme_directory)
    store.remove(snapshot)
    with pytest.raises(Failure) as caught:
        await store.open(snapshot, snapshot.scope)
    assert caught.value.reason is Reason.STORAGE_FAILED
    assert f"{snapshot.path.name} cannot be read (No such file" in caught.value.message
    assert str(snapshot.path.parent) not in caught.value.message


@pytest.mark.parametrize("scope", [SyncScope(), SyncScope(grants=False)], ids=["whole", "part"])
async def test_an_open_that_is_cancelled_ends_at_once_and_the_file_is_closed_when_the_thread_has_it(
    store: SnapshotStore,
    place: Path,
    acme_directory: Directory,
    monkeypatch: pytest.MonkeyPatch,
    scope: SyncScope,
) -> None:
    snapshot = await staged(store, acme_directory)
    begun, may_go, opened = threading.Event(), threading.Event(), []

    def open_slowly(*arguments: Any) -> BufferedReader:
        begun.set()
        may_go.wait()
        opened.append(open_verified(*arguments))
        return opened[0]

    monkeypatch.setattr(module, "open_verified", open_slowly)
    opening = asyncio.create_task(store.open(snapshot, scope))
    await asyncio.to_thread(begun.wait)
    opening.cancel()
    await asyncio.wait({opening})
    may_go.set()
    async with asyncio.timeout(10.0):
        while not opened or not opened[0].closed:  # noqa: ASYNC110  (a file has no event)
            await asyncio.sleep(0.01)
    assert files(place) == [snapshot.path]


def test_at_the_start_nothing_outside_is_removed(place: Path) -> None:
    elsewhere = place.parent / "elsewhere"
    for folder in (place, elsewhere):
        folder.mkdir()
    (elsewhere / "kept").touch()
    (place / "x.derived").symlink_to(elsewhere)
    (place / ".buildkite-connector-a.partial").symlink_to(elsewhere)
    (place / ".buildkite-connector-b.partial").mkdir()
    (place / ".buildkite-connector-b.partial" / "inner").symlink_to(elsewhere)
    (place / ".buildkite-connector-c.partial").mkdir()
    os.mkfifo(place / ".buildkite-connector-c.partial" / "lock")
    (place / ".buildkite-connector-d.partial").mkdir()
    (place / ".buildkite-connector-d.partial" / "lock").symlink_to(elsewhere / "kept")
    SnapshotStore(place)
    assert [path.name for path in elsewhere.iterdir()] == ["kept"]
    assert not (place / "x.derived").is_symlink()


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o277], ids=oct)
async def test_files_are_for_this_user_alone_whatever_the_umask(
    tmp_path: Path, acme_directory: Directory, umask: int
) -> None:
    former = os.umask(umask)
    try:
        store = SnapshotStore(tmp_path / "snapshots", FixedClock())
        snapshot = await staged(store, acme_directory)
        with await store.open(snapshot, SyncScope(grants=False)) as narrower:
            assert snapshot.path.stat().st_mode & 0o777 == 0o600
            assert os.fstat(narrower.file.fileno()).st_mode & 0o777 == 0o600
    finally:
        os.umask(former)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a link away")
def test_a_directory_that_is_another_users_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to("data")
    os.chown(tmp_path / "link", 65532, 65532, follow_symlinks=False)
    with pytest.raises(Failure, match="it is a symbolic link of another user") as caught:
        SnapshotStore(tmp_path / "link")
    assert caught.value.reason is Reason.STORAGE_FAILED


# Writing beside the event loop: a write that fails, is cancelled or was killed leaves nothing


async def test_a_snapshot_that_cannot_be_written_leaves_the_former_one_staged(
    store: SnapshotStore, acme_directory: Directory
) -> None:
    snapshot = await staged(store, acme_directory)
    broken = replace(acme_directory, accounts=acme_directory.accounts[1:])
    with pytest.raises(Failure):
        await staged(store, broken, sync_id=SECOND)
    assert await store.restore("team-a.acme", snapshot.sha256) == snapshot


async def test_the_event_loop_runs_while_a_snapshot_is_written(
    store: SnapshotStore, large_directory: Directory
) -> None:
    turns = 0
    writing = asyncio.create_task(staged(store, large_directory))
    while not writing.done():
        turns += 1
        await asyncio.sleep(0)
    await writing
    assert turns > 5


async def test_a_cancelled_write_stops_clears_up_and_leaves_the_former_snapshot(
    store: SnapshotStore, place: Path, acme_directory: Directory, large_directory: Directory
) -> None:
    snapshot = await staged(store, acme_directory)
    begun, loop, cancelled = asyncio.Event(), asyncio.get_running_loop(), threading.Event()

    def hold_the_writer() -> None:
        loop.call_soon_threadsafe(begun.set)
        cancelled.wait(timeout=60)

    large = replace(large_directory, memberships=telling(large_directory.memberships, hold_the_writer))
    writing = asyncio.create_task(staged(store, large, sync_id=SECOND))
    await begun.wait()
    assert len(files(place)) == 2
    writing.cancel()
    await asyncio.sleep(0)
    cancelled.set()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert files(place) == [snapshot.path]
    assert await store.restore("team-a.acme", snapshot.sha256) == snapshot


async def test_a_cancelled_write_is_told_to_stop(
    store: SnapshotStore, acme_directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, told, loop = asyncio.Event(), threading.Event(), asyncio.get_running_loop()

    def write(*_: object, stopped: Callable[[], bool], **__: object) -> StagedSnapshot:
        loop.call_soon_threadsafe(begun.set)
        for _attempt in range(1000):
            if stopped():
                told.set()
                raise WriteStopped
            time.sleep(0.01)
        raise AssertionError("nobody told it")

    monkeypatch.setattr("buildkite_connector.c1z.store.write_snapshot", write)
    writing = asyncio.create_task(staged(store, acme_directory))
    await begun.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert told.is_set()


async def test_a_write_that_ends_as_it_is_cancelled_leaves_no_file(
    store: SnapshotStore, place: Path, acme_directory: Directory
) -> None:
    begun, loop = asyncio.Event(), asyncio.get_running_loop()
    accounts = telling(acme_directory.accounts, lambda: loop.call_soon_threadsafe(begun.set))
    writing = asyncio.create_task(staged(store, replace(acme_directory, accounts=accounts)))
    await begun.wait()
    while not list(place.glob("*.c1z")):
        time.sleep(0.01)  # the loop does not turn, so that the task cannot hear of the end  # noqa: ASYNC251
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert files(place) == []
