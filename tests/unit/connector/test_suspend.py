"""A suspended connector does nothing."""

import asyncio

from buildkite_connector.model.status import ConditionType, Phase
from fakes.connector_world import HOUR, MINUTE, World
from fakes.virtual_time import virtual_time


@virtual_time
async def test_suspending_stops_the_sync_under_way_and_the_contact_with_c1() -> None:
    world = World()
    async with world.running():
        await asyncio.sleep(2)
        world.edit(suspend=True)
        await asyncio.sleep(MINUTE)
        polls = world.c1.polls
        assert world.condition(ConditionType.READY) == ("False", "Suspended")
        assert world.status.phase is Phase.SUSPENDED
        assert world.buildkite.active == 0
        assert world.c1.closed == 1
        await asyncio.sleep(3 * HOUR)
        assert world.c1.polls == polls
        assert len(world.buildkite.collections) == 1
        world.edit(suspend=False)
        await asyncio.sleep(MINUTE)
        assert world.condition(ConditionType.READY) == ("True", "Ready")
