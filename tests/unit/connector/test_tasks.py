"""How C1's tasks are answered, cancelled and refused."""

import asyncio
import itertools
from dataclasses import replace

from buildkite_connector.model.directory import ResourceKind, SyncScope
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.status import ConditionType, Trigger
from buildkite_connector.model.tasks import Code, HelloTask, SyncTask, TaskID, UnsupportedTask
from fakes.connector_world import HOUR, MINUTE, World, down, ready_world
from fakes.virtual_time import virtual_time


@virtual_time
async def test_a_task_is_answered_with_the_staged_snapshot_while_it_is_fresh() -> None:
    async with ready_world() as world:
        task = world.task()
        await asyncio.sleep(MINUTE)
        assert world.c1.uploads == [(task, "sha-sync1")]
        assert world.c1.finished[task].code is Code.OK
        assert world.status.last_delivery is not None
        assert world.status.last_delivery.sync_id == "sync1"
    assert len(world.buildkite.collections) == 1


@virtual_time
async def test_a_task_that_finds_the_staged_snapshot_old_causes_a_sync() -> None:
    async with ready_world(after=30 * MINUTE) as world:
        task = world.task()
        await asyncio.sleep(MINUTE)
        assert world.c1.uploads == [(task, "sha-sync2")]
        assert world.status.last_sync is not None
        assert world.status.last_sync.trigger is Trigger.TASK


@virtual_time
async def test_heartbeats_go_on_while_a_task_waits_for_its_sync() -> None:
    world = World()
    world.buildkite.seconds = 95
    world.order = replace(world.order, spec=replace(world.order.spec, max_snapshot_age=0))
    async with world.running():
        task = world.task()
        await asyncio.sleep(5 * MINUTE)
        beats = [at for beaten, at in world.c1.heartbeats if beaten == task]
        assert world.c1.finished[task].code is Code.OK
        assert len(beats) >= 9
        assert all(later - earlier <= 10 for earlier, later in itertools.pairwise(beats))


@virtual_time
async def test_a_task_that_c1_cancels_stops_the_sync_that_only_it_wanted() -> None:
    async with ready_world(after=30 * MINUTE) as world:
        world.buildkite.seconds = 500
        task = world.task()
        world.c1.cancelled.add(task)
        await asyncio.sleep(MINUTE)
        assert world.buildkite.active == 0
        assert world.c1.finished[task].code is Code.CANCELLED
        assert world.condition(ConditionType.READY) == ("True", "Ready")
        assert world.status.consecutive_failures == 0


@virtual_time
async def test_ten_failed_heartbeats_in_a_row_give_the_work_up() -> None:
    async with ready_world(after=30 * MINUTE) as world:
        world.buildkite.seconds = 500
        world.c1.heartbeat_failures = 10
        task = world.task()
        await asyncio.sleep(2 * MINUTE)
        assert world.c1.finished[task].code is Code.UNAVAILABLE
        assert not world.c1.finished[task].non_retryable
        assert world.buildkite.active == 0


@virtual_time
async def test_a_failed_sync_fails_the_task_so_that_c1_may_retry() -> None:
    async with ready_world(after=30 * MINUTE) as world:
        world.buildkite.failures.append(down())
        task = world.task()
        await asyncio.sleep(MINUTE)
        assert world.c1.finished[task].code is Code.UNAVAILABLE
        assert not world.c1.finished[task].non_retryable
        assert not world.c1.uploads


@virtual_time
async def test_a_task_for_resource_types_that_are_not_synced_is_refused() -> None:
    world = World(kinds=frozenset({ResourceKind.USER}))
    async with world.running():
        task = world.task(SyncScope(frozenset({ResourceKind.TEAM})))
        await asyncio.sleep(MINUTE)
        assert world.c1.finished[task].code is Code.FAILED_PRECONDITION
        assert world.c1.finished[task].non_retryable


@virtual_time
async def test_a_hello_task_is_answered_with_hello_and_no_finish() -> None:
    world = World()
    async with world.running():
        world.c1.tasks.append(HelloTask(TaskID("hello1")))
        await asyncio.sleep(MINUTE)
        assert world.c1.hellos == [None, "hello1"]
        assert not world.c1.finished


