"""What is read and what is refused: damaged files, the Go SDK's other forms, files made to harm their reader."""

import re
import sqlite3
import tracemalloc
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zstandard import ZstdCompressionParameters, ZstdCompressor

from buildkite_connector.c1z import archive, compare, read_snapshot, read_sync_run
from buildkite_connector.c1z.archive import unpack
from buildkite_connector.c1z.reader import opened
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.snapshot import StagedSnapshot
from buildkite_connector.proto.connector_pb2 import Resource
from harness.organization import ACME_REFERENCE
from unit.c1z.altered_files import altered, packed, unpacked

Write = Callable[..., StagedSnapshot]

REFERENCE = ACME_REFERENCE.read_bytes()


def refused(path: Path, why: str, reason: Reason = Reason.SNAPSHOT_INVALID) -> None:
    for read in (read_sync_run, read_snapshot):
        with pytest.raises(Failure, match=why) as caught:
            read(path)
        assert caught.value.reason is reason
        assert str(path) in caught.value.message


@pytest.mark.parametrize("content", [b"", b"C1Z", b"SQLite format 3\0", b"C1Z4\0" + REFERENCE[5:]])
def test_a_file_that_begins_otherwise_is_no_snapshot(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.c1z"
    path.write_bytes(content)
    refused(path, f"it starts with {re.escape(repr(content[:5]))}")


@given(st.integers(5, len(REFERENCE) - 1))
def test_a_file_torn_anywhere_is_truncated(tmp_path_factory: pytest.TempPathFactory, length: int) -> None:
    path = tmp_path_factory.mktemp("torn") / "x.c1z"
    path.write_bytes(REFERENCE[:length])
    with pytest.raises(Failure, match="truncated") as caught:
        read_sync_run(path)
    assert caught.value.reason is Reason.SNAPSHOT_INVALID


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
    refused(path, "there is other data after its compressed data")


def test_a_sync_that_did_not_end_is_not_read(tmp_path: Path) -> None:
    path = altered(tmp_path / "x.c1z", "update v1_sync_runs set ended_at = null")
    refused(path, "it contains no complete sync")


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


@pytest.mark.parametrize("table", ["v1_resources", "v1_grants"])
def test_an_id_that_comes_twice_is_refused_before_the_rows_are_combined(tmp_path: Path, table: str) -> None:
    indexes = "idx_resources_parent_resource_id_v1", "idx_grants_external_sync_v1"
    path = altered(
        tmp_path / "x.c1z",
        *(f"drop index {each}" for each in indexes),
        f"update {table} set external_id = 'x'",  # noqa: S608
    )
    with pytest.raises(Failure, match=f"{table} has an id twice"):
        read_snapshot(path)


def test_a_text_of_the_file_makes_no_long_sentence(tmp_path: Path) -> None:
    path = altered(
        tmp_path / "x.c1z", "update v1_resource_types set external_id = printf('%.1000000c', 'x') where id = 1"
    )
    with pytest.raises(Failure, match="its database is not that of a snapshot") as caught:
        read_snapshot(path)
    assert len(caught.value.message) < len(str(path)) + 500


def test_a_file_of_an_sdk_that_expanded_no_grants_yet_is_read(tmp_path: Path) -> None:
    columns = (f"alter table v1_grants drop column {column}" for column in ("expansion", "needs_expansion"))
    indexes = (f"drop index idx_grants_sync_{name}_v1" for name in ("expansion", "needs_expansion"))
    older = altered(tmp_path / "x.c1z", *indexes, *columns)
    assert read_snapshot(older) == read_snapshot(ACME_REFERENCE)


def test_a_compressed_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    refused(packed(tmp_path / "x.c1z", b"no database" * 1000), "its database is not that of a snapshot")


def test_a_file_that_is_not_there_is_a_storage_failure(tmp_path: Path) -> None:
    refused(tmp_path / "x.c1z", "No such file or directory", Reason.STORAGE_FAILED)


@pytest.mark.parametrize("read", [read_sync_run, read_snapshot])
def test_reading_leaves_nothing_behind(tmp_path: Path, write: Write, read: Callable[[Path, Path], object]) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    read(write(tmp_path / "x.c1z").path, scratch)
    assert list(scratch.iterdir()) == []


def failure_of(path: Path) -> Failure:
    with pytest.raises(Failure) as caught:
        read_snapshot(path)
    assert caught.value.reason is Reason.SNAPSHOT_INVALID
    return caught.value


def test_a_file_of_the_pebble_engine_is_named_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "x.c1z"
    path.write_bytes(b"C1Z3\0" + bytes(100))
    message = failure_of(path).message
    assert "Pebble" in message
    assert "--storage-engine sqlite" in message


@pytest.mark.parametrize("window_log", [10, 20, 23, 25, 26])
def test_every_window_that_gos_encoders_choose_is_read(tmp_path: Path, window_log: int) -> None:
    compressor = ZstdCompressor(
        compression_params=ZstdCompressionParameters.from_level(3, window_log=window_log, write_content_size=False)
    )
    path = tmp_path / "x.c1z"
    plain = unpacked()
    stream = compressor.compressobj()  # of unknown size, as a writer has it: the window is what was asked for
    path.write_bytes(b"C1ZF\0" + stream.compress(plain) + stream.flush())
    assert read_snapshot(path) == read_snapshot(ACME_REFERENCE)


def test_a_file_that_asks_for_more_memory_than_any_encoder_needs_is_refused(tmp_path: Path) -> None:
    stream = ZstdCompressor(compression_params=ZstdCompressionParameters.from_level(3, window_log=27)).compressobj()
    path = tmp_path / "x.c1z"
    path.write_bytes(b"C1ZF\0" + stream.compress(bytes(1 << 20)) + stream.flush())
    assert "128 MB of memory" in failure_of(path).message


def test_a_file_that_unpacks_to_too_much_is_refused_and_costs_little_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = packed(tmp_path / "x.c1z", bytes(100_000_000))
    monkeypatch.setattr(archive, "MOST_UNPACKED", 50_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(Failure, match="unpacks to more than"):
            for _ in unpack(path):
                pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 40_000_000


@pytest.mark.parametrize(
    "script",
    [
        """drop table v1_resources;
           create view v1_resources as with recursive n(i) as (select 1 union all select i + 1 from n)
           select 'user' as resource_type_id, 'user:' || i as external_id, x'' as data, '' as sync_id from n""",
        """drop table v1_grants;
           create virtual table v1_grants using fts5(sync_id, data)""",
    ],
)
def test_a_table_that_is_none_is_refused_before_it_runs(tmp_path: Path, script: str) -> None:
    assert "is not a table" in failure_of(altered(tmp_path / "x.c1z", script)).message


@pytest.mark.parametrize(
    "time", ["2026-02-30 25:61:61", "0001-01-01 00:00:00+23:59", "9999-12-31 23:59:59-23:59", "0000-01-01", "yesterday"]
)
def test_a_time_that_is_none_is_refused(tmp_path: Path, time: str) -> None:
    path = altered(tmp_path / "x.c1z", f"update v1_sync_runs set started_at = '{time}'")  # noqa: S608
    assert failure_of(path).reason is Reason.SNAPSHOT_INVALID


def test_a_cell_of_any_length_is_refused(tmp_path: Path) -> None:
    data = Resource(display_name="x" * 2_000_000).SerializeToString()
    path = altered(tmp_path / "x.c1z", f"update v1_resources set data = x'{data.hex()}' where id = 1")  # noqa: S608
    assert "too big" in failure_of(path).message


def test_of_a_go_file_with_several_syncs_the_newest_whole_one_is_read(tmp_path: Path) -> None:
    path = altered(
        tmp_path / "x.c1z",
        """insert into v1_sync_runs (sync_id, started_at, ended_at, sync_token, sync_type, parent_sync_id) values
             ('partial', '2030-01-01 00:00:00.123456789', '2030-01-01 00:00:01.123456789', '', 'partial', 'x'),
             ('upserts', '2030-01-01 00:00:00', '2030-01-01 00:00:01', '', 'partial_upserts', 'x'),
             ('under way', '2030-01-01 00:00:00', null, '{"current_action_id":1}', 'full', ''),
             ('older', '2020-01-01 00:00:00', '2020-01-01 00:00:01', '', 'full', '');
           insert into v1_resources (resource_type_id, external_id, data, sync_id, discovered_at) values
             ('user', 'user:x', x'', 'partial', ''), ('user', 'user:x', x'', 'older', '');
           insert into v1_grants (resource_type_id, resource_id, entitlement_id, principal_resource_type_id,
             principal_resource_id, external_id, data, sync_id, discovered_at) values
             ('team', 't', 'team:t:member', 'user', 'x', 'team:t:member:user:x', x'', 'partial', '')""",
    )
    assert read_snapshot(path) == read_snapshot(ACME_REFERENCE)
    assert compare(ACME_REFERENCE, path, 10).is_empty


def test_a_table_that_computes_what_it_shows_is_refused(tmp_path: Path) -> None:
    script = """alter table v1_sync_runs rename to other;
        create table v1_sync_runs (sync_id text, sync_type text as (replace(hex(zeroblob(500000)), '0', 'x')))"""
    assert "v1_sync_runs has computed columns" in failure_of(altered(tmp_path / "x.c1z", script)).message


def test_a_table_without_a_column_is_refused_and_the_column_named(tmp_path: Path) -> None:
    path = altered(tmp_path / "x.c1z", "alter table v1_resources rename column external_id to other")
    assert "v1_resources has no column external_id" in failure_of(path).message


def test_the_authors_checks_do_not_run(tmp_path: Path) -> None:
    script = """pragma writable_schema = on;
        update sqlite_master set sql = substr(rtrim(sql), 1, length(rtrim(sql)) - 1)
          || ', check (length(replace(hex(zeroblob(400000)), ''0'', ''x'')) < 0))' where name = 'v1_grants'"""
    assert read_snapshot(altered(tmp_path / "x.c1z", script)) == read_snapshot(ACME_REFERENCE)


@pytest.mark.parametrize("table", ["v1_resources", "v1_grants"])
def test_a_page_that_is_named_twice_is_refused(tmp_path: Path, table: str) -> None:
    """Levels of such pages would multiply what is read without an end, and `inspect` keeps all of it."""
    database = bytearray(unpacked())
    plain = tmp_path / "plain.db"
    plain.write_bytes(database)
    with closing(sqlite3.connect(plain)) as connection:
        (root,) = connection.execute("select rootpage from sqlite_master where name = ?", (table,)).fetchone()
    page = memoryview(database)[(root - 1) * 4096 : root * 4096]
    assert page[0] == 5, "an interior page of a table"
    cells = int.from_bytes(page[3:5], "big")
    first, *others = (int.from_bytes(page[12 + 2 * each : 14 + 2 * each], "big") for each in range(cells))
    for cell in others:
        page[cell : cell + 4] = page[first : first + 4]
    message = failure_of(packed(tmp_path / "x.c1z", bytes(database))).message
    assert f"not that of a snapshot ({table}: " in message


def test_only_what_is_read_is_blamed_on_the_file() -> None:
    with pytest.raises(ValueError, match="the caller's own"), opened(ACME_REFERENCE):
        raise ValueError("the caller's own")
