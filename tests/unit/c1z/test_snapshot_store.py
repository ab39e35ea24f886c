"""The store keeps the snapshots of each connector until they are released, and one across restarts."""

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buildkite_connector.c1z import SnapshotStore, read_snapshot
from buildkite_connector.model.directory import Account, Directory
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.scope import SyncScope
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


async def test_a_staged_snapshot_is_a_file_of_that_sync(
    store: SnapshotStore, place: Path, acme_directory: Directory
) -> None:
    snapshot = await staged(store, acme_directory)
    found = read_snapshot(snapshot.path)
    assert files(place) == [snapshot.path]
    assert found.run.sync_id == snapshot.sync_id == FIRST
    assert found.run.ended_at == FixedClock().now()
    assert found.run.counts == snapshot.counts == acme_directory.counts


async def test_a_new_snapshot_leaves_the_older_file_to_whoever_reads_it_until_it_is_released(
    store: SnapshotStore, place: Path, acme_directory: Directory
) -> None:
    older = await staged(store, acme_directory)
    newest = await staged(store, acme_directory, sync_id=SECOND)
    assert hashlib.sha256(older.path.read_bytes()).hexdigest() == older.sha256
    await store.release(older)
    assert files(place) == [newest.path]
    assert read_snapshot(newest.path).run.sync_id == SECOND


async def test_releasing_twice_is_no_error(store: SnapshotStore, place: Path, acme_directory: Directory) -> None:
    snapshot = await staged(store, acme_directory)
    await store.release(snapshot)
    await store.release(snapshot)
    assert files(place) == []


async def test_keys_do_not_touch_one_another(store: SnapshotStore, acme_directory: Directory) -> None:
    one = await staged(store, acme_directory, "team-a.acme")
    other = await staged(store, acme_directory, "team-b.acme", SECOND)
    await store.discard("team-a.acme")
    assert not one.path.exists()
    assert read_snapshot(other.path).run.sync_id == SECOND


@settings(deadline=None)
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
    """A process may be killed between staging a snapshot and recording it, or before it released the older one."""
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
@pytest.mark.parametrize("removal", ["release", "discard", "prune"])
async def test_removing_takes_the_link_and_never_what_it_leads_to(
    store: SnapshotStore, place: Path, acme_directory: Directory, put: Callable[[Path], None], removal: str
) -> None:
    snapshot = await staged(store, acme_directory)
    put(snapshot.path)
    if removal == "release":
        await store.release(snapshot)
    elif removal == "discard":
        await store.discard("team-a.acme")
    else:
        assert await store.prune(["team-b.acme"]) == 1
    assert files(place) == []
    assert (place.parent / "elsewhere.c1z").exists() is (put is link)


@pytest.mark.parametrize("put", [*OTHERS, lambda path: path.write_bytes(b"x")])
async def test_nothing_is_derived_from_what_is_not_the_staged_file(
    store: SnapshotStore, place: Path, acme_directory: Directory, put: Callable[[Path], object]
) -> None:
    snapshot = await staged(store, acme_directory)
    put(snapshot.path)
    with pytest.raises(Failure) as caught:
        async with store.derived(snapshot, SyncScope(grants=False), sync_id=SECOND):
            pass
    assert caught.value.reason is Reason.SNAPSHOT_INVALID
    assert files(place) == [snapshot.path]


async def test_nothing_is_derived_from_another_snapshot_that_took_the_staged_ones_place(
    store: SnapshotStore, acme_directory: Directory
) -> None:
    """Another tenant's, whole and valid."""
    snapshot = await staged(store, acme_directory)
    other = await staged(store, replace(acme_directory, memberships=()), "team-b.acme", SECOND)
    other.path.replace(snapshot.path)
    with pytest.raises(Failure, match=r"its size differs|its SHA-256 differs"):
        async with store.derived(snapshot, SyncScope(grants=False), sync_id=SECOND):
            pass


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
        async with store.derived(snapshot, SyncScope(grants=False), sync_id=SECOND) as narrower:
            paths = (snapshot.path, narrower.path)
            assert [path.stat().st_mode & 0o777 for path in paths] == [0o600, 0o600]
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
