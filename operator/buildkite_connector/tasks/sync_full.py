"""Handler of `sync_full`: a snapshot of what the task asks for, uploaded under the task."""

import asyncio
import logging

from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.observer import Work
from buildkite_connector.model.snapshot import OpenSnapshot
from buildkite_connector.model.tasks import SyncTask, TaskOutcome
from buildkite_connector.tasks.outcomes import format_note
from buildkite_connector.tasks.ports import Progress, SessionPorts

logger = logging.getLogger(__name__)

MOST_SNAPSHOTS = 10
"""Of one task, each made untrue by a change before it could leave; then the task is handed back."""


async def sync_full(task: SyncTask, ports: SessionPorts, turn: asyncio.Semaphore, progress: Progress) -> TaskOutcome:
    """Upload a snapshot under the task. Raises Failure.

    `turn` lets one snapshot at a time be uploaded; tasks wait for the same sync together. A membership may have been
    changed while a snapshot waited for its turn: then another is asked for.
    """
    for _ in range(MOST_SNAPSHOTS):
        async with ports.snapshots.snapshot_for(task) as file, turn:
            if ports.snapshots.still_true(file.snapshot):
                await _upload(task, ports, file, progress)
                return TaskOutcome(message=format_note(task), delivered=file.snapshot)
        logger.info("a change made the snapshot untrue", extra={"connector": ports.name, "task_id": task.id})
    raise Failure(
        Reason.ROSTER_UNSTABLE,
        f"{MOST_SNAPSHOTS} snapshots in a row were untrue before they could leave: C1 changes memberships faster"
        " than they can be read.",
    )


async def _upload(task: SyncTask, ports: SessionPorts, file: OpenSnapshot, progress: Progress) -> None:
    def sent() -> None:
        progress.awaits_answer = True

    work = Work.DELIVERY
    try:
        with ports.observer.operation(work, connector=ports.name, task_id=task.id, bytes=file.snapshot.size):
            await ports.service.upload(task.id, file, sent)
    except Failure as failure:
        ports.snapshots.delivery_failed(file.snapshot, failure)
        raise
    finally:
        progress.awaits_answer = False
