"""Where a file is built before it takes its name: a hidden directory beside it, gone afterwards.

A writer holds a lock on its directory while it lives, so that what a killed one left can be told from what another
writer is at work on. The directory takes its name once it is locked: under that name it is never seen without.
"""

import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from buildkite_connector.process.files import create_own, open_own

_PREFIX, _SUFFIX, _UNLOCKED = ".buildkite-connector-", ".partial", ".new"
_LOCK = "lock"
_LOCKED_WITHIN = 60.0
"""Seconds after which a directory that has no lock yet will not get one any more: its writer was killed."""


@contextmanager
def scratch_directory(beside: Path) -> Iterator[Path]:
    """A new private directory in `beside`, removed with all in it at the end; what killed writers left there goes too.

    Raises OSError.
    """
    remove_abandoned(beside, min_age=_LOCKED_WITHIN)
    path = Path(tempfile.mkdtemp(prefix=_PREFIX, suffix=_UNLOCKED, dir=beside))
    try:
        path.chmod(0o700)  # an odd umask may have taken bits away
        with create_own(path / _LOCK) as lock:
            # A file system without locks only loses the clearing up after a killed writer.
            with suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path = path.rename(path.with_suffix(_SUFFIX))
            yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def remove_abandoned(directory: Path, min_age: float = 0.0) -> None:
    """Remove the scratch directories in `directory` that no living writer holds.

    `min_age`: seconds, where other writers may be at work. Without its lock one is being removed by its writer, or that
    was killed meanwhile.
    """
    for path in directory.glob(f"{_PREFIX}*{_UNLOCKED}"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _LOCKED_WITHIN:
                shutil.rmtree(path, ignore_errors=True)
    for path in directory.glob(f"{_PREFIX}*{_SUFFIX}"):
        with suppress(OSError):
            if not (path / _LOCK).exists():
                shutil.rmtree(path, ignore_errors=True)
                continue
            if min_age and time.time() - (path / _LOCK).lstat().st_mtime < min_age:
                continue
            with open_own(path / _LOCK) as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)


def put_in_place(built: Path, name: Path) -> None:
    """Give the file `built`, already on the disk, its `name`: wholly or not at all. Raises OSError.

    It keeps the permissions of a file of this user's that it replaces: somebody may have chosen them.
    """
    with suppress(FileNotFoundError):
        found = name.lstat()
        if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid():
            built.chmod(stat.S_IMODE(found.st_mode) & 0o777)
    built.replace(name)
    handle = os.open(name.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
