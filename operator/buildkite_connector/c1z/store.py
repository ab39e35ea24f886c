"""Keeps each connector's snapshots on disk, off the event loop, until C1 asks for them.

The connector removes a file as soon as it stages another: an upload has the file open and can finish. The files
are a cache: what counts is the status, which names the snapshot by its hash. A file of another hash is not restored.
"""

import asyncio
import hashlib
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from io import BufferedReader
from itertools import count
from pathlib import Path
from threading import Event

from buildkite_connector.c1z.derive import derive_snapshot
from buildkite_connector.c1z.files import remove_abandoned, translated
from buildkite_connector.c1z.reader import read_sync_run
from buildkite_connector.c1z.writer import write_snapshot
from buildkite_connector.model.directory import Directory, SyncScope
from buildkite_connector.model.snapshot import (
    OpenSnapshot,
    StagedSnapshot,
    SyncID,
    snapshot_changed,
    snapshot_unreadable,
)
from buildkite_connector.process.files import ReplacedError, check_directory, open_verified, remove
from buildkite_connector.timing.clock import Clock, SystemClock

_STAGED, _DERIVED = ".c1z", ".derived"


class SnapshotStore:
    """The snapshots in one directory of this process's own, a file for each key and sync."""

    def __init__(self, directory: Path, clock: Clock | None = None) -> None:
        """Make `directory` where it is missing and remove what killed processes left half done. Raises Failure."""
        self._directory = directory
        self._clock = clock or SystemClock()
        self._expanding = asyncio.Lock()
        self._derivations = count()  # the same whole may be asked for twice at once, under one sync id
        with translated(directory, "use the snapshot directory"):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            check_directory(directory)
            remove_abandoned(directory)
            for path in directory.glob(f"*{_DERIVED}"):
                remove(path)

    async def stage(self, key: str, directory: Directory, *, sync_id: SyncID, started_at: datetime) -> StagedSnapshot:
        """Write and verify a snapshot beside the key's former ones, which stay. Raises Failure.

        Cancelled, it waits for the writing thread to stop (well under a second) and to have cleared up.
        """
        stop = Event()
        writing = asyncio.ensure_future(
            asyncio.to_thread(
                write_snapshot,
                directory,
                self.path(key, sync_id),
                sync_id=sync_id,
                started_at=started_at,
                finished_at=self._clock.now(),
                stopped=stop.is_set,
            )
        )
        try:
            return await asyncio.shield(writing)
        except asyncio.CancelledError:
            stop.set()
            with suppress(Exception):  # whatever became of it: nobody waits for it any more
                finished = await writing
                await asyncio.to_thread(remove, finished.path)
            raise

    async def open(self, snapshot: StagedSnapshot, scope: SyncScope) -> OpenSnapshot:
        """Open what of `snapshot` is in `scope`, which its scope must include, once its file is seen to be whole.

        The file of another scope is made from it and has no name any more when it is open. Files with expanded grants,
        which take much of the disk meanwhile, are written one after the other. Raises Failure SNAPSHOT_INVALID
        when the file is not the staged one, STORAGE_FAILED when it cannot be read. Cancelled, it does not wait for the
        thread, which stops and clears up by itself; the next file with expanded grants waits for it.
        """
        path = snapshot.path.with_name(f"{snapshot.path.stem}-{next(self._derivations)}{_DERIVED}")
        stop = Event()

        def derived() -> OpenSnapshot:
            try:
                return _verified(
                    derive_snapshot(snapshot, path, scope=scope, sync_id=snapshot.sync_id, stopped=stop.is_set)
                )
            finally:
                with suppress(OSError):  # a file that cannot be removed now is removed at the next start
                    remove(path)

        whole = scope == snapshot.scope
        expands = scope.expanded and not whole
        if expands:
            await self._expanding.acquire()
        opening = asyncio.ensure_future(asyncio.to_thread(_verified, snapshot) if whole else asyncio.to_thread(derived))
        if expands:
            opening.add_done_callback(lambda _: self._expanding.release())
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            stop.set()
            opening.add_done_callback(_close)
            raise

    async def restore(self, key: str, sha256: str) -> StagedSnapshot | None:
        """The key's snapshot whose file is whole and has this hash (lower-case hex), else None.

        The key's other files are removed. Raises Failure.
        """

        def find() -> StagedSnapshot | None:
            found: tuple[Path, BufferedReader] | None = None
            for path in self._files(key):
                with translated(path, "read the snapshot"):
                    file = _open_whole(path, sha256) if found is None else None
                    if file is not None:
                        found = path, file
                    else:
                        remove(path)
            return _described(*found, sha256) if found else None

        return await asyncio.to_thread(find)

    def remove(self, snapshot: StagedSnapshot) -> None:
        """Remove the snapshot's file at once, if it is there; a reader that has it open continues. Raises Failure."""
        with translated(snapshot.path, "remove the snapshot"):
            remove(snapshot.path)

    async def discard(self, key: str) -> None:
        """Remove all of the key's snapshots. Raises Failure."""
        with translated(self._directory, "remove a snapshot"):
            await asyncio.to_thread(lambda: _remove(self._files(key)))

    async def prune(self, keys: Iterable[str]) -> int:
        """Remove the snapshots of all other keys, whose connectors went while no process saw it. Gives how many.

        Raises Failure.
        """
        wanted = {_name(key) for key in keys}

        def remove_others() -> int:
            return _remove(path for path in self._directory.glob(f"*{_STAGED}") if _owner(path) not in wanted)

        with translated(self._directory, "remove a snapshot"):
            return await asyncio.to_thread(remove_others)

    def path(self, key: str, sync_id: SyncID) -> Path:
        """The file of the key's snapshot of that sync: readable, and never another key's."""
        return self._directory / f"{_name(key)}-{sync_id}{_STAGED}"

    def _files(self, key: str) -> list[Path]:
        return [path for path in self._directory.glob(f"{_name(key)}-*{_STAGED}") if _owner(path) == _name(key)]


def _name(key: str) -> str:
    readable = re.sub(r"[^A-Za-z0-9.-]", "_", key)[:100].lstrip(".")
    return f"{readable}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def _owner(path: Path) -> str:
    """The `_name` of the key whose file this is. A sync id has no hyphen; another key's name may begin like ours."""
    return path.stem.rpartition("-")[0]


def _remove(paths: Iterable[Path]) -> int:
    removed = 0
    for path in paths:
        remove(path)
        removed += 1
    return removed


def _verified(snapshot: StagedSnapshot) -> OpenSnapshot:
    """Blocks. Raises Failure."""
    try:
        return OpenSnapshot(snapshot, open_verified(snapshot.path, snapshot.size, snapshot.sha256))
    except ReplacedError as error:
        raise snapshot_changed(snapshot, str(error.strerror)) from None
    except OSError as error:
        raise snapshot_unreadable(snapshot, error) from error


def _close(opening: asyncio.Future[OpenSnapshot]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().file.close()


def _open_whole(path: Path, sha256: str) -> BufferedReader | None:
    """The file when it has this hash, else None. Raises OSError."""
    try:
        return open_verified(path, path.lstat().st_size, sha256)
    except ReplacedError:
        return None


def _described(path: Path, file: BufferedReader, sha256: str) -> StagedSnapshot:
    size = os.fstat(file.fileno()).st_size
    run = read_sync_run(path, path.parent, file)
    return StagedSnapshot(
        sync_id=run.sync_id,
        path=path,
        sha256=sha256,
        size=size,
        counts=run.counts,
        scope=run.scope,
    )
