"""A file that is not a whole snapshot is refused with a sentence that says what is wrong with it."""

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zstandard import ZstdCompressor

from buildkite_connector.c1z import read_snapshot, read_sync_run
from buildkite_connector.c1z.archive import unpack
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.snapshot import StagedSnapshot
from harness.organization import ACME_REFERENCE

Write = Callable[..., StagedSnapshot]

REFERENCE = ACME_REFERENCE.read_bytes()


def refused(path: Path, why: str, reason: Reason = Reason.SNAPSHOT_INVALID) -> None:
    for read in (read_sync_run, read_snapshot):
        with pytest.raises(Failure, match=why) as caught:
            read(path)
        assert caught.value.reason is reason
        assert str(path) in caught.value.message


def altered(path: Path, *statements: str) -> Path:
    """The reference's file with its database changed."""
    database = path.with_suffix(".db")
    database.write_bytes(b"".join(unpack(ACME_REFERENCE)))
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)
    path.write_bytes(b"C1ZF\0" + ZstdCompressor().compress(database.read_bytes()))
    return path


@pytest.mark.parametrize("content", [b"", b"C1Z", b"SQLite format 3\0", b"C1Z4\0" + REFERENCE[5:]])
def test_a_file_that_begins_otherwise_is_no_snapshot(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.c1z"
    path.write_bytes(content)
    refused(path, f"it begins with {re.escape(repr(content[:5]))}")


@settings(deadline=None)
@given(st.integers(5, len(REFERENCE) - 1))
def test_a_file_torn_anywhere_is_truncated(tmp_path_factory: pytest.TempPathFactory, length: int) -> None:
    path = tmp_path_factory.mktemp("torn") / "x.c1z"
    path.write_bytes(REFERENCE[:length])
    with pytest.raises(Failure, match="truncated") as caught:
        read_sync_run(path)
    assert caught.value.reason is Reason.SNAPSHOT_INVALID


@settings(deadline=None)
@given(st.integers(5, len(REFERENCE) - 1), st.integers(1, 255))
def test_a_byte_that_changed_anywhere_is_noticed_unless_it_means_nothing(
    tmp_path_factory: pytest.TempPathFactory, place: int, change: int
) -> None:
    content = bytearray(REFERENCE)
    content[place] ^= change
    path = tmp_path_factory.mktemp("damaged") / "x.c1z"
    path.write_bytes(content)
    try:
        found = read_sync_run(path)
    except Failure as failure:
        assert failure.reason is Reason.SNAPSHOT_INVALID  # noqa: PT017  (it need not be raised)
    else:  # an unused bit of the compressed stream: the checksum says that the data is whole
        assert found == read_sync_run(ACME_REFERENCE)


def test_bytes_after_the_stream_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.c1z"
    path.write_bytes(REFERENCE + b"more")
    refused(path, "something follows its compressed data")


def test_a_sync_that_did_not_end_is_not_read(tmp_path: Path) -> None:
    path = altered(tmp_path / "x.c1z", "update v1_sync_runs set ended_at = null")
    refused(path, "it holds no complete sync")


def test_of_several_syncs_the_newest_that_ended_is_read(tmp_path: Path) -> None:
    path = altered(
        tmp_path / "x.c1z",
        "insert into v1_sync_runs (sync_id, started_at, ended_at, sync_token)"
        " values ('older', '2020-01-01 00:00:00', '2020-01-01 00:00:01', '')",
        "insert into v1_sync_runs (sync_id, started_at, ended_at, sync_token)"
        " values ('unfinished', '2030-01-01 00:00:00', null, '')",
        "insert into v1_resources (resource_type_id, external_id, data, sync_id, discovered_at)"
        " values ('user', 'user:x', x'', 'older', '')",
    )
    assert read_snapshot(path).run == read_sync_run(ACME_REFERENCE)
    assert read_snapshot(path).directory == read_snapshot(ACME_REFERENCE).directory


@pytest.mark.parametrize(
    "change",
    [
        "drop table v1_grants",
        "update v1_sync_runs set started_at = 'yesterday'",
        "update v1_sync_runs set started_at = 5",
        "update v1_sync_runs set sync_token = '{'",
        "update v1_sync_runs set sync_token = '[]'",
        "update v1_resource_types set external_id = 'role' where id = 1",
    ],
)
def test_a_database_of_another_shape_is_refused(tmp_path: Path, change: str) -> None:
    refused(altered(tmp_path / "x.c1z", change), "its database is not that of a snapshot")


@pytest.mark.parametrize(
    "change",
    [
        "update v1_resources set data = x'ff' where id = 1",
        "update v1_resources set data = 'text' where id = 1",
        "update v1_grants set data = x'' where id = 1",
    ],
)
def test_a_row_that_is_no_message_is_refused(tmp_path: Path, change: str) -> None:
    path = altered(tmp_path / "x.c1z", change)
    with pytest.raises(Failure, match="its database is not that of a snapshot") as caught:
        read_snapshot(path)
    assert caught.value.reason is Reason.SNAPSHOT_INVALID


def test_a_compressed_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.c1z"
    path.write_bytes(b"C1ZF\0" + ZstdCompressor().compress(b"no database" * 1000))
    refused(path, "its database is not that of a snapshot")


def test_a_file_that_is_not_there_is_a_storage_failure(tmp_path: Path) -> None:
    refused(tmp_path / "x.c1z", "No such file or directory", Reason.STORAGE_FAILED)


@pytest.mark.parametrize("read", [read_sync_run, read_snapshot])
def test_reading_leaves_nothing_behind(tmp_path: Path, write: Write, read: Callable[[Path, Path], object]) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    read(write(tmp_path / "x.c1z").path, scratch)
    assert list(scratch.iterdir()) == []
