"""An upload against the simulated C1: whole and verified, begun afresh when it fails, never a part for the whole."""

import asyncio
import hashlib
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from io import BufferedReader
from pathlib import Path
from typing import Any

import pytest

from buildkite_connector.c1 import C1Client, upload
from buildkite_connector.c1.upload import CHUNK_BYTES
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.snapshot import StagedSnapshot
from buildkite_connector.model.tasks import TaskID
from buildkite_connector.process.files import open_verified
from fakes.c1_world import SetClock, connect, staged_file
from simulators.c1.server import C1Simulator

CONTENT = bytes(range(256)) * (3 * CHUNK_BYTES // 256) + b"the end"
DEADLINE = 10.0
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
def snapshot(tmp_path: Path) -> StagedSnapshot:
    path = tmp_path / "acme.c1z"
    path.write_bytes(CONTENT)
    return staged_file(path)


OTHERS = b"another tenant's file, or a key"


def link(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(CONTENT)
    path.unlink()
    path.symlink_to(other)


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def device(path: Path) -> None:
    """Through a link, because only root makes devices."""
    path.unlink()
    path.symlink_to("/dev/zero")


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def listener(path: Path) -> None:
    path.unlink()
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))


def alien(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(path, 65532, 65532)


@pytest.mark.parametrize("size", [1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
async def test_a_file_of_any_size_arrives_whole(
    sim: C1Simulator, connector: C1Client, task_id: TaskID, tmp_path: Path, size: int
) -> None:
    path = tmp_path / "sized.c1z"
    path.write_bytes(CONTENT[:size])

    await connector.upload(task_id, staged_file(path))

    (received,) = sim.received
    assert received.path.read_bytes() == CONTENT[:size]
    assert sim.violations == []


@pytest.mark.parametrize("after_bytes", [0, 1, CHUNK_BYTES * 2])
@pytest.mark.parametrize("code", ["UNAVAILABLE", "INTERNAL", "ABORTED", "RESOURCE_EXHAUSTED", "CANCELLED"])
async def test_an_upload_that_fails_is_begun_afresh(
    sim: C1Simulator, connector: C1Client, task_id: TaskID, snapshot: StagedSnapshot, code: str, after_bytes: int
) -> None:
    sim.fail("UploadAsset", code, times=2, after_bytes=after_bytes)

    await connector.upload(task_id, snapshot)

    (received,) = sim.received
    assert received.path.read_bytes() == CONTENT
    assert [call.code for call in sim.calls("UploadAsset")] == [code, code, "OK"]


async def test_the_attempts_keep_a_growing_distance(
    sim: C1Simulator, connector: C1Client, task_id: TaskID, snapshot: StagedSnapshot, clock: SetClock
) -> None:
    sim.fail("UploadAsset", times=2)

    await connector.upload(task_id, snapshot)

    assert clock.sleeps == [0.5, 1.0]


async def test_an_upload_is_begun_afresh_on_a_new_connection(
    sim: C1Simulator, connector: C1Client, task_id: TaskID, snapshot: StagedSnapshot
) -> None:
    sim.drop("UploadAsset", after_bytes=CHUNK_BYTES)

    await connector.upload(task_id, snapshot)

    assert [received.sha256 for received in sim.received] == [SHA256]


async def test_a_checksum_that_c1_finds_wrong_is_tried_again(
    sim: C1Simulator, connector: C1Client, task_id: TaskID, snapshot: StagedSnapshot
) -> None:
    sim.reject_checksum()

    await connector.upload(task_id, snapshot)

    assert [received.sha256 for received in sim.received] == [SHA256]


async def test_an_answer_that_is_lost_costs_another_attempt_under_the_same_task(
    sim: C1Simulator, connector: C1Client, task_id: TaskID, snapshot: StagedSnapshot
) -> None:
    sim.fail("UploadAsset", "UNAVAILABLE", carried_out=True)

    await connector.upload(task_id, snapshot)

    assert [(received.task_id, received.sha256) for received in sim.received] == [(task_id, SHA256)] * 2


async def test_after_three_attempts_an_upload_has_failed(
    sim: C1Simulator, connector: C1Client, task_id: TaskID, snapshot: StagedSnapshot, clock: SetClock
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
    sim: C1Simulator, connector: C1Client, task_id: TaskID, snapshot: StagedSnapshot
) -> None:
    sim.authority.expire_tokens()

    await connector.upload(task_id, snapshot)

    assert [received.sha256 for received in sim.received] == [SHA256]
    assert sim.calls("UploadAsset")[0].code == "UNAUTHENTICATED"


async def test_a_client_that_may_not_upload_is_told_so_without_another_attempt(
    sim: C1Simulator, connector: C1Client, task_id: TaskID, snapshot: StagedSnapshot, clock: SetClock
) -> None:
    sim.fail("UploadAsset", "PERMISSION_DENIED", after_bytes=len(CONTENT))

    with pytest.raises(Failure) as caught:
        await connector.upload(task_id, snapshot)

    assert (caught.value.reason, caught.value.remedy) == (Reason.C1_CLIENT_REJECTED, Remedy.CREDENTIALS)
    assert clock.sleeps == []


@pytest.mark.parametrize(
    ("put_another", "what"),
    [
        (lambda path: path.write_bytes(CONTENT[:-1] + b"!"), "its SHA-256 differs"),
        (lambda path: path.write_bytes(CONTENT[:-1]), "its size differs"),
        (lambda path: path.write_bytes(b""), "its size differs"),
        (lambda path: path.write_bytes(OTHERS), "its size differs"),
        (link, "it is a symbolic link"),
        (device, "it is a symbolic link"),
        (fifo, "it is not a regular file"),
        (folder, "it is not a regular file"),
        (listener, "it is not a regular file"),
        (alien, "it belongs to another user"),
    ],
)
async def test_what_is_not_the_staged_file_is_not_sent_not_one_byte_of_it(
    sim: C1Simulator,
    connector: C1Client,
    task_id: TaskID,
    snapshot: StagedSnapshot,
    clock: SetClock,
    put_another: Callable[[Path], object],
    what: str,
) -> None:
    put_another(snapshot.path)

    async with asyncio.timeout(DEADLINE):
        with pytest.raises(Failure) as caught:
            await connector.upload(task_id, snapshot)

    assert (caught.value.reason, caught.value.remedy) == (Reason.SNAPSHOT_INVALID, Remedy.RETRY)
    assert f"The staged snapshot acme.c1z has changed since it was staged ({what})" in caught.value.message
    assert (sim.calls("UploadAsset"), sim.received, clock.sleeps) == ([], [], [])


async def test_a_file_that_is_replaced_while_it_is_sent_arrives_as_it_was(
    sim: C1Simulator, connector: C1Client, task_id: TaskID, snapshot: StagedSnapshot
) -> None:
    """Also where the upload is begun afresh."""
    sim.fail("UploadAsset", "UNAVAILABLE", after_bytes=CHUNK_BYTES)

    uploading = asyncio.create_task(connector.upload(task_id, snapshot))
    await sim.wait_for(lambda: sim.calls("UploadAsset"))
    link(snapshot.path)
    await uploading

    (received,) = sim.received
    assert received.path.read_bytes() == CONTENT


async def test_a_file_that_is_written_to_while_it_is_sent_is_never_finished(
    sim: C1Simulator, connector: C1Client, task_id: TaskID, snapshot: StagedSnapshot
) -> None:
    sim.fail("UploadAsset", "UNAVAILABLE", after_bytes=CHUNK_BYTES)
    uploading = asyncio.create_task(connector.upload(task_id, snapshot))
    await sim.wait_for(lambda: sim.calls("UploadAsset"))
    with snapshot.path.open("r+b") as file:
        file.write(OTHERS)
    with pytest.raises(Failure) as caught:
        await uploading

    assert caught.value.reason is Reason.SNAPSHOT_INVALID
    assert "OK" not in {call.code for call in sim.calls("UploadAsset")}
    assert sim.received == []


async def test_a_file_that_is_gone_is_a_failure_of_storage(
    sim: C1Simulator, connector: C1Client, task_id: TaskID, snapshot: StagedSnapshot
) -> None:
    missing = snapshot.path.with_name("gone.c1z")

    with pytest.raises(Failure) as caught:
        await connector.upload(task_id, replace(snapshot, path=missing))

    assert caught.value.reason is Reason.STORAGE_FAILED
    assert "gone.c1z cannot be read (No such file" in caught.value.message
    assert str(snapshot.path.parent) not in caught.value.message
    assert sim.received == []


async def test_an_upload_that_takes_too_long_is_given_up_with_all_its_attempts(
    sim: C1Simulator, snapshot: StagedSnapshot
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
    sim: C1Simulator, connector: C1Client, task_id: TaskID, snapshot: StagedSnapshot
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


async def test_a_file_that_is_opened_after_the_upload_was_cancelled_is_closed(
    monkeypatch: pytest.MonkeyPatch, connector: C1Client, task_id: TaskID, snapshot: StagedSnapshot
) -> None:
    opening, may_open, files = threading.Event(), threading.Event(), []

    def open_slowly(*arguments: Any) -> BufferedReader:
        opening.set()
        may_open.wait()
        files.append(open_verified(*arguments))
        return files[0]

    monkeypatch.setattr(upload, "open_verified", open_slowly)
    uploading = asyncio.create_task(connector.upload(task_id, snapshot))
    await asyncio.to_thread(opening.wait)
    uploading.cancel()
    await asyncio.wait({uploading})
    may_open.set()
    async with asyncio.timeout(DEADLINE):
        while not files or not files[0].closed:  # noqa: ASYNC110  (a file has no event)
            await asyncio.sleep(0.01)
