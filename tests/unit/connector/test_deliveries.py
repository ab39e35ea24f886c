"""What leaves for C1: uploads, their failures, and snapshots that are held back."""

import asyncio
from dataclasses import replace

import pytest

from buildkite_connector.model.directory import Counts, SyncScope
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.status import ConditionType
from buildkite_connector.model.tasks import Code
from fakes.connector_world import HOUR, MINUTE, World, ready_world
from fakes.virtual_time import virtual_time

LOST_ANSWER = Failure(Reason.C1_UNAVAILABLE, "The connection broke before C1 answered FinishTask.")
FINISH_REFUSED = Failure(Reason.C1_REQUEST_REJECTED, "C1 refused FinishTask with NOT_FOUND.")


@virtual_time
async def test_a_failed_upload_is_told_and_the_next_task_delivers() -> None:
    world = World()
    world.c1.upload_failures.append(Failure(Reason.UPLOAD_FAILED, "The upload broke three times."))
    async with world.running():
        task = world.task()
        await asyncio.sleep(MINUTE)
        assert world.condition(ConditionType.DELIVERED) == ("False", "UploadFailed")
        assert world.condition(ConditionType.READY) == ("False", "UploadFailed")
        assert world.c1.finished[task].code is Code.UNAVAILABLE
        world.task()
        await asyncio.sleep(MINUTE)
        assert world.condition(ConditionType.READY) == ("True", "Ready")


@virtual_time
async def test_a_suspicious_snapshot_is_held_until_a_person_accepts_it() -> None:
    world = World()
    async with world.running():
        world.task()
        await asyncio.sleep(MINUTE)
        world.buildkite.accounts = 4
        world.annotate(sync_request="now")
        await asyncio.sleep(MINUTE)
        assert world.condition(ConditionType.DELIVERED) == ("False", "ShrinkHeld")
        assert world.condition(ConditionType.READY) == ("False", "ShrinkHeld")
        held = world.task()
        await asyncio.sleep(MINUTE)
        assert world.c1.finished[held].code is Code.FAILED_PRECONDITION
        assert len(world.c1.uploads) == 1
        world.annotate(accept_shrink="sync2")
        await asyncio.sleep(MINUTE)
        assert world.condition(ConditionType.READY) == ("True", "Ready")
        world.task()
        await asyncio.sleep(MINUTE)
        assert len(world.c1.uploads) == 2


@virtual_time
async def test_an_accepted_shrinkage_holds_for_the_next_sync_too() -> None:
    world = World()
    async with world.running():
        world.task()
        await asyncio.sleep(MINUTE)
        world.buildkite.accounts = 4
        world.annotate(sync_request="now")
        await asyncio.sleep(MINUTE)
        world.annotate(accept_shrink="sync2")
        await asyncio.sleep(30 * MINUTE)
        task = world.task()
        await asyncio.sleep(MINUTE)
        assert world.c1.finished[task].code is Code.OK


@virtual_time
async def test_an_accepted_shrinkage_outlives_the_history() -> None:
    world = World()
    async with world.running():
        world.task()
        await asyncio.sleep(MINUTE)
        world.buildkite.accounts = 4
        world.annotate(sync_request="now")
        await asyncio.sleep(MINUTE)
        world.annotate(accept_shrink="sync2")
        await asyncio.sleep(12 * HOUR)
        assert world.condition(ConditionType.READY) == ("True", "Ready")
        assert len(world.status.history) == 10


@virtual_time
async def test_a_snapshot_without_grants_is_no_shrinkage() -> None:
    world = World()
    async with world.running():
        world.task()
        await asyncio.sleep(MINUTE)
        partial = world.task(SyncScope(grants=False))
        await asyncio.sleep(MINUTE)
        assert world.c1.finished[partial].code is Code.OK
        assert world.status.last_delivery is not None
        assert world.status.last_delivery.counts.memberships == 10


@virtual_time
async def test_an_unexpected_error_in_an_upload_still_ends_the_task() -> None:
    world = World()
    world.c1.upload_failures.append(ZeroDivisionError())
    async with world.running():
        task = world.task()
        await asyncio.sleep(MINUTE)
        assert world.c1.finished[task].code is Code.INTERNAL


