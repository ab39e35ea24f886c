"""An upload by UploadAsset: only the staged file, streamed in chunks, its checksum verified before and on the way."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from io import BufferedReader
from typing import Any, BinaryIO

import grpc

from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.snapshot import StagedSnapshot
from buildkite_connector.process.files import ReplacedError, open_verified
from buildkite_connector.proto import baton_pb2

CHUNK_BYTES = 512 * 1024

_Request = baton_pb2.BatonServiceUploadAssetRequest


@asynccontextmanager
async def opened(snapshot: StagedSnapshot) -> AsyncIterator[BinaryIO]:
    """The snapshot's file, verified before any of it leaves: whatever takes its place later is not read.

    Raises Failure SNAPSHOT_INVALID when it is not the staged file, STORAGE_FAILED when it cannot be read.
    """
    opening: asyncio.Future[BufferedReader] = asyncio.ensure_future(
        asyncio.to_thread(open_verified, snapshot.path, snapshot.size, snapshot.sha256)
    )
    try:
        file = await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close)
        raise
    except ReplacedError as error:
        raise _changed(snapshot, str(error.strerror)) from None
    except OSError as error:
        raise _unreadable(snapshot, error) from error
    with file:
        yield file


async def upload_once(
    call: Any,
    host_id: str,
    task_id: str,
    snapshot: StagedSnapshot,
    file: BinaryIO,
    may_send: Callable[[], None],
    sent: Callable[[], None],
) -> None:
    """Send the snapshot's open `file` through `call`, a new UploadAsset call, and await C1's answer.

    Raises grpc.aio.AioRpcError as C1 answers; Failure SNAPSHOT_INVALID when the file changes meanwhile,
    STORAGE_FAILED when it cannot be read, C1_UNAVAILABLE when C1 answers before it has the whole. On any error the
    call is cancelled, so that C1 never takes a part for the whole.
    """
    try:
        try:
            await _send(call, host_id, task_id, snapshot, file, may_send)
        except (asyncio.InvalidStateError, grpc.aio.AioRpcError):
            # C1 has ended the call early, and its answer says why. A write that fails at the same moment hides
            # that behind INTERNAL, now and then for good: it costs an attempt, and the next one hears the reason.
            await call
            raise Failure(
                Reason.C1_UNAVAILABLE, "C1 ended the upload before it had the whole file. It is tried again."
            ) from None
        sent()
        await call
    finally:
        call.cancel()


async def _send(
    call: Any, host_id: str, task_id: str, snapshot: StagedSnapshot, file: BinaryIO, may_send: Callable[[], None]
) -> None:
    digest = hashlib.sha256()
    try:
        file.seek(0)
        await call.write(_Request(metadata=_Request.UploadMetadata(host_id=host_id, task_id=task_id)))
        while chunk := await asyncio.to_thread(_read, file, digest):
            may_send()
            await call.write(_Request(data=_Request.UploadData(data=chunk)))
    except OSError as error:
        raise _unreadable(snapshot, error) from error
    if digest.hexdigest() != snapshot.sha256:
        raise _changed(snapshot, "its SHA-256 differs")
    may_send()
    await call.write(_Request(eof=_Request.UploadEOF(sha256_checksum=digest.digest())))
    await call.done_writing()


def _close(opening: asyncio.Future[BufferedReader]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


def _read(file: BinaryIO, digest: Any) -> bytes:
    """One chunk, hashed; runs off the event loop."""
    chunk = file.read(CHUNK_BYTES)
    digest.update(chunk)
    return chunk


def _changed(snapshot: StagedSnapshot, what: str) -> Failure:
    return Failure(
        Reason.SNAPSHOT_INVALID,
        f"The staged snapshot {snapshot.path.name} has changed since it was staged ({what}), so it is not delivered; a"
        " new sync makes another.",
    )


def _unreadable(snapshot: StagedSnapshot, error: OSError) -> Failure:
    return Failure(
        Reason.STORAGE_FAILED,
        f"The staged snapshot {snapshot.path.name} cannot be read ({error.strerror or error}); a new sync makes"
        " another.",
    )
