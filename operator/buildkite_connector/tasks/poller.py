"""One connector's conversation with C1: Hello, GetTask, and each task to its end.

C1 takes data only under a task that it handed out, so this side polls and answers; what to deliver is the
session's to say (`Deliveries`). The order of calls and the waits are C1's contract.
"""

import asyncio
import logging
from contextlib import AbstractAsyncContextManager
from typing import NoReturn, Protocol

from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.jitter import Jitter
from buildkite_connector.model.snapshot import StagedSnapshot
from buildkite_connector.model.tasks import Code, HelloTask, SyncTask, TaskID, TaskOutcome, UnsupportedTask
from buildkite_connector.tasks.ports import TaskService
from buildkite_connector.timing.backoff import BETWEEN_CALLS
from buildkite_connector.timing.clock import Clock

logger = logging.getLogger(__name__)

HEARTBEAT_FAILURES = 10
"""In a row, after which the work is given up."""
SHORTEST_POLL = 1.0
"""Seconds between two questions when C1 has no task, whatever it says."""
TOLD_AFTER_SECONDS = 30.0
"""C1 restarting is no news; C1 not answering for this long is."""
FINISH_ATTEMPTS = 3
HAND_BACK_SECONDS = 8.0
"""How long handing a task back may take at shutdown, which has 10 s in all."""


class Deliveries(Protocol):
    """What the conversation asks of its session."""

    def snapshot_for(self, task: SyncTask) -> AbstractAsyncContextManager[StagedSnapshot]:
        """A snapshot that may go out for this task; its file stays as it is inside the context.

        Raises Failure: no sync succeeded, or the snapshot is held back. Leaving the context early withdraws the
        wish: a sync that only this task wanted need not go on.
        """
        ...

    async def delivered(self, task: SyncTask, snapshot: StagedSnapshot) -> None:
        """C1 has the snapshot and knows that it is whole."""
        ...

    async def delivery_failed(self, failure: Failure) -> None: ...

    async def c1_changed(self, failure: Failure | None) -> None:
        """C1 answers (None), or it does not any more."""
        ...


