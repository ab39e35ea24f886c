"""The file around the database: the bytes `C1ZF`, NUL, then one zstd stream with its size and checksum."""

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from zstandard import ZstdCompressor, ZstdDecompressor, ZstdError, get_frame_parameters

from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.process.files import create_own

MAGIC = b"C1ZF\0"
PEBBLE_MAGIC = b"C1Z3\0"
"""What a file of the SDK's newer storage engine begins with."""

MOST_UNPACKED = 4 << 30
"""Bytes of a database. 100,000 accounts with 400,000 memberships take 500 MB."""
MOST_WINDOW = 64 << 20
"""Bytes of memory that a file may ask its reader for. Go's encoders ask for 32 MB at most, ours for 512 KB."""

_LEVEL = 1
"""Measured: half the time of the default, 3; the file is a sixth larger for 10,000 accounts, smaller for 100,000."""
_PLAIN_CHUNK = 1 << 20
_PACKED_CHUNK = 512
"""Bytes that are unpacked at once. At worst they hold 128 blocks of 128 KB: 16 MB, however they were made."""
_LONGEST_HEADER = 18


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
    with database.open("rb") as source, create_own(archive) as target:
        for chunk in _packed(source):
            checkpoint()
            digest.update(chunk)
            target.write(chunk)
        target.flush()
        os.fsync(target.fileno())
        return Packed(digest.hexdigest(), target.tell())


def _packed(source: BinaryIO) -> Iterator[bytes]:
    """The file's bytes, some at a time; many are empty while the compressor gathers."""
    yield MAGIC
    compressor = ZstdCompressor(level=_LEVEL, write_checksum=True).compressobj(size=os.fstat(source.fileno()).st_size)
    while chunk := source.read(_PLAIN_CHUNK):
        yield compressor.compress(chunk)
    yield compressor.flush()


def unpack(archive: Path, file: BinaryIO | None = None) -> Iterator[bytes]:
    """The database in chunks of at most 16 MB. `file`: the archive where it is open already; it is closed here.

    Raises OSError, and Failure when the file is not whole, not a snapshot, or larger than MOST_UNPACKED.
    """
    with file or archive.open("rb") as source:
        _check_magic(archive, source.read(len(MAGIC)))
        chunk = source.read(_PACKED_CHUNK)
        _check_window(archive, chunk)
        stream, unpacked = ZstdDecompressor(max_window_size=MOST_WINDOW).decompressobj(), 0
        while not stream.eof:
            if not chunk:
                raise invalid(archive, "it ends in the middle of its compressed data: truncated")
            try:
                plain = stream.decompress(chunk)
            except ZstdError as error:
                raise invalid(archive, f"its compressed data is damaged ({error})") from error
            unpacked += len(plain)
            if unpacked > MOST_UNPACKED:
                raise invalid(archive, f"it unpacks to more than {MOST_UNPACKED >> 30} GB, the maximum")
            yield plain
            if not stream.eof:
                chunk = source.read(_PACKED_CHUNK)
        if stream.unused_data or source.read(1):
            raise invalid(archive, "there is other data after its compressed data")


def _check_magic(archive: Path, magic: bytes) -> None:
    if magic == PEBBLE_MAGIC:
        raise Failure(
            Reason.SNAPSHOT_INVALID,
            f"{archive} is in the format of the Pebble storage engine, but only files of the SQLite engine are "
            "supported. Write it again with --storage-engine sqlite "
            "(BATON_STORAGE_ENGINE=sqlite).",
        )
    if magic != MAGIC:
        raise invalid(archive, f"it starts with {magic!r}, not {MAGIC!r}: not a supported .c1z file")


def _check_window(archive: Path, head: bytes) -> None:
    try:
        window = get_frame_parameters(head[:_LONGEST_HEADER]).window_size
    except ZstdError:
        return  # too short or damaged, which unpacking tells
    if window > MOST_WINDOW:
        raise invalid(
            archive,
            f"its compression needs {window >> 20} MB of memory at once, and {MOST_WINDOW >> 20} MB is the maximum",
        )


def invalid(archive: Path, what: str) -> Failure:
    """The failure of a file that cannot be read as a snapshot; `what` begins with "it" or "its"."""
    return Failure(
        Reason.SNAPSHOT_INVALID,
        f"{archive} cannot be used as a snapshot: {what}. Take a new one with a sync.",
    )
