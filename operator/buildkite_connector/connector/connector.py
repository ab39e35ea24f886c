"""Runs one connector: performs what `decisions` answers and applies `transitions` to the state.

It knows nothing of Kubernetes: the operator and the tests run the same connector, each with its own ports and clock.
A check, a sync and the session with C1 are tasks of their own, at most one of each. Nothing is awaited between reading
and writing the state.
"""

import asyncio
import contextvars
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import replace

from buildkite_connector.connector import transitions
from buildkite_connector.connector.c1_looks import C1Looks
from buildkite_connector.connector.c1_side import delivery_watched, look_due, looks
from buildkite_connector.connector.checks import check
from buildkite_connector.connector.conditions import derive_status
from buildkite_connector.connector.creation import Creator
from buildkite_connector.connector.decisions import (
    Answer,
    answer,
    check_due,
    next_look,
    reread_at,
    session_due,
    session_over,
    sync_due,
    why_cancel,
)
from buildkite_connector.connector.environment import Age, Environment
from buildkite_connector.connector.memberships import Memberships
from buildkite_connector.connector.ports import StatusSink
from buildkite_connector.connector.rotation import changes_over, creation_due
from buildkite_connector.connector.run_sync import run_sync
from buildkite_connector.connector.shrink_guard import shrunk
from buildkite_connector.connector.state import (
    C1Identity,
    ConnectorState,
    DesiredState,
    SnapshotRequest,
    accepted_by_c1,
    claimed_identity,
)
from buildkite_connector.connector.status_writer import StatusWriter
from buildkite_connector.connector.transitions import CheckResult
from buildkite_connector.model.failure import Failure, internal_error
from buildkite_connector.model.snapshot import OpenSnapshot, StagedSnapshot
from buildkite_connector.model.spec import ConnectorKey, Credentials, namespace_of
from buildkite_connector.model.status import ConnectorStatus
from buildkite_connector.model.tasks import SyncTask, TaskID
from buildkite_connector.tasks.ports import SessionPorts
from buildkite_connector.tasks.session import C1Session
from buildkite_connector.timing.clock import Backoff, Instant, instant

logger = logging.getLogger(__name__)

AFTER_ERROR = Backoff(first=1.0, cap=300.0)
"""Before a connector whose step failed unexpectedly is stepped again."""
MOST_ROUNDS = 5
"""How often one step looks what is due: what fails at once makes other things due."""
RESTORE, CHECK, SYNC, C1, LOOK, CREATION = "restore", "check", "sync", "C1", "look", "creation"
"""Names of a connector's tasks."""


