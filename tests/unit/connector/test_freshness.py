"""Which snapshot may answer a task: the staged one while it is fresh, else one that a new sync makes."""

import asyncio
from dataclasses import replace
from datetime import timedelta

from buildkite_connector.model.directory import ResourceKind, SyncScope
from buildkite_connector.model.snapshot import SyncID
from buildkite_connector.model.status import Trigger
from buildkite_connector.model.tasks import Code
from fakes.connector_world import HOUR, MINUTE, World, rate_limited, ready_world, stopped_world
from fakes.virtual_time import until, virtual_time


@virtual_time
async def test_a_maximum_age_of_zero_always_syncs_afresh() -> None:
    world = World(max_snapshot_age=0)
    async with world.running():
        await asyncio.sleep(10)
        world.task()
        await asyncio.sleep(MINUTE)
        assert [sha for _, sha in world.c1.uploads] == ["sha-sync2"]


@virtual_time
async def test_a_task_that_asks_for_less_gets_a_file_derived_from_the_staged_whole() -> None:
    async with ready_world() as world:
        task = world.task(SyncScope(grants=False))
        await asyncio.sleep(MINUTE)
        assert world.buildkite.collections == [SyncScope()]
        assert world.c1.uploads == [(task, "derived-sha-sync1")]
        assert world.status.last_sync is not None
        assert world.status.last_sync.counts.memberships == 10


@virtual_time
async def test_a_task_right_after_an_edit_gets_no_snapshot_from_before_it() -> None:
    async with ready_world() as world:
        world.buildkite.seconds = 40
        world.edit(quota_percent=60)
        task = world.task()
        await asyncio.sleep(2 * MINUTE)
        assert world.c1.uploads == [(task, "sha-sync2")]


@virtual_time
async def test_a_scheduled_sync_under_way_answers_no_task_when_the_maximum_age_is_zero() -> None:
    async with ready_world(after=HOUR - 10, max_snapshot_age=0) as world:
        world.buildkite.seconds = 100
        await asyncio.sleep(MINUTE)
        assert world.buildkite.active == 1
        task = world.task()
        await asyncio.sleep(5 * MINUTE)
        assert world.c1.uploads == [(task, "sha-sync3")]


@virtual_time
async def test_a_task_is_answered_by_the_scheduled_sync_that_is_under_way() -> None:
    async with ready_world(after=HOUR - 10) as world:
        world.buildkite.seconds = 100
        await asyncio.sleep(MINUTE)
        task = world.task()
        await asyncio.sleep(5 * MINUTE)
        assert world.c1.uploads == [(task, "sha-sync2")]
        assert world.status.last_sync is not None
        assert world.status.last_sync.trigger is Trigger.SCHEDULE


@virtual_time
async def test_an_edit_whose_sync_failed_lets_no_older_snapshot_out() -> None:
    async with ready_world() as world:
        world.buildkite.failures.append(rate_limited())
        world.edit(quota_percent=60)
        await asyncio.sleep(6)
        task = world.task()
        await asyncio.sleep(MINUTE)
        assert world.c1.finished[task].code is Code.UNAVAILABLE
        assert not world.c1.uploads


@virtual_time
async def test_a_changed_secret_lets_no_older_snapshot_out() -> None:
    async with ready_world() as world:
        world.buildkite.seconds = 40
        world.rotate(api_token="rotated")
        await until(lambda: len(world.buildkite.collections) == 2)
        task = world.task()
        await asyncio.sleep(2 * MINUTE)
        assert world.c1.uploads == [(task, "sha-sync2")]


@virtual_time
async def test_an_edit_made_while_the_operator_was_down_lets_no_older_snapshot_out() -> None:
    world = await stopped_world()
    world.order = replace(world.order, generation=2)
    world.buildkite.seconds = 40
    task = world.task()
    async with world.running(restored=world.status):
        await asyncio.sleep(2 * MINUTE)
        assert world.c1.uploads == [(task, "sha-sync2")]


@virtual_time
async def test_after_a_restart_a_task_is_answered_with_the_file_that_is_still_there() -> None:
    world = await stopped_world()
    task = world.task()
    async with world.running(restored=world.status):
        await asyncio.sleep(MINUTE)
        assert world.c1.uploads == [(task, "sha-sync1")]
    assert len(world.buildkite.collections) == 1


@virtual_time
async def test_a_file_with_another_hash_than_the_last_sync_answers_nothing() -> None:
    world = await stopped_world()
    world.store.replace_file(sha256="sha-of-a-backup")
    task = world.task()
    async with world.running(restored=world.status):
        await asyncio.sleep(MINUTE)
        assert world.c1.uploads == [(task, "sha-sync2")]


@virtual_time
async def test_a_file_of_another_sync_than_the_last_one_answers_nothing() -> None:
    world = await stopped_world()
    world.store.restores_any = True
    world.store.replace_file(sync_id=SyncID("another"), sha256="sha-of-another")
    task = world.task()
    async with world.running(restored=world.status):
        await asyncio.sleep(MINUTE)
        assert world.c1.uploads == [(task, "sha-sync2")]


@virtual_time
async def test_the_whole_is_never_answered_with_a_part() -> None:
    async with ready_world() as world:
        world.task(SyncScope(grants=False))
        world.task()
        world.task(SyncScope(frozenset({ResourceKind.TEAM})))
        world.task(SyncScope(entitlements=False))
        world.task()
        await asyncio.sleep(5 * MINUTE)
        assert world.delivered_scopes == [
            SyncScope(grants=False),
            SyncScope(),
            SyncScope(frozenset({ResourceKind.TEAM})),
            SyncScope(entitlements=False),
            SyncScope(),
        ]


@virtual_time
async def test_a_file_that_holds_a_part_only_is_not_taken_for_the_whole_after_a_restart() -> None:
    world = await stopped_world()
    world.store.replace_file(scope=SyncScope(grants=False))
    task = world.task()
    async with world.running(restored=world.status):
        await asyncio.sleep(MINUTE)
        assert world.c1.uploads == [(task, "sha-sync2")]


@virtual_time
async def test_a_clock_set_back_makes_no_old_snapshot_newer_than_the_task() -> None:
    async with ready_world(after=10, max_snapshot_age=0) as world:
        world.clock.set_by = timedelta(seconds=-50)
        task = world.task()
        await asyncio.sleep(35)
        assert world.c1.uploads == [(task, "sha-sync2")]


@virtual_time
async def test_a_fresh_snapshot_answers_although_the_token_was_rejected_since() -> None:
    async with ready_world() as world:
        world.buildkite.failures.append(world.rejected())
        world.buildkite.refusal = world.rejected()
        world.annotate(sync_request="now")
        await asyncio.sleep(10)
        task = world.task()
        await asyncio.sleep(MINUTE)
        assert world.c1.uploads == [(task, "sha-sync1")]


@virtual_time
async def test_a_fresh_snapshot_answers_although_a_sync_failed_since() -> None:
    async with ready_world() as world:
        world.buildkite.failures.append(rate_limited())
        world.annotate(sync_request="now")
        await asyncio.sleep(10)
        task = world.task()
        await asyncio.sleep(MINUTE)
        assert world.c1.uploads == [(task, "sha-sync1")]
