"""When a connector syncs: at its start, on its schedule, on request, after an edit."""

import asyncio

from buildkite_connector.model.directory import ResourceKind, SyncScope
from buildkite_connector.model.status import ConditionType, Phase, Trigger
from fakes.connector_setup import HOUR, MINUTE, USERS, Setup, ready_setup
from fakes.virtual_time import virtual_time


@virtual_time
async def test_an_annotation_syncs_within_a_second_and_is_echoed() -> None:
    async with ready_setup() as setup:
        setup.annotate(sync_request="2026-03-02")
        await asyncio.sleep(1)
        assert setup.status.phase is Phase.SYNCING
        assert setup.status.last_handled_sync_request == "2026-03-02"
        await asyncio.sleep(10)
        assert setup.status.last_sync is not None
        assert setup.status.last_sync.trigger is Trigger.REQUEST


@virtual_time
async def test_requested_syncs_are_ten_seconds_apart_and_the_last_request_is_honoured() -> None:
    async with ready_setup() as setup:
        setup.buildkite.seconds = 0.1
        begun = len(setup.buildkite.collections)
        for number in range(900):  # 93 a second
            setup.annotate(sync_request=f"request {number}")
            await asyncio.sleep(1 / 93)
        assert len(setup.buildkite.collections) == begun + 1
        assert setup.status.last_handled_sync_request == "request 0"
        await asyncio.sleep(0.5)
        assert len(setup.buildkite.collections) == begun + 2
        assert setup.status.last_handled_sync_request == "request 899"
        await asyncio.sleep(MINUTE)
        assert len(setup.buildkite.collections) == begun + 2
        setup.annotate(sync_request="later")
        await asyncio.sleep(0.01)
        assert len(setup.buildkite.collections) == begun + 3


@virtual_time
async def test_a_scheduled_sync_serves_a_request_that_waits() -> None:
    async with ready_setup(after=HOUR - 1) as setup:
        setup.buildkite.seconds = 0.1
        setup.annotate(sync_request="first")
        await asyncio.sleep(0.5)
        setup.annotate(sync_request="second")
        setup.rotate(api_token="fresh")
        setup.edit(quota_percent=50)
        await asyncio.sleep(0.5)
        assert setup.status.last_handled_sync_request == "second"
        assert setup.status.last_sync is not None
        assert setup.status.last_sync.trigger is Trigger.CHANGE
        begun = len(setup.buildkite.collections)
        await asyncio.sleep(MINUTE)
        assert len(setup.buildkite.collections) == begun


@virtual_time
async def test_checks_that_annotations_ask_for_are_ten_seconds_apart() -> None:
    setup = Setup()
    setup.buildkite.refusal = setup.rejected()
    async with setup.running():
        await asyncio.sleep(MINUTE)
        checked = setup.buildkite.preflights
        for number in range(970):  # 100 a second
            setup.annotate(sync_request=f"request {number}")
            await asyncio.sleep(0.01)
        assert setup.buildkite.preflights == checked + 1
        setup.buildkite.refusal = None
        await asyncio.sleep(0.5)
        assert setup.buildkite.preflights == checked + 2
        assert setup.status.phase is Phase.SYNCING  # what a check found clears the way for the sync at once
        assert setup.status.last_handled_sync_request == "request 969"


@virtual_time
async def test_an_edit_in_the_same_turn_as_a_routine_reading_of_the_secret_is_checked_in_full() -> None:
    async with ready_setup(organization="acme-inc") as setup:
        setup.session.reread()
        setup.edit(organization="beta-inc")
        await asyncio.sleep(MINUTE)
        assert setup.buildkite.chosen == ["acme-inc", "beta-inc"]
        assert len(setup.buildkite.collections) == 2
        assert setup.status.observed_generation == setup.order.generation
        assert setup.condition(ConditionType.READY) == ("True", "Ready")


@virtual_time
async def test_triggers_that_come_during_a_sync_fold_into_one() -> None:
    setup = Setup()
    async with setup.running():
        await asyncio.sleep(2)
        for n in range(5):
            setup.annotate(sync_request=f"request {n}")
            setup.edit(quota_percent=50 + n)
        await asyncio.sleep(MINUTE)
    assert len(setup.buildkite.collections) == 2
    assert setup.buildkite.most_active == 1


@virtual_time
async def test_edits_in_a_row_end_with_a_sync_of_the_last() -> None:
    async with ready_setup() as setup:
        setup.edit(quota_percent=60)
        setup.edit(kinds=frozenset({ResourceKind.USER}))
        await asyncio.sleep(MINUTE)
        assert setup.buildkite.collections[-1] == USERS
        assert setup.status.observed_generation == 3


@virtual_time
async def test_an_edit_during_a_sync_leads_to_another_sync_at_once() -> None:
    async with ready_setup() as setup:
        setup.annotate(sync_request="now")
        await asyncio.sleep(2)
        assert setup.buildkite.active == 1
        setup.edit(kinds=frozenset({ResourceKind.USER}))
        await asyncio.sleep(10)
        assert setup.buildkite.collections[-1] == USERS
        assert setup.status.last_sync is not None
        assert setup.status.last_sync.trigger is Trigger.CHANGE
        assert setup.condition(ConditionType.READY) == ("True", "Ready")
        await asyncio.sleep(30 * MINUTE)
    assert setup.buildkite.collections.count(USERS) == 1


@virtual_time
async def test_a_request_during_a_check_is_carried_out_after_it() -> None:
    async with ready_setup() as setup:
        setup.buildkite.preflight_seconds = 40
        setup.edit(quota_percent=60)
        await asyncio.sleep(10)
        setup.annotate(sync_request="mine")
        await asyncio.sleep(MINUTE)
        assert setup.status.last_handled_sync_request == "mine"
        assert setup.status.observed_generation == 2
    assert len(setup.buildkite.collections) == 2


@virtual_time
async def test_a_task_for_a_part_does_not_count_as_the_sync_that_was_asked_for() -> None:
    async with ready_setup(after=HOUR - 10) as setup:
        setup.buildkite.seconds = 100
        await asyncio.sleep(MINUTE)
        setup.annotate(sync_request="mine")
        setup.task(SyncScope(grants=False))
        await asyncio.sleep(10 * MINUTE)
        assert setup.status.last_handled_sync_request == "mine"
    assert setup.buildkite.collections.count(SyncScope()) == 3
