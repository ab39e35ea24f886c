"""Runs one connector: performs what `decisions` asks for and applies `transitions` to the state.

It knows nothing of Kubernetes: the operator and the tests run the same connector, each with its own ports and clock.
Every action is a task that ends in one transition; nothing is awaited between reading and writing the state.
"""

import asyncio
import contextvars
import logging
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from dataclasses import replace

from buildkite_connector.connector import credential_transitions as on_credentials
from buildkite_connector.connector import transitions
from buildkite_connector.connector.actions import (
    Action,
    Answer,
    CancelSync,
    CheckCredentials,
    CloseC1,
    OpenC1,
    QueueSync,
    Refuse,
)
from buildkite_connector.connector.checks import check
from buildkite_connector.connector.conditions import derive_status
from buildkite_connector.connector.decisions import decide, reread_at, wake_at
from buildkite_connector.connector.deliveries import Deliveries
from buildkite_connector.connector.environment import Environment
from buildkite_connector.connector.host_ids import Age
from buildkite_connector.connector.memberships import Memberships
from buildkite_connector.connector.ports import StatusSink
from buildkite_connector.connector.run_sync import run_sync
from buildkite_connector.connector.state import ConnectorState, DesiredState, accepted_by_c1, claimed_identity
from buildkite_connector.connector.status_hold import hold_status
from buildkite_connector.connector.status_writer import StatusWriter
from buildkite_connector.model.failure import Failure, internal_error
from buildkite_connector.model.snapshot import StagedSnapshot
from buildkite_connector.model.spec import ConnectorKey, namespace_of
from buildkite_connector.model.status import ConnectorStatus
from buildkite_connector.tasks.ports import SessionPorts
from buildkite_connector.tasks.session import C1Session
from buildkite_connector.timing.backoff import Backoff
from buildkite_connector.timing.clock import Clock, Instant, instant
from buildkite_connector.timing.slots import RoundRobin

logger = logging.getLogger(__name__)

AFTER_ERROR = Backoff(first=1.0, cap=300.0)
"""Before a connector whose step failed unexpectedly is stepped again."""
READS_APART = 0.2
"""Seconds between two routine reads of Secrets: at most five a second, however many connectors there are."""
LOOK_SECONDS = 2.0
"""How often to look which Secrets are due."""
MOST_ROUNDS = 5
"""How often `decide` is asked in one step: an action that fails at once makes others due."""


