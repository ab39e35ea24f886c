"""C1 is asked on while tasks run: up to three at once, one sync among them."""

import asyncio

from buildkite_connector.model.tasks import Code, HelloTask, TaskID, UnsupportedTask
from fakes.connector_world import HOUR, MINUTE, ready_world
from fakes.virtual_time import virtual_time

LONG = 6000.0


@virtual_time
async def test_c1_is_asked_on_while_a_task_waits_for_its_sync() -> None:
    async with ready_world(after=30 * MINUTE) as world:
        world.buildkite.seconds = LONG
        world.task()
        await asyncio.sleep(MINUTE)
        polls = world.c1.polls
        await asyncio.sleep(HOUR)
        assert world.buildkite.active == 1
        assert world.c1.polls >= polls + HOUR / world.c1.next_poll - 1


@virtual_time
async def test_c1_is_asked_on_during_a_scheduled_sync() -> None:
    async with ready_world() as world:
        world.buildkite.seconds = LONG
        world.annotate(sync_request="now")
        await asyncio.sleep(MINUTE)
        polls = world.c1.polls
        await asyncio.sleep(HOUR)
        assert world.c1.polls >= polls + HOUR / world.c1.next_poll - 1


@virtual_time
async def test_hello_and_refusals_are_answered_during_a_long_sync() -> None:
    async with ready_world(after=30 * MINUTE) as world:
        world.buildkite.seconds = LONG
        task = world.task()
        await asyncio.sleep(MINUTE)
        world.c1.tasks.extend([HelloTask(TaskID("hello1")), UnsupportedTask(TaskID("grant1"), "grant")])
        await asyncio.sleep(2 * MINUTE)
        assert "hello1" in world.c1.hellos
        assert world.c1.finished[TaskID("grant1")].code is Code.UNIMPLEMENTED
        assert task not in world.c1.finished
        await asyncio.sleep(2 * HOUR)
        assert world.c1.finished[task].code is Code.OK


@virtual_time
async def test_no_fourth_task_is_asked_for_while_three_run() -> None:
    async with ready_world(after=30 * MINUTE) as world:
        world.buildkite.seconds = LONG
        tasks = [world.task() for _ in range(4)]
        await asyncio.sleep(10 * MINUTE)
        assert list(world.c1.tasks) != []
        assert {beaten for beaten, _ in world.c1.heartbeats} == set(tasks[:3])
        world.cancel(tasks[1])
        await asyncio.sleep(MINUTE)
        assert not world.c1.tasks
        assert {beaten for beaten, _ in world.c1.heartbeats} == set(tasks)


@virtual_time
async def test_tasks_that_wait_together_are_answered_by_one_sync_each_once() -> None:
    async with ready_world(after=30 * MINUTE) as world:
        world.buildkite.seconds = 5 * MINUTE
        tasks = [world.task() for _ in range(3)]
        await asyncio.sleep(20 * MINUTE)
        assert [task for task, _ in world.c1.uploads] == tasks
        assert all(world.c1.finished[task].code is Code.OK for task in tasks)
        assert world.buildkite.most_active == 1
    assert len(world.buildkite.collections) == 2


@virtual_time
async def test_a_cancelled_task_does_not_stop_a_sync_that_another_task_wants() -> None:
    async with ready_world(after=30 * MINUTE) as world:
        world.buildkite.seconds = 5 * MINUTE
        first, second = world.task(), world.task()
        await asyncio.sleep(2 * MINUTE)
        world.cancel(first)
        await asyncio.sleep(5 * MINUTE)
        assert world.c1.finished[first].code is Code.CANCELLED
        assert world.c1.uploads == [(second, "sha-sync2")]
    assert len(world.buildkite.collections) == 2


@virtual_time
async def test_shutdown_hands_every_task_back() -> None:
    async with ready_world(after=30 * MINUTE) as world:
        world.buildkite.seconds = LONG
        tasks = [world.task() for _ in range(3)]
        await asyncio.sleep(2 * MINUTE)
        before = world.clock.monotonic()
    assert world.clock.monotonic() - before < 10
    assert [world.c1.finished[task].code for task in tasks] == [Code.ABORTED] * 3
