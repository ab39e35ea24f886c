"""Syncs that fail: what is told, and when the next one runs."""

import asyncio

from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.status import ConditionType, Phase
from buildkite_connector.model.tasks import Code
from fakes.connector_world import HOUR, MINUTE, World, down, ready_world
from fakes.virtual_time import virtual_time


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
        await asyncio.sleep(24 * HOUR)
    assert 24 * 4 <= len(world.buildkite.collections) <= 24 * 9


@virtual_time
async def test_what_the_other_side_said_of_waiting_is_honoured() -> None:
    world = World()
    world.buildkite.failures.append(Failure(Reason.BUILDKITE_RATE_LIMITED, "429", retry_after=1800))
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
    world.buildkite.failures.append(Failure(Reason.BUILDKITE_RATE_LIMITED, "429", retry_after=1e12))
    async with world.running():
        await asyncio.sleep(6.5 * HOUR)
    assert len(world.buildkite.collections) == 2


@virtual_time
async def test_tasks_wait_out_the_backoff_after_a_failed_sync() -> None:
    async with ready_world(after=30 * MINUTE) as world:
        world.buildkite.failures.append(Failure(Reason.BUILDKITE_RATE_LIMITED, "429", retry_after=1800))
        first = world.task()
        await asyncio.sleep(MINUTE)
        second = world.task()
        await asyncio.sleep(MINUTE)
        assert world.c1.finished[first].code is Code.UNAVAILABLE
        assert world.c1.finished[second].code is Code.UNAVAILABLE
    assert len(world.buildkite.collections) == 2
