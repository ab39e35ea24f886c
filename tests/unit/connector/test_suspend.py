"""A suspended connector does nothing."""

import asyncio

from buildkite_connector.model.status import ConditionType, Phase
from fakes.connector_world import HOUR, MINUTE, World, ready_world
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


@virtual_time
async def test_a_suspend_cancels_the_sync_while_it_runs() -> None:
    async with ready_world() as world:
        world.buildkite.seconds = 5000
        world.annotate(sync_request="now")
        await asyncio.sleep(5)
        assert world.buildkite.active == 1
        world.edit(suspend=True)
        await asyncio.sleep(1)
        assert world.buildkite.active == 0
        assert world.status.phase is Phase.SUSPENDED
        assert world.status.consecutive_failures == 0
        assert [entry.succeeded for entry in world.status.history] == [True]


@virtual_time
async def test_a_suspend_hands_the_task_in_hand_back() -> None:
    async with ready_world(after=30 * MINUTE) as world:
        world.buildkite.seconds = 5000
        task = world.task()
        await asyncio.sleep(MINUTE)
        world.edit(suspend=True)
        await asyncio.sleep(1)
        assert world.buildkite.active == 0
        assert not world.c1.finished[task].non_retryable
        assert not world.c1.uploads


@virtual_time
async def test_a_suspended_connector_syncs_for_no_request() -> None:
    world = World(suspend=True)
    async with world.running():
        await asyncio.sleep(MINUTE)
        world.annotate(sync_request="now")
        await asyncio.sleep(2 * HOUR)
        assert not world.buildkite.collections
        assert not world.vault.reads
