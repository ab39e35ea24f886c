"""Two connectors of one process that are one to C1: the older works, the other says whose the host ID is, and waits."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from buildkite_connector.connector.connector import Connector
from buildkite_connector.model.spec import ConnectorKey
from buildkite_connector.model.status import ConditionType, ConnectorStatus
from buildkite_connector.timing.scheduler import Scheduler
from fakes.connector_world import MINUTE, Reports, World
from fakes.virtual_time import virtual_time

YOUNG, OLD = ConnectorKey("default.a"), ConnectorKey("default.b")
CREATED = {YOUNG: "2026-02-01T00:00:00Z", OLD: "2026-01-01T00:00:00Z"}


class Two(World):
    """Both with the same Secret and spec; `start` begins one."""

    @contextlib.asynccontextmanager
    async def process(self) -> AsyncIterator["Two"]:
        self.scheduler = Scheduler(self.clock)
        self.shared = self.environment(self.scheduler)
        self.connectors: list[Connector] = []
        runner = asyncio.create_task(self.scheduler.run())
        try:
            yield self
        finally:
            runner.cancel()
            await asyncio.wait({runner})
            for each in self.connectors:
                await each.close(discard=False)

    async def start(self, key: ConnectorKey) -> tuple[Connector, Reports]:
        reports = Reports()
        connector = Connector(key, self.order, None, reports, self.shared, CREATED[key])
        self.connectors.append(connector)
        self.scheduler.add(connector)
        await asyncio.sleep(MINUTE)
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
        assert two.c1.hellos == [None]


@virtual_time
async def test_the_younger_gives_way_although_it_came_first_and_takes_over_when_the_older_ends() -> None:
    async with Two().process() as two:
        young, _ = await two.start(YOUNG)
        assert ready(young.status) == "Ready"
        old, _ = await two.start(OLD)
        assert (ready(old.status), ready(young.status)) == ("Ready", "HostIDTaken")
        assert two.c1.closed == 1
        await old.close(discard=True)
        await asyncio.sleep(1)
        assert ready(young.status) == "Ready"
        assert (len(two.c1.hellos), two.c1.closed) == (3, 2)
