"""What Buildkite said of waiting holds for every trigger; the connector's own backoff gives way to a request."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from buildkite_connector.model.tasks import Code
from fakes.connector_world import MINUTE, World, down, rate_limited, ready_world
from fakes.virtual_time import virtual_time

TRIGGERS = [
    pytest.param(lambda world: world.annotate(sync_request="again"), id="request"),
    pytest.param(lambda world: world.edit(quota_percent=50), id="edit"),
    pytest.param(lambda world: world.rotate(api_token="rotated"), id="secret"),
    pytest.param(lambda world: world.task(), id="task"),
    pytest.param(lambda world: None, id="schedule"),
]


async def told_to_wait(world: World) -> None:
    """A sync has failed; Buildkite said to wait half an hour."""
    world.buildkite.failures.append(rate_limited(1800))
    world.annotate(sync_request="first")
    await asyncio.sleep(10)
    assert len(world.buildkite.collections) == 2


@pytest.mark.parametrize("trigger", TRIGGERS)
@virtual_time
async def test_nothing_is_collected_before_the_time_that_buildkite_named(trigger: Callable[[World], None]) -> None:
    async with ready_world(after=50 * MINUTE) as world:
        await told_to_wait(world)
        trigger(world)
        await asyncio.sleep(29 * MINUTE)
        assert len(world.buildkite.collections) == 2
        await asyncio.sleep(2 * MINUTE)
        assert len(world.buildkite.collections) == 3


@virtual_time
async def test_three_requests_in_nine_seconds_make_one_collection() -> None:
    async with ready_world() as world:
        world.buildkite.failures.append(rate_limited(1800))
        for number in range(3):
            world.annotate(sync_request=f"request {number}")
            await asyncio.sleep(3)
        await asyncio.sleep(29 * MINUTE)
        assert len(world.buildkite.collections) == 2
        await asyncio.sleep(2 * MINUTE)
        assert world.status.last_handled_sync_request == "request 2"
        assert len(world.buildkite.collections) == 3


@virtual_time
async def test_a_task_before_that_time_is_told_of_it() -> None:
    async with ready_world(after=30 * MINUTE) as world:
        await told_to_wait(world)
        task = world.task()
        await asyncio.sleep(MINUTE)
        assert world.c1.finished[task].code is Code.UNAVAILABLE
        assert "Buildkite answered 429." in world.c1.finished[task].message


@pytest.mark.parametrize("change", ["request", "edit"])
@virtual_time
async def test_the_time_that_buildkite_named_outlives_a_restart(change: str) -> None:
    async with ready_world() as world:
        await told_to_wait(world)
    if change == "request":
        world.order = replace(world.order, sync_request="again")
    else:
        world.order = replace(world.order, generation=2)
    async with world.running(restored=world.status):
        await asyncio.sleep(29 * MINUTE)
        assert len(world.buildkite.collections) == 2
        await asyncio.sleep(2 * MINUTE)
        assert len(world.buildkite.collections) == 3


@virtual_time
async def test_our_own_backoff_gives_way_to_a_request() -> None:
    async with ready_world() as world:
        world.buildkite.failures.extend([down()] * 5)
        world.annotate(sync_request="first")
        await asyncio.sleep(10 * MINUTE)
        syncs = len(world.buildkite.collections)
        world.annotate(sync_request="second")
        await asyncio.sleep(1)
        assert len(world.buildkite.collections) == syncs + 1


@virtual_time
async def test_our_own_backoff_gives_way_to_an_edit() -> None:
    async with ready_world() as world:
        world.buildkite.failures.extend([down()] * 5)
        world.annotate(sync_request="first")
        await asyncio.sleep(10 * MINUTE)
        syncs = len(world.buildkite.collections)
        world.edit(quota_percent=50)
        await asyncio.sleep(5)
        assert len(world.buildkite.collections) == syncs + 1


@virtual_time
async def test_our_own_backoff_does_not_give_way_to_a_task() -> None:
    async with ready_world(after=30 * MINUTE) as world:
        world.buildkite.failures.extend([down()] * 5)
        world.annotate(sync_request="first")
        await asyncio.sleep(7 * MINUTE)
        syncs = len(world.buildkite.collections)
        world.task()
        await asyncio.sleep(MINUTE)
        assert len(world.buildkite.collections) == syncs


@virtual_time
async def test_a_check_that_buildkite_put_off_is_repeated_for_no_request() -> None:
    async with ready_world() as world:
        world.buildkite.refusal = rate_limited(1800)
        world.edit(quota_percent=60)
        await asyncio.sleep(5)
        preflights = world.buildkite.preflights
        for number in range(3):
            world.annotate(sync_request=f"request {number}")
            await asyncio.sleep(3)
        assert world.buildkite.preflights == preflights
