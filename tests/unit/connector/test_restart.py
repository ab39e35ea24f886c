"""What survives a restart."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from buildkite_connector.model.directory import ResourceKind
from buildkite_connector.model.spec import Cron, Provisioning
from buildkite_connector.model.status import ConditionType, Phase, Trigger
from fakes.connector_world import HOUR, MINUTE, USERS, World, down, ready_world, stopped_world
from fakes.virtual_time import virtual_time


@virtual_time
async def test_a_restart_causes_no_sync_before_the_next_sync_time() -> None:
    world = await stopped_world()
    writes = len(world.reports.written)
    async with world.running(restored=world.status):
        await asyncio.sleep(30 * MINUTE)
        assert len(world.buildkite.collections) == 1
        assert len(world.reports.written) == writes
        await asyncio.sleep(31 * MINUTE)
        assert len(world.buildkite.collections) == 2


@virtual_time
async def test_a_time_missed_while_down_runs_once() -> None:
    world = await stopped_world()
    await asyncio.sleep(5 * HOUR)
    async with world.running(restored=world.status):
        await asyncio.sleep(10 * MINUTE)
    assert len(world.buildkite.collections) == 2


@virtual_time
async def test_a_sync_that_a_restart_interrupted_runs_again() -> None:
    world = World()
    async with world.running():
        await asyncio.sleep(2)
    assert world.status.phase is Phase.SYNCING
    async with world.running(restored=world.status):
        await asyncio.sleep(MINUTE)
        assert world.condition(ConditionType.READY) == ("True", "Ready")


@virtual_time
async def test_an_edit_made_while_the_operator_was_down_is_noticed() -> None:
    world = await stopped_world()
    world.order = replace(world.order, generation=2)
    async with world.running(restored=world.status):
        await asyncio.sleep(MINUTE)
        assert world.status.observed_generation == 2
        assert world.status.last_sync is not None
        assert world.status.last_sync.trigger is Trigger.CHANGE
    assert len(world.buildkite.collections) == 2


@virtual_time
async def test_an_edit_whose_sync_a_restart_cut_off_is_still_acted_on() -> None:
    async with ready_world() as world:
        world.buildkite.refusal = down()
        world.edit(kinds=frozenset({ResourceKind.USER}))
        await asyncio.sleep(10)
        assert world.status.observed_generation == 2
    world.buildkite.refusal = None
    async with world.running(restored=world.status):
        await asyncio.sleep(2 * MINUTE)
        assert world.buildkite.collections[-1] == USERS


@virtual_time
async def test_an_interrupted_request_survives_a_restart() -> None:
    async with ready_world() as world:
        world.annotate(sync_request="mine")
        await asyncio.sleep(2)
    assert world.status.phase is Phase.SYNCING
    async with world.running(restored=world.status):
        await asyncio.sleep(MINUTE)
        assert len(world.buildkite.collections) == 3
        assert world.status.last_sync is not None
        assert world.status.last_sync.id == "sync3"
        assert world.status.last_handled_sync_request == "mine"


@virtual_time
async def test_a_request_made_while_the_operator_was_down_is_carried_out() -> None:
    world = await stopped_world()
    world.order = replace(world.order, sync_request="mine")
    async with world.running(restored=world.status):
        await asyncio.sleep(MINUTE)
        assert world.status.last_sync is not None
        assert world.status.last_sync.trigger is Trigger.REQUEST
        assert world.status.last_handled_sync_request == "mine"


@virtual_time
async def test_a_request_that_was_carried_out_is_not_repeated_by_a_restart() -> None:
    async with ready_world() as world:
        world.annotate(sync_request="mine")
        await asyncio.sleep(MINUTE)
    async with world.running(restored=world.status):
        await asyncio.sleep(10 * MINUTE)
    assert len(world.buildkite.collections) == 2


@virtual_time
async def test_a_next_sync_time_years_ahead_counts_no_further_than_the_interval_reaches() -> None:
    world = await stopped_world()
    restored = replace(world.status, next_sync_time=world.clock.now() + timedelta(days=2000))
    async with world.running(restored=restored):
        await asyncio.sleep(50 * MINUTE)
        assert len(world.buildkite.collections) == 1
        await asyncio.sleep(HOUR * 1.05 - 50 * MINUTE + 10)
        assert len(world.buildkite.collections) == 2


@virtual_time
async def test_a_next_sync_time_years_ahead_counts_no_further_than_the_next_cron_time() -> None:
    async with ready_world(schedule=Cron("30 10 * * *", "Europe/Berlin")) as world:
        pass
    restored = replace(world.status, next_sync_time=world.clock.now() + timedelta(days=2000))
    async with world.running(restored=restored):
        await asyncio.sleep(28 * MINUTE)
        assert len(world.buildkite.collections) == 1
        await asyncio.sleep(2 * MINUTE)
        assert len(world.buildkite.collections) == 2


@virtual_time
async def test_a_next_sync_time_within_the_schedule_is_kept() -> None:
    world = await stopped_world()
    restored = replace(world.status, next_sync_time=world.clock.now() + timedelta(minutes=62))
    async with world.running(restored=restored):
        await asyncio.sleep(61 * MINUTE)
        assert len(world.buildkite.collections) == 1


@pytest.mark.parametrize("enabled", [False, True])
@virtual_time
async def test_a_staged_file_that_may_lack_a_change_is_removed_at_a_restart(enabled: bool) -> None:
    world = await stopped_world()
    spec = replace(world.order.spec, provisioning=Provisioning(enabled=enabled))
    world.order = replace(world.order, spec=spec)
    async with world.running(restored=world.status):
        await asyncio.sleep(10)
        assert len(world.store.files) == (0 if enabled else 1)
    assert len(world.buildkite.collections) == 1