@pytest.mark.parametrize("reason", [Reason.SNAPSHOT_INVALID, Reason.STORAGE_FAILED])
@virtual_time
async def test_a_staged_file_that_cannot_go_out_is_forgotten_and_the_next_task_gets_a_new_one(reason: Reason) -> None:
    async with ready_world() as world:
        world.c1.upload_failures.append(Failure(reason, "The staged file is not as it was written."))
        world.task()
        await asyncio.sleep(MINUTE)
        assert world.condition(ConditionType.DELIVERED) == ("False", reason.value)
        task = world.task()
        await asyncio.sleep(MINUTE)
        assert world.c1.uploads == [(task, "sha-sync2")]
        assert world.condition(ConditionType.READY) == ("True", "Ready")


@virtual_time
async def test_an_upload_that_broke_keeps_the_staged_file_for_the_next_task() -> None:
    async with ready_world() as world:
        world.c1.upload_failures.append(Failure(Reason.UPLOAD_FAILED, "The upload broke three times."))
        world.task()
        await asyncio.sleep(MINUTE)
        task = world.task()
        await asyncio.sleep(MINUTE)
        assert world.c1.uploads == [(task, "sha-sync1")]
        assert world.condition(ConditionType.DELIVERED) == ("True", "Delivered")
        assert world.condition(ConditionType.READY) == ("True", "Ready")


@virtual_time
async def test_a_finish_that_is_refused_after_a_lost_answer_has_arrived() -> None:
    async with ready_world() as world:
        world.c1.finish_failures.extend([LOST_ANSWER, FINISH_REFUSED])
        world.task()
        await asyncio.sleep(MINUTE)
        assert world.c1.finish_attempts == 2
        assert world.condition(ConditionType.DELIVERED) == ("True", "Delivered")
        assert world.status.last_delivery is not None


@virtual_time
async def test_a_finish_that_is_refused_at_once_is_no_delivery() -> None:
    async with ready_world() as world:
        world.c1.finish_failures.append(FINISH_REFUSED)
        world.task()
        await asyncio.sleep(MINUTE)
        assert world.c1.finish_attempts == 1
        assert world.status.last_delivery is None


@virtual_time
async def test_a_shrinkage_accepted_before_the_last_delivery_counts_no_more() -> None:
    async with ready_world() as world:
        world.task()
        await asyncio.sleep(MINUTE)
        await shrink_to(world, 4, "first")
        world.annotate(accept_shrink="sync2")
        world.task()
        await asyncio.sleep(MINUTE)
        await shrink_to(world, 10, "grown again")
        world.task()
        await asyncio.sleep(MINUTE)
        assert [sha for _, sha in world.c1.uploads] == ["sha-sync1", "sha-sync2", "sha-sync3"]
        await shrink_to(world, 4, "second")
        assert world.condition(ConditionType.DELIVERED) == ("False", "ShrinkHeld")
        held = world.task()
        await asyncio.sleep(MINUTE)
        assert world.c1.finished[held].code is Code.FAILED_PRECONDITION


@virtual_time
async def test_a_snapshot_smaller_than_the_accepted_one_is_held_again() -> None:
    async with ready_world() as world:
        world.task()
        await asyncio.sleep(MINUTE)
        await shrink_to(world, 4, "first")
        world.annotate(accept_shrink="sync2")
        await shrink_to(world, 1, "second")
        assert world.condition(ConditionType.DELIVERED) == ("False", "ShrinkHeld")


@virtual_time
async def test_the_snapshot_that_c1_has_is_never_held() -> None:
    async with ready_world() as world:
        world.task()
        await asyncio.sleep(MINUTE)
    delivery = world.status.last_delivery
    assert delivery is not None
    restored = replace(world.status, last_delivery=replace(delivery, counts=Counts(1000, 100, 1000)))
    again = world.task()
    async with world.running(restored=restored):
        await asyncio.sleep(MINUTE)
        assert world.c1.finished[again].code is Code.OK
        assert world.condition(ConditionType.READY) == ("True", "Ready")


async def shrink_to(world: World, accounts: int, request: str) -> None:
    """A sync that finds this many accounts, staged and not delivered."""
    world.buildkite.accounts = accounts
    world.annotate(sync_request=request)
    await asyncio.sleep(MINUTE)
