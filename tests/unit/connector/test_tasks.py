"""How C1's tasks are answered, cancelled and refused."""

import asyncio

from buildkite_connector.model.directory import AccountID, Membership, ResourceKind, Role, SyncScope, TeamID
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.spec import Provisioning
from buildkite_connector.model.status import ConditionType, Trigger
from buildkite_connector.model.tasks import Code, MembershipTask, SyncTask, TaskID
from buildkite_connector.tasks.session import MOST_TASKS
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
async def test_tasks_that_wait_for_a_sync_leave_the_slots_to_changes() -> None:
    async with ready_world(provisioning=Provisioning(enabled=True)) as world:
        world.buildkite.seconds, world.c1.next_poll = HOUR, 1.0
        await asyncio.sleep(30 * MINUTE)
        syncs = [world.task() for _ in range(MOST_TASKS + 2)]
        await asyncio.sleep(MINUTE)
        world.members.slugs[TeamID("t-1")] = "slug"
        grant = MembershipTask(TaskID("grant1"), True, Membership(TeamID("t-1"), AccountID("u-1"), Role.MEMBER))
        world.c1.tasks.append(grant)
        await asyncio.sleep(2.0)
        assert world.c1.finished[grant.id].code is Code.OK
        assert {beaten for beaten, _ in world.c1.heartbeats} == set(syncs)
        await asyncio.sleep(3 * HOUR)
        assert [task for task, _ in world.c1.uploads] == syncs
        assert len({sha256 for _, sha256 in world.c1.uploads}) == 1, "one sync answers them all"