class Conversation:
    """Polls C1 for tasks and carries them out; an activity of the scheduler.

    It ends itself (`due` is None) when C1 refuses the client: only new credentials start another.
    """

    def __init__(self, name: str, service: TaskService, deliveries: Deliveries, clock: Clock, jitter: Jitter) -> None:
        self.name = f"{name}/c1"
        self._service = service
        self._deliveries = deliveries
        self._clock = clock
        self._jitter = jitter
        self.greeted = False
        self._hello_due = True
        self._ended = False
        self._failures = 0
        self._failing_since = 0.0
        self._next = clock.monotonic()

    def due(self) -> float | None:
        return None if self._ended else self._next

    async def greet(self) -> None:
        """Hello, once at the start. Raises Failure."""
        await self._service.hello()
        self.greeted, self._hello_due = True, False

    async def aclose(self) -> None:
        await self._service.aclose()

    async def run(self) -> None:
        """One question to C1, and the task it hands out carried to its end."""
        asked_at = self._clock.monotonic()
        try:
            if self._hello_due:
                await self.greet()
            poll = await self._service.next_task()
        except Failure as failure:
            await self._stumbled(failure)
            return
        except Exception:
            logger.exception("C1 could not be asked", extra={"connector": self.name})
            await self._stumbled(Failure(Reason.INTERNAL_ERROR, "An error in the operator itself while it asked C1."))
            return
        if self._failures:
            logger.info("C1 answers again", extra={"connector": self.name})
            self._failures = 0
        if not isinstance(poll.task, SyncTask):
            await self._deliveries.c1_changed(None)
        match poll.task:
            case None:
                pass
            case SyncTask() as task:
                await self._sync(task)
            case HelloTask(id=task_id):
                await self._answer_hello(task_id)
            case UnsupportedTask(id=task_id, kind=kind):
                logger.warning("C1 asked for what Buildkite cannot do", extra={"task_id": task_id, "kind": kind})
                await self._finish(
                    task_id,
                    TaskOutcome(
                        Code.UNIMPLEMENTED,
                        f"The Buildkite connector syncs accounts and teams; it does not support {kind} tasks.",
                        non_retryable=True,
                    ),
                )
        if not self._failures:
            self._next = max(asked_at + poll.next_poll, self._clock.monotonic() + SHORTEST_POLL)

    async def _stumbled(self, failure: Failure) -> None:
        now = self._clock.monotonic()
        if not self._failures:
            self._failing_since = now
            fields = {"connector": self.name, "reason": failure.reason, "error": failure.message}
            logger.warning("C1 did not answer as it should", extra=fields)
        self._failures += 1
        if failure.remedy is Remedy.CREDENTIALS or (failure.remedy is Remedy.EDIT and self._hello_due):
            self._ended = True
        if failure.remedy is Remedy.EDIT:
            self._hello_due = True  # C1 may have forgotten this host: begin again with Hello
        self._next = now + BETWEEN_CALLS.wait(self._failures, self._jitter, failure.retry_after)
        if self._ended or now - self._failing_since >= TOLD_AFTER_SECONDS:
            await self._deliveries.c1_changed(failure)

    async def _answer_hello(self, task_id: TaskID) -> None:
        try:
            await self._service.hello(task_id)
        except Failure as failure:
            await self._stumbled(failure)

    async def _sync(self, task: SyncTask) -> None:
        if task.refusal:
            await self._finish(task.id, TaskOutcome(Code.INVALID_ARGUMENT, task.refusal, non_retryable=True))
            return
        logger.info("C1 asks for a sync", extra={"task_id": task.id})
        try:
            snapshot = await self._deliver_while_beating(task)
        except Failure as failure:
            logger.warning(
                "a task failed",
                extra={"task_id": task.id, "reason": failure.reason, "error": failure.message},
            )
            await self._finish(task.id, outcome_of(failure))
        except asyncio.CancelledError:
            await self._hand_back(task.id)
            raise
        except Exception:
            logger.exception("a task failed unexpectedly", extra={"task_id": task.id})
            await self._finish(
                task.id, TaskOutcome(Code.INTERNAL, "An error in the connector itself; its log has the details.")
            )
        else:
            if await self._finish(task.id, TaskOutcome(message=format_note(task))):
                await self._deliveries.delivered(task, snapshot)

    async def _deliver_while_beating(self, task: SyncTask) -> StagedSnapshot:
        """The delivery, given up when C1 cancels the task or cannot be told that it goes on. Raises Failure."""
        begun = asyncio.Event()
        heart = asyncio.create_task(self._beat(task.id, begun), name=f"{self.name}/{task.id}/heartbeat")
        work = asyncio.create_task(self._deliver(task, begun), name=f"{self.name}/{task.id}")
        try:
            await asyncio.wait({work, heart}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                heart.result()
            return work.result()
        finally:
            work.cancel()
            heart.cancel()
            await asyncio.gather(work, heart, return_exceptions=True)

    async def _deliver(self, task: SyncTask, begun: asyncio.Event) -> StagedSnapshot:
        await begun.wait()
        await self._deliveries.c1_changed(None)
        async with self._deliveries.snapshot_for(task) as snapshot:
            try:
                await self._service.upload(task.id, snapshot.path, snapshot.sha256)
            except Failure as failure:
                await self._deliveries.delivery_failed(failure)
                raise
        return snapshot

    async def _beat(self, task_id: TaskID, begun: asyncio.Event) -> NoReturn:
        """Heartbeats until cancelled; `begun` is set after the first, which comes before any work.

        Raises Failure when the work is to be given up.
        """
        failures = 0
        wait = SHORTEST_POLL
        while True:
            try:
                beat = await self._service.heartbeat(task_id)
            except Failure as failure:
                failures += 1
                if failures == HEARTBEAT_FAILURES:
                    raise
                logger.warning("a heartbeat failed", extra={"task_id": task_id, "error": failure.message})
            else:
                failures = 0
                wait = beat.next_heartbeat
                if beat.cancelled:
                    raise Failure(Reason.TASK_CANCELLED, "C1 cancelled the task.")
            begun.set()
            await self._clock.sleep(wait)

    async def _finish(self, task_id: TaskID, outcome: TaskOutcome, within: float | None = None) -> bool:
        """Whether C1 took it; when not, C1 hands the task out again in its own time.

        Sent whole although this is cancelled meanwhile: a task that C1 gave is never left without an end.
        """
        sending = asyncio.create_task(self._send_end(task_id, outcome), name=f"{self.name}/{task_id}/finish")
        try:
            async with asyncio.timeout(within):
                return await asyncio.shield(sending)
        except TimeoutError:
            logger.warning("no time left to tell C1 a task's end", extra={"connector": self.name, "task_id": task_id})
            return False
        except asyncio.CancelledError:
            await asyncio.wait({sending}, timeout=HAND_BACK_SECONDS)
            raise
        finally:
            sending.cancel()

    async def _send_end(self, task_id: TaskID, outcome: TaskOutcome) -> bool:
        """FinishTask, again while it may only have got lost. A refusal after a lost answer means: it had arrived."""
        for attempt in range(1, FINISH_ATTEMPTS + 1):
            try:
                await self._service.finish(task_id, outcome)
            except Failure as failure:
                if failure.reason is Reason.C1_REQUEST_REJECTED and attempt > 1:
                    return True
                fields = {
                    "connector": self.name,
                    "task_id": task_id,
                    "reason": failure.reason,
                    "error": failure.message,
                }
                logger.warning("C1 did not take a task's end", extra=fields)
                if failure.reason not in {Reason.C1_UNREACHABLE, Reason.C1_UNAVAILABLE} or attempt == FINISH_ATTEMPTS:
                    return False
                await self._clock.sleep(BETWEEN_CALLS.wait(attempt, self._jitter, failure.retry_after))
            else:
                return True
        return False

    async def _hand_back(self, task_id: TaskID) -> None:
        """At shutdown: at once, retryable, so that C1 hands the task to whoever comes next."""
        outcome = TaskOutcome(Code.ABORTED, "The connector is shutting down; the task can be handed out again.")
        await self._finish(task_id, outcome, HAND_BACK_SECONDS)


def format_note(task: SyncTask) -> str:
    """What C1 is told beside success: the file's form, where it asked for another."""
    if task.storage_engine in {"", "sqlite"}:
        return ""
    return f"The snapshot is in sqlite form; this connector does not write {task.storage_engine}."


def outcome_of(failure: Failure) -> TaskOutcome:
    """What C1 is told of a failure: a code of the same meaning; final only where no retry can help."""
    code = _CODES.get(failure.reason)
    if code is None:
        code = {
            Remedy.RETRY: Code.UNAVAILABLE,
            Remedy.CREDENTIALS: Code.UNAUTHENTICATED,
            Remedy.EDIT: Code.FAILED_PRECONDITION,
        }[failure.remedy]
    return TaskOutcome(code, f"{failure.reason}: {failure.message}", non_retryable=failure.remedy is Remedy.EDIT)


_CODES = {
    Reason.SYNC_TIMEOUT: Code.DEADLINE_EXCEEDED,
    Reason.SHRINK_HELD: Code.FAILED_PRECONDITION,
    Reason.TASK_CANCELLED: Code.CANCELLED,
    Reason.TOKEN_SCOPE_MISSING: Code.PERMISSION_DENIED,
    Reason.ACCESS_DENIED: Code.PERMISSION_DENIED,
    Reason.SNAPSHOT_INVALID: Code.INTERNAL,
    Reason.INTERNAL_ERROR: Code.INTERNAL,
}
