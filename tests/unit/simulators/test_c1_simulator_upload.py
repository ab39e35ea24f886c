"""What the simulated C1 takes as an upload, what it makes of it, and what it refuses."""

import hashlib
from pathlib import Path

import pytest
from grpc import StatusCode

from buildkite_connector.proto import baton_pb2
from simulators.c1.limits import MAX_CHUNK
from simulators.c1.probe import Probe, probe, upload_messages
from simulators.c1.server import C1Simulator
from simulators.c1.tiny_snapshot import (
    SYNC_ID,
    tiny_snapshot,
)
from unit.simulators.c1_uploads import names, refusal, running_task, sql

Message = baton_pb2.BatonServiceUploadAssetRequest


async def test_an_upload_may_come_in_chunks_of_any_size_up_to_the_limit(sim: C1Simulator, host: Probe) -> None:
    task_id = await running_task(sim, host)
    noise = sql("create table noise as select randomblob(3000000) as bytes")
    data = tiny_snapshot(noise)
    assert len(data) > 2 * MAX_CHUNK
    for chunk in (MAX_CHUNK, 512 * 1024, 100_003):
        await host.send(upload_messages("a-host", task_id, data, chunk))
    assert {received.sha256 for received in sim.received} == {hashlib.sha256(data).hexdigest()}


async def test_a_second_upload_under_a_task_replaces_what_is_ingested(sim: C1Simulator, host: Probe) -> None:
    task_id = await running_task(sim, host)
    await host.upload(task_id, tiny_snapshot())
    await host.upload(task_id, tiny_snapshot(sql("update v1_sync_runs set sync_token = 'again'")))
    await host.finish(task_id)
    assert [received.ingested for received in sim.received] == [False, True]
    assert not sim.violations


async def test_a_sync_delivered_under_two_tasks_is_counted(sim: C1Simulator, host: Probe) -> None:
    for _ in range(2):
        task_id = await running_task(sim, host)
        await host.upload(task_id, tiny_snapshot())
        await host.finish(task_id)
    assert (len(sim.ingested), sim.repeated_syncs) == (2, {SYNC_ID: 2})


@pytest.mark.parametrize(
    ("order", "says"),
    [
        ("", "expected metadata first, got None"),
        ("de", "expected metadata first, got data"),
        ("mmde", "got metadata again"),
        ("me", "expected data before eof"),
        ("md", "ended without eof"),
        ("mded", "nothing after eof, got data"),
        ("mdee", "nothing after eof, got eof"),
        ("md-e", "msg: expected metadata, data or eof, got none"),
    ],
)
async def test_an_upload_is_metadata_then_data_then_eof(sim: C1Simulator, host: Probe, order: str, says: str) -> None:
    task_id = await running_task(sim, host)
    metadata, data, eof = upload_messages("a-host", task_id, tiny_snapshot())
    parts = {"m": metadata, "d": data, "e": eof, "-": Message()}
    assert says in await refusal(host.send(parts[letter] for letter in order))
    assert not sim.received


@pytest.mark.parametrize("size", [0, MAX_CHUNK + 1])
async def test_a_chunk_is_neither_empty_nor_over_a_mebibyte(sim: C1Simulator, host: Probe, size: int) -> None:
    task_id = await running_task(sim, host)
    metadata, _, eof = upload_messages("a-host", task_id, b"x")
    data = Message(data=Message.UploadData(data=b"x" * size))
    assert f"data.data: expected 1 to {MAX_CHUNK} bytes, got {size}" in await refusal(host.send([metadata, data, eof]))


async def test_a_checksum_of_other_bytes_is_refused(sim: C1Simulator, host: Probe) -> None:
    task_id = await running_task(sim, host)
    *parts, _ = upload_messages("a-host", task_id, tiny_snapshot())
    wrong = Message(eof=Message.UploadEOF(sha256_checksum=bytes(32)))
    assert "sha256_checksum: is not" in await refusal(host.send([*parts, wrong]))


async def test_a_checksum_has_32_bytes(sim: C1Simulator, host: Probe) -> None:
    task_id = await running_task(sim, host)
    *parts, _ = upload_messages("a-host", task_id, tiny_snapshot())
    short = Message(eof=Message.UploadEOF(sha256_checksum=bytes(31)))
    assert "expected 32 bytes, got 31" in await refusal(host.send([*parts, short]))


async def test_a_checksum_can_be_found_wrong_once(sim: C1Simulator, host: Probe) -> None:
    task_id = await running_task(sim, host)
    sim.reject_checksum()
    assert "sha256_checksum" in await refusal(host.upload(task_id, tiny_snapshot()))
    await host.upload(task_id, tiny_snapshot())
    assert len(sim.received) == 1


async def test_an_upload_can_fail_after_some_bytes_and_leaves_no_file(tmp_path: Path) -> None:
    async with C1Simulator(keep_uploads=tmp_path) as sim, probe(sim) as host:
        await host.hello()
        task_id = await running_task(sim, host)
        sim.fail("UploadAsset", "UNAVAILABLE", after_bytes=100)
        await refusal(host.upload(task_id, tiny_snapshot()), StatusCode.UNAVAILABLE)
        assert not sim.received
        assert not sim.violations
    assert not names(tmp_path)


async def test_a_grant_to_an_account_that_is_not_listed_is_taken_and_counted(sim: C1Simulator, host: Probe) -> None:
    task_id = await running_task(sim, host)
    await host.upload(task_id, tiny_snapshot(sql("delete from v1_resources where external_id = 'user:u1'")))
    assert sim.received[-1].summary()["dangling_grants"] == 1
