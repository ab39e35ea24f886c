"""An upload against the simulated C1: whole and verified, begun afresh when it fails, never a part for the whole."""

import asyncio
import errno
import hashlib
import io
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from buildkite_connector.c1 import C1Client
from buildkite_connector.c1.upload import CHUNK_BYTES
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.snapshot import OpenSnapshot
from buildkite_connector.model.tasks import TaskID
from fakes.c1_setup import SetClock, connect, open_snapshot
from simulators.c1.server import C1Simulator

CONTENT = bytes(range(256)) * (3 * CHUNK_BYTES // 256) + b"the end"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
async def connector(sim: C1Simulator, clock: SetClock) -> AsyncIterator[C1Client]:
    async with connect(sim, clock=clock) as connected:
        yield connected


@pytest.fixture
async def task_id(sim: C1Simulator, connector: C1Client) -> TaskID:
    """A sync task that the connector works on."""
    return await work_on_a_task(sim, connector)


async def work_on_a_task(sim: C1Simulator, connector: C1Client) -> TaskID:
    task_id = TaskID(sim.add_task())
    await connector.hello()
    await connector.next_task()
    await connector.heartbeat(task_id)
    return task_id


@pytest.fixture
def snapshot(tmp_path: Path) -> OpenSnapshot:
    path = tmp_path / "acme.c1z"
    path.write_bytes(CONTENT)
    return open_snapshot(path)


@pytest.mark.parametrize("size", [1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
async def test_a_file_of_any_size_arrives_whole(
    sim: C1Simulator, connector: C1Client, task_id: TaskID, tmp_path: Path, size: int
) -> None:
    path = tmp_path / "sized.c1z"
    path.write_bytes(CONTENT[:size])

    await connector.upload(task_id, open_snapshot(path))

    (received,) = sim.received
    assert received.path.read_bytes() == CONTENT[:size]
    assert sim.violations == []


@pytest.mark.parametrize("after_bytes", [0, 1, CHUNK_BYTES * 2])
@pytest.mark.parametrize("code", ["UNAVAILABLE", "INTERNAL", "ABORTED", "RESOURCE_EXHAUSTED", "CANCELLED"])
async def test_an_upload_that_fails_is_begun_afresh(
    sim: C1Simulator, connector: C1Client, task_id: TaskID, snapshot: OpenSnapshot, code: str, after_bytes: int
) -> None:
    sim.fail("UploadAsset", code, times=2, after_bytes=after_bytes)

    await connector.upload(task_id, snapshot)

    (received,) = sim.received
    assert received.path.read_bytes() == CONTENT
    assert [call.code for call in sim.calls("UploadAsset")] == [code, code, "OK"]


async def test_the_attempts_keep_a_growing_distance(
    sim: C1Simulator, connector: C1Client, task_id: TaskID, snapshot: OpenSnapshot, clock: SetClock
) -> None:
    sim.fail("UploadAsset", times=2)

    await connector.upload(task_id, snapshot)

    assert clock.sleeps == [0.5, 1.0]


async def test_an_upload_is_begun_afresh_on_a_new_connection(
    sim: C1Simulator, connector: C1Client, task_id: TaskID, snapshot: OpenSnapshot
) -> None:
    sim.drop("UploadAsset", after_bytes=CHUNK_BYTES)

    await connector.upload(task_id, snapshot)

    assert [received.sha256 for received in sim.received] == [SHA256]


async def test_a_checksum_that_c1_finds_wrong_is_tried_again(
    sim: C1Simulator, connector: C1Client, task_id: TaskID, snapshot: OpenSnapshot
) -> None:
    sim.reject_checksum()

    await connector.upload(task_id, snapshot)

    assert [received.sha256 for received in sim.received] == [SHA256]


async def test_an_answer_that_is_lost_costs_another_attempt_under_the_same_task(
    sim: C1Simulator, connector: C1Client, task_id: TaskID, snapshot: OpenSnapshot
) -> None:
    sim.fail("UploadAsset", "UNAVAILABLE", carried_out=True)

    await connector.upload(task_id, snapshot)

    assert [(received.task_id, received.sha256) for received in sim.received] == [(task_id, SHA256)] * 2


async def test_after_three_attempts_an_upload_has_failed(
    sim: C1Simulator, connector: C1Client, task_id: TaskID, snapshot: OpenSnapshot, clock: SetClock
) -> None:
    sim.fail("UploadAsset", times=None, message="no space left", after_bytes=CHUNK_BYTES)

    with pytest.raises(Failure) as caught:
        await connector.upload(task_id, snapshot)

    assert (caught.value.reason, caught.value.remedy) == (Reason.UPLOAD_FAILED, Remedy.RETRY)
    assert "was not uploaded in 3 attempts. The last: C1 at" in caught.value.message
    assert len(sim.calls("UploadAsset")) == 3
    assert len(clock.sleeps) == 2
    assert sim.received == []


async def test_a_token_that_expired_is_replaced_and_the_upload_begun_afresh(
    sim: C1Simulator, connector: C1Client, task_id: TaskID, snapshot: OpenSnapshot
) -> None:
    sim.authority.expire_tokens()

    await connector.upload(task_id, snapshot)

    assert [received.sha256 for received in sim.received] == [SHA256]
    assert sim.calls("UploadAsset")[0].code == "UNAUTHENTICATED"


async def test_a_client_that_may_not_upload_is_told_so_without_another_attempt(
    sim: C1Simulator, connector: C1Client, task_id: TaskID, snapshot: OpenSnapshot, clock: SetClock
) -> None:
    sim.fail("UploadAsset", "PERMISSION_DENIED", after_bytes=len(CONTENT))

    with pytest.raises(Failure) as caught:
        await connector.upload(task_id, snapshot)

    assert (caught.value.reason, caught.value.remedy) == (Reason.C1_CLIENT_REJECTED, Remedy.CREDENTIALS)
    assert clock.sleeps == []


async def test_a_file_that_is_removed_while_it_is_sent_arrives_as_it_was(
    sim: C1Simulator, connector: C1Client, task_id: TaskID, tmp_path: Path
) -> None:
    """Also where the upload is begun afresh."""
    path = tmp_path / "open.c1z"
    path.write_bytes(CONTENT)
    sim.fail("UploadAsset", "UNAVAILABLE", after_bytes=CHUNK_BYTES)
    with path.open("rb") as file:
        uploading = asyncio.create_task(connector.upload(task_id, open_snapshot(path, file)))
        await sim.wait_for(lambda: sim.calls("UploadAsset"))
        path.unlink()
        await uploading

    (received,) = sim.received
    assert received.path.read_bytes() == CONTENT


@pytest.mark.parametrize("change", [b"another tenant's file, or a key", None], ids=["written to", "cut short"])
async def test_a_file_that_changes_while_it_is_sent_is_never_finished(
    sim: C1Simulator, connector: C1Client, task_id: TaskID, tmp_path: Path, clock: SetClock, change: bytes | None
) -> None:
    path = tmp_path / "acme.c1z"
    path.write_bytes(CONTENT)
    sim.fail("UploadAsset", "UNAVAILABLE", after_bytes=CHUNK_BYTES)
    with path.open("r+b") as file:
        uploading = asyncio.create_task(connector.upload(task_id, open_snapshot(path, file)))
        await sim.wait_for(lambda: sim.calls("UploadAsset"))
        with path.open("r+b") as other:
            _ = other.write(change) if change else other.truncate(CHUNK_BYTES)
        with pytest.raises(Failure) as caught:
            await uploading

    assert (caught.value.reason, caught.value.remedy) == (Reason.SNAPSHOT_INVALID, Remedy.RETRY)
    assert "acme.c1z has changed since it was staged (its SHA-256 differs)" in caught.value.message
    assert "OK" not in {call.code for call in sim.calls("UploadAsset")}
    assert sim.received == []


async def test_a_file_that_cannot_be_read_is_a_failure_of_storage(
    sim: C1Simulator, connector: C1Client, task_id: TaskID, snapshot: OpenSnapshot
) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.raises(Failure) as caught:
        await connector.upload(task_id, replace(snapshot, file=Broken()))

    assert caught.value.reason is Reason.STORAGE_FAILED
    assert "acme.c1z cannot be read (Input/output error)" in caught.value.message
    assert str(snapshot.snapshot.path.parent) not in caught.value.message
    assert sim.received == []


async def test_an_upload_that_takes_too_long_is_given_up_with_all_its_attempts(
    sim: C1Simulator, snapshot: OpenSnapshot
) -> None:
    async with connect(sim, upload_timeout=0.5) as connector:
        task_id = await work_on_a_task(sim, connector)
        sim.stall("UploadAsset", times=None, after_bytes=CHUNK_BYTES)
        with pytest.raises(Failure) as caught:
            await connector.upload(task_id, snapshot)

    assert (caught.value.reason, caught.value.remedy) == (Reason.UPLOAD_FAILED, Remedy.RETRY)
    assert "within 0.5 s" in caught.value.message
    assert sim.received == []


async def test_an_upload_that_is_cancelled_ends_at_c1_without_a_file(
    sim: C1Simulator, connector: C1Client, task_id: TaskID, snapshot: OpenSnapshot
) -> None:
    sim.stall("UploadAsset", after_bytes=CHUNK_BYTES)
    uploading = asyncio.create_task(connector.upload(task_id, snapshot))
    await sim.wait_for(lambda: sim.under_way["UploadAsset"])
    uploading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await uploading
    await sim.wait_for(lambda: not sim.under_way["UploadAsset"])

    assert "OK" not in {call.code for call in sim.calls("UploadAsset")}
    assert sim.received == []
