"""One connector's session with C1: Hello, then GetTask in a loop; tasks run beside the loop.

C1 takes data only under a task that it handed out, so this side asks and answers. The order of calls and the waits
are C1's contract. `runner` carries out one task.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from buildkite_connector.model.failure import Failure, Reason, Remedy, internal_error
from buildkite_connector.model.jitter import Jitter
from buildkite_connector.model.observer import SILENT, Observer
from buildkite_connector.model.tasks import HelloTask, MembershipTask, Poll, SyncTask, Task, TaskID, UnsupportedTask
from buildkite_connector.tasks.membership import MembershipHandler
from buildkite_connector.tasks.outcomes import refused_options, unsupported
from buildkite_connector.tasks.ports import MembershipChanges, SessionListener, Snapshots, TaskHandler, TaskService
from buildkite_connector.tasks.runner import ANSWER_SECONDS, HAND_BACK_SECONDS, TaskRunner
from buildkite_connector.tasks.sync_full import RefusalHandler, SyncFullHandler
from buildkite_connector.timing.backoff import BETWEEN_CALLS
from buildkite_connector.timing.clock import Clock
from buildkite_connector.timing.fair_timeout import fair_alarm, fair_timeout
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
HELLO_SECONDS = 10.0
"""How long the first Hello of a session may take before C1 counts as unreachable."""
HELLO_SLOT_SECONDS = 1.0
"""How long a Hello keeps its slot: after that it waits for a silent server, which costs nothing here."""
LAST_ANSWER_SECONDS = 0.5
"""How long the answer to a GetTask under way is awaited when the session ends: its task would wait for C1's lease."""
UPLOAD_SECONDS = 120.0
"""How long an upload under way may take to end when its session gives way to one with a new secret."""
REPORTED_AFTER_SECONDS = 30.0
"""Seconds of consecutive failures before C1 is reported unreachable. Shorter outages (a restart of C1) are not."""


