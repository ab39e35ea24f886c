"""An upload by UploadAsset: an open snapshot, streamed in chunks, its checksum verified on the way."""

import asyncio
import hashlib
from collections.abc import Callable
from typing import Any, BinaryIO

import grpc

from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.snapshot import OpenSnapshot, snapshot_changed, snapshot_unreadable
from buildkite_connector.proto import baton_pb2

CHUNK_BYTES = 512 * 1024

_Request = baton_pb2.BatonServiceUploadAssetRequest


async def upload_once(
    call: Any,
    host_id: str,
    task_id: str,
    snapshot: OpenSnapshot,
    may_send: Callable[[], None],
    sent: Callable[[], None],
) -> None:
    """Send the snapshot's file through `call`, a new UploadAsset call, and await C1's answer.

    Raises grpc.aio.AioRpcError as C1 answers; Failure SNAPSHOT_INVALID when the file changes meanwhile,
    STORAGE_FAILED when it cannot be read, C1_UNAVAILABLE when C1 answers before it has the whole. On any error the
    call is cancelled, so that C1 never takes a part for the whole.
    """
    try:
        try:
            await _send(call, host_id, task_id, snapshot, may_send)
        except (asyncio.InvalidStateError, grpc.aio.AioRpcError):
            # C1 has ended the call early, and its answer says why. A write that fails at the same moment hides
            # that behind INTERNAL, now and then for good: it costs an attempt, and the next one hears the reason.
            await call
            raise Failure(
                Reason.C1_UNAVAILABLE, "C1 ended the upload before it had the whole file. The connector tries again."
            ) from None
        sent()
        await call
    finally:
        call.cancel()


async def _send(call: Any, host_id: str, task_id: str, snapshot: OpenSnapshot, may_send: Callable[[], None]) -> None:
    digest = hashlib.sha256()
    try:
        snapshot.file.seek(0)
        await call.write(_Request(metadata=_Request.UploadMetadata(host_id=host_id, task_id=task_id)))
        while chunk := await asyncio.to_thread(_read, snapshot.file, digest):
            may_send()
            await call.write(_Request(data=_Request.UploadData(data=chunk)))
    except OSError as error:
        raise snapshot_unreadable(snapshot.snapshot, error) from error
    if digest.hexdigest() != snapshot.snapshot.sha256:
        raise snapshot_changed(snapshot.snapshot, "its SHA-256 differs")
    may_send()
    await call.write(_Request(eof=_Request.UploadEOF(sha256_checksum=digest.digest())))
    await call.done_writing()


def _read(file: BinaryIO, digest: Any) -> bytes:
    """One chunk, hashed; runs off the event loop."""
    chunk = file.read(CHUNK_BYTES)
    digest.update(chunk)
    return chunk
