"""The access to C1's REST API takes its time to be read, and the resource is edited meanwhile."""

import asyncio
from dataclasses import replace

from buildkite_connector.model.spec import C1Access, Interval
from fakes.c1_rest import C1_SPEC, IDS, FakeAccess
from fakes.connector_setup import Setup
from fakes.virtual_time import virtual_time

QUIET = replace(C1_SPEC, force_sync=False)
DAILY = Interval(86_400.0)


class SlowAccess(FakeAccess):
    """Its Secret is read in five seconds."""

    async def read(self) -> C1Access:
        await asyncio.sleep(5)
        return await super().read()


@virtual_time
async def test_an_access_that_was_read_before_an_edit_is_not_used_for_what_the_edit_names() -> None:
    setup = Setup(c1=QUIET, schedule=DAILY)
    setup.order = replace(setup.order, c1_access=SlowAccess())
    async with setup.running():
        await asyncio.sleep(1)
        setup.edit(c1=replace(QUIET, connector_id="another"))
        await asyncio.sleep(8)
        assert setup.c1_rest.calls == []
        await asyncio.sleep(5)
        assert setup.c1_rest.asked == {(IDS[0], "another")}
