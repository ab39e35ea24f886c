"""Where one connector's snapshots and state are kept: a directory of its own for each identity, held by one process.

Another organization, client or host ID is another identity and so another directory: nothing is taken over.
"""

import contextlib
import fcntl
import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.process.files import check_directory, remove

logger = logging.getLogger(__name__)

_LOCK = "lock"
MOST_PROCESSES = 16
"""Processes of one identity in one place; more are a mistake."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The owner of the data: tenant and connector in C1, and organization in Buildkite."""

    client_id: str = field(repr=False)
    host_id: str
    organization: str
    api_url: str

    def digest(self) -> str:
        """The identity as a file name."""
        parts = (self.client_id, self.host_id, self.organization, self.api_url)
        return hashlib.sha256("\0".join(parts).encode(errors="surrogateescape")).hexdigest()[:24]


@contextlib.contextmanager
def open_directory(bases: Sequence[Path], identity: Identity) -> Iterator[Path]:
    """The identity's directory in the first of `bases` that can be written, for as long as the context lasts.

    Where another process holds it, one beside it is used, which is emptied first. Raises Failure STORAGE_FAILED.
    """
    unusable: list[str] = []
    for base in bases:
        try:
            with contextlib.ExitStack() as opening:
                directory = opening.enter_context(_held(base, identity))
                for each in unusable:
                    logger.warning("a directory cannot be used; another one is", extra={"error": each})
                logger.info("snapshots and state are kept", extra={"directory": str(directory)})
                opened = opening.pop_all()
        except OSError as error:
            unusable.append(f"{base}: {error.strerror or error}")
            continue
        with opened:
            yield directory
        return
    raise Failure(
        Reason.STORAGE_FAILED,
        f"No directory can be written ({'; '.join(unusable) or 'none was named'}): snapshots need one. Mount a"
        " volume and name it in BATON_C1Z_TEMP_DIR or TMPDIR.",
    )


@contextlib.contextmanager
def _held(base: Path, identity: Identity) -> Iterator[Path]:
    """Raises OSError."""
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_directory(base)
    for number in range(MOST_PROCESSES):
        directory = base / (f"{identity.digest()}-{number}" if number else identity.digest())
        directory.mkdir(mode=0o700, exist_ok=True)
        _check_owner(directory)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        with os.fdopen(os.open(directory / _LOCK, flags, 0o600), "r+b") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            except OSError:  # a file system without locks
                logger.warning("directories cannot be locked here", extra={"directory": str(base)})
            if number:
                logger.warning("another process serves the same connector here; this one starts without its state")
                remove_files(directory)
            yield directory
            return
    raise OSError(None, f"{MOST_PROCESSES} processes serve the same connector there")


def _check_owner(directory: Path) -> None:
    """In a directory that everybody may write to, another user may have created this name."""
    found = directory.lstat()
    if directory.is_symlink() or found.st_uid != os.geteuid():
        raise OSError(None, "it belongs to another user")


def remove_files(directory: Path) -> None:
    """Remove what a former process left, except for the lock."""
    for path in directory.iterdir():
        if path.name != _LOCK:
            with contextlib.suppress(OSError):
                remove(path)
