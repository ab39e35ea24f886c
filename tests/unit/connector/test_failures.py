"""Syncs that fail: what is told, and when the next one runs."""

import asyncio

from buildkite_connector.model.status import ConditionType, Phase
from buildkite_connector.model.tasks import Code
from fakes.connector_world import HOUR, MINUTE, World, down, rate_limited, ready_world
from fakes.virtual_time import until, virtual_time


@virtual_time
async def test_a_failed_sync_is_retried_with_backoff_and_keeps_what_was_staged() -> None:
    async with ready_world() as world:
        staged = dict(world.store.files)
        world.buildkite.failures.extend([down(), down(), down()])
        world.annotate(sync_request="now")
        await asyncio.sleep(10)
        assert world.condition(ConditionType.READY) == ("False", "BuildkiteUnavailable")
        assert world.condition(ConditionType.RECONCILING) == ("True", "Retrying")
        assert world.status.phase is Phase.DEGRADED
        assert world.status.consecutive_failures == 1
        assert world.store.files == staged
        await asyncio.sleep(5 * MINUTE)
        assert world.condition(ConditionType.READY) == ("True", "Ready")
        assert world.status.consecutive_failures == 0
        assert [entry.succeeded for entry in world.status.history] == [True, False, False, False, True]


@virtual_time
async def test_the_wait_between_failed_syncs_is_capped() -> None:
    world = World()
    world.buildkite.failures.extend([down()] * 200)
    async with world.running():
        await asyncio.sleep(8 * HOUR)
    assert 8 * 4 <= len(world.buildkite.collections) <= 8 * 9


@virtual_time
async def test_what_the_other_side_said_of_waiting_is_honoured() -> None:
    world = World()
    world.buildkite.failures.append(rate_limited())
    async with world.running():
        await asyncio.sleep(29 * MINUTE)
        assert len(world.buildkite.collections) == 1
        await asyncio.sleep(2 * MINUTE)
        assert len(world.buildkite.collections) == 2


@virtual_time
async def test_a_sync_that_takes_too_long_ends() -> None:
    world = World(sync_timeout=60)
    world.buildkite.seconds = 500
    async with world.running():
        await asyncio.sleep(70)
        assert world.condition(ConditionType.SYNCED) == ("False", "SyncTimeout")
        assert world.buildkite.active == 0


@virtual_time
async def test_an_unexpected_error_is_told_and_retried() -> None:
    world = World()
    world.buildkite.failures.append(ZeroDivisionError("a secret detail"))
    async with world.running():
        await asyncio.sleep(10)
        assert world.condition(ConditionType.SYNCED) == ("False", "InternalError")
        assert "a secret detail" not in str(world.reports.written)
        await asyncio.sleep(MINUTE)
        assert world.condition(ConditionType.READY) == ("True", "Ready")


@virtual_time
async def test_a_wait_that_the_other_side_wants_has_a_bound() -> None:
    world = World()
    world.buildkite.failures.append(rate_limited(1e12))
    async with world.running():
        await asyncio.sleep(6.5 * HOUR)
    assert len(world.buildkite.collections) == 2


@virtual_time
async def test_tasks_wait_out_the_backoff_after_a_failed_sync() -> None:
    async with ready_world(after=30 * MINUTE) as world:
        world.buildkite.failures.append(rate_limited())
        first = world.task()
        await asyncio.sleep(MINUTE)
        second = world.task()
        await asyncio.sleep(MINUTE)
        assert world.c1.finished[first].code is Code.UNAVAILABLE
        assert world.c1.finished[second].code is Code.UNAVAILABLE
    assert len(world.buildkite.collections) == 2


@virtual_time
async def test_a_sync_that_failed_for_its_credentials_is_tried_when_they_work_again_not_after_its_backoff() -> None:
    async with ready_world() as world:
        world.buildkite.failures.extend([down()] * 6)
        world.buildkite.failures.append(world.rejected())
        world.annotate(sync_request="now")
        await until(lambda: not world.buildkite.failures)
        attempts = len(world.buildkite.collections)
        await asyncio.sleep(4 * MINUTE)
        assert len(world.buildkite.collections) == attempts
        await asyncio.sleep(90)
        assert len(world.buildkite.collections) == attempts + 1
        assert world.condition(ConditionType.READY) == ("True", "Ready")


@virtual_time
async def test_after_a_failed_check_nothing_is_synced_for_any_trigger() -> None:
    async with ready_world(after=50 * MINUTE) as world:
        world.buildkite.refusal = down()
        world.edit(quota_percent=60)
        await asyncio.sleep(2)
        world.annotate(sync_request="now")
        task = world.task()
        await asyncio.sleep(30 * MINUTE)
        assert len(world.buildkite.collections) == 1
        assert world.condition(ConditionType.READY) == ("False", "BuildkiteUnavailable")
        assert world.c1.finished[task].code is Code.UNAVAILABLE
        assert "BuildkiteUnavailable" in world.c1.finished[task].message
        world.buildkite.refusal = None
        await asyncio.sleep(20 * MINUTE)
        assert world.condition(ConditionType.READY) == ("True", "Ready")


@virtual_time
async def test_a_task_during_the_backoff_causes_no_sync_and_is_told_why_the_last_one_failed() -> None:
    async with ready_world(after=30 * MINUTE) as world:
        world.buildkite.failures.extend([down(), down(), down()])
        world.annotate(sync_request="now")
        await until(lambda: not world.buildkite.failures)
        task = world.task()
        await asyncio.sleep(30)
        assert len(world.buildkite.collections) == 4
        assert world.c1.finished[task].code is Code.UNAVAILABLE
        assert "Buildkite answered 503." in world.c1.finished[task].message
