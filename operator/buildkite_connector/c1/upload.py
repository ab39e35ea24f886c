"""One attempt at UploadAsset: a file streamed in chunks, its checksum verified on the way."""

import asyncio
import hashlib
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path
from typing import IO, Any

import grpc

from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.proto import baton_pb2

CHUNK_BYTES = 512 * 1024

_Request = baton_pb2.BatonServiceUploadAssetRequest


async def upload_once(
    call: Any,
    host_id: str,
    task_id: str,
    path: Path,
    sha256: str,
    may_send: Callable[[], None],
    sent: Callable[[], None],
) -> None:
    """Send `path` through `call`, a new UploadAsset call, and await C1's answer.

    Raises grpc.aio.AioRpcError as C1 answers; Failure SNAPSHOT_INVALID when the file's SHA-256 is not
    `sha256` (hex), STORAGE_FAILED when it cannot be read, C1_UNAVAILABLE when C1 answers before it has the
    whole. On any error the call is cancelled, so that C1 never takes a part for the whole.
    """
    try:
        try:
            await _send(call, host_id, task_id, path, sha256, may_send)
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


async def _send(call: Any, host_id: str, task_id: str, path: Path, sha256: str, may_send: Callable[[], None]) -> None:
    digest = hashlib.sha256()
    try:
        with await _open(path) as file:
            await call.write(_Request(metadata=_Request.UploadMetadata(host_id=host_id, task_id=task_id)))
            while chunk := await asyncio.to_thread(_read, file, digest):
                may_send()
                await call.write(_Request(data=_Request.UploadData(data=chunk)))
    except OSError as error:
        raise Failure(
            Reason.STORAGE_FAILED,
            f"The staged snapshot {path.name} cannot be read ({error.strerror or error}); a new sync makes another.",
        ) from error
    if digest.hexdigest() != sha256:
        raise Failure(
            Reason.SNAPSHOT_INVALID,
            f"The staged snapshot {path.name} has changed since it was staged (its SHA-256 differs), so it "
            "is not delivered; a new sync makes another.",
        )
    may_send()
    await call.write(_Request(eof=_Request.UploadEOF(sha256_checksum=digest.digest())))
    await call.done_writing()


async def _open(path: Path) -> BufferedReader:
    """Opened off the event loop. If this is cancelled meanwhile, nobody gets the file, and it is closed."""
    opening: asyncio.Future[BufferedReader] = asyncio.ensure_future(asyncio.to_thread(path.open, "rb"))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close)
        raise


def _close(opening: asyncio.Future[BufferedReader]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


def _read(file: IO[bytes], digest: Any) -> bytes:
    """One chunk, hashed; runs off the event loop."""
    chunk = file.read(CHUNK_BYTES)
    digest.update(chunk)
    return chunk
