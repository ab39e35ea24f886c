"""An upload against the simulated C1: whole and verified, begun afresh when it fails, never a part for the whole."""

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator
from io import BufferedReader
from pathlib import Path, PosixPath
from typing import Any

import pytest

from buildkite_connector.c1 import C1Client
from buildkite_connector.c1.upload import CHUNK_BYTES
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.tasks import TaskID
from fakes.c1_world import SetClock, connect
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
def snapshot(tmp_path: Path) -> Path:
    path = tmp_path / "acme.c1z"
    path.write_bytes(CONTENT)
    return path


def overwrite(path: Path, content: bytes) -> None:
    path.write_bytes(content)


@pytest.mark.parametrize("size", [1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
async def test_a_file_of_any_size_arrives_whole(
    sim: C1Simulator, connector: C1Client, task_id: TaskID, tmp_path: Path, size: int
) -> None:
    path = tmp_path / "sized.c1z"
    path.write_bytes(CONTENT[:size])

    await connector.upload(task_id, path, hashlib.sha256(CONTENT[:size]).hexdigest())

    (received,) = sim.received
    assert received.path.read_bytes() == CONTENT[:size]
    assert sim.violations == []


@pytest.mark.parametrize("after_bytes", [0, 1, CHUNK_BYTES * 2])
@pytest.mark.parametrize("code", ["UNAVAILABLE", "INTERNAL", "ABORTED", "RESOURCE_EXHAUSTED", "CANCELLED"])
async def test_an_upload_that_fails_is_begun_afresh(
    sim: C1Simulator, connector: C1Client, task_id: TaskID, snapshot: Path, code: str, after_bytes: int
) -> None:
    sim.fail("UploadAsset", code, times=2, after_bytes=after_bytes)

    await connector.upload(task_id, snapshot, SHA256)

    (received,) = sim.received
    assert received.path.read_bytes() == CONTENT
    assert [call.code for call in sim.calls("UploadAsset")] == [code, code, "OK"]


async def test_the_attempts_keep_a_growing_distance(
    sim: C1Simulator, connector: C1Client, task_id: TaskID, snapshot: Path, clock: SetClock
) -> None:
    sim.fail("UploadAsset", times=2)

    await connector.upload(task_id, snapshot, SHA256)

    assert clock.sleeps == [0.5, 1.0]


async def test_an_upload_is_begun_afresh_on_a_new_connection(
    sim: C1Simulator, connector: C1Client, task_id: TaskID, snapshot: Path
) -> None:
    sim.drop("UploadAsset", after_bytes=CHUNK_BYTES)

    await connector.upload(task_id, snapshot, SHA256)

    assert [received.sha256 for received in sim.received] == [SHA256]


async def test_a_checksum_that_c1_finds_wrong_is_tried_again(
    sim: C1Simulator, connector: C1Client, task_id: TaskID, snapshot: Path
) -> None:
    sim.reject_checksum()

    await connector.upload(task_id, snapshot, SHA256)

    assert [received.sha256 for received in sim.received] == [SHA256]


async def test_an_answer_that_is_lost_costs_another_attempt_under_the_same_task(
    sim: C1Simulator, connector: C1Client, task_id: TaskID, snapshot: Path
) -> None:
    sim.fail("UploadAsset", "UNAVAILABLE", carried_out=True)

    await connector.upload(task_id, snapshot, SHA256)

    assert [(received.task_id, received.sha256) for received in sim.received] == [(task_id, SHA256)] * 2


async def test_after_three_attempts_an_upload_has_failed(
    sim: C1Simulator, connector: C1Client, task_id: TaskID, snapshot: Path, clock: SetClock
) -> None:
    sim.fail("UploadAsset", times=None, message="no space left", after_bytes=CHUNK_BYTES)

    with pytest.raises(Failure) as caught:
        await connector.upload(task_id, snapshot, SHA256)

    assert (caught.value.reason, caught.value.remedy) == (Reason.UPLOAD_FAILED, Remedy.RETRY)
    assert "was not uploaded in 3 attempts. The last: C1 at" in caught.value.message
    assert len(sim.calls("UploadAsset")) == 3
    assert len(clock.sleeps) == 2
    assert sim.received == []


async def test_a_token_that_expired_is_replaced_and_the_upload_begun_afresh(
    sim: C1Simulator, connector: C1Client, task_id: TaskID, snapshot: Path
) -> None:
    sim.authority.expire_tokens()

    await connector.upload(task_id, snapshot, SHA256)

    assert [received.sha256 for received in sim.received] == [SHA256]
    assert sim.calls("UploadAsset")[0].code == "UNAUTHENTICATED"


async def test_a_client_that_may_not_upload_is_told_so_without_another_attempt(
    sim: C1Simulator, connector: C1Client, task_id: TaskID, snapshot: Path, clock: SetClock
) -> None:
    sim.fail("UploadAsset", "PERMISSION_DENIED", after_bytes=len(CONTENT))

    with pytest.raises(Failure) as caught:
        await connector.upload(task_id, snapshot, SHA256)

    assert (caught.value.reason, caught.value.remedy) == (Reason.C1_CLIENT_REJECTED, Remedy.CREDENTIALS)
    assert clock.sleeps == []


async def test_a_file_that_changed_since_it_was_staged_is_never_finished(
    sim: C1Simulator, connector: C1Client, task_id: TaskID, snapshot: Path, clock: SetClock
) -> None:
    overwrite(snapshot, CONTENT[:-1] + b"!")

    with pytest.raises(Failure) as caught:
        await connector.upload(task_id, snapshot, SHA256)
    await sim.wait_for(lambda: sim.calls("UploadAsset"))

    assert (caught.value.reason, caught.value.remedy) == (Reason.SNAPSHOT_INVALID, Remedy.RETRY)
    assert "acme.c1z" in caught.value.message
    assert "OK" not in {call.code for call in sim.calls("UploadAsset")}
    assert (sim.received, clock.sleeps) == ([], [])


async def test_a_file_that_is_gone_is_a_failure_of_storage(
    sim: C1Simulator, connector: C1Client, task_id: TaskID, snapshot: Path
) -> None:
    missing = snapshot.with_name("gone.c1z")

    with pytest.raises(Failure) as caught:
        await connector.upload(task_id, missing, SHA256)

    assert caught.value.reason is Reason.STORAGE_FAILED
    assert "gone.c1z cannot be read (No such file" in caught.value.message
    assert str(snapshot.parent) not in caught.value.message
    assert sim.received == []


async def test_an_upload_that_takes_too_long_is_given_up_with_all_its_attempts(
    sim: C1Simulator, snapshot: Path
) -> None:
    async with connect(sim, upload_timeout=0.5) as connector:
        task_id = await work_on_a_task(sim, connector)
        sim.stall("UploadAsset", times=None, after_bytes=CHUNK_BYTES)
        with pytest.raises(Failure) as caught:
            await connector.upload(task_id, snapshot, SHA256)

    assert (caught.value.reason, caught.value.remedy) == (Reason.UPLOAD_FAILED, Remedy.RETRY)
    assert "within 0.5 s" in caught.value.message
    assert sim.received == []


async def test_an_upload_that_is_cancelled_ends_at_c1_without_a_file(
    sim: C1Simulator, connector: C1Client, task_id: TaskID, snapshot: Path
) -> None:
    sim.stall("UploadAsset", after_bytes=CHUNK_BYTES)
    uploading = asyncio.create_task(connector.upload(task_id, snapshot, SHA256))
    await sim.wait_for(lambda: sim.under_way["UploadAsset"])
    uploading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await uploading
    await sim.wait_for(lambda: not sim.under_way["UploadAsset"])

    assert "OK" not in {call.code for call in sim.calls("UploadAsset")}
    assert sim.received == []


class SlowPath(PosixPath):
    """Opened by a thread only once `may_open` is set."""

    opening, may_open = threading.Event(), threading.Event()
    file: BufferedReader | None = None

    def open(self, *arguments: Any, **options: Any) -> Any:
        self.opening.set()
        self.may_open.wait()
        SlowPath.file = super().open(*arguments, **options)
        return SlowPath.file


async def test_a_file_that_is_opened_after_the_upload_was_cancelled_is_closed(
    connector: C1Client, task_id: TaskID, snapshot: Path
) -> None:
    upload = asyncio.create_task(connector.upload(task_id, SlowPath(snapshot), SHA256))
    await asyncio.to_thread(SlowPath.opening.wait)
    upload.cancel()
    await asyncio.wait({upload})
    SlowPath.may_open.set()
    async with asyncio.timeout(10):
        while SlowPath.file is None or not SlowPath.file.closed:  # noqa: ASYNC110  (a file has no event)
            await asyncio.sleep(0.01)
