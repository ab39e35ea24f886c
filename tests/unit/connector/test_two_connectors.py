"""Two connectors of one process that are one to C1: the older works, the other says whose the host ID is, and waits."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

from buildkite_connector.connector.connector import Connector
from buildkite_connector.connector.secret_reads import reread_secrets
from buildkite_connector.model.spec import ConnectorKey, ConnectorSpec, Credentials
from buildkite_connector.model.status import ConditionType, ConnectorStatus
from buildkite_connector.model.tasks import TaskID
from fakes.connector_setup import C1, MINUTE, Reports, SecretCredentials, Setup, client_rejected
from fakes.virtual_time import virtual_time

YOUNG, OLD = ConnectorKey("default.a"), ConnectorKey("default.b")
CREATED = {YOUNG: "2026-02-01T00:00:00Z", OLD: "2026-01-01T00:00:00Z"}


def wrong() -> SecretCredentials:
    """Credentials whose client secret C1 refuses."""
    return SecretCredentials(Credentials("id", "wrong", "token"))


@dataclass
class Refusing(C1):
    """C1 that knows two secrets of the client."""

    secret: str = ""

    async def hello(self, task_id: TaskID | None = None) -> None:
        if self.secret not in {"secret", "another"}:
            raise client_rejected()
        await super().hello(task_id)


class Two(Setup):
    """Both with the same client and host ID; `start` begins one, with a Secret of its own. `sessions`: all with C1."""

    def __init__(self) -> None:
        super().__init__()
        self.sessions: list[Refusing] = []

    def connect_c1(self, credentials: Credentials, spec: ConnectorSpec) -> Refusing:
        self.sessions.append(Refusing(secret=credentials.client_secret))
        return self.sessions[-1]

    @property
    def in_session(self) -> int:
        return sum(bool(each.hellos) and not each.closed for each in self.sessions)

    @contextlib.asynccontextmanager
    async def process(self) -> AsyncIterator["Two"]:
        self.shared = self.environment()
        self.connectors: list[Connector] = []
        rereading = asyncio.create_task(reread_secrets(lambda: self.connectors, self.clock))
        try:
            yield self
        finally:
            rereading.cancel()
            for each in self.connectors:
                await each.close(discard=False)

    async def start(
        self, key: ConnectorKey, fake_secret: SecretCredentials | None = None, *, after: float = MINUTE
    ) -> tuple[Connector, Reports]:
        """Begins it and gives it time, `after` seconds."""
        reports, desired = Reports(), replace(self.order, credentials=fake_secret or SecretCredentials())
        connector = Connector(key, desired, None, reports, self.shared, CREATED[key])
        self.connectors.append(connector)
        connector.start()
        await asyncio.sleep(after)
        return connector, reports


def ready(status: ConnectorStatus) -> str:
    found = status.condition(ConditionType.READY)
    return found.reason.value if found else ""


@virtual_time
async def test_the_older_works_and_the_younger_says_whose_the_host_id_is() -> None:
    async with Two().process() as two:
        old, _ = await two.start(OLD)
        young, reports = await two.start(YOUNG)
        assert (ready(old.status), ready(young.status)) == ("Ready", "HostIDTaken")
        assert reports.written[-1] == young.status
        assert "default/b" in str(young.status) or "default.b" in str(young.status)
        assert len(two.sessions) == two.in_session == 1


@virtual_time
async def test_the_younger_gives_way_although_it_came_first_and_takes_over_when_the_older_ends() -> None:
    async with Two().process() as two:
        young, _ = await two.start(YOUNG)
        assert ready(young.status) == "Ready"
        old, _ = await two.start(OLD)
        assert (ready(old.status), ready(young.status)) == ("Ready", "HostIDTaken")
        assert (two.sessions[0].closed, two.in_session) == (1, 1)
        await old.close(discard=True)
        await asyncio.sleep(1)
        assert ready(young.status) == "Ready"
        assert [each.closed for each in two.sessions] == [1, 1, 0]


@virtual_time
async def test_two_that_begin_together_are_both_in_session_for_a_moment_at_most() -> None:
    async with Two().process() as two:
        young, _ = await two.start(YOUNG, after=0)
        old, _ = await two.start(OLD, after=0)
        most = 0
        for _ in range(100):
            await asyncio.sleep(0.01)
            most = max(most, two.in_session) if asyncio.get_running_loop().time() > 0.1 else 0
        assert most == 1
        await asyncio.sleep(MINUTE)
        assert (ready(old.status), ready(young.status)) == ("Ready", "HostIDTaken")


@virtual_time
async def test_the_older_keeps_its_host_id_through_reconnects_until_c1_refuses_its_secret() -> None:
    async with Two().process() as two:
        fake_secret = SecretCredentials()
        old, _ = await two.start(OLD, fake_secret)
        young, reports = await two.start(YOUNG)
        fake_secret.credentials = replace(fake_secret.credentials, client_secret="another")
        await asyncio.sleep(2 * MINUTE)
        assert (ready(old.status), ready(young.status)) == ("Ready", "HostIDTaken")
        assert {ready(each) for each in reports.written} <= {"Pending", "HostIDTaken"}
        assert len(two.sessions) == 2
        fake_secret.credentials = wrong().credentials
        await asyncio.sleep(MINUTE)
        assert (ready(old.status), ready(young.status)) == ("C1ClientRejected", "Ready")
        fake_secret.credentials = SecretCredentials().credentials
        await asyncio.sleep(MINUTE)
        assert (ready(old.status), ready(young.status)) == ("Ready", "HostIDTaken")
        assert two.in_session == 1
