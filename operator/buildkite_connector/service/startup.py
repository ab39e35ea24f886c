"""Ends the process when C1 refuses the first Hello for good, as the vendor's connector does: a Deployment shows it.

Once C1 has answered a Hello, a refusal is an outage like any other: the connector reports it and asks again.
"""

import asyncio
from collections.abc import Callable

from buildkite_connector.connector.ports import Clients
from buildkite_connector.model.failure import Failure, Remedy
from buildkite_connector.model.snapshot import OpenSnapshot
from buildkite_connector.model.spec import ConnectorSpec, Credentials
from buildkite_connector.model.tasks import Heartbeat, Poll, TaskID, TaskOutcome
from buildkite_connector.sync.ports import Source
from buildkite_connector.tasks.ports import MembershipAPI, TaskService
from buildkite_connector.timing.slots import Slot


class StartupHello:
    """The clients of the process. `refused` is set when C1 refused the first Hello, with `failure`."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self.refused = asyncio.Event()
        self.failure: Failure | None = None
        self._greeted = False

    def source(self, credentials: Credentials, spec: ConnectorSpec, slot: Slot) -> Source:
        return self._clients.source(credentials, spec, slot)

    def memberships(self, credentials: Credentials, slot: Slot | None = None) -> MembershipAPI:
        return self._clients.memberships(credentials, slot)

    def task_service(self, credentials: Credentials, spec: ConnectorSpec) -> TaskService:
        """Raises Failure, which at the start ends the process too: no session can begin."""
        try:
            service = self._clients.task_service(credentials, spec)
        except Failure as failure:
            self.note(failure)
            raise
        return service if self._greeted else _Observed(service, self)

    def note(self, failure: Failure | None) -> None:
        """How a Hello went; None: C1 answered it."""
        if failure is None:
            self._greeted = True
        elif not self._greeted and failure.remedy is not Remedy.RETRY:
            self.failure = self.failure or failure
            self.refused.set()


class _Observed:
    """A session whose Hello is watched."""

    def __init__(self, service: TaskService, startup: StartupHello) -> None:
        self._service = service
        self._startup = startup

    async def hello(self, task_id: TaskID | None = None) -> None:
        try:
            await self._service.hello(task_id)
        except Failure as failure:
            self._startup.note(failure)
            raise
        self._startup.note(None)

    async def next_task(self) -> Poll:
        return await self._service.next_task()

    async def heartbeat(self, task_id: TaskID) -> Heartbeat:
        return await self._service.heartbeat(task_id)

    async def upload(self, task_id: TaskID, snapshot: OpenSnapshot, sent: Callable[[], None]) -> None:
        await self._service.upload(task_id, snapshot, sent)

    async def finish(self, task_id: TaskID, outcome: TaskOutcome) -> None:
        await self._service.finish(task_id, outcome)

    async def aclose(self) -> None:
        await self._service.aclose()
