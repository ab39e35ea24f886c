"""A finished snapshot that waits to be delivered."""

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NewType, Self

from buildkite_connector.model.directory import Counts, SyncScope
from buildkite_connector.model.failure import Failure, Reason

SyncID = NewType("SyncID", str)
"""A KSUID (27 base-62 characters), ours; the same in the file, the status and the logs."""


@dataclass(frozen=True, slots=True)
class StagedSnapshot:
    """`sha256` in lower-case hex over the whole file, `size` in bytes."""

    sync_id: SyncID
    path: Path
    sha256: str
    size: int
    counts: Counts
    scope: SyncScope


@dataclass(frozen=True, slots=True)
class OpenSnapshot:
    """A snapshot with its open, verified file: whatever takes the place of its path is not read."""

    snapshot: StagedSnapshot
    file: BinaryIO

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()


def snapshot_changed(snapshot: StagedSnapshot, what: str) -> Failure:
    """The file is not the staged one any more; `what` differs."""
    return Failure(
        Reason.SNAPSHOT_INVALID,
        f"The staged snapshot {snapshot.path.name} has changed since it was staged ({what}), so it is not delivered;"
        " the next sync creates a new one.",
    )


def snapshot_unreadable(snapshot: StagedSnapshot, error: OSError) -> Failure:
    return Failure(
        Reason.STORAGE_FAILED,
        f"The staged snapshot {snapshot.path.name} cannot be read ({error.strerror or error}); the next sync"
        " creates a new one.",
    )
