"""What leaves for C1: uploads, their failures, and snapshots that are held back."""

import asyncio

from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.scope import SyncScope
from buildkite_connector.model.status import ConditionType
from buildkite_connector.model.tasks import Code
from fakes.connector_world import HOUR, MINUTE, World
from fakes.virtual_time import virtual_time


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
        await asyncio.sleep(24 * HOUR)
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
