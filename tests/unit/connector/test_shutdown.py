"""How a connector ends: at shutdown its tasks go back to C1, at deletion its file goes too."""

import asyncio

from buildkite_connector.model.status import ConditionType
from buildkite_connector.model.tasks import Code
from fakes.connector_world import HOUR, MINUTE, World, ready_world
from fakes.virtual_time import virtual_time


@virtual_time
async def test_shutdown_hands_the_task_back_at_once() -> None:
    async with ready_world(after=30 * MINUTE) as world:
        world.buildkite.seconds = 500
        task = world.task()
        await asyncio.sleep(MINUTE)
        before = world.clock.monotonic()
    assert world.clock.monotonic() - before < 1
    assert world.c1.finished[task].code is Code.ABORTED
    assert not world.c1.finished[task].non_retryable


@virtual_time
async def test_deletion_closes_the_session_and_removes_the_file() -> None:
    world = World()
    async with world.running():
        await asyncio.sleep(MINUTE)
        await world.delete()
        polls = world.c1.polls
        await asyncio.sleep(3 * HOUR)
        assert world.c1.polls == polls
        assert world.c1.closed == 1
    assert not world.store.files
    assert len(world.buildkite.collections) == 1


@virtual_time
async def test_an_upload_that_is_whole_gets_its_answer_awaited_at_shutdown() -> None:
    async with ready_world() as world:
        world.c1.answer_seconds = 4
        task = world.task()
        await asyncio.sleep(31)
        assert not world.c1.uploads
        world.c1.answer_seconds = 0
        before = world.clock.monotonic()
    assert world.clock.monotonic() - before < 10
    assert world.c1.finished[task].code is Code.OK
    assert world.status.last_delivery is not None
    assert world.condition(ConditionType.DELIVERED) == ("True", "Delivered")


@virtual_time
async def test_what_came_while_an_edit_was_checked_is_written_at_shutdown() -> None:
    async with ready_world() as world:
        world.c1.answer_seconds = 8
        task = world.task()
        await asyncio.sleep(31)
        world.buildkite.preflight_seconds = 40
        world.edit(max_drop_percent=40)
        await asyncio.sleep(10)
        assert world.c1.finished[task].code is Code.OK
        assert [each for each in world.reports.written if each.last_delivery is not None] == []
    assert world.status.last_delivery is not None
    assert world.status.last_delivery.task_id == task
    assert world.status.observed_generation == 1


@virtual_time
async def test_an_upload_whose_answer_does_not_come_is_handed_back_within_ten_seconds() -> None:
    async with ready_world() as world:
        world.c1.answer_seconds = 1000
        task = world.task()
        await asyncio.sleep(40)
        before = world.clock.monotonic()
    assert world.clock.monotonic() - before < 10
    assert world.c1.finished[task].code is Code.ABORTED
    assert world.status.last_delivery is None


@virtual_time
async def test_an_upload_that_is_not_whole_is_handed_back_at_once() -> None:
    async with ready_world() as world:
        world.c1.upload_seconds = 1000
        task = world.task()
        await asyncio.sleep(40)
        before = world.clock.monotonic()
    assert world.clock.monotonic() - before < 1
    assert world.c1.finished[task].code is Code.ABORTED
