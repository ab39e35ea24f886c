"""The store writes beside the event loop: a write that fails, is cancelled or was killed leaves nothing."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from buildkite_connector.c1z import SnapshotStore, WriteStopped
from buildkite_connector.c1z.files import scratch_directory
from buildkite_connector.model.directory import Account, Directory
from buildkite_connector.model.failure import Failure
from buildkite_connector.model.snapshot import StagedSnapshot, SyncID

STARTED = datetime(2026, 11, 22, 23, 28, 6, 230336, tzinfo=UTC)


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


def telling(accounts: tuple[Account, ...], tell: Callable[[], object]) -> tuple[Account, ...]:
    """The accounts, telling when somebody begins to go through them."""

    class Telling(tuple[Account, ...]):
        __slots__ = ()

        def __iter__(self) -> Iterator[Account]:
            tell()
            return super().__iter__()

    return Telling(accounts)


async def staged(
    store: SnapshotStore, directory: Directory, key: str = "team-a.acme", sync_id: SyncID = FIRST
) -> StagedSnapshot:
    return await store.stage(key, directory, sync_id=sync_id, started_at=STARTED)


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

    large = replace(large_directory, accounts=telling(large_directory.accounts, hold_the_writer))
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


def test_what_a_killed_writer_left_is_removed_at_start(place: Path) -> None:
    place.mkdir()
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from buildkite_connector.c1z.files import scratch_directory\n"
        "with scratch_directory(Path(sys.argv[1])) as scratch:\n"
        "    (scratch / 'database').write_bytes(b'half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(  # noqa: S603 (our own script)
        [sys.executable, "-c", script, str(place)], check=False, timeout=60
    )
    assert done.returncode == -signal.SIGKILL
    assert len(files(place)) == 1
    SnapshotStore(place)
    assert files(place) == []


def test_what_was_left_without_its_lock_is_removed_too(place: Path) -> None:
    """Killed before it was locked, or when its removal had only taken the lock away."""
    place.mkdir()
    half, empty, new = (
        place / f".buildkite-connector-{each}" for each in ("half.partial", "empty.new", "beginning.new")
    )
    for left in (half, empty, new):
        left.mkdir()
    (half / "database").write_bytes(b"half")
    os.utime(empty, (time.time() - 61,) * 2)
    SnapshotStore(place)
    assert files(place) == [new], "a writer may be about to lock this one"


def test_a_later_writer_removes_what_a_killed_one_left_and_no_lock_that_is_still_to_be_held(place: Path) -> None:
    place.mkdir()
    old, fresh = (place / f".buildkite-connector-{each}.partial" for each in ("old", "fresh"))
    for left in (old, fresh):
        left.mkdir()
        (left / "lock").touch()
    os.utime(old / "lock", (time.time() - 61,) * 2)
    with scratch_directory(place) as scratch:
        assert sorted(files(place)) == sorted([fresh, scratch])


def test_what_another_writer_is_at_work_on_is_left_alone(place: Path) -> None:
    place.mkdir()
    with scratch_directory(place) as scratch:
        SnapshotStore(place)
        assert scratch.is_dir()


def test_writers_that_begin_and_end_at_once_leave_each_other_alone(tmp_path: Path) -> None:
    def write(number: int) -> bool:
        kept = True
        for _ in range(60):
            with scratch_directory(tmp_path) as scratch:
                (scratch / f"{number}").touch()
                kept = kept and (scratch / f"{number}").exists()
        return kept

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(write, range(8)))
    assert list(tmp_path.iterdir()) == []
