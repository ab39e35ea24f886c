"""When a connector syncs: at its start, on its schedule, on request, after an edit."""

import asyncio

from buildkite_connector.model.directory import ResourceKind, SyncScope
from buildkite_connector.model.spec import Cron, Interval
from buildkite_connector.model.status import ConditionType, Phase, Trigger
from fakes.connector_world import HOUR, MINUTE, USERS, World, ready_world
from fakes.virtual_time import virtual_time


@virtual_time
async def test_a_new_connector_syncs_at_once_and_becomes_ready() -> None:
    world = World()
    async with world.running():
        await asyncio.sleep(10)
        assert world.condition(ConditionType.READY) == ("True", "Ready")
        assert world.condition(ConditionType.CREDENTIALS_VALID) == ("True", "Valid")
        assert world.condition(ConditionType.SYNCED) == ("True", "SyncSucceeded")
        assert world.condition(ConditionType.DELIVERED) == ("False", "AwaitingTask")
        assert world.condition(ConditionType.RECONCILING) == ("absent", "")
        assert world.status.phase is Phase.CONNECTED
        assert world.status.last_sync is not None
        assert world.status.last_sync.trigger is Trigger.CHANGE


@virtual_time
async def test_the_first_sync_is_told_as_in_progress() -> None:
    world = World()
    async with world.running():
        await asyncio.sleep(2)
        assert world.status.phase is Phase.SYNCING
        assert world.condition(ConditionType.READY) == ("Unknown", "Syncing")
        assert world.condition(ConditionType.RECONCILING)[0] == "True"


@virtual_time
async def test_syncs_follow_the_interval() -> None:
    world = World()
    async with world.running():
        await asyncio.sleep(4 * HOUR + MINUTE)
    assert len(world.buildkite.collections) == 5


@virtual_time
async def test_a_scheduled_sync_leaves_ready_true_while_it_runs() -> None:
    world = World()
    async with world.running():
        await asyncio.sleep(HOUR + 2)
        assert world.status.phase is Phase.SYNCING
        assert world.condition(ConditionType.READY) == ("True", "Ready")
        assert world.condition(ConditionType.RECONCILING) == ("absent", "")


@virtual_time
async def test_an_annotation_syncs_within_a_second_and_is_echoed() -> None:
    async with ready_world() as world:
        world.annotate(sync_request="2026-03-02")
        await asyncio.sleep(1)
        assert world.status.phase is Phase.SYNCING
        assert world.status.last_handled_sync_request == "2026-03-02"
        await asyncio.sleep(10)
        assert world.status.last_sync is not None
        assert world.status.last_sync.trigger is Trigger.REQUEST


@virtual_time
async def test_requested_syncs_are_ten_seconds_apart_and_the_last_request_is_honoured() -> None:
    async with ready_world() as world:
        world.buildkite.seconds = 0.1
        begun = len(world.buildkite.collections)
        for number in range(900):  # 93 a second
            world.annotate(sync_request=f"request {number}")
            await asyncio.sleep(1 / 93)
        assert len(world.buildkite.collections) == begun + 1
        assert world.status.last_handled_sync_request == "request 0"
        await asyncio.sleep(0.5)
        assert len(world.buildkite.collections) == begun + 2
        assert world.status.last_handled_sync_request == "request 899"
        await asyncio.sleep(MINUTE)
        assert len(world.buildkite.collections) == begun + 2
        world.annotate(sync_request="later")
        await asyncio.sleep(0.01)
        assert len(world.buildkite.collections) == begun + 3


@virtual_time
async def test_a_scheduled_sync_serves_a_request_that_waits() -> None:
    async with ready_world(after=HOUR - 1) as world:
        world.buildkite.seconds = 0.1
        world.annotate(sync_request="first")
        await asyncio.sleep(0.5)
        world.annotate(sync_request="second")
        world.rotate(api_token="fresh")
        world.edit(quota_percent=50)
        await asyncio.sleep(0.5)
        assert world.status.last_handled_sync_request == "second"
        assert world.status.last_sync is not None
        assert world.status.last_sync.trigger is Trigger.CHANGE
        begun = len(world.buildkite.collections)
        await asyncio.sleep(MINUTE)
        assert len(world.buildkite.collections) == begun


@virtual_time
async def test_checks_that_annotations_ask_for_are_ten_seconds_apart() -> None:
    world = World()
    world.buildkite.refusal = world.rejected()
    async with world.running():
        await asyncio.sleep(MINUTE)
        checked = world.buildkite.preflights
        for number in range(970):  # 100 a second
            world.annotate(sync_request=f"request {number}")
            await asyncio.sleep(0.01)
        assert world.buildkite.preflights == checked + 1
        world.buildkite.refusal = None
        await asyncio.sleep(0.5)
        assert world.buildkite.preflights == checked + 2
        assert world.status.phase is Phase.SYNCING  # what a check found clears the way for the sync at once
        assert world.status.last_handled_sync_request == "request 969"