@virtual_time
async def test_a_task_that_buildkite_cannot_do_is_refused_for_good() -> None:
    world = World()
    async with world.running():
        world.c1.tasks.append(UnsupportedTask(TaskID("grant1"), "grant"))
        await asyncio.sleep(MINUTE)
        outcome = world.c1.finished[TaskID("grant1")]
        assert (outcome.code, outcome.non_retryable) == (Code.UNIMPLEMENTED, True)


@virtual_time
async def test_a_cancelled_task_does_not_stop_a_scheduled_sync() -> None:
    async with ready_world(after=HOUR - 10) as world:
        world.buildkite.seconds = 200
        await asyncio.sleep(30)
        task = world.task()
        await asyncio.sleep(40)
        world.cancel(task)
        await asyncio.sleep(5 * MINUTE)
        assert world.c1.finished[task].code is Code.CANCELLED
        assert world.status.last_sync is not None
        assert (world.status.last_sync.id, world.status.last_sync.trigger) == ("sync2", Trigger.SCHEDULE)


@virtual_time
async def test_a_cancelled_task_does_not_stop_a_sync_that_was_requested() -> None:
    async with ready_world(after=30 * MINUTE) as world:
        world.buildkite.seconds = 200
        world.annotate(sync_request="mine")
        await asyncio.sleep(1)
        task = world.task()
        await asyncio.sleep(40)
        world.cancel(task)
        await asyncio.sleep(5 * MINUTE)
        assert world.c1.finished[task].code is Code.CANCELLED
        assert world.status.last_sync is not None
        assert (world.status.last_sync.id, world.status.last_sync.trigger) == ("sync2", Trigger.REQUEST)


@virtual_time
async def test_a_request_made_during_a_task_s_sync_is_served_although_the_task_is_cancelled() -> None:
    async with ready_world(after=30 * MINUTE) as world:
        world.buildkite.seconds = 200
        task = world.task()
        await asyncio.sleep(40)
        world.annotate(sync_request="mine")
        world.cancel(task)
        await asyncio.sleep(8 * MINUTE)
        assert world.c1.finished[task].code is Code.CANCELLED
        assert world.status.last_handled_sync_request == "mine"
        assert world.status.last_sync is not None
        assert world.status.last_sync.id != "sync1"


@virtual_time
async def test_a_task_s_sync_that_the_schedule_wants_meanwhile_goes_on_when_the_task_is_cancelled() -> None:
    async with ready_world(after=50 * MINUTE) as world:
        world.buildkite.seconds = 20 * MINUTE
        task = world.task()
        await asyncio.sleep(12 * MINUTE)
        world.cancel(task)
        await asyncio.sleep(10 * MINUTE)
        assert world.c1.finished[task].code is Code.CANCELLED
        assert world.status.last_sync is not None
        assert world.status.last_sync.id == "sync2"


@virtual_time
async def test_a_task_that_comes_cancelled_stops_nothing() -> None:
    async with ready_world(after=30 * MINUTE) as world:
        world.buildkite.seconds = 100
        world.annotate(sync_request="mine")
        await asyncio.sleep(1)
        world.cancel(world.task())
        await asyncio.sleep(3 * MINUTE)
        assert world.status.last_sync is not None
        assert (world.status.last_sync.id, world.status.last_sync.trigger) == ("sync2", Trigger.REQUEST)


@virtual_time
async def test_a_task_that_comes_again_because_its_end_was_lost_is_carried_out_again() -> None:
    async with ready_world() as world:
        world.c1.finish_failures.extend([Failure(Reason.C1_UNAVAILABLE, "C1 is restarting.")] * 3)
        task = world.task()
        await asyncio.sleep(MINUTE)
        assert (world.c1.finish_attempts, world.c1.finished) == (3, {})
        assert world.condition(ConditionType.DELIVERED) == ("False", "AwaitingTask")
        world.c1.tasks.append(SyncTask(task, SyncScope()))
        await asyncio.sleep(MINUTE)
        assert world.c1.finished[task].code is Code.OK
        assert [each for each, _ in world.c1.uploads] == [task, task]
        assert world.status.last_delivery is not None
        assert world.status.last_delivery.task_id == task
