"""A connector in virtual time that is created in C1, on the ports of `c1_creation`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta

from buildkite_connector.connector.environment import Environment
from buildkite_connector.connector.ports import C1Rest
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.spec import C1Access, C1Creation, C1Spec, ConnectorSpec, Credentials
from buildkite_connector.model.status import ConditionType, ConnectorStatus
from buildkite_connector.model.tasks import Poll
from fakes.c1_creation import WANTED, FakeRest, FakeSecret, Process, Surroundings
from fakes.connector_ports import C1, MINUTE, Reports
from fakes.connector_setup import Setup

UID = "0f7d"
LIFE = timedelta(hours=2)
"""Of a credential: short, as a connector polls C1 all the time."""


@dataclass
class SecretWithClient:
    """The credentials: the client is that of the operator's own Secret."""

    its: Surroundings
    reads: int = 0

    async def read(self) -> Credentials:
        self.reads += 1
        secret = self.its.secret
        if secret is None:
            raise Failure(Reason.C1_NOT_CREATED, "The connector is being created in C1.")
        return Credentials(secret.client_id, secret.client_secret, "token")


class Client(C1):
    """C1 for one client: only a credential that is valid is greeted. Tasks are those of `setup.c1`."""

    def __init__(self, setup: "CreationSetup", client_id: str) -> None:
        super().__init__()
        self.tasks = setup.c1.tasks
        self.uploads = setup.c1.uploads
        self.finished = setup.c1.finished
        self.upload_seconds = setup.c1.upload_seconds
        self.client_id = client_id
        self._setup = setup

    async def hello(self, task_id: object = None) -> None:
        if self._setup.hangs:
            await asyncio.Event().wait()
        assert self._setup.its.client_lives(self.client_id)

    async def next_task(self) -> Poll:
        """Only a session polls: a new credential is greeted before, too."""
        if not self.polls:
            self._setup.client = self
            self._setup.its.session = self.client_id
            self._setup.sessions.append(self.client_id)
        return await super().next_task()


class Statuses(Reports):
    """What is written counts as what the next process restores."""

    def __init__(self, its: Surroundings) -> None:
        super().__init__()
        self._its = its

    async def report(self, before: ConnectorStatus | None, after: ConnectorStatus) -> None:
        if self._its.process.dead:
            await asyncio.Event().wait()
        await super().report(before, after)
        if self._its.process.dead:
            await asyncio.Event().wait()
        if after.c1 is not None:
            self._its.record = after.c1


class CreationSetup(Setup):
    """`its`: C1, the Secret, the newest status. `sessions`: their clients, in order, and `client` the newest.

    `clients` are all that C1 has had, and `hangs` is whether Hello gets no answer.
    """

    def __init__(self, wanted: C1Creation = WANTED, **spec: object) -> None:
        super().__init__(c1=C1Spec(create=wanted), **spec)
        self.its = Surroundings(clock=self.clock, life=LIFE)
        self.sessions: list[str] = []
        self.clients: list[Client] = []
        self.hangs = False
        self.client = Client(self, "")
        self.reports = Statuses(self.its)
        self.order = replace(
            self.order, credentials=SecretWithClient(self.its), own_secret=FakeSecret(self.its), uid=UID
        )

    def environment(self) -> Environment:
        return replace(super().environment(), c1_rest=self._rest)

    def _rest(self, access: C1Access) -> C1Rest:
        return FakeRest(self.its)

    def connect_c1(self, credentials: Credentials, spec: ConnectorSpec) -> C1:
        self.clients.append(Client(self, credentials.client_id))
        return self.clients[-1]

    async def kill(self) -> None:
        """`kill -9`: what the process still tries has no effect; a new one starts on what is written."""
        self.its.process.dead = True
        await self.session.close(discard=False)
        self.its.process = Process()

    @property
    def restored(self) -> ConnectorStatus | None:
        return self.reports.written[-1] if self.reports.written else None


@asynccontextmanager
async def created_setup(after: float = MINUTE) -> AsyncIterator[CreationSetup]:
    """A connector that was created in C1 and is Ready."""
    setup = CreationSetup()
    async with setup.running():
        await asyncio.sleep(after)
        assert setup.condition(ConditionType.READY) == ("True", "Ready")
        yield setup
