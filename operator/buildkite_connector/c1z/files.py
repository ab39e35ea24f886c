"""A snapshot on the disk: where it is built, how it takes its name, and what the disk's errors are called.

A file is built in a hidden directory beside it, which is removed afterwards. The writer holds a lock on that directory
while it lives, so that another process can tell what a killed writer left from work in progress. The directory gets
its final name once it is locked: nobody sees it under that name without the lock.
"""

import errno
import fcntl
import os
import shutil
import sqlite3
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.process.files import create_own, open_own

_PREFIX, _SUFFIX, _UNLOCKED = ".buildkite-connector-", ".partial", ".new"
_LOCK = "lock"
_LOCKED_WITHIN = 60.0
"""Seconds after which a directory without a lock is abandoned: its writer was killed."""

_FULL = "Free disk space or give the volume more of it"
_ADVICE = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: _FULL,
    errno.EACCES: "Give the process access to it and to its directory",
    errno.EPERM: "Give the process access to it and to its directory",
    errno.EROFS: "Mount that directory writable, or choose another",
    errno.ENOENT: "Check that the path is right and its directory exists",
    errno.ENOTDIR: "Check that the path is right and its parent is a directory",
    errno.EISDIR: "Choose the path of a file, not of a directory",
}


@contextmanager
def scratch_directory(beside: Path) -> Iterator[Path]:
    """A new private directory in `beside`, removed at the end; also removes what killed writers left there.

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

    `min_age`: seconds that a lock must be old, where other writers may be at work. A directory without its lock is
    being removed by its writer, or the writer was killed while it did.
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
    """Rename the file `built`, already synced to the disk, to `name`. Raises OSError.

    The permissions of a file of this user that it replaces are kept: somebody may have chosen them.
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


@contextmanager
def translated(path: Path, action: str) -> Iterator[None]:
    """Translate errors of the disk and of SQLite into Failure; `action` says what could not be done with `path`."""
    try:
        yield
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "Check the disk and its directory")
        raise _failed(path, action, error.strerror or str(error), advice) from error
    except sqlite3.IntegrityError as error:
        raise Failure(
            Reason.SNAPSHOT_INVALID,
            f"Could not {action} {path}: an id came twice ({error}). "
            "Nothing was replaced; the next sync reads everything again.",
        ) from error
    except sqlite3.Error as error:
        raise _failed(path, action, str(error), _FULL + ", and check that its directory is writable") from error


def _failed(path: Path, action: str, what: str, advice: str) -> Failure:
    return Failure(Reason.STORAGE_FAILED, f"Could not {action} {path}: {what}. {advice}.")
