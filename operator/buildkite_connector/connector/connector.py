"""Runs one connector: performs what `decisions` asks for and applies `transitions` to the state.

It knows nothing of Kubernetes: the operator and the tests run the same connector, each with its own ports and clock.
Every action is a task that ends in one transition; nothing is awaited between reading and writing the state.
"""

import asyncio
import contextvars
import logging
from collections.abc import Callable, Coroutine
from dataclasses import replace

from buildkite_connector.connector import credential_transitions as on_credentials
from buildkite_connector.connector import transitions
from buildkite_connector.connector.actions import (
    Action,
    Answer,
    AskToReadSecret,
    CancelSync,
    CheckCredentials,
    CloseC1,
    Discard,
    OpenC1,
    QueueSync,
    Refuse,
    Restore,
)
from buildkite_connector.connector.c1_session import C1SessionHolder
from buildkite_connector.connector.checks import check
from buildkite_connector.connector.conditions import derive_status
from buildkite_connector.connector.decisions import decide, wake_at
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
from buildkite_connector.timing.clock import Instant, instant

logger = logging.getLogger(__name__)

AT_ONCE = 0.0
AFTER_ERROR_SECONDS = 1.0
MOST_ROUNDS = 5
"""How often `decide` is asked in one step: an action that fails at once makes others due."""


