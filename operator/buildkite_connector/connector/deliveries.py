"""The snapshots that C1's tasks ask a connector for: each request is in the state, and its task waits here."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

from buildkite_connector.connector import transitions
from buildkite_connector.connector.decisions import Answer
from buildkite_connector.connector.ports import SnapshotStore
from buildkite_connector.connector.shrink_guard import shrunk
from buildkite_connector.connector.state import ConnectorState, SnapshotRequest
from buildkite_connector.model.failure import Failure
from buildkite_connector.model.snapshot import OpenSnapshot, StagedSnapshot
from buildkite_connector.model.tasks import SyncTask, TaskID
from buildkite_connector.timing.clock import Clock, Instant

logger = logging.getLogger(__name__)

Apply = Callable[[Callable[[ConnectorState, Instant], ConnectorState]], None]


class Deliveries:
    """`tasks.ports.Snapshots` of one connector. `apply` changes its state, `state` reads it."""

    def __init__(
        self, name: str, store: SnapshotStore, clock: Clock, apply: Apply, state: Callable[[], ConnectorState]
    ) -> None:
        self._name = name
        self._store = store
        self._clock = clock
        self._apply = apply
        self._state = state
        self._waiting: dict[TaskID, asyncio.Future[Answer]] = {}

    @asynccontextmanager
    async def snapshot_for(self, task: SyncTask) -> AsyncIterator[OpenSnapshot]:
        with await self._open(task) as file:
            yield file

    async def _open(self, task: SyncTask) -> OpenSnapshot:
        """The answer to the task, opened: the file stays readable when a newer one takes its place."""
        while True:
            answer = await self._answer(task)
            try:
                return await self._store.open(answer.snapshot, answer.scope)
            except Failure as failure:
                if self._state().staged is answer.snapshot:
                    self.delivery_failed(answer.snapshot, failure)
                    raise
                # a newer snapshot took its place just before it was opened

    async def _answer(self, task: SyncTask) -> Answer:
        """Put the request into the state, and wait for the connector's decision. Raises Failure when it is refused."""
        waiting: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[task.id] = waiting
        request = SnapshotRequest(task.id, task.scope, self._clock.monotonic())
        try:
            self._apply(lambda state, _: replace(state, requests=(*state.requests, request)))
            return await waiting
        finally:
            del self._waiting[task.id]
            self._apply(lambda state, _: transitions.request_ended(state, task.id))

    def still_true(self, snapshot: StagedSnapshot) -> bool:
        """Where nothing was changed through this connector, any snapshot is; else the one that shows it alone."""
        state = self._state()
        if not state.changes.sent:
            return True
        current = state.staged is not None and state.staged.sync_id == snapshot.sync_id
        return current and not state.changes.contradict

    def delivered(self, task: SyncTask, snapshot: StagedSnapshot) -> None:
        fields = {"task_id": task.id, "sync_id": snapshot.sync_id, "bytes": snapshot.size}
        logger.info("snapshot delivered", extra={"connector": self._name, **fields})
        if task.other_engine:
            asked = {"connector": self._name, "task_id": task.id, "asked": task.other_engine}
            logger.warning("C1 asked for another form of the file and got sqlite", extra=asked)
        self._apply(lambda state, now: transitions.delivered(state, task.id, snapshot, now.wall))

    def delivery_failed(self, snapshot: StagedSnapshot, failure: Failure) -> None:
        self._apply(lambda state, _: transitions.delivery_failed(state, snapshot, failure))

    def settle(self, task: TaskID, found: Answer | Failure) -> None:
        """Give the task of this request its snapshot, or the failure, unless it does not wait any more."""
        waiting = self._waiting[task]
        if isinstance(found, Failure):
            if not waiting.done():
                waiting.set_exception(found.without_traceback())
            return
        state = self._state()
        loss = shrunk(state.records, found.snapshot, state.desired.accept_shrink)
        if loss is not None:
            logger.warning("the snapshot shrank", extra={"connector": self._name, "error": loss})
        if not waiting.done():
            waiting.set_result(found)
