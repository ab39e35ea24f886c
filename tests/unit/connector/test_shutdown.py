"""How a connector ends: at shutdown its tasks go back to C1, at deletion its file goes too."""

import asyncio

from buildkite_connector.model.status import ConditionType
from buildkite_connector.model.tasks import Code
from fakes.connector_setup import HOUR, MINUTE, Setup, ready_setup
from fakes.virtual_time import virtual_time


@virtual_time
async def test_shutdown_hands_the_task_back_at_once() -> None:
    async with ready_setup(after=30 * MINUTE) as setup:
        setup.buildkite.seconds = 500
        task = setup.task()
        await asyncio.sleep(MINUTE)
        before = setup.clock.monotonic()
    assert setup.clock.monotonic() - before < 1
    assert setup.c1.finished[task].code is Code.ABORTED
    assert not setup.c1.finished[task].non_retryable


@virtual_time
async def test_deletion_closes_the_session_and_removes_the_file() -> None:
    setup = Setup()
    async with setup.running():
        await asyncio.sleep(MINUTE)
        await setup.delete()
        polls = setup.c1.polls
        await asyncio.sleep(3 * HOUR)
        assert setup.c1.polls == polls
        assert setup.c1.closed == 1
    assert not setup.store.files
    assert len(setup.buildkite.collections) == 1


@virtual_time
async def test_an_upload_that_is_whole_gets_its_answer_awaited_at_shutdown() -> None:
    async with ready_setup() as setup:
        setup.c1.answer_seconds = 4
        task = setup.task()
        await asyncio.sleep(31)
        assert not setup.c1.uploads
        setup.c1.answer_seconds = 0
        before = setup.clock.monotonic()
    assert setup.clock.monotonic() - before < 10
    assert setup.c1.finished[task].code is Code.OK
    assert setup.status.last_delivery is not None
    assert setup.condition(ConditionType.DELIVERED) == ("True", "Delivered")


@virtual_time
async def test_an_upload_whose_answer_does_not_come_is_handed_back_within_ten_seconds() -> None:
    async with ready_setup() as setup:
        setup.c1.answer_seconds = 1000
        task = setup.task()
        await asyncio.sleep(40)
        before = setup.clock.monotonic()
    assert setup.clock.monotonic() - before < 10
    assert setup.c1.finished[task].code is Code.ABORTED
    assert setup.status.last_delivery is None


@virtual_time
async def test_an_upload_that_is_not_whole_is_handed_back_at_once() -> None:
    async with ready_setup() as setup:
        setup.c1.upload_seconds = 1000
        task = setup.task()
        await asyncio.sleep(40)
        before = setup.clock.monotonic()
    assert setup.clock.monotonic() - before < 1
    assert setup.c1.finished[task].code is Code.ABORTED
