"""Holds a connector's session with C1: at most one poller, its task, and how it ends."""

import asyncio
import logging
from collections.abc import Callable, Coroutine

from buildkite_connector.connector.environment import Environment
from buildkite_connector.model.failure import internal_error
from buildkite_connector.model.spec import ConnectorKey, namespace_of
from buildkite_connector.tasks.poller import TaskPoller
from buildkite_connector.tasks.ports import MembershipChanges, SessionListener, Snapshots, TaskService

logger = logging.getLogger(__name__)


class C1SessionHolder:
    """The session of the connector `key`."""

    def __init__(
        self,
        key: ConnectorKey,
        environment: Environment,
        snapshots: Snapshots,
        changes: MembershipChanges,
        listener: SessionListener,
    ) -> None:
        self._key = key
        self._name = str(key)
        self._env = environment
        self._snapshots = snapshots
        self._changes = changes
        self._listener = listener
        self._poller: tuple[TaskPoller, asyncio.Task[None]] | None = None
        self._hurry = asyncio.Event()

    def open(
        self,
        service: TaskService,
        *,
        patient: bool,
        provisions: bool,
        start: Callable[[Coroutine[None, None, None]], asyncio.Task[None]],
    ) -> None:
        """Begin a session on `service`; `start` runs its loop. `patient` is `TaskPoller`'s.

        `provisions`: whether C1 is offered changes of memberships.
        """
        env = self._env
        poller = TaskPoller(
            self._name,
            service,
            self._snapshots,
            self._listener,
            env.clock,
            env.jitter,
            lambda: env.hello_slots.slot(namespace_of(self._key)),
            patient=patient,
            most_tasks=env.most_tasks,
            observer=env.observer,
            changes=self._changes,
            provisions=provisions,
        )
        self._poller = (poller, start(self._poll(poller)))

    async def close(self, *, finish_uploads: bool = False) -> None:
        """End the session, if there is one: its tasks go back to C1. `finish_uploads`: those that upload end first."""
        if self._poller is None:
            return
        poller, polling = self._poller
        self._poller = None
        polling.cancel()
        await asyncio.wait({polling})
        await poller.close(self._hurry if finish_uploads else None)

    def hurry(self) -> None:
        """The process ends: no upload is waited for any more."""
        self._hurry.set()

    async def _poll(self, poller: TaskPoller) -> None:
        try:
            await poller.run()
        except Exception as error:
            logger.exception("the session with C1 failed unexpectedly", extra={"connector": self._name})
            self._listener.c1_failed(internal_error(error))