class Connector:
    """One connector: its state, and one timer of the event loop for the next time that something is due.

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
        self._state = transitions.begin(desired, restored, now)
        self._writer = StatusWriter(self.name, sink, restored, environment.clock, environment.jitter)
        self._left = restored.last_sync if restored is not None else None
        self._left_serves = restored is not None and transitions.still_serves(desired, restored, now)
        self._c1_known = self._left is not None
        self._timer: asyncio.TimerHandle | None = None
        self._errors = 0
        self._running: set[asyncio.Task[None]] = set()
        self._sync: asyncio.Task[None] | None = None
        self._deliveries = Deliveries(self.name, environment.store, environment.clock, self._apply, lambda: self._state)
        self._memberships = Memberships(self.name, environment, self._apply, lambda: self._state)
        self._session: asyncio.Task[None] | None = None
        self._started = self._closed = False

    # What the controller calls

    @property
    def status(self) -> ConnectorStatus:
        return self._state.records

    def start(self) -> None:
        """Begin to act, once the snapshot that a former process staged is taken up. A closed connector does not."""
        if not self._closed:
            self._start("restore", self._restore())

    @property
    def reread_at(self) -> float | None:
        """When to read the Secret again, in monotonic seconds; None while there is no need."""
        return reread_at(self._state) if self._started and not self._closed else None

    def reread(self) -> None:
        """Read the Secret again; ask Buildkite when its content is another."""
        with suppress(Exception):
            self._begin(CheckCredentials(full=False), instant(self._env.clock))
            self._step()

    def update(self, desired: DesiredState) -> None:
        """Take a new desired state; the same one again costs nothing."""
        if desired != self._state.desired:
            self._apply(lambda state, now: transitions.desired_changed(state, desired, now))
        else:
            self._state = replace(self._state, desired=desired)  # its source of credentials may be another

    async def close(self, *, discard: bool) -> None:
        """End it: the sync is cancelled, tasks go back to C1. `discard`: the staged files go too. Raises Failure."""
        self._closed = True
        self._set_timer(None)
        self._env.host_ids.release(self.key)
        await asyncio.sleep(0)  # a session that was opened just now begins: one that never ran would not close
        ending = set(self._running)
        for task in ending:
            task.cancel()
        if ending:
            await asyncio.wait(ending)
        await self._writer.close()
        if discard:
            await self._env.store.discard(self.key)

    # What the session with C1 calls

    def c1_greeted(self) -> None:
        self._apply(lambda state, _: on_credentials.c1_greeted(state))

    def c1_answered(self) -> None:
        if self._state.c1.failure is not None:
            self._apply(lambda state, _: on_credentials.c1_answered(state))

    def c1_failed(self, failure: Failure) -> None:
        self._apply(lambda state, now: on_credentials.c1_failed(state, failure, now))

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
        """The only place that changes the state. A connector that is closed begins nothing any more.

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
            self._begin_all(now)
        if not hold_status(self._state, now):
            self._state = replace(self._state, records=derive_status(self._state, now))
            self._writer.write(self._state.records)
        self._memberships.state_changed()
        wake = wake_at(self._state, now)
        self._set_timer(None if wake is None else wake - now.monotonic)

    def _remove(self, snapshot: StagedSnapshot) -> None:
        """The snapshot serves no more tasks; those that have its file open read it to the end."""
        try:
            self._env.store.remove(snapshot)
        except Failure as failure:
            logger.warning("an old snapshot stays behind", extra={"connector": self.name, "error": failure.message})

    def _begin_all(self, now: Instant) -> None:
        for _ in range(MOST_ROUNDS):
            actions = decide(self._state, now)
            if not actions:
                return
            for action in actions:
                self._begin(action, now)
        logger.error("decisions do not settle", extra={"connector": self.name, "actions": repr(actions)})

    def _claim_host_id(self) -> None:
        host_ids = self._env.host_ids
        host_ids.claim(self._age, claimed_identity(self._state), self._step, accepted_by_c1(self._state))
        holder = host_ids.holder(self.key)
        if holder != self._state.host_id_holder:
            self._state = on_credentials.holder_changed(self._state, holder)

    def _begin(self, action: Action, now: Instant) -> None:
        """Mark the action begun in the state and start it."""
        logger.debug("begins", extra={"connector": self.name, "action": repr(action)})
        state = self._state
        match action:
            case CheckCredentials(full=full):
                self._state = on_credentials.check_started(state, now, full=full)
                self._start(on_credentials.CHECK, self._check(full=full))
            case OpenC1():
                self._open_c1(action, now)
            case CloseC1():
                self._state = on_credentials.c1_closing(state, now)
                self._start("close C1", self._close_c1())
            case QueueSync():
                self._state = transitions.sync_queued(state, now)
                self._sync = self._start("sync", self._run_sync())
            case CancelSync(why=why):
                self._state = transitions.sync_cancelling(state)
                logger.info("sync cancelled", extra={"connector": self.name, "why": why})
                if self._sync is not None:
                    self._sync.cancel()
            case Answer(task=task):
                self._state = transitions.request_ended(state, task)
                self._deliveries.answer(action)
            case Refuse(task=task, failure=failure):
                self._state = transitions.request_ended(state, task)
                self._deliveries.refuse(task, failure)

    def _start(self, what: str, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        # Its context is its own: what begins while a task of C1 is handled is no part of that task's trace.
        task = asyncio.create_task(self._guard(what, work), name=f"{self.name}/{what}", context=contextvars.Context())
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        task.add_done_callback(lambda _: work.close())  # of one that was cancelled before it began
        return task

    async def _guard(self, what: str, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except Exception as error:
            logger.exception("an action failed unexpectedly", extra={"connector": self.name})
            broken, share = error, self._share()
            self._apply(lambda state, now: on_credentials.failed_unexpectedly(state, what, broken, now, share))

    def _share(self) -> float:
        return self._env.jitter.uniform(0.0, 1.0)

    # Actions; each ends in one transition

    async def _restore(self) -> None:
        """Take up what a former process staged, or remove it where it may be outdated; then the first step."""
        staged = None
        try:
            if self._left is not None and self._left_serves:
                staged = await self._env.store.restore(self.key, self._left.snapshot.sha256)
            elif self._left is not None:
                await self._env.store.discard(self.key)
        except Failure as failure:
            logger.warning("the staged snapshot is lost", extra={"connector": self.name, "error": failure.message})
        except Exception:
            logger.exception("the staged snapshot could not be restored", extra={"connector": self.name})
        self._started = True
        self._state = replace(self._state, staged=staged)
        self._step()

    async def _check(self, *, full: bool) -> None:
        result = await check(self.key, self._state.desired, self._state.check.credentials, self._env, full=full)
        before, share = self._state.check.unread, self._share()
        self._apply(lambda state, now: on_credentials.check_finished(state, result, now, share))
        unread = self._state.check.unread
        if unread is not None and before is None:
            logger.warning("the Secret cannot be read", extra={"connector": self.name, "error": unread.message})
        elif before is not None and unread is None:
            logger.info("the Secret was read again", extra={"connector": self.name})

    def _open_c1(self, action: OpenC1, now: Instant) -> None:
        env, credentials = self._env, self._state.check.credentials
        self._state = on_credentials.c1_opened(self._state, action.identity, now)
        if credentials is None:
            return
        try:
            service = env.clients.task_service(credentials, self._state.desired.spec)
        except Failure as failure:
            self._state = on_credentials.c1_failed(self._state, failure, now)
            return
        ports = SessionPorts(
            self.name, service, self._deliveries, self._memberships, self, env.clock, env.jitter, env.observer
        )
        session = C1Session(
            ports,
            lambda: env.hello_slots.slot(namespace_of(self.key)),
            patient=self._c1_known,
            provisions=action.identity.provisions,
            most_tasks=env.most_tasks,
        )
        self._session = self._start("C1", session.run())
        self._c1_known = False

    async def _close_c1(self) -> None:
        if self._session is not None:
            self._session.cancel()
            await asyncio.wait({self._session})
        self._apply(lambda state, _: on_credentials.c1_closed(state))

    async def _run_sync(self) -> None:
        share = self._share()
        try:
            async with self._env.sync_slots.slot(namespace_of(self.key)) as slot:
                sync_id = self._env.new_sync_id(self._env.clock.now())
                self._apply(lambda state, now: transitions.sync_admitted(state, sync_id, now))
                run = self._state.sync
                if run is None:
                    return
                record, staged, covered, sight = await run_sync(
                    self.name, self.key, run, self._env, self._memberships, slot
                )
        except Failure as failure:
            failed = failure
            self._apply(lambda state, now: transitions.sync_failed(state, failed, now, share))
        except asyncio.CancelledError:
            if not self._closed:  # the status of a process that ends says that the sync was interrupted
                self._apply(lambda state, _: transitions.sync_ended(state))
            raise
        except Exception as error:
            logger.exception("a sync failed unexpectedly", extra={"connector": self.name})
            unexpected = internal_error(error)
            self._apply(lambda state, now: transitions.sync_failed(state, unexpected, now, share))
        else:
            self._apply(
                lambda state, now: transitions.sync_succeeded(state, record, staged, now, share, covered, sight)
            )


async def reread_secrets(connectors: Callable[[], Iterable[Connector]], clock: Clock) -> None:
    """Read each connector's Secret again when it is due, until cancelled.

    At most five a second; the namespaces take turns, so that one with few connectors never waits for one with many.
    """
    while True:
        now, due = clock.monotonic(), list[tuple[float, ConnectorKey, Connector]]()
        for connector in connectors():
            at = connector.reread_at
            if at is not None and at <= now:
                due.append((at, connector.key, connector))
        turns: RoundRobin[Connector] = RoundRobin()
        for _, key, connector in sorted(due, key=lambda each: each[:2]):
            turns.add(namespace_of(key), connector)
        until = now + LOOK_SECONDS
        while (now := clock.monotonic()) < until:
            each = turns.pop()
            if each is None:
                await clock.sleep(until - now)
                break
            if (at := each.reread_at) is not None and at <= now:
                each.reread()
                await clock.sleep(READS_APART)
