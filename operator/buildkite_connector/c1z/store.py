"""Keeps each connector's newest snapshot on disk, off the event loop, until C1 asks for it.

The files are a cache: what counts is the status, which names the snapshot by its hash. A file whose hash
is another's is not restored.
"""

import asyncio
import hashlib
import re
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from threading import Event

from buildkite_connector.c1z.atomic_file import remove_abandoned
from buildkite_connector.c1z.errors import translated
from buildkite_connector.c1z.reader import read_sync_run
from buildkite_connector.c1z.writer import write_snapshot
from buildkite_connector.model.directory import Directory
from buildkite_connector.model.snapshot import StagedSnapshot, SyncID
from buildkite_connector.timing.clock import Clock, SystemClock


class SnapshotStore:
    """The snapshots in one directory of this process's own, one a key."""

    def __init__(self, directory: Path, clock: Clock | None = None) -> None:
        """Make `directory` where it is missing and remove what killed writers left in it. Raises Failure."""
        self._directory = directory
        self._clock = clock or SystemClock()
        with translated(directory, "use the snapshot directory"):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            remove_abandoned(directory)

    async def stage(self, key: str, directory: Directory, *, sync_id: SyncID, started_at: datetime) -> StagedSnapshot:
        """Write and verify a snapshot that takes the place of the key's former one. Raises Failure.

        Cancelled, it waits for the writing thread to stop (well under a second) and to have cleared up.
        """
        finished_at = self._clock.now()
        stop = Event()
        writing = asyncio.ensure_future(
            asyncio.to_thread(
                write_snapshot,
                directory,
                self.path(key),
                sync_id=sync_id,
                started_at=started_at,
                finished_at=finished_at,
                stopped=stop.is_set,
            )
        )
        try:
            return await asyncio.shield(writing)
        except asyncio.CancelledError:
            stop.set()
            with suppress(Exception):  # whatever became of it: nobody waits for it any more
                await writing
            raise

    async def restore(self, key: str, sha256: str) -> StagedSnapshot | None:
        """The key's snapshot when its file is whole and has this hash (lower-case hex), else None."""
        return await asyncio.to_thread(_restore, self.path(key), sha256)

    async def discard(self, key: str) -> None:
        """Remove the key's snapshot, if there is one. Raises Failure."""
        path = self.path(key)
        with translated(path, "remove the snapshot"):
            await asyncio.to_thread(path.unlink, missing_ok=True)

    async def prune(self, keys: Iterable[str]) -> int:
        """Remove the snapshots of all other keys, whose connectors went while no process saw it. Gives how many.

        Raises Failure.
        """
        wanted = {self.path(key) for key in keys}

        def remove_others() -> int:
            others = set(self._directory.glob("*.c1z")) - wanted
            for path in others:
                path.unlink(missing_ok=True)
            return len(others)

        with translated(self._directory, "remove a snapshot"):
            return await asyncio.to_thread(remove_others)

    def path(self, key: str) -> Path:
        """The key's file: readable, and by its hash never another key's."""
        readable = re.sub(r"[^A-Za-z0-9.-]", "_", key)[:100].lstrip(".")
        return self._directory / f"{readable}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.c1z"


def _restore(path: Path, sha256: str) -> StagedSnapshot | None:
    with translated(path, "read the snapshot"):
        try:
            size = path.stat().st_size
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            return None
    if found != sha256:
        return None
    run = read_sync_run(path, scratch=path.parent)
    return StagedSnapshot(
        sync_id=run.sync_id,
        path=path,
        sha256=found,
        size=size,
        counts=run.counts,
        scope=run.scope,
        taken_at=run.started_at,
    )
