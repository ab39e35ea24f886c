"""The process's own files: nobody else can read what it writes, and a file that was replaced is not read.

What is written holds people's names and addresses: mode 0600, whatever the umask. What is read back may have been
replaced by another process: by a symbolic link to a file that must not leave the pod, or by a FIFO that never ends.
"""

import hashlib
import logging
import os
import shutil
import stat
from contextlib import ExitStack, suppress
from io import BufferedReader, BufferedWriter
from pathlib import Path

logger = logging.getLogger(__name__)

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PRIVATE = 0o600


class ReplacedError(OSError):
    """Something else is in a file's place; `strerror` begins with "it" or "its"."""


def open_own(path: Path) -> BufferedReader:
    """Open a file that this process, or a former one of its user, has written. Never blocks, whatever is there.

    Its owner is this user, or the directory's owner: some network volumes give all files to one user.
    Raises ReplacedError and OSError.
    """
    _check_kind(path.lstat())  # before it is opened, which some devices take for an order
    with ExitStack() as opening:
        file = opening.enter_context(os.fdopen(os.open(path, _READ), "rb"))
        found = os.fstat(file.fileno())
        _check_kind(found)
        if found.st_uid not in {os.geteuid(), path.parent.stat().st_uid}:
            raise ReplacedError(None, "it belongs to another user")
        opening.pop_all()
    return file


def _check_kind(found: os.stat_result) -> None:
    if stat.S_ISLNK(found.st_mode):
        raise ReplacedError(None, "it is a symbolic link")
    if not stat.S_ISREG(found.st_mode):
        raise ReplacedError(None, "it is not a regular file")


def open_verified(path: Path, size: int, sha256: str) -> BufferedReader:
    """As `open_own`, if the file has this size and SHA-256 (lower-case hex). Reads the whole file, then rewinds it."""
    with ExitStack() as opening:
        file = opening.enter_context(open_own(path))
        if os.fstat(file.fileno()).st_size != size:
            raise ReplacedError(None, "its size differs")
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            raise ReplacedError(None, "its SHA-256 differs")
        file.seek(0)
        opening.pop_all()
    return file


def create_own(path: Path) -> BufferedWriter:
    """Create a file where none is, for this user alone. Raises OSError."""
    file = os.fdopen(os.open(path, _CREATE, _PRIVATE), "wb")
    os.fchmod(file.fileno(), _PRIVATE)  # an odd umask may have taken bits away
    return file


def write_own(path: Path, content: bytes) -> None:
    """Write a file atomically, and sync it to the disk. Raises OSError."""
    built = path.with_name(f"{path.name}.new")
    remove(built)
    try:
        with create_own(built) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        built.replace(path)
    except OSError:
        with suppress(OSError):
            remove(built)
        raise


def remove(path: Path) -> None:
    """Remove whatever is there, if anything: of a link the link alone. Raises OSError."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        if path.is_symlink() or not path.is_dir():
            raise
        shutil.rmtree(path)


def check_directory(directory: Path) -> None:
    """Reject a directory that another user controls, and warn where others may replace its files.

    A link of this user or of root is intended, and so is a directory of root: a volume in a pod.
    Raises ReplacedError.
    """
    trusted = {0, os.geteuid()}
    link = directory.lstat()
    if stat.S_ISLNK(link.st_mode) and link.st_uid not in trusted:
        raise ReplacedError(None, "it is a symbolic link of another user")
    found = directory.stat()
    shared = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not found.st_mode & stat.S_ISVTX
    if found.st_uid not in trusted:
        what = "it belongs to another user, who can replace its files; choose another"
    elif found.st_uid == os.geteuid() and shared:
        what = "other users can write to it and replace its files; remove that permission (chmod go-w)"
    else:
        return
    logger.warning("the data directory is not private", extra={"directory": str(directory), "error": what})
