"""How C1's tasks are answered, cancelled and refused, and what leaves for C1."""

import asyncio
import logging

import pytest

from buildkite_connector.model.directory import AccountID, Membership, Role, SyncScope, TeamID
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.spec import Provisioning
from buildkite_connector.model.status import ConditionType, Phase
from buildkite_connector.model.tasks import Code, MembershipTask, SyncTask, TaskID
from buildkite_connector.tasks.session import MOST_TASKS
from fakes.connector_setup import HOUR, MINUTE, Setup, ready_setup
from fakes.virtual_time import virtual_time


@virtual_time
async def test_a_task_that_c1_cancels_stops_the_sync_that_only_it_wanted(caplog: pytest.LogCaptureFixture) -> None:
    async with ready_setup(after=30 * MINUTE) as setup:
        setup.buildkite.seconds = 500
        task = setup.task()
        await asyncio.sleep(40)
        assert setup.buildkite.active == 1
        setup.cancel(task)
        with caplog.at_level(logging.INFO):
            await asyncio.sleep(MINUTE)
        assert setup.buildkite.active == 0
        assert [vars(each)["why"] for each in caplog.records if each.getMessage() == "sync cancelled"] == [
            "the task that asked for it was cancelled"
        ]
        assert setup.c1.finished[task].code is Code.CANCELLED
        assert setup.condition(ConditionType.READY) == ("True", "Ready")
        assert setup.status.phase is Phase.CONNECTED
        assert setup.status.consecutive_failures == 0


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


# Deliveries


@pytest.mark.parametrize("reason", [Reason.SNAPSHOT_INVALID, Reason.STORAGE_FAILED])
@virtual_time
async def test_a_staged_file_that_cannot_go_out_is_forgotten_and_the_next_task_gets_a_new_one(reason: Reason) -> None:
    async with ready_setup() as setup:
        setup.c1.upload_failures.append(Failure(reason, "The staged file is not as it was written."))
        setup.task()
        await asyncio.sleep(MINUTE)
        assert setup.condition(ConditionType.DELIVERED) == ("False", reason.value)
        task = setup.task()
        await asyncio.sleep(MINUTE)
        assert setup.c1.uploads == [(task, "sha-sync2")]
        assert setup.condition(ConditionType.READY) == ("True", "Ready")


@virtual_time
async def test_an_upload_that_broke_keeps_the_staged_file_for_the_next_task() -> None:
    async with ready_setup() as setup:
        setup.c1.upload_failures.append(Failure(Reason.UPLOAD_FAILED, "The upload broke three times."))
        setup.task()
        await asyncio.sleep(MINUTE)
        task = setup.task()
        await asyncio.sleep(MINUTE)
        assert setup.c1.uploads == [(task, "sha-sync1")]
        assert setup.condition(ConditionType.DELIVERED) == ("True", "Delivered")
        assert setup.condition(ConditionType.READY) == ("True", "Ready")


@virtual_time
async def test_a_shrinkage_accepted_before_the_last_delivery_counts_no_more() -> None:
    async with ready_setup() as setup:
        setup.task()
        await asyncio.sleep(MINUTE)
        await shrink_to(setup, 4, "first")
        setup.annotate(accept_shrink="sync2")
        setup.task()
        await asyncio.sleep(MINUTE)
        await shrink_to(setup, 10, "grown again")
        setup.task()
        await asyncio.sleep(MINUTE)
        assert [sha for _, sha in setup.c1.uploads] == ["sha-sync1", "sha-sync2", "sha-sync3"]
        await shrink_to(setup, 4, "second")
        assert setup.condition(ConditionType.DELIVERED) == ("False", "ShrinkHeld")
        held = setup.task()
        await asyncio.sleep(MINUTE)
        assert setup.c1.finished[held].code is Code.FAILED_PRECONDITION


async def shrink_to(setup: Setup, accounts: int, request: str) -> None:
    """A sync that finds this many accounts, staged and not delivered."""
    setup.buildkite.accounts = accounts
    setup.annotate(sync_request=request)
    await asyncio.sleep(MINUTE)
