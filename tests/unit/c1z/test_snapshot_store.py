"""The store keeps the snapshots of each connector until they are released, and one across restarts."""

import hashlib
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