class Connector:
    """One connector; an activity of the scheduler.

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
        self._key = key
        self._age = Age(created, key)
        self._env = environment
        self._state = transitions.begin(desired, restored, instant(self._env.clock))
        self._writer = StatusWriter(self.name, sink, restored, environment.clock, environment.waits.jitter)
        self._c1_known = restored is not None and restored.last_sync is not None
        self._wake: float | None = AT_ONCE
        self._running: set[asyncio.Task[None]] = set()
        self._sync: asyncio.Task[None] | None = None
        self._closing_c1: asyncio.Task[None] | None = None
        self._deliveries = Deliveries(self.name, environment.store, environment.clock, self._apply, lambda: self._state)
        self._memberships = Memberships(self.name, environment, self._apply, lambda: self._state)
        self._session = C1SessionHolder(key, environment, self._deliveries, self._memberships, self)
        self._closed = False

    # What the scheduler and the controller call

    @property
    def status(self) -> ConnectorStatus:
        return self._state.records

    def due(self) -> float | None:
        """When to step next, in monotonic seconds; None: not until something happens."""
        return self._wake

    def step(self) -> None:
        self._apply(lambda state, _: state)

    def update(self, desired: DesiredState) -> None:
        """Take a new desired state; the same one again costs nothing."""
        if desired != self._state.desired:
            self._apply(lambda state, now: transitions.desired_changed(state, desired, now))
        else:
            self._state = replace(self._state, desired=desired)  # its source of credentials may be another

    async def close(self, *, discard: bool) -> None:
        """End it: the sync is cancelled, tasks go back to C1. `discard`: the staged files go too. Raises Failure."""
        self._closed = True
        self._env.scheduler.remove(self)
        self._env.host_ids.release(self._key)
        self._session.hurry()
        ending = self._running - {self._closing_c1}
        for task in ending:
            task.cancel()
        if ending:
            await asyncio.wait(ending)
        if self._closing_c1 is not None:
            await asyncio.wait({self._closing_c1})
        await self._session.close()
        await self._writer.close()
        if discard:
            await self._env.store.discard(self._key)

    # What the session with C1 calls

    def c1_greeted(self) -> None:
        self._apply(lambda state, _: on_credentials.c1_greeted(state))

    def c1_answered(self) -> None:
        if self._state.c1.failure is not None:
            self._apply(lambda state, _: on_credentials.c1_answered(state))

    def c1_failed(self, failure: Failure) -> None:
        self._apply(lambda state, now: on_credentials.c1_failed(state, failure, now, self._env.waits))

    # The loop: one transition, then whatever it makes due

    def _apply(self, transition: Callable[[ConnectorState, Instant], ConnectorState]) -> None:
        """The only place that changes the state. A connector that is closed begins nothing any more.

        An error is the caller's, and the next step comes soon all the same.
        """
        now = instant(self._env.clock)
        try:
            self._change(transition, now)
        except Exception:
            self._wake = now.monotonic + AFTER_ERROR_SECONDS
            self._env.scheduler.wake(self)
            raise

    def _change(self, transition: Callable[[ConnectorState, Instant], ConnectorState], now: Instant) -> None:
        self._state = transition(self._state, now)
        if not self._closed:
            self._claim_host_id()
            self._begin_all(now)
        if not hold_status(self._state, now):
            self._state = replace(self._state, records=derive_status(self._state, now))
            self._writer.write(self._state.records)
        self._memberships.state_changed()
        self._wake = wake_at(self._state, now)
        self._env.scheduler.wake(self)

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
        host_ids.claim(self._age, claimed_identity(self._state), self.step, accepted_by_c1(self._state))
        holder = host_ids.holder(self._key)
        if holder != self._state.host_id_holder:
            self._state = on_credentials.holder_changed(self._state, holder)

    def _begin(self, action: Action, now: Instant) -> None:
        """Mark the action begun in the state and start it."""
        logger.debug("begins", extra={"connector": self.name, "action": repr(action)})
        state = self._state
        match action:
            case Restore(sha256=sha256):
                self._state = transitions.restore_started(state)
                self._start(on_credentials.RESTORE, self._restore(sha256))
            case CheckCredentials(full=full):
                self._state = on_credentials.check_started(state, now, full=full)
                self._start(on_credentials.CHECK, self._check(full=full))
            case AskToReadSecret():
                self._state = on_credentials.secret_read_asked(state)
                self._env.waits.reads.ask(namespace_of(self._key), self._key, self._read_secret)
            case OpenC1():
                self._open_c1(action, now)
            case CloseC1(finish_uploads=finish_uploads):
                self._state = on_credentials.c1_closing(state, now)
                self._closing_c1 = self._start("close C1", self._close_c1(finish_uploads=finish_uploads))
            case QueueSync():
                self._state = transitions.sync_queued(state, now)
                self._sync = self._start("sync", self._run_sync())
            case CancelSync(why=why):
                self._state = transitions.sync_cancelling(state)
                logger.info("sync cancelled", extra={"connector": self.name, "why": why})
                if self._sync is not None:
                    self._sync.cancel()
            case Answer(task=task, snapshot=snapshot):
                self._state = transitions.delivery_started(transitions.request_ended(state, task), task, snapshot)
                self._deliveries.answer(action)
            case Refuse(task=task, failure=failure):
                self._state = transitions.request_ended(state, task)
                self._deliveries.refuse(task, failure)
            case Discard(snapshot=snapshot):
                self._state = transitions.discard_started(state, snapshot)
                self._start("discard", self._discard(snapshot))

    def _read_secret(self) -> bool:
        """It is this connector's turn. Gives False when it does not need it any more."""
        if self._closed or self._state.check.running_since is not None:
            return False
        self._apply(lambda state, _: on_credentials.secret_read_due(state))
        return self._state.check.running_since is not None

    def _start(self, what: str, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        # Its context is its own: what begins while a task of C1 is handled is no part of that task's trace.
        task = asyncio.create_task(self._guard(what, work), name=f"{self.name}/{what}", context=contextvars.Context())
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def _guard(self, what: str, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except Exception as error:
            logger.exception("an action failed unexpectedly", extra={"connector": self.name})
            broken, waits = error, self._env.waits
            self._apply(lambda state, now: on_credentials.failed_unexpectedly(state, what, broken, now, waits))

    # Actions; each ends in one transition

    async def _restore(self, sha256: str) -> None:
        staged = None
        try:
            staged = await self._env.store.restore(self._key, sha256)
        except Failure as failure:
            logger.warning("the staged snapshot is lost", extra={"connector": self.name, "error": failure.message})
        self._apply(lambda state, _: transitions.snapshot_restored(state, staged))

    async def _check(self, *, full: bool) -> None:
        result = await check(self._key, self._state.desired, self._state.check.credentials, self._env, full=full)
        before = self._state.check.unread
        self._apply(lambda state, now: on_credentials.check_finished(state, result, now, self._env.waits))
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
            service = env.c1(credentials, self._state.desired.spec)
        except Failure as failure:
            self._state = on_credentials.c1_failed(self._state, failure, now, env.waits)
            return
        self._session.open(
            service,
            patient=self._c1_known,
            provisions=action.identity.provisions,
            start=lambda work: self._start("C1", work),
        )
        self._c1_known = False

    async def _close_c1(self, *, finish_uploads: bool) -> None:
        try:
            await self._session.close(finish_uploads=finish_uploads)
        finally:
            self._apply(lambda state, _: on_credentials.c1_closed(state))

    async def _run_sync(self) -> None:
        waits = self._env.waits
        try:
            async with self._env.sync_slots.slot(namespace_of(self._key)) as slot:
                sync_id = self._env.new_sync_id(self._env.clock.now())
                self._apply(lambda state, now: transitions.sync_admitted(state, sync_id, now))
                run = self._state.sync
                if run is None:
                    return
                record, staged, covered, sight = await run_sync(
                    self.name, self._key, run, self._env, self._memberships, slot
                )
        except Failure as failure:
            failed = failure
            self._apply(lambda state, now: transitions.sync_failed(state, failed, now, waits))
        except asyncio.CancelledError:
            if not self._closed:  # the status of a process that ends says that the sync was interrupted
                self._apply(lambda state, _: transitions.sync_ended(state))
            raise
        except Exception as error:
            logger.exception("a sync failed unexpectedly", extra={"connector": self.name})
            unexpected = internal_error(error)
            self._apply(lambda state, now: transitions.sync_failed(state, unexpected, now, waits))
        else:
            self._apply(
                lambda state, now: transitions.sync_succeeded(state, record, staged, now, waits, covered, sight)
            )

    async def _discard(self, snapshot: StagedSnapshot) -> None:
        try:
            await self._env.store.release(snapshot)
        except Failure as failure:
            logger.warning("an old snapshot stays behind", extra={"connector": self.name, "error": failure.message})
        finally:
            self._apply(lambda state, _: transitions.discarded(state, snapshot))
