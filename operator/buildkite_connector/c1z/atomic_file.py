"""Where a file is built before it takes its name: a hidden directory beside it, gone afterwards.

A writer holds a lock on its directory while it lives, so that what a killed one left can be told from
what another process is at work on.
"""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PREFIX, _SUFFIX = ".buildkite-connector-", ".partial"
_LOCK = "lock"
_LOCKED_WITHIN = 60.0
"""Seconds after which a directory that is still empty will not be locked any more: its writer was killed."""


@contextmanager
def scratch_directory(beside: Path) -> Iterator[Path]:
    """A new private directory in `beside`, removed with all in it at the end. Raises OSError."""
    path = Path(tempfile.mkdtemp(prefix=_PREFIX, suffix=_SUFFIX, dir=beside))
    try:
        with (path / _LOCK).open("xb") as lock:
            # A file system without locks only loses the clearing up after a killed writer.
            with suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def remove_abandoned(directory: Path) -> None:
    """Remove the scratch directories in `directory` that no living writer holds.

    A process that is killed while it removes one may leave it with files and without its lock.
    """
    for path in directory.glob(f"{_PREFIX}*{_SUFFIX}"):
        with suppress(OSError):
            if not (path / _LOCK).exists():
                if any(path.iterdir()) or time.time() - path.stat().st_mtime > _LOCKED_WITHIN:
                    shutil.rmtree(path, ignore_errors=True)
                continue
            with (path / _LOCK).open("r+b") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)


def put_in_place(built: Path, name: Path) -> None:
    """Give the file `built`, already on the disk, its `name`: wholly or not at all. Raises OSError."""
    built.replace(name)
    handle = os.open(name.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
