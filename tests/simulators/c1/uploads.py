"""Files that the simulated C1 receives: written to disk as they come, hashed, kept with whose they are."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from simulators.c1.ingest import Expected, Summary, ingest
from simulators.c1.tasks import Who


@dataclass(slots=True)
class Received:
    """An accepted upload. `sha256` in lower-case hex; `ingested` once its task finished with success.

    `began`: when the first of it came; `at`: when it was accepted.
    """

    who: Who
    task_id: str
    began: datetime
    at: datetime
    path: Path
    sha256: str
    size: int
    expected: Expected
    ingested: bool = False
    read: Summary | None = field(default=None, repr=False)

    def summary(self) -> dict[str, Any]:
        """Counts by type, a few rows, and where it came from. Raises Rejected when the file is not a snapshot."""
        if self.read is None:
            self.read = ingest(self.path, self.expected)
        return {
            "client_id": self.who.client_id,
            "host_id": self.who.host_id,
            "task_id": self.task_id,
            "received_at": self.at.isoformat(),
            "path": str(self.path),
            "sha256": self.sha256,
            "size": self.size,
            "ingested": self.ingested,
            **asdict(self.read),
        }


class Incoming:
    """A file that is being received."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._hash = hashlib.sha256()
        self._file = path.open("wb")

    def append(self, data: bytes) -> None:
        self._file.write(data)
        self._hash.update(data)
        self.size += len(data)

    def close(self) -> None:
        self._file.close()

    @property
    def sha256(self) -> bytes:
        return self._hash.digest()


class Uploads:
    """The folder of received files. `debug_logs`: what the Go SDK uploads beside a debug task's snapshot."""

    def __init__(self, folder: Path) -> None:
        self.received: list[Received] = []
        self.debug_logs: list[Path] = []
        self._folder = folder
        self._count = 0

    @contextmanager
    def incoming(self, task_id: str) -> Iterator[Incoming]:
        """Receives one file; what is not kept by the end is removed."""
        self._count += 1
        part = Incoming(self._folder / f"{self._count:04}-{task_id}.part")
        try:
            yield part
        finally:
            part.close()
            part.path.unlink(missing_ok=True)

    def keep(
        self,
        part: Incoming,
        *,
        who: Who,
        task_id: str,
        began: datetime,
        at: datetime,
        expected: Expected,
        read: Summary | None,
    ) -> None:
        path = part.path.rename(part.path.with_suffix(".c1z"))
        self.received.append(Received(who, task_id, began, at, path, part.sha256.hex(), part.size, expected, read=read))

    def keep_debug_log(self, part: Incoming) -> None:
        self.debug_logs.append(part.path.rename(part.path.with_suffix(".log")))

    def ingest(self, task_id: str) -> Received | None:
        """The task has finished with success: its last upload counts."""
        for received in reversed(self.received):
            if received.task_id == task_id:
                received.ingested = True
                return received
        return None

    @property
    def ingested(self) -> list[Received]:
        return [received for received in self.received if received.ingested]

    @property
    def repeated_syncs(self) -> dict[str, int]:
        """Syncs that were ingested more than once, each under a task of its own, and how often."""
        times = Counter(received.read.sync_id for received in self.ingested if received.read)
        return {sync_id: count for sync_id, count in times.items() if count > 1}
