"""One connector's session with C1: Hello, GetTask in a loop, each task served beside it, all handed back at the end.

C1 takes data only under a task that it handed out, so this side asks and answers; the order of calls and the waits are
C1's contract. Read from `run` on. What a task does is in `sync_full` and `membership`, its result in `outcomes`.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field

from buildkite_connector.model.failure import Failure, Reason, Remedy, internal_error
from buildkite_connector.model.observer import Result, Work
from buildkite_connector.model.tasks import (
    Code,
    HelloTask,
    MembershipTask,
    SyncTask,
    Task,
    TaskID,
    TaskOutcome,
    UnsupportedTask,
)
from buildkite_connector.tasks.membership import change_membership
from buildkite_connector.tasks.outcomes import SHUTTING_DOWN, UNEXPECTED, outcome_of, refused_options, unsupported
from buildkite_connector.tasks.ports import SessionPorts, TaskProgress
from buildkite_connector.tasks.sync_full import log_failure, sync_full
from buildkite_connector.timing.clock import BETWEEN_CALLS, fair_alarm, fair_timeout
from buildkite_connector.timing.slots import Slot

logger = logging.getLogger(__name__)

MOST_TASKS = 3
"""Tasks at once, where nothing else is set; only one of them syncs."""
MOST_WAITING = 50
"""Tasks at once while memberships are changed: those that wait for a sync take no slot, but are not taken unbounded."""
SHORTEST_POLL = 1.0
"""Seconds between two GetTask calls when C1 has no task, whatever C1 says."""
SHORTEST_POLL_IN_BATCH = 0.05
"""The same right after a change of a membership was begun: the next of a batch does not wait."""
EAGER_SECONDS = 10.0
"""How long a task that C1 is about to hand out is asked for every `SHORTEST_POLL`."""
HELLO_SECONDS = 10.0
"""How long the first Hello of a session may take before C1 counts as unreachable."""
HELLO_SLOT_SECONDS = 1.0
"""How long a Hello keeps its slot: after that it waits for a silent server, which costs nothing here."""
REPORTED_AFTER_SECONDS = 30.0
"""Seconds of consecutive failures before C1 is reported unreachable. Shorter outages (a restart of C1) are not."""
FINISH_ATTEMPTS = 3
"""How often FinishTask is sent while it may have been lost."""
ANSWER_SECONDS = 5.0
"""How long the session's end waits for an answer to an upload or a write that is whole."""
HAND_BACK_SECONDS = 3.0
"""How long the session's end then waits for the FinishTask calls under way. A shutdown has 10 s in all."""


@dataclass(eq=False, slots=True)
class _Served:
    """A task that is being served. `finishing`: its work is over, and FinishTask is on its way."""

    task: SyncTask | MembershipTask | UnsupportedTask
    progress: TaskProgress = field(default_factory=TaskProgress)
    finishing: bool = False
    running: asyncio.Task[None] | None = None

    def cancel_work(self) -> None:
        """End the work, so that the task is handed back. FinishTask goes on."""
        if self.running is not None and not self.finishing:
            self.running.cancel()