class Connector:
    """One connector: its state, its running tasks, and one timer for the next time that something is due.

    `restored` is the newest status that another process left, None for a new resource; `created` is when the
    resource was made (RFC 3339), for the case that two connectors are one to C1.
    """

    def __init__(
        self,
        key: ConnectorKey,
        desired: DesiredState,
        restored: ConnectorStatus | None,
        sink: StatusSink,
        environment: Environment,
        created: str = "",
    ) -> None:
        self.name = str(key)
        self.key = key
        self._age = Age(created, key)
        self._env = environment
        now = instant(self._env.clock)
        self._state = transitions.begin(desired, restored, now, self._share() if desired.spec.c1 is not None else 0.0)
        self._writer = StatusWriter(self.name, sink, restored, environment.clock, environment.jitter)
        self._left = restored.last_sync if restored is not None else None
        self._left_serves = restored is not None and transitions.still_serves(desired, restored, now)
        self._c1_known = self._left is not None
        self._timer: asyncio.TimerHandle | None = None
        self._errors = 0
        self._running: dict[str, asyncio.Task[None]] = {}
        self._broken: dict[str, int] = {}
        self._waiting: dict[TaskID, asyncio.Future[Answer]] = {}
        self._memberships = Memberships(self.name, environment, self._apply, lambda: self._state)
        self._session: C1Session | None = None
        self._looks = C1Looks(self.name, key, environment, self._apply, lambda: self._state, self._ask_now)
        self._started = self._closed = False
        self._creator = Creator(
            self.name, key, environment, self._apply, lambda: self._state, self._writer, lambda: self._closed
        )

    # What the process calls

    @property
    def status(self) -> ConnectorStatus:
        return self._state.records

    def start(self) -> None:
        """Begin to act, once the snapshot that a former process staged is taken up. A closed connector does not."""
        if not self._closed:
            self._start(RESTORE, self._restore())

    @property
    def secrets(self) -> int:
        """How many Secrets a check reads."""
        c1 = self._state.desired.spec.c1
        return 1 if c1 is None or c1.create is None else 2

    @property
    def reread_at(self) -> float | None:
        """When to read the Secret again, in monotonic seconds; None while there is no need."""
        idle = self._started and not self._closed and CHECK not in self._running
        return reread_at(self._state) if idle else None

    def reread(self) -> None:
        """Read the Secret again; ask Buildkite when its content is another."""
        if self.reread_at is not None:
            self._start(CHECK, self._check(self._state.desired, forced=False))

    def update(self, desired: DesiredState) -> None:
        """Take a new desired state; the same one again costs nothing."""
        if desired != self._state.desired:
            self._apply(lambda state, now: transitions.desired_changed(state, desired, now))
        else:
            self._state = replace(self._state, desired=desired)  # its source of credentials may be another

    def stop(self) -> None:
        """Begin nothing any more: `close` follows."""
        self._closed = True

    async def close(self, *, discard: bool) -> None:
        """End it: the sync is cancelled, and the session gives its tasks back to C1 (`tasks.session.C1Session.run`).

        `discard`: the staged files are removed too. Raises Failure.
        """
        self._closed = True
        self._set_timer(None)
        self._env.host_ids.release(self.key)
        await asyncio.sleep(0)  # a session that was opened just now begins: one that never ran would not close
        ending = set(self._running.values())
        for task in ending:
            task.cancel()
        if ending:
            await asyncio.wait(ending)
        await self._looks.client.aclose()
        await self._writer.close()
        if discard:
            await self._env.store.discard(self.key)

    # What the session with C1 calls

    def c1_greeted(self) -> None:
        self._apply(lambda state, _: transitions.c1_greeted(state))

    def c1_answered(self) -> None:
        if self._state.c1.failure is not None:
            self._apply(lambda state, _: transitions.c1_answered(state))

    def c1_failed(self, failure: Failure) -> None:
        self._apply(lambda state, now: transitions.c1_failed(state, failure, now))

    # Snapshots for C1's tasks: each request is in the state, and its task waits here

    async def snapshot_for(self, task: SyncTask) -> OpenSnapshot:
        while True:
            found = await self._answer_to(task)
            try:
                return await self._env.store.open(found.snapshot, found.scope)
            except Failure as failure:
                if self._state.staged is found.snapshot:
                    self.delivery_failed(found.snapshot, failure)
                    raise
                # a newer snapshot took its place just before it was opened

    async def _answer_to(self, task: SyncTask) -> Answer:
        """Put the request into the state and wait for its answer. Raises Failure when it is refused."""
        waiting: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[task.id] = waiting
        request = SnapshotRequest(task.id, task.scope, self._env.clock.monotonic())
        try:
            self._apply(lambda state, _: replace(state, requests=(*state.requests, request)))
            return await waiting
        finally:
            del self._waiting[task.id]
            self._apply(lambda state, _: transitions.request_ended(state, task.id))

    def still_true(self, snapshot: StagedSnapshot) -> bool:
        """Where nothing was changed through this connector, any snapshot is; else the one that shows it alone."""
        changes, staged = self._state.changes, self._state.staged
        current = staged is not None and staged.sync_id == snapshot.sync_id
        return not changes.sent or (current and not changes.contradict)

    def delivered(self, task: SyncTask, snapshot: StagedSnapshot) -> None:
        fields = {"task_id": task.id, "sync_id": snapshot.sync_id, "bytes": snapshot.size}
        logger.info("snapshot delivered", extra={"connector": self.name, **fields})
        if task.other_engine:
            asked = {"connector": self.name, "task_id": task.id, "asked": task.other_engine}
            logger.warning("C1 asked for another file format and got sqlite", extra=asked)
        self._apply(lambda state, now: delivery_watched(transitions.delivered(state, task.id, snapshot, now.wall), now))

    def delivery_failed(self, snapshot: StagedSnapshot, failure: Failure) -> None:
        self._apply(lambda state, _: transitions.delivery_failed(state, snapshot, failure))

    # One step: one transition, then whatever it makes due

    def _step(self) -> None:
        """Look at what is due now. An error here is logged by `_apply` and stops no other connector."""
        with suppress(Exception):
            self._apply(lambda state, _: state)

    def _set_timer(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if seconds is not None and not self._closed:
            self._timer = asyncio.get_running_loop().call_later(max(seconds, 0.0), self._step)

    def _apply(self, transition: Callable[[ConnectorState, Instant], ConnectorState]) -> None:
        """Change the state and do what follows. A connector that is closed begins nothing any more.

        An error is the caller's, and the next step comes soon all the same; the first of several in a row is logged.
        """
        try:
            self._change(transition, instant(self._env.clock))
        except Exception:
            self._errors += 1
            if self._errors == 1:
                logger.exception("a step failed unexpectedly", extra={"connector": self.name})
            self._set_timer(AFTER_ERROR.longest(self._errors))
            raise
        self._errors = 0

    def _change(self, transition: Callable[[ConnectorState, Instant], ConnectorState], now: Instant) -> None:
        staged = self._state.staged
        self._state = transition(self._state, now)
        if staged is not None and self._state.staged is not staged:
            self._remove(staged)
        if not self._started:
            return
        if not self._closed:
            self._claim_host_id()
            self._begin_and_end(now)
        if now.monotonic >= self._state.status_held_until:
            self._state = replace(self._state, records=derive_status(self._state, now))
            self._writer.write(self._state.records)
        self._memberships.state_changed()
        look = next_look(self._state, now)
        self._set_timer(None if look is None else look - now.monotonic)

    def _remove(self, snapshot: StagedSnapshot) -> None:
        """The snapshot serves no more tasks; those that have its file open read it to the end."""
        try:
            self._env.store.remove(snapshot)
        except Failure as failure:
            logger.warning("an old snapshot was not removed", extra={"connector": self.name, "error": failure.message})

    def _claim_host_id(self) -> None:
        host_ids = self._env.host_ids
        host_ids.claim(self._age, claimed_identity(self._state), self._step, accepted_by_c1(self._state))
        holder = host_ids.holder(self.key)
        if holder != self._state.host_id_holder:
            self._state = replace(self._state, host_id_holder=holder)

    def _begin_and_end(self, now: Instant) -> None:
        for _ in range(MOST_ROUNDS):
            before = self._state
            if CHECK not in self._running and check_due(before, now):
                self._state = transitions.forced_check_begun(before, now)
                self._start(CHECK, self._check(self._state.desired, forced=True), transitions.check_ended)
            self._tend_session(now)
            self._answer_tasks(now)
            self._tend_sync(now)
            self._tend_looks(now)
            if CREATION not in self._running and creation_due(self._state, now):
                self._start(CREATION, self._creator.run())
            if self._state is before:
                return
        logger.error("a connector keeps changing", extra={"connector": self.name})

    def _tend_session(self, now: Instant) -> None:
        serves = self._session is not None and self._session.serves
        if session_over(self._state) and not (serves and changes_over(self._state)):
            self._state = transitions.c1_closing(self._state, now)
            if C1 in self._running:
                asyncio.get_running_loop().call_soon(self._running[C1].cancel)  # it may be the caller
            else:
                self._state = transitions.c1_closed(self._state)
        identity, credentials = session_due(self._state, now), self._state.check.credentials
        if identity is not None and credentials is not None and C1 not in self._running:
            self._open_session(identity, credentials, now)

    def _open_session(self, identity: C1Identity, credentials: Credentials, now: Instant) -> None:
        env = self._env
        self._state = transitions.c1_opened(self._state, identity, now)
        try:
            service = env.c1(credentials, self._state.desired.spec)
        except Failure as failure:
            self._state = transitions.c1_failed(self._state, failure, now)
            return
        except Exception as error:
            logger.exception("no session with C1 could be opened", extra={"connector": self.name})
            self._state = transitions.c1_failed(self._state, internal_error(error), now)
            return
        ports = SessionPorts(self.name, service, self, self._memberships, self, env.clock, env.jitter, env.observer)
        self._session = session = C1Session(
            ports,
            lambda: env.hello_slots.slot(namespace_of(self.key)),
            patient=self._c1_known,
            provisions=identity.provisions,
            most_tasks=env.most_tasks,
        )
        self._start(C1, session.run(), transitions.c1_closed)
        self._c1_known = False

    def _answer_tasks(self, now: Instant) -> None:
        for request in self._state.requests:
            found = answer(self._state, request, now)
            if found is None:
                continue
            self._state = transitions.request_ended(self._state, request.task)
            waiting = self._waiting[request.task]
            if isinstance(found, Answer):
                loss = shrunk(self._state.records, found.snapshot, self._state.desired.accept_shrink)
                if loss is not None:
                    logger.warning("the snapshot shrank", extra={"connector": self.name, "error": loss})
            if waiting.done():
                continue  # its task has just been cancelled
            if isinstance(found, Answer):
                waiting.set_result(found)
            else:
                waiting.set_exception(found.without_traceback())

    def _tend_sync(self, now: Instant) -> None:
        state, running = self._state, self._running.get(SYNC)
        if running is None:
            if sync_due(state, now) is not None:
                self._start(SYNC, self._sync(), transitions.sync_ended)
        elif not running.cancelling() and (why := why_cancel(state, now)) is not None:
            logger.info("sync cancelled", extra={"connector": self.name, "why": why})
            running.cancel()

    def _tend_looks(self, now: Instant) -> None:
        if LOOK in self._running:
            return
        if look_due(self._state, now):
            self._start(LOOK, self._looks.look())
        elif self._looks.client.is_open and not looks(self._state):
            self._start(LOOK, self._looks.client.aclose())

    def _ask_now(self) -> None:
        """C1 is about to hand out a task."""
        if self._session is not None:
            self._session.ask_now()

    # The tasks

    def _start(
        self,
        what: str,
        work: Coroutine[None, None, None],
        ended: Callable[[ConnectorState], ConnectorState] = lambda state: state,
    ) -> None:
        """Run one task beside the others of this connector. `ended`: the state when it is over, however it ended."""
        logger.debug("begins", extra={"connector": self.name, "action": what})

        def over(task: asyncio.Task[None]) -> None:
            error = None if task.cancelled() else task.exception()
            if error is None or self._closed:
                self._broken.pop(what, None)
                again()
                return
            self._broken[what] = self._broken.get(what, 0) + 1
            logger.error("a task failed unexpectedly", exc_info=error, extra={"connector": self.name})
            # It counts as running meanwhile: what breaks each time must not begin again in each turn of the loop.
            asyncio.get_running_loop().call_later(AFTER_ERROR.longest(self._broken[what]), again)

        def again() -> None:
            del self._running[what]
            if not self._closed:
                self._state = ended(self._state)
                self._step()

        # Its context is its own: what begins while a task of C1 is handled is no part of that task's trace.
        task = asyncio.create_task(work, name=f"{self.name}/{what}", context=contextvars.Context())
        self._running[what] = task
        task.add_done_callback(over)

    def _share(self) -> float:
        return self._env.jitter.uniform(0.0, 1.0)

    async def _restore(self) -> None:
        """Take up what a former process staged, or remove it where it may be outdated; then the first step."""
        staged = None
        try:
            if self._left is not None and self._left_serves:
                staged = await self._env.store.restore(self.key, self._left.snapshot.sha256)
                if staged is not None:  # nothing counts last logins in a file without reading every account
                    last_logins = self._left.counts.last_logins
                    staged = replace(staged, counts=replace(staged.counts, last_logins=last_logins))
            elif self._left is not None:
                await self._env.store.discard(self.key)
        except Failure as failure:
            logger.warning("the staged snapshot is lost", extra={"connector": self.name, "error": failure.message})
        except Exception:
            logger.exception("the staged snapshot could not be restored", extra={"connector": self.name})
        self._started = True
        self._state = replace(self._state, staged=staged)
        self._step()

    async def _check(self, desired: DesiredState, *, forced: bool) -> None:
        known = self._state.check.credentials
        try:
            result = await check(self.key, desired, known, self._env, forced=forced)
        except Exception as error:
            logger.exception("a check failed unexpectedly", extra={"connector": self.name})
            failure, request = internal_error(error), desired.sync_request
            result = CheckResult(
                desired.generation, request, known, failure=failure, forced=forced, asked_buildkite=True
            )
        before, share = self._state.check.unread, self._share()
        self._apply(lambda state, now: transitions.check_finished(state, result, now, share))
        unread = self._state.check.unread
        if unread is not None and before is None:
            logger.warning("the Secret cannot be read", extra={"connector": self.name, "error": unread.message})
        elif before is not None and unread is None:
            logger.info("the Secret was read again", extra={"connector": self.name})

    async def _sync(self) -> None:
        share = self._share()
        async with self._env.sync_slots.slot(namespace_of(self.key)) as slot:
            sync_id = self._env.new_sync_id(self._env.clock.now())
            self._apply(lambda state, now: transitions.sync_admitted(state, sync_id, now))
            run = self._state.sync
            if run is None:
                return
            failure: Failure | None = None
            try:
                result = await run_sync(self.name, self.key, run, self._env, self._memberships.settled, slot)
            except Failure as failed:
                failure = failed
            except Exception as error:
                logger.exception("a sync failed unexpectedly", extra={"connector": self.name})
                failure = internal_error(error)
        if failure is not None:
            self._apply(lambda state, now: transitions.sync_failed(state, run, failure, now, share))
            return
        try:
            self._apply(lambda state, now: transitions.sync_succeeded(state, run, result, now, share))
        except Exception:
            if self._state.staged is not result.staged:  # nobody owns the file
                self._remove(result.staged)
            raise
