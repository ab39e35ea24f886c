"""Handler of `sync_full`: a snapshot of what the task asks for, uploaded under the task."""

import asyncio
import logging

from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.observer import SILENT, Observer, Work
from buildkite_connector.model.snapshot import StagedSnapshot
from buildkite_connector.model.tasks import SyncTask, TaskOutcome
from buildkite_connector.tasks.outcomes import format_note
from buildkite_connector.tasks.ports import Snapshots, TaskService

logger = logging.getLogger(__name__)

MOST_SNAPSHOTS = 10
"""Of one task, each made untrue by a change before it could leave; then the task is handed back."""


class SyncFullHandler:
    """One `sync_full` task of the connector `name`.

    `turn` lets one snapshot at a time be uploaded; tasks wait for the same sync together.
    """

    kind = "sync_full"
    heartbeats = True

    def __init__(
        self,
        name: str,
        task: SyncTask,
        snapshots: Snapshots,
        service: TaskService,
        turn: asyncio.Semaphore,
        observer: Observer = SILENT,
    ) -> None:
        self._name = name
        self._task = task
        self._snapshots = snapshots
        self._service = service
        self._turn = turn
        self._observer = observer
        self._delivered: StagedSnapshot | None = None
        self._recalls = True
        self.uploads = False
        self.awaits_answer = False
        """The whole file is on its way, and C1's answer is outstanding."""

    async def run(self) -> TaskOutcome:
        """A task that comes again after its upload, because its end was lost, is ended without another upload."""
        outcome = TaskOutcome(message=format_note(self._task))
        recalled = self._snapshots.recall(self._task) if self._recalls else None
        if recalled is not None:
            self._delivered = recalled
            fields = {"connector": self._name, "task_id": self._task.id, "sync_id": recalled.sync_id}
            logger.info("C1 hands out again a task whose snapshot it has; its end is sent again", extra=fields)
            return outcome
        self._recalls = False
        for _ in range(MOST_SNAPSHOTS):
            if await self._upload():
                return outcome
            logger.info("a change made the snapshot untrue", extra={"connector": self._name, "task_id": self._task.id})
        raise Failure(
            Reason.ROSTER_UNSTABLE,
            f"{MOST_SNAPSHOTS} snapshots in a row were untrue before they could leave: C1 changes memberships faster"
            " than they can be read.",
        )

    async def _upload(self) -> bool:
        """Whether the snapshot went out. A membership may have been changed while it waited for its turn."""
        async with self._snapshots.snapshot_for(self._task) as snapshot, self._turn:
            if not self._snapshots.still_true(snapshot):
                return False
            self.uploads = True
            try:
                with self._observer.operation(
                    Work.DELIVERY, connector=self._name, task_id=self._task.id, bytes=snapshot.size
                ):
                    await self._service.upload(self._task.id, snapshot, self._sent)
            except Failure as failure:
                self._snapshots.delivery_failed(snapshot, failure)
                raise
            finally:
                self.uploads = self.awaits_answer = False
            self._delivered = snapshot
            self._snapshots.uploaded(self._task, snapshot)
        return True

    def accepted(self) -> None:
        if self._delivered is not None:
            self._snapshots.delivered(self._task, self._delivered)

    def refused(self) -> bool:
        """C1 does not count the upload that is remembered: the snapshot is uploaded under the task once more."""
        again, self._recalls = self._recalls, False
        return again

    def _sent(self) -> None:
        self.awaits_answer = True


class RefusalHandler:
    """A task that gets its final answer at once."""

    heartbeats = False
    uploads = False
    awaits_answer = False

    def __init__(self, kind: str, outcome: TaskOutcome) -> None:
        self.kind = kind
        self._outcome = outcome

    async def run(self) -> TaskOutcome:
        return self._outcome

    def accepted(self) -> None:
        """Nothing is recorded of a refusal."""

    def refused(self) -> bool:
        return False
