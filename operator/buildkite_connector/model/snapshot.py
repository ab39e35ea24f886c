"""A finished snapshot that waits to be delivered."""

from dataclasses import dataclass
from pathlib import Path
from typing import NewType

from buildkite_connector.model.directory import Counts
from buildkite_connector.model.scope import SyncScope

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
