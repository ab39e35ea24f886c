"""What the disk and SQLite say when a snapshot cannot be written, in this project's words, in one place."""

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from buildkite_connector.model.failure import Failure, Reason

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
def translated(path: Path, action: str) -> Iterator[None]:
    """Errors of the disk and of SQLite come out as Failure; `action` is what could not be done with `path`."""
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