class TaskPoller:
    """The session of the connector `name`. `hello_slot` bounds how many sessions of the process say Hello at once.

    `patient`: C1 answered this connector before, so that a first Hello without answer is an outage like any other; else
    it is reported at once. `run` ends by itself when C1 refuses the client: only new credentials start another session.

    `most_tasks` run at once. `provisions`: C1 was offered changes of memberships; then `most_tasks` changes run at
    once, and tasks that wait for a sync keep none of them from C1's hand. Whether a change is made, `changes` says.
    """

    def __init__(
        self,
        name: str,
        service: TaskService,
        snapshots: Snapshots,
        listener: SessionListener,
        clock: Clock,
        jitter: Jitter,
        hello_slot: Callable[[], AbstractAsyncContextManager[Slot]],
        *,
        patient: bool,
        most_tasks: int = MOST_TASKS,
        observer: Observer = SILENT,
        changes: MembershipChanges,
        provisions: bool,
    ) -> None:
        self._name = name
        self._service = service
        self._snapshots = snapshots
        self._changes = changes
        self._provisions = provisions
        self._listener = listener
        self._clock = clock
        self._jitter = jitter
        self._hello_slot = hello_slot
        self._patient = patient
        self._most_tasks = most_tasks
        self._observer = observer
        self._sync_turn = asyncio.Semaphore(1)
        self._runners: dict[TaskID, TaskRunner] = {}
        self._running: dict[TaskID, asyncio.Task[None]] = {}
        self._changing: set[TaskID] = set()
        self._greeted = False
        self._hello_due = True
        self._ended = False
        self._failures = 0
        self._failing_since = 0.0

    async def run(self) -> None:
        """Ask C1 for tasks until C1 refuses the client, or until cancelled. Tasks go on until `close`.

        Cancelled, it ends within `LAST_ANSWER_SECONDS`.
        """
        while not self._ended:
            await self._clock.sleep(await self._ask())

    async def close(self, hurry: asyncio.Event | None = None) -> None:
        """Hand the tasks under way back, within 10 s, and close the connection. `run` must have ended.

        With `hurry`, tasks that upload may end first, within `UPLOAD_SECONDS` and until it is set.
        """
        if hurry is not None:
            await self._finish_uploads(hurry)
        for runner in self._runners.values():
            runner.stop()
        if self._running:
            tasks = set(self._running.values())
            _, late = await asyncio.wait(tasks, timeout=ANSWER_SECONDS + HAND_BACK_SECONDS + 0.5)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await self._service.aclose()

    async def _finish_uploads(self, hurry: asyncio.Event) -> None:
        """Stop all tasks but those that upload, and wait for these."""
        for runner in self._runners.values():
            if not runner.uploads:
                runner.stop()
        uploading = {task for task_id, task in self._running.items() if self._runners[task_id].uploads}
        if not uploading:
            return
        hurried = asyncio.create_task(hurry.wait(), name=f"{self._name}/hurry")
        ended = asyncio.create_task(asyncio.wait(uploading), name=f"{self._name}/uploads")
        parts = (hurried, ended)
        try:
            await asyncio.wait(parts, timeout=UPLOAD_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)

    async def _ask(self) -> float:
        """One GetTask, after Hello where that is due. Gives the seconds until the next."""
        while self._busy:
            await asyncio.wait(set(self._running.values()), return_when=asyncio.FIRST_COMPLETED)
        asked_at = self._clock.monotonic()
        try:
            if self._hello_due:
                await self._hello()
            poll = await self._next_task()
        except Failure as failure:
            return self._failed(failure)
        except Exception as error:
            logger.exception("C1 could not be asked", extra={"connector": self._name})
            return self._failed(internal_error(error))
        if self._failures:
            logger.info("C1 answers again", extra={"connector": self._name})
            self._failures = 0
        self._listener.c1_answered()
        known = set(self._changing)
        hello_failed = await self._begin(poll.task)
        if hello_failed is not None:
            return self._failed(hello_failed)
        shortest = SHORTEST_POLL if self._changing <= known else SHORTEST_POLL_IN_BATCH
        return max(asked_at + poll.next_poll - self._clock.monotonic(), shortest)

    @property
    def _busy(self) -> bool:
        """Whether no task more may be taken before one has ended."""
        if not self._provisions:
            return len(self._running) >= self._most_tasks
        return len(self._changing) >= self._most_tasks or len(self._running) >= MOST_WAITING

    async def _next_task(self) -> Poll:
        """GetTask. Raises Failure. What C1 hands out while this is cancelled begins too: `close` hands it back."""
        asking = asyncio.create_task(self._service.next_task(), name=f"{self._name}/GetTask")
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:
            try:
                await self._begin_last(asking)
            except Exception:
                logger.exception("C1's last answer was lost", extra={"connector": self._name})
            raise

    async def _begin_last(self, asking: asyncio.Task[Poll]) -> None:
        """Await the answer under way, and begin its task. A Hello task cannot be handed back: it is left to C1."""
        try:
            await asyncio.wait({asking}, timeout=LAST_ANSWER_SECONDS)
            if asking.done() and not asking.cancelled() and asking.exception() is None:
                task = asking.result().task
                if not isinstance(task, HelloTask):
                    await self._begin(task)
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    async def _hello(self) -> None:
        """Hello, at the start and after C1 has forgotten this host. Raises Failure."""
        async with self._hello_slot() as slot:
            with fair_alarm(HELLO_SLOT_SECONDS, slot.give_back):
                if self._greeted:
                    await self._service.hello()
                else:
                    await self._first_hello()
        self._greeted, self._hello_due = True, False
        self._listener.c1_greeted()

    async def _first_hello(self) -> None:
        try:
            async with fair_timeout(HELLO_SECONDS):
                await self._service.hello()
        except TimeoutError:
            raise Failure(
                Reason.C1_UNREACHABLE,
                f"C1 has not answered Hello within {HELLO_SECONDS:.0f} seconds; it is tried again.",
            ) from None

    def _failed(self, failure: Failure) -> float:
        """Report what must be reported. Gives the seconds until C1 is asked again."""
        now = self._clock.monotonic()
        if not self._failures:
            self._failing_since = now
            fields = {"connector": self._name, "reason": failure.reason.value, "error": failure.message}
            logger.warning("C1 did not answer as it should", extra=fields)
        self._failures += 1
        if failure.remedy is Remedy.CREDENTIALS or (failure.remedy is Remedy.EDIT and self._hello_due):
            self._ended = True
        if failure.remedy is Remedy.EDIT:
            self._hello_due = True  # C1 may have forgotten this host: the session begins again with Hello
        reported = not (self._greeted or self._patient) or now - self._failing_since >= REPORTED_AFTER_SECONDS
        if self._ended or reported:
            self._listener.c1_failed(failure)
        return BETWEEN_CALLS.wait(self._failures, self._jitter.uniform(0.0, 1.0), failure.retry_after)

    async def _begin(self, task: Task | None) -> Failure | None:
        """Start what C1 handed out, if anything. Gives the failure of a Hello task, which is answered here."""
        match task:
            case HelloTask(id=task_id):
                try:
                    await self._service.hello(task_id)
                except Failure as failure:
                    return failure
            case SyncTask(id=task_id):
                logger.info("C1 asks for a sync", extra={"connector": self._name, "task_id": task_id})
                self._start(task_id, self._sync_handler(task))
            case MembershipTask(id=task_id):
                fields = {"connector": self._name, "task_id": task_id, "kind": task.kind}
                logger.info("C1 asks for a change of a membership", extra=fields)
                self._start(task_id, MembershipHandler(self._name, task, self._changes, self._clock, self._jitter))
            case UnsupportedTask(id=task_id, kind=kind):
                fields = {"connector": self._name, "task_id": task_id, "kind": kind}
                logger.warning("C1 asks for what this connector cannot do", extra=fields)
                self._start(task_id, RefusalHandler(kind, unsupported(kind)))
        return None

    def _sync_handler(self, task: SyncTask) -> TaskHandler:
        if task.refusal:
            return RefusalHandler("sync_full", refused_options(task.refusal))
        return SyncFullHandler(self._name, task, self._snapshots, self._service, self._sync_turn, self._observer)

    def _start(self, task_id: TaskID, handler: TaskHandler) -> None:
        """A task that runs already and is handed out again goes on as it is."""
        if task_id in self._running:
            return
        runner = TaskRunner(self._name, task_id, handler, self._service, self._clock, self._jitter, self._observer)
        running = asyncio.create_task(runner.run(), name=f"{self._name}/{task_id}/runner")
        self._runners[task_id], self._running[task_id] = runner, running
        if self._provisions and isinstance(handler, MembershipHandler):
            self._changing.add(task_id)
        running.add_done_callback(lambda _: self._ended_task(task_id))

    def _ended_task(self, task_id: TaskID) -> None:
        self._changing.discard(task_id)
        del self._runners[task_id], self._running[task_id]
