"""The session with C1: Hello, polls, and what its silence means."""

import asyncio

from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.status import ConditionType
from fakes.connector_world import HOUR, MINUTE, World, ready_world
from fakes.virtual_time import virtual_time


@virtual_time
async def test_c1_out_of_reach_is_told_and_syncs_go_on() -> None:
    world = World()
    world.c1.refusal = Failure(Reason.C1_UNREACHABLE, "No connection to C1.")
    async with world.running():
        await asyncio.sleep(2 * HOUR)
        assert world.condition(ConditionType.READY) == ("False", "C1Unreachable")
        assert world.condition(ConditionType.CREDENTIALS_VALID) == ("Unknown", "C1Unreachable")
        assert world.condition(ConditionType.SYNCED) == ("True", "SyncSucceeded")
        assert len(world.buildkite.collections) >= 2
        world.c1.refusal = None
        await asyncio.sleep(6 * MINUTE)
        assert world.condition(ConditionType.READY) == ("True", "Ready")


@virtual_time
async def test_one_failed_poll_is_no_news() -> None:
    async with ready_world() as world:
        before = len(world.reports.written)
        world.c1.refusal = Failure(Reason.C1_UNAVAILABLE, "C1 is restarting.")
        await asyncio.sleep(31)
        world.c1.refusal = None
        await asyncio.sleep(MINUTE)
    assert len(world.reports.written) == before


@virtual_time
async def test_a_changing_text_of_the_same_trouble_is_no_news() -> None:
    async with ready_world() as world:
        world.c1.refusal = Failure(Reason.C1_UNREACHABLE, "No connection to 10.0.0.1.")
        await asyncio.sleep(10 * MINUTE)
        before = len(world.reports.written)
        for n in range(2, 40):
            world.c1.refusal = Failure(Reason.C1_UNREACHABLE, f"No connection to 10.0.0.{n}.")
            await asyncio.sleep(MINUTE)
    assert len(world.reports.written) == before
