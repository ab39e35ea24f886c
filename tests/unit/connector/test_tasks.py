"""How C1's tasks are answered, cancelled and refused."""

import asyncio

from buildkite_connector.model.directory import AccountID, Membership, ResourceKind, Role, SyncScope, TeamID
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.spec import Provisioning
from buildkite_connector.model.status import ConditionType, Trigger
from buildkite_connector.model.tasks import Code, MembershipTask, SyncTask, TaskID
from buildkite_connector.tasks.session import MOST_TASKS
from fakes.connector_setup import HOUR, MINUTE, Setup, down, ready_setup
from fakes.virtual_time import virtual_time


@virtual_time
async def test_a_task_is_answered_with_the_staged_snapshot_while_it_is_fresh() -> None:
    async with ready_setup() as setup:
        task = setup.task()
        await asyncio.sleep(MINUTE)
        assert setup.c1.uploads == [(task, "sha-sync1")]
        assert setup.c1.finished[task].code is Code.OK
        assert setup.status.last_delivery is not None
        assert setup.status.last_delivery.sync_id == "sync1"
    assert len(setup.buildkite.collections) == 1


@virtual_time
async def test_a_task_that_finds_the_staged_snapshot_old_causes_a_sync() -> None:
    async with ready_setup(after=30 * MINUTE) as setup:
        task = setup.task()
        await asyncio.sleep(MINUTE)
        assert setup.c1.uploads == [(task, "sha-sync2")]
        assert setup.status.last_sync is not None
        assert setup.status.last_sync.trigger is Trigger.TASK


@virtual_time
async def test_a_task_that_c1_cancels_stops_the_sync_that_only_it_wanted() -> None:
    async with ready_setup(after=30 * MINUTE) as setup:
        setup.buildkite.seconds = 500
        task = setup.task()
        setup.c1.cancelled.add(task)
        await asyncio.sleep(MINUTE)
        assert setup.buildkite.active == 0
        assert setup.c1.finished[task].code is Code.CANCELLED
        assert setup.condition(ConditionType.READY) == ("True", "Ready")
        assert setup.status.consecutive_failures == 0


@virtual_time
async def test_a_failed_sync_fails_the_task_so_that_c1_may_retry() -> None:
    async with ready_setup(after=30 * MINUTE) as setup:
        setup.buildkite.failures.append(down())
        task = setup.task()
        await asyncio.sleep(MINUTE)
        assert setup.c1.finished[task].code is Code.UNAVAILABLE
        assert not setup.c1.finished[task].non_retryable
        assert not setup.c1.uploads


@virtual_time
async def test_a_task_for_resource_types_that_are_not_synced_is_refused() -> None:
    setup = Setup(kinds=frozenset({ResourceKind.USER}))
    async with setup.running():
        task = setup.task(SyncScope(frozenset({ResourceKind.TEAM})))
        await asyncio.sleep(MINUTE)
        assert setup.c1.finished[task].code is Code.FAILED_PRECONDITION
        assert setup.c1.finished[task].non_retryable


@virtual_time
async def test_a_cancelled_task_does_not_stop_a_scheduled_sync() -> None:
    async with ready_setup(after=HOUR - 10) as setup:
        setup.buildkite.seconds = 200
        await asyncio.sleep(30)
        task = setup.task()
        await asyncio.sleep(40)
        setup.cancel(task)
        await asyncio.sleep(5 * MINUTE)
        assert setup.c1.finished[task].code is Code.CANCELLED
        assert setup.status.last_sync is not None
        assert (setup.status.last_sync.id, setup.status.last_sync.trigger) == ("sync2", Trigger.SCHEDULE)


@virtual_time
async def test_a_cancelled_task_does_not_stop_a_sync_that_was_requested() -> None:
    async with ready_setup(after=30 * MINUTE) as setup:
        setup.buildkite.seconds = 200
        setup.annotate(sync_request="mine")
        await asyncio.sleep(1)
        task = setup.task()
        await asyncio.sleep(40)
        setup.cancel(task)
        await asyncio.sleep(5 * MINUTE)
        assert setup.c1.finished[task].code is Code.CANCELLED
        assert setup.status.last_sync is not None
        assert (setup.status.last_sync.id, setup.status.last_sync.trigger) == ("sync2", Trigger.REQUEST)