class C1Session:
    """The session of one connector. `run` serves C1; cancel it, once or more often, to end the session.

    `hello_slot` bounds how many sessions of the process say Hello at once. `patient`: C1 answered this connector
    before, so that a first Hello without an answer is an outage like any other; else it is reported at once.

    `most_tasks` run at once. `provisions`: C1 was offered changes of memberships; then `most_tasks` changes run at
    once, and tasks that wait for a sync take no slot from them. Whether a change is made, `ports.changes` says.
    """

    def __init__(
        self,
        ports: SessionPorts,
        hello_slot: Callable[[], AbstractAsyncContextManager[Slot]],
        *,
        patient: bool,
        provisions: bool,
        most_tasks: int = MOST_TASKS,
    ) -> None:
        self._ports = ports
        self._name = ports.name
        self._service = ports.service
        self._clock = ports.clock
        self._hello_slot = hello_slot
        self._patient = patient
        self._provisions = provisions
        self._most_tasks = most_tasks
        self._upload_lock = asyncio.Lock()
        self._served: dict[TaskID, _Served] = {}
        self._greeted = False
        self._hello_due = True
        self._failures = 0
        self._failing_since = 0.0
        self._asked_at = self._eager_until = float("-inf")
        self._waiting: asyncio.Timeout | None = None

    @property
    def serves(self) -> bool:
        """Whether a task is being served."""
        return bool(self._served)

    def ask_now(self) -> None:
        """C1 is about to hand out a sync task: ask at once, then every second, for ten seconds or until it comes.

        While C1 does not answer, its own wait holds.
        """
        self._eager_until = self._clock.monotonic() + EAGER_SECONDS
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not self._failures:
            loop, early = asyncio.get_running_loop(), self._asked_at + SHORTEST_POLL - self._clock.monotonic()
            waiting.reschedule(loop.time() + max(early, 0.0))

    async def run(self) -> None:
        """Serve C1 until it refuses the client, or until cancelled; then hand all tasks back and close the connection.

        Cancelled, it ends within `ANSWER_SECONDS` and `HAND_BACK_SECONDS`.
        """
        try:
            async with asyncio.TaskGroup() as group:
                try:
                    while (seconds := await self._ask(group)) is not None:
                        await self._wait(seconds)
                finally:
                    await _uninterrupted(self._hand_back())
        except ExceptionGroup as errors:
            error = errors.exceptions[0]
            logger.exception("the session with C1 failed unexpectedly", exc_info=error, extra={"connector": self._name})
            self._ports.listener.c1_failed(internal_error(error))
        finally:
            await _uninterrupted(self._service.aclose())

    # GetTask

    async def _wait(self, seconds: float) -> None:
        """Until C1 is asked again: `ask_now` ends it sooner."""
        try:
            async with asyncio.timeout(None) as self._waiting:
                await self._clock.sleep(seconds)
        except TimeoutError:
            pass
        finally:
            self._waiting = None

    async def _ask(self, group: asyncio.TaskGroup) -> float | None:
        """Wait for a free slot and ask C1 once, after Hello where that is due.

        Returns the seconds until the next question, None when C1 refuses the client.
        """
        while self._is_full:
            running = {each.running for each in self._served.values() if each.running is not None}
            await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        asked_at = self._asked_at = self._clock.monotonic()
        try:
            if self._hello_due:
                await self._hello()
            poll = await self._service.next_task()
            if isinstance(poll.task, HelloTask):
                await self._service.hello(poll.task.id)
        except Failure as failure:
            return self._failed(failure)
        except Exception as error:
            logger.exception("C1 could not be asked", extra={"connector": self._name})
            return self._failed(internal_error(error))
        if self._failures:
            logger.info("C1 answers again", extra={"connector": self._name})
            self._failures = 0
        self._ports.listener.c1_answered()
        begun = self._begin(poll.task, group)
        next_of_batch = begun and self._provisions and isinstance(poll.task, MembershipTask)
        shortest = SHORTEST_POLL_IN_BATCH if next_of_batch else SHORTEST_POLL
        if isinstance(poll.task, SyncTask):
            self._eager_until = float("-inf")
        elif self._clock.monotonic() < self._eager_until:
            return shortest
        return max(asked_at + poll.next_poll - self._clock.monotonic(), shortest)

    @property
    def _is_full(self) -> bool:
        """Whether no task more may be taken before one has ended."""
        if not self._provisions:
            return len(self._served) >= self._most_tasks
        changes = sum(isinstance(each.task, MembershipTask) for each in self._served.values())
        return changes >= self._most_tasks or len(self._served) >= MOST_WAITING

    async def _hello(self) -> None:
        """Hello, at the start and after C1 has forgotten this host. Raises Failure."""
        async with self._hello_slot() as slot:
            with fair_alarm(HELLO_SLOT_SECONDS, slot.give_back):
                if self._greeted:
                    await self._service.hello()
                else:
                    await self._first_hello()
        self._greeted, self._hello_due = True, False
        self._ports.listener.c1_greeted()

    async def _first_hello(self) -> None:
        try:
            async with fair_timeout(HELLO_SECONDS):
                await self._service.hello()
        except TimeoutError:
            raise Failure(
                Reason.C1_UNREACHABLE,
                f"C1 has not answered Hello within {HELLO_SECONDS:.0f} seconds. The connector retries.",
            ) from None

    def _failed(self, failure: Failure) -> float | None:
        """Report what must be reported. Returns the seconds until C1 is asked again, None for never."""
        now = self._clock.monotonic()
        if not self._failures:
            self._failing_since = now
            fields = {"connector": self._name, "reason": failure.reason.value, "error": failure.message}
            logger.warning("a call to C1 failed", extra=fields)
        self._failures += 1
        refused = failure.remedy is Remedy.CREDENTIALS or (failure.remedy is Remedy.EDIT and self._hello_due)
        if failure.remedy is Remedy.EDIT:
            self._hello_due = True  # C1 may have forgotten this host: the session begins again with Hello
        reported = not (self._greeted or self._patient) or now - self._failing_since >= REPORTED_AFTER_SECONDS
        if refused or reported:
            self._ports.listener.c1_failed(failure)
        if refused:
            return None
        return BETWEEN_CALLS.wait(self._failures, self._ports.jitter.uniform(0.0, 1.0), failure.retry_after)

    # One task

    def _begin(self, task: Task | None, group: asyncio.TaskGroup) -> bool:
        """Begin to serve what C1 handed out. A task that is served already and is handed out again goes on as it is."""
        if task is None or isinstance(task, HelloTask):
            return False
        fields = {"connector": self._name, "task_id": task.id}
        match task:
            case SyncTask():
                logger.info("C1 asks for a sync", extra=fields)
            case MembershipTask():
                logger.info("C1 asks for a change of a membership", extra={**fields, "kind": task.kind})
            case UnsupportedTask():
                logger.warning(
                    "C1 asks for a task that this connector does not support", extra={**fields, "kind": task.kind}
                )
        if task.id in self._served:
            return False
        served = self._served[task.id] = _Served(task)
        served.running = group.create_task(self._serve(served), name=f"{self._name}/{task.id}")
        served.running.add_done_callback(lambda _: self._served.pop(task.id))
        return True

    async def _serve(self, served: _Served) -> None:
        """Carry the task out and tell C1 how it ended."""
        task = served.task
        with self._ports.observer.operation(
            Work.TASK, connector=self._name, task_id=task.id, kind=task.kind
        ) as operation:
            outcome = await self._outcome(served)
            served.finishing = True
            taken = await self._finish(task.id, outcome)
            failed = Result.HANDED_BACK if outcome is SHUTTING_DOWN else Result.FAILED
            results = {Code.OK: Result.SUCCESS, Code.CANCELLED: Result.CANCELLED}
            operation.tell(result=results.get(outcome.code, failed).value)
        if taken and outcome.delivered is not None and isinstance(task, SyncTask):
            try:
                self._ports.snapshots.delivered(task, outcome.delivered)
            except Exception:  # it must not end the other tasks
                fields = {"connector": self._name, "task_id": task.id}
                logger.exception("a delivery could not be recorded", extra=fields)

    async def _outcome(self, served: _Served) -> TaskOutcome:
        """The outcome of the task's work. Cancelled, the task is to be handed back."""
        task_id = served.task.id
        try:
            match served.task:
                case SyncTask(refusal="") as task:
                    outcome = await sync_full(task, self._ports, self._upload_lock, served.progress)
                case SyncTask() as task:
                    outcome = refused_options(task.refusal)
                case MembershipTask() as task:
                    outcome = await change_membership(task, self._ports, served.progress)
                case UnsupportedTask() as task:
                    outcome = unsupported(task.kind)
        except Failure as failure:
            log_failure("a task failed", self._name, task_id, failure)
            outcome = outcome_of(failure)
        except asyncio.CancelledError:
            outcome = SHUTTING_DOWN
        except Exception:
            logger.exception("a task failed unexpectedly", extra={"connector": self._name, "task_id": task_id})
            outcome = UNEXPECTED
        return outcome

    async def _finish(self, task_id: TaskID, outcome: TaskOutcome) -> bool:
        """Send FinishTask, again while it may have been lost. Returns whether C1 took it.

        One that C1 does not take leads to the task being handed out again, in C1's own time. C1 refuses a second
        FinishTask when it has the first.
        """
        attempt = 0
        try:
            while True:
                attempt += 1
                try:
                    await self._service.finish(task_id, outcome)
                except Failure as failure:
                    rejected = failure.reason is Reason.C1_REQUEST_REJECTED
                    if rejected and attempt > 1:
                        return True
                    log_failure("C1 did not take a task's end", self._name, task_id, failure)
                    lost = failure.reason in {Reason.C1_UNREACHABLE, Reason.C1_UNAVAILABLE}
                    if not lost or attempt == FINISH_ATTEMPTS:
                        return False
                    wait = BETWEEN_CALLS.wait(attempt, self._ports.jitter.uniform(0.0, 1.0), failure.retry_after)
                    await self._clock.sleep(wait)
                else:
                    return True
        except asyncio.CancelledError:
            fields = {"connector": self._name, "task_id": task_id}
            logger.warning("C1 did not answer a task's end in time", extra=fields)
            return False
        except Exception:  # an error here must not end the other tasks
            fields = {"connector": self._name, "task_id": task_id}
            logger.exception("a task's end failed unexpectedly", extra=fields)
            return False

    # The end

    async def _hand_back(self) -> None:
        """Hand all tasks back to C1. Only an answer that is outstanding is awaited before, for `ANSWER_SECONDS`."""
        served = list(self._served.values())
        for each in served:
            if not each.progress.awaits_answer:
                each.cancel_work()
        await _ended(served, ANSWER_SECONDS)
        for each in served:
            each.cancel_work()
        await _ended(served, HAND_BACK_SECONDS)
        for each in served:
            if each.running is not None:
                each.running.cancel()
        await _ended(served, None)


async def _ended(served: list[_Served], seconds: float | None) -> None:
    """Wait for these tasks, at most for so long."""
    running = {each.running for each in served if each.running is not None}
    if running:
        await asyncio.wait(running, timeout=seconds)


async def _uninterrupted(work: Coroutine[None, None, None]) -> None:
    """Await the work to its end although the caller is cancelled meanwhile.

    It begins after all tasks that were created before, so that each of them can be handed back.
    """
    running = asyncio.create_task(work)
    while not running.done():
        with suppress(asyncio.CancelledError):
            await asyncio.shield(running)
    running.result()
