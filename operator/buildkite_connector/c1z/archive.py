"""The file around the database: the bytes `C1ZF`, NUL, then one zstd stream with its size and checksum."""

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from zstandard import ZstdCompressor, ZstdDecompressor, ZstdError

from buildkite_connector.model.failure import Failure, Reason

MAGIC = b"C1ZF\0"
_LEVEL = 1
"""Measured: half the time of the default, 3; the file is a sixth larger for 10,000 accounts, smaller for 100,000."""
_PLAIN_CHUNK = 1 << 20
_PACKED_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Packed:
    """A whole file's SHA-256 in lower-case hex and its size in bytes."""

    sha256: str
    size: int


def pack(database: Path, archive: Path, checkpoint: Callable[[], None]) -> Packed:
    """Compress `database` into the new file `archive`, on the disk when this returns.

    `checkpoint` is called between chunks and may raise. Raises OSError.
    """
    digest = hashlib.sha256()
    with database.open("rb") as source, archive.open("xb") as target:

        def emit(chunk: bytes) -> None:
            digest.update(chunk)
            target.write(chunk)

        emit(MAGIC)
        compressor = ZstdCompressor(level=_LEVEL, write_checksum=True).compressobj(
            size=os.fstat(source.fileno()).st_size
        )
        while chunk := source.read(_PLAIN_CHUNK):
            checkpoint()
            emit(compressor.compress(chunk))
        emit(compressor.flush())
        target.flush()
        os.fsync(target.fileno())
        return Packed(digest.hexdigest(), target.tell())


def unpack(archive: Path) -> Iterator[bytes]:
    """The database in chunks. Raises OSError, and Failure when the file is not whole or not a snapshot."""
    with archive.open("rb") as source:
        magic = source.read(len(MAGIC))
        if magic != MAGIC:
            raise invalid(archive, f"it begins with {magic!r}, not {MAGIC!r}: not a .c1z file that is read here")
        stream = ZstdDecompressor().decompressobj()
        while not stream.eof:
            chunk = source.read(_PACKED_CHUNK)
            if not chunk:
                raise invalid(archive, "it ends in the middle of its compressed data: truncated")
            try:
                yield stream.decompress(chunk)
            except ZstdError as error:
                raise invalid(archive, f"its compressed data is damaged ({error})") from error
        if stream.unused_data or source.read(1):
            raise invalid(archive, "something follows its compressed data")


def invalid(archive: Path, what: str) -> Failure:
    """The failure of a file that cannot be read as a snapshot; `what` begins with "it" or "its"."""
    return Failure(
        Reason.SNAPSHOT_INVALID,
        f"{archive} cannot be used as a snapshot: {what}. Take a new one with a sync.",
    )
