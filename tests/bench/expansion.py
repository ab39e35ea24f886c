"""`expansion.py DIRECTORY SHA256`: what the operator does for a task of C1 that leaves the expanding of grants to it.

DIRECTORY has the staged snapshot of that hash.
"""

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

from buildkite_connector.c1z import SnapshotStore, read_snapshot
from buildkite_connector.model.snapshot import OpenSnapshot, StagedSnapshot

KEY = "bench"


async def stage_plain(file: Path, directory: Path) -> StagedSnapshot:
    """Stages what an operator stages where the command `sync` writes `file`: the same without expanded grants."""
    snapshot = await asyncio.to_thread(read_snapshot, file, file.parent)
    plain = replace(snapshot.directory, scope=replace(snapshot.run.scope, expanded=False))
    run = snapshot.run
    return await SnapshotStore(directory).stage(KEY, plain, sync_id=run.sync_id, started_at=run.started_at)


async def open_expanded(directory: Path, sha256: str) -> OpenSnapshot:
    store = SnapshotStore(directory)
    whole = await store.restore(KEY, sha256)
    if whole is None:
        raise ValueError(f"{directory} has no snapshot of that hash")
    return await store.open(whole, replace(whole.scope, expanded=True))


if __name__ == "__main__":
    asyncio.run(open_expanded(Path(sys.argv[1]), sys.argv[2])).file.close()
