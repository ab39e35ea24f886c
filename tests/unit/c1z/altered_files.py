"""Snapshot files that somebody changed: the reference's with its database altered, or any bytes as a database."""

import sqlite3
from contextlib import closing
from pathlib import Path

from zstandard import ZstdCompressor

from buildkite_connector.c1z.archive import unpack
from harness.organization import ACME_REFERENCE


def unpacked(archive: Path = ACME_REFERENCE) -> bytes:
    """The file's database."""
    return b"".join(unpack(archive))


def packed(path: Path, database: bytes) -> Path:
    """A file at `path` with these bytes as its database."""
    path.write_bytes(b"C1ZF\0" + ZstdCompressor().compress(database))
    return path


def altered(path: Path, *scripts: str, of: Path = ACME_REFERENCE) -> Path:
    """The file (the reference's unless told) with its database changed by SQL."""
    plain = path.with_suffix(".db")
    plain.write_bytes(unpacked(of))
    with closing(sqlite3.connect(plain, isolation_level=None)) as connection:
        for script in scripts:
            connection.executescript(script)
    return packed(path, plain.read_bytes())