@virtual_time
async def test_an_edit_in_the_same_turn_as_a_routine_reading_of_the_secret_is_checked_in_full() -> None:
    async with ready_world(organization="acme-inc") as world:
        world.session.reread()
        world.edit(organization="beta-inc")
        await asyncio.sleep(MINUTE)
        assert world.buildkite.chosen == ["acme-inc", "beta-inc"]
        assert len(world.buildkite.collections) == 2
        assert world.status.observed_generation == world.order.generation
        assert world.condition(ConditionType.READY) == ("True", "Ready")


@virtual_time
async def test_triggers_that_come_during_a_sync_fold_into_one() -> None:
    world = World()
    async with world.running():
        await asyncio.sleep(2)
        for n in range(5):
            world.annotate(sync_request=f"request {n}")
            world.edit(quota_percent=50 + n)
        await asyncio.sleep(MINUTE)
    assert len(world.buildkite.collections) == 2
    assert world.buildkite.most_active == 1


@virtual_time
async def test_an_edit_of_the_spec_syncs() -> None:
    async with ready_world() as world:
        world.edit(kinds=frozenset({ResourceKind.USER}))
        await asyncio.sleep(10)
        assert world.buildkite.collections[-1] == USERS
        assert world.status.observed_generation == 2


@virtual_time
async def test_edits_in_a_row_end_with_a_sync_of_the_last() -> None:
    async with ready_world() as world:
        world.edit(quota_percent=60)
        world.edit(kinds=frozenset({ResourceKind.USER}))
        await asyncio.sleep(MINUTE)
        assert world.buildkite.collections[-1] == USERS
        assert world.status.observed_generation == 3


@virtual_time
async def test_a_cron_schedule_is_kept() -> None:
    world = World(schedule=Cron("30 10 * * *", "Europe/Berlin"))
    async with world.running():
        await asyncio.sleep(10)
        assert world.status.next_sync_time is not None
        assert world.status.next_sync_time.isoformat() == "2026-03-02T09:30:00+00:00"


@virtual_time
async def test_a_cron_that_cannot_be_parsed_stalls_until_it_is_edited() -> None:
    world = World(schedule=Cron("61 * * * *"))
    async with world.running():
        await asyncio.sleep(MINUTE)
        assert world.condition(ConditionType.READY) == ("False", "CronInvalid")
        assert world.condition(ConditionType.STALLED) == ("True", "CronInvalid")
        assert world.status.phase is Phase.ERROR
        world.edit(schedule=Interval(HOUR))
        await asyncio.sleep(MINUTE)
        assert world.condition(ConditionType.READY) == ("True", "Ready")
        assert world.condition(ConditionType.STALLED) == ("absent", "")


@virtual_time
async def test_an_edit_during_a_sync_leads_to_another_sync_at_once() -> None:
    async with ready_world() as world:
        world.annotate(sync_request="now")
        await asyncio.sleep(2)
        assert world.buildkite.active == 1
        world.edit(kinds=frozenset({ResourceKind.USER}))
        await asyncio.sleep(10)
        assert world.buildkite.collections[-1] == USERS
        assert world.status.last_sync is not None
        assert world.status.last_sync.trigger is Trigger.CHANGE
        assert world.condition(ConditionType.READY) == ("True", "Ready")
        await asyncio.sleep(30 * MINUTE)
    assert world.buildkite.collections.count(USERS) == 1


@virtual_time
async def test_a_secret_that_changes_during_a_sync_leads_to_another_sync() -> None:
    async with ready_world() as world:
        world.buildkite.seconds = 70
        world.annotate(sync_request="now")
        await asyncio.sleep(2)
        world.rotate(api_token="rotated")
        await asyncio.sleep(5 * MINUTE)
        assert len(world.buildkite.collections) == 3


@virtual_time
async def test_a_request_during_a_check_is_carried_out_after_it() -> None:
    async with ready_world() as world:
        world.buildkite.preflight_seconds = 40
        world.edit(quota_percent=60)
        await asyncio.sleep(10)
        world.annotate(sync_request="mine")
        await asyncio.sleep(MINUTE)
        assert world.status.last_handled_sync_request == "mine"
        assert world.status.observed_generation == 2
    assert len(world.buildkite.collections) == 2


@virtual_time
async def test_a_task_for_a_part_does_not_count_as_the_sync_that_was_asked_for() -> None:
    async with ready_world(after=HOUR - 10) as world:
        world.buildkite.seconds = 100
        await asyncio.sleep(MINUTE)
        world.annotate(sync_request="mine")
        world.task(SyncScope(grants=False))
        await asyncio.sleep(10 * MINUTE)
        assert world.status.last_handled_sync_request == "mine"
    assert world.buildkite.collections.count(SyncScope()) == 3
