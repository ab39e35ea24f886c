"""Carries one task to its end: heartbeats, the handler's work, FinishTask; hands it back at shutdown."""

import asyncio
import logging
from enum import Enum, auto
from typing import NoReturn

from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.jitter import Jitter
from buildkite_connector.model.observer import SILENT, Observer, Result, Work
from buildkite_connector.model.tasks import Code, TaskID, TaskOutcome
from buildkite_connector.tasks.outcomes import SHUTTING_DOWN, UNEXPECTED, outcome_of
from buildkite_connector.tasks.ports import TaskHandler, TaskService
from buildkite_connector.timing.backoff import BETWEEN_CALLS
from buildkite_connector.timing.clock import Clock

logger = logging.getLogger(__name__)

HEARTBEAT_FAILURES = 10
"""In a row, after which the work is given up."""
FIRST_HEARTBEAT_RETRY = 1.0
"""Seconds before a failed first heartbeat is sent again."""
FINISH_ATTEMPTS = 3
ANSWER_SECONDS = 5.0
"""How long the answer to an upload that is whole is awaited at shutdown, which has 10 s in all."""
HAND_BACK_SECONDS = 3.0
"""How long the FinishTask of a task that is handed back may take at shutdown."""


class End(Enum):
    """What became of FinishTask. REFUSED: C1 answered that it does not take it. LOST: no answer says what it did."""

    TAKEN = auto()
    REFUSED = auto()
    LOST = auto()


class TaskRunner:
    """One task of the connector `name`."""

    def __init__(
        self,
        name: str,
        task_id: TaskID,
        handler: TaskHandler,
        service: TaskService,
        clock: Clock,
        jitter: Jitter,
        observer: Observer = SILENT,
    ) -> None:
        self._name = name
        self._task_id = task_id
        self._handler = handler
        self._service = service
        self._clock = clock
        self._jitter = jitter
        self._observer = observer
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """The process or the session ends: the task is handed back, unless only an answer is outstanding."""
        self._stopping.set()

    @property
    def uploads(self) -> bool:
        """Whether a file is on its way to C1."""
        return self._handler.uploads

    async def run(self) -> None:
        """Until C1 has the task's end, or did not take it. A task that is cancelled is handed back."""
        with self._observer.operation(
            Work.TASK, connector=self._name, task_id=self._task_id, kind=self._handler.kind
        ) as operation:
            outcome = await self._carry_out()
            operation.tell(result=_result(outcome).value)

    async def _carry_out(self) -> TaskOutcome:
        while True:
            outcome = await self._outcome()
            end = await self._finish(outcome)
            if outcome.code is not Code.OK:
                return outcome
            if end is End.TAKEN:
                self._handler.accepted()
            if end is not End.REFUSED or not self._handler.refused():
                return outcome

    async def _outcome(self) -> TaskOutcome:
        try:
            return await self._work()
        except Failure as failure:
            self._log(logging.WARNING, "a task failed", failure)
            return outcome_of(failure)
        except asyncio.CancelledError:
            await self._finish(SHUTTING_DOWN)
            raise
        except Exception:
            logger.exception("a task failed unexpectedly", extra=self._fields())
            return UNEXPECTED

    async def _work(self) -> TaskOutcome:
        """The handler's outcome, or the one of a task that is handed back. Raises Failure when work is given up."""
        begun = asyncio.Event()
        work = asyncio.create_task(self._handle(begun), name=f"{self._name}/{self._task_id}")
        heart = asyncio.create_task(self._beat(begun), name=f"{self._name}/{self._task_id}/heartbeat")
        stop = asyncio.create_task(self._stopping.wait(), name=f"{self._name}/{self._task_id}/stop")
        parts = (work, heart, stop)
        try:
            await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            if stop.done() and not work.done() and self._handler.awaits_answer:
                await asyncio.wait({work}, timeout=ANSWER_SECONDS)
            if work.done():
                return work.result()
            if heart.done():
                heart.result()
            return SHUTTING_DOWN
        finally:
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)

    async def _handle(self, begun: asyncio.Event) -> TaskOutcome:
        if self._handler.heartbeats:
            await begun.wait()
        return await self._handler.run()

    async def _beat(self, begun: asyncio.Event) -> NoReturn:
        """Heartbeats until cancelled; `begun` is set after the first, which comes before any work.

        Raises Failure when the work is to be given up.
        """
        if not self._handler.heartbeats:
            await asyncio.Event().wait()
        failures = 0
        wait = FIRST_HEARTBEAT_RETRY
        while True:
            try:
                beat = await self._service.heartbeat(self._task_id)
            except Failure as failure:
                failures += 1
                if failures == HEARTBEAT_FAILURES:
                    raise
                self._log(logging.WARNING, "a heartbeat failed", failure)
            else:
                failures = 0
                wait = beat.next_heartbeat
                if beat.cancelled:
                    raise Failure(Reason.TASK_CANCELLED, "C1 cancelled the task.")
            begun.set()
            await self._clock.sleep(wait)

    async def _finish(self, outcome: TaskOutcome) -> End:
        """Send the task's end. One that C1 does not take leads to the task being handed out again, in C1's own time.

        FinishTask is sent whole although the runner is cancelled meanwhile, within `HAND_BACK_SECONDS`.
        """
        sending = asyncio.create_task(self._send_end(outcome), name=f"{self._name}/{self._task_id}/finish")
        stop = asyncio.create_task(self._stopping.wait(), name=f"{self._name}/{self._task_id}/stop")
        parts = (sending, stop)
        try:
            await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            if not sending.done():
                await asyncio.wait({sending}, timeout=HAND_BACK_SECONDS)
            if sending.done():
                return sending.result()
        except asyncio.CancelledError:
            await asyncio.wait({sending}, timeout=HAND_BACK_SECONDS)
            raise
        finally:
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)
        logger.warning("C1 did not answer a task's end in time", extra=self._fields())
        return End.LOST

    async def _send_end(self, outcome: TaskOutcome) -> End:
        """FinishTask, sent again while it may have been lost. C1 refuses a second one when it has the first."""
        attempt = 0
        while True:
            attempt += 1
            try:
                await self._service.finish(self._task_id, outcome)
            except Failure as failure:
                rejected = failure.reason is Reason.C1_REQUEST_REJECTED
                if rejected and attempt > 1:
                    return End.TAKEN
                self._log(logging.WARNING, "C1 did not take a task's end", failure)
                if rejected:
                    return End.REFUSED
                if failure.reason not in {Reason.C1_UNREACHABLE, Reason.C1_UNAVAILABLE} or attempt == FINISH_ATTEMPTS:
                    return End.LOST
                await self._clock.sleep(
                    BETWEEN_CALLS.wait(attempt, self._jitter.uniform(0.0, 1.0), failure.retry_after)
                )
            else:
                return End.TAKEN

    def _log(self, level: int, message: str, failure: Failure) -> None:
        logger.log(level, message, extra={**self._fields(), "reason": failure.reason.value, "error": failure.message})

    def _fields(self) -> dict[str, str]:
        return {"connector": self._name, "task_id": self._task_id}


def _result(outcome: TaskOutcome) -> Result:
    if outcome is SHUTTING_DOWN:
        return Result.HANDED_BACK
    return {Code.OK: Result.SUCCESS, Code.CANCELLED: Result.CANCELLED}.get(outcome.code, Result.FAILED)