@virtual_time
async def test_a_request_made_during_a_task_s_sync_is_served_although_the_task_is_cancelled() -> None:
    async with ready_setup(after=30 * MINUTE) as setup:
        setup.buildkite.seconds = 200
        task = setup.task()
        await asyncio.sleep(40)
        setup.annotate(sync_request="mine")
        setup.cancel(task)
        await asyncio.sleep(8 * MINUTE)
        assert setup.c1.finished[task].code is Code.CANCELLED
        assert setup.status.last_handled_sync_request == "mine"
        assert setup.status.last_sync is not None
        assert setup.status.last_sync.id != "sync1"


@virtual_time
async def test_a_task_s_sync_that_the_schedule_wants_meanwhile_goes_on_when_the_task_is_cancelled() -> None:
    async with ready_setup(after=50 * MINUTE) as setup:
        setup.buildkite.seconds = 20 * MINUTE
        task = setup.task()
        await asyncio.sleep(12 * MINUTE)
        setup.cancel(task)
        await asyncio.sleep(10 * MINUTE)
        assert setup.c1.finished[task].code is Code.CANCELLED
        assert setup.status.last_sync is not None
        assert setup.status.last_sync.id == "sync2"


@virtual_time
async def test_a_task_that_comes_cancelled_stops_nothing() -> None:
    async with ready_setup(after=30 * MINUTE) as setup:
        setup.buildkite.seconds = 100
        setup.annotate(sync_request="mine")
        await asyncio.sleep(1)
        setup.cancel(setup.task())
        await asyncio.sleep(3 * MINUTE)
        assert setup.status.last_sync is not None
        assert (setup.status.last_sync.id, setup.status.last_sync.trigger) == ("sync2", Trigger.REQUEST)


@virtual_time
async def test_a_task_that_comes_again_because_its_end_was_lost_is_carried_out_again() -> None:
    async with ready_setup() as setup:
        setup.c1.finish_failures.extend([Failure(Reason.C1_UNAVAILABLE, "C1 is restarting.")] * 3)
        task = setup.task()
        await asyncio.sleep(MINUTE)
        assert (setup.c1.finish_attempts, setup.c1.finished) == (3, {})
        assert setup.condition(ConditionType.DELIVERED) == ("False", "AwaitingTask")
        setup.c1.tasks.append(SyncTask(task, SyncScope()))
        await asyncio.sleep(MINUTE)
        assert setup.c1.finished[task].code is Code.OK
        assert [each for each, _ in setup.c1.uploads] == [task, task]
        assert setup.status.last_delivery is not None
        assert setup.status.last_delivery.task_id == task


@virtual_time
async def test_tasks_that_wait_together_are_answered_by_one_sync_each_once() -> None:
    async with ready_setup(after=30 * MINUTE) as setup:
        setup.buildkite.seconds = 5 * MINUTE
        tasks = [setup.task() for _ in range(3)]
        await asyncio.sleep(20 * MINUTE)
        assert [task for task, _ in setup.c1.uploads] == tasks
        assert all(setup.c1.finished[task].code is Code.OK for task in tasks)
        assert setup.buildkite.most_active == 1
    assert len(setup.buildkite.collections) == 2


@virtual_time
async def test_a_cancelled_task_does_not_stop_a_sync_that_another_task_wants() -> None:
    async with ready_setup(after=30 * MINUTE) as setup:
        setup.buildkite.seconds = 5 * MINUTE
        first, second = setup.task(), setup.task()
        await asyncio.sleep(2 * MINUTE)
        setup.cancel(first)
        await asyncio.sleep(5 * MINUTE)
        assert setup.c1.finished[first].code is Code.CANCELLED
        assert setup.c1.uploads == [(second, "sha-sync2")]
    assert len(setup.buildkite.collections) == 2


@virtual_time
async def test_tasks_that_wait_for_a_sync_leave_the_slots_to_changes() -> None:
    async with ready_setup(provisioning=Provisioning(enabled=True)) as setup:
        setup.buildkite.seconds, setup.c1.next_poll = HOUR, 1.0
        await asyncio.sleep(30 * MINUTE)
        syncs = [setup.task() for _ in range(MOST_TASKS + 2)]
        await asyncio.sleep(MINUTE)
        setup.members.slugs[TeamID("t-1")] = "slug"
        grant = MembershipTask(TaskID("grant1"), True, Membership(TeamID("t-1"), AccountID("u-1"), Role.MEMBER))
        setup.c1.tasks.append(grant)
        await asyncio.sleep(2.0)
        assert setup.c1.finished[grant.id].code is Code.OK
        assert {beaten for beaten, _ in setup.c1.heartbeats} == set(syncs)
        await asyncio.sleep(3 * HOUR)
        assert [task for task, _ in setup.c1.uploads] == syncs
        assert len({sha256 for _, sha256 in setup.c1.uploads}) == 1, "one sync answers them all"
