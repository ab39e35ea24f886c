"""Handler of `sync_full`: heartbeats while a snapshot of what the task asks for is made and uploaded under the task."""

import asyncio
import logging

from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.observer import Work
from buildkite_connector.model.tasks import SyncTask, TaskID, TaskOutcome
from buildkite_connector.tasks.ports import SessionPorts, TaskProgress

logger = logging.getLogger(__name__)

MOST_SNAPSHOTS = 10
"""Of one task, each made untrue by a change before it could leave; then the task is handed back."""
HEARTBEAT_FAILURES = 10
"""In a row, after which the work is given up."""
FIRST_HEARTBEAT_RETRY = 1.0
"""Seconds before a failed first heartbeat is sent again."""


async def sync_full(
    task: SyncTask, ports: SessionPorts, upload_lock: asyncio.Lock, progress: TaskProgress
) -> TaskOutcome:
    """Deliver a snapshot; heartbeats last from before that work to its end.

    Raises Failure; it is the heartbeat's when C1 cancelled the task, or answered no heartbeat for too long.
    """
    outcome = None
    try:
        async with asyncio.TaskGroup() as group:
            begun = asyncio.Event()
            beats = group.create_task(_beat(task, ports, begun), name=f"{ports.name}/{task.id}/heartbeat")
            await begun.wait()
            outcome = await deliver(task, ports, upload_lock, progress)
            beats.cancel()
            return outcome
    except BaseExceptionGroup as errors:
        if outcome is not None:  # C1 has the snapshot; a heartbeat that failed beside its end changes nothing
            if unexpected := errors.split(Failure)[1]:
                logger.exception("a heartbeat failed unexpectedly", exc_info=unexpected)
            return outcome
        raise errors.exceptions[0] from None


async def deliver(
    task: SyncTask, ports: SessionPorts, upload_lock: asyncio.Lock, progress: TaskProgress
) -> TaskOutcome:
    """Upload a snapshot under the task. Raises Failure.

    With `upload_lock` one snapshot at a time is uploaded; tasks wait for the same sync together. A membership may have
    been changed while a snapshot waited for the lock: then another is asked for.
    """

    def sent() -> None:
        progress.awaits_answer = True

    for _ in range(MOST_SNAPSHOTS):
        with await ports.snapshots.snapshot_for(task) as file:
            async with upload_lock:
                snapshot = file.snapshot
                if ports.snapshots.still_true(snapshot):
                    try:
                        with ports.observer.operation(
                            Work.DELIVERY, connector=ports.name, task_id=task.id, bytes=snapshot.size
                        ):
                            await ports.service.upload(task.id, file, sent)
                    except Failure as failure:
                        ports.snapshots.delivery_failed(snapshot, failure)
                        raise
                    finally:
                        progress.awaits_answer = False
                    note = ""
                    if task.other_engine:
                        note = f"The snapshot is in sqlite format; this connector does not write {task.other_engine}."
                    return TaskOutcome(message=note, delivered=snapshot)
        logger.info(
            "a membership change made the snapshot outdated", extra={"connector": ports.name, "task_id": task.id}
        )
    raise Failure(
        Reason.ROSTER_UNSTABLE,
        f"{MOST_SNAPSHOTS} snapshots in a row were outdated before they could be delivered: C1 changes memberships"
        " faster than they can be read.",
    )


async def _beat(task: SyncTask, ports: SessionPorts, begun: asyncio.Event) -> None:
    """Heartbeats until cancelled; `begun` is set after the first. Raises Failure to give the work up."""
    failures = 0
    wait = FIRST_HEARTBEAT_RETRY
    while True:
        try:
            beat = await ports.service.heartbeat(task.id)
        except Failure as failure:
            failures += 1
            if failures == HEARTBEAT_FAILURES:
                raise
            log_failure("a heartbeat failed", ports.name, task.id, failure)
        else:
            failures = 0
            wait = beat.next_heartbeat
            if beat.cancelled:
                raise Failure(Reason.TASK_CANCELLED, "C1 cancelled the task.")
        begun.set()
        await ports.clock.sleep(wait)


def log_failure(message: str, connector: str, task_id: TaskID, failure: Failure) -> None:
    fields = {"connector": connector, "task_id": task_id, "reason": failure.reason.value, "error": failure.message}
    logger.warning(message, extra=fields)
