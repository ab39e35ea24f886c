"""What leaves for C1: uploads, their failures, and snapshots that are held back."""

import asyncio
from dataclasses import replace

import pytest

from buildkite_connector.model.directory import Counts, SyncScope
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.status import ConditionType
from buildkite_connector.model.tasks import Code
from fakes.connector_setup import HOUR, MINUTE, Setup, ready_setup
from fakes.virtual_time import virtual_time


@virtual_time
async def test_a_failed_upload_is_told_and_the_next_task_delivers() -> None:
    setup = Setup()
    setup.c1.upload_failures.append(Failure(Reason.UPLOAD_FAILED, "The upload broke three times."))
    async with setup.running():
        task = setup.task()
        await asyncio.sleep(MINUTE)
        assert setup.condition(ConditionType.DELIVERED) == ("False", "UploadFailed")
        assert setup.condition(ConditionType.READY) == ("False", "UploadFailed")
        assert setup.c1.finished[task].code is Code.UNAVAILABLE
        setup.task()
        await asyncio.sleep(MINUTE)
        assert setup.condition(ConditionType.READY) == ("True", "Ready")


@virtual_time
async def test_a_suspicious_snapshot_is_held_until_a_person_accepts_it() -> None:
    setup = Setup()
    async with setup.running():
        setup.task()
        await asyncio.sleep(MINUTE)
        setup.buildkite.accounts = 4
        setup.annotate(sync_request="now")
        await asyncio.sleep(MINUTE)
        assert setup.condition(ConditionType.DELIVERED) == ("False", "ShrinkHeld")
        assert setup.condition(ConditionType.READY) == ("False", "ShrinkHeld")
        held = setup.task()
        await asyncio.sleep(MINUTE)
        assert setup.c1.finished[held].code is Code.FAILED_PRECONDITION
        assert len(setup.c1.uploads) == 1
        setup.annotate(accept_shrink="sync2")
        await asyncio.sleep(MINUTE)
        assert setup.condition(ConditionType.READY) == ("True", "Ready")
        setup.task()
        await asyncio.sleep(MINUTE)
        assert len(setup.c1.uploads) == 2


@virtual_time
async def test_an_accepted_shrinkage_holds_for_the_next_sync_too() -> None:
    setup = Setup()
    async with setup.running():
        setup.task()
        await asyncio.sleep(MINUTE)
        setup.buildkite.accounts = 4
        setup.annotate(sync_request="now")
        await asyncio.sleep(MINUTE)
        setup.annotate(accept_shrink="sync2")
        await asyncio.sleep(30 * MINUTE)
        task = setup.task()
        await asyncio.sleep(MINUTE)
        assert setup.c1.finished[task].code is Code.OK


@virtual_time
async def test_an_accepted_shrinkage_outlives_the_history() -> None:
    setup = Setup()
    async with setup.running():
        setup.task()
        await asyncio.sleep(MINUTE)
        setup.buildkite.accounts = 4
        setup.annotate(sync_request="now")
        await asyncio.sleep(MINUTE)
        setup.annotate(accept_shrink="sync2")
        await asyncio.sleep(12 * HOUR)
        assert setup.condition(ConditionType.READY) == ("True", "Ready")
        assert len(setup.status.history) == 10


@virtual_time
async def test_a_snapshot_without_grants_is_no_shrinkage() -> None:
    setup = Setup()
    async with setup.running():
        setup.task()
        await asyncio.sleep(MINUTE)
        partial = setup.task(SyncScope(grants=False))
        await asyncio.sleep(MINUTE)
        assert setup.c1.finished[partial].code is Code.OK
        assert setup.status.last_delivery is not None
        assert setup.status.last_delivery.counts.memberships == 10


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


@virtual_time
async def test_a_snapshot_smaller_than_the_accepted_one_is_held_again() -> None:
    async with ready_setup() as setup:
        setup.task()
        await asyncio.sleep(MINUTE)
        await shrink_to(setup, 4, "first")
        setup.annotate(accept_shrink="sync2")
        await shrink_to(setup, 1, "second")
        assert setup.condition(ConditionType.DELIVERED) == ("False", "ShrinkHeld")


@virtual_time
async def test_the_snapshot_that_c1_has_is_never_held() -> None:
    async with ready_setup() as setup:
        setup.task()
        await asyncio.sleep(MINUTE)
    delivery = setup.status.last_delivery
    assert delivery is not None
    restored = replace(setup.status, last_delivery=replace(delivery, counts=Counts(1000, 100, 1000)))
    again = setup.task()
    async with setup.running(restored=restored):
        await asyncio.sleep(MINUTE)
        assert setup.c1.finished[again].code is Code.OK
        assert setup.condition(ConditionType.READY) == ("True", "Ready")


async def shrink_to(setup: Setup, accounts: int, request: str) -> None:
    """A sync that finds this many accounts, staged and not delivered."""
    setup.buildkite.accounts = accounts
    setup.annotate(sync_request=request)
    await asyncio.sleep(MINUTE)
