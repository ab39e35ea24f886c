"""A Secret that changes while something runs: nothing restarts, and no task is lost."""

import asyncio

import pytest

from buildkite_connector.model.directory import SyncScope
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.status import ConditionType
from buildkite_connector.model.tasks import Code, SyncTask
from fakes.connector_setup import HOUR, MINUTE, ready_setup
from fakes.virtual_time import until, virtual_time

REVOKED = Failure(Reason.TOKEN_REJECTED, "Buildkite refuses the token.", remedy=Remedy.CREDENTIALS)


@pytest.mark.parametrize("changes", [{"client_secret": "rotated"}, {"client_id": "another tenant's"}])
@virtual_time
async def test_another_client_or_secret_begins_anew_at_once_and_an_upload_goes_back(changes: dict[str, str]) -> None:
    async with ready_setup() as setup:
        setup.c1.upload_seconds = HOUR
        task = setup.task()
        await asyncio.sleep(31)
        setup.rotate(**changes)
        await asyncio.sleep(51)
        assert (setup.c1.finished[task].code, setup.c1.hellos, setup.c1.closed) == (Code.ABORTED, [None, None], 1)
        setup.c1.upload_seconds = 0.0
        setup.c1.tasks.append(SyncTask(task, SyncScope()))
        await asyncio.sleep(MINUTE)
        assert (setup.c1.finished[task].code, len(setup.c1.uploads)) == (Code.OK, 1)


@virtual_time
async def test_an_upload_that_is_whole_has_its_answer_awaited_before_the_session_gives_way() -> None:
    async with ready_setup() as setup:
        setup.c1.answer_seconds = 5.0
        task = setup.task()
        await asyncio.sleep(31)
        setup.rotate(client_secret="rotated")
        setup.session.reread()
        await until(lambda: task in setup.c1.finished)
        await asyncio.sleep(2)
        assert (setup.c1.finished[task].code, setup.c1.hellos) == (Code.OK, [None, None])
        assert setup.status.last_delivery is not None
        assert setup.status.last_delivery.task_id == task


@virtual_time
async def test_a_task_that_waits_for_a_long_sync_goes_back_and_is_delivered_by_the_new_session() -> None:
    async with ready_setup(after=30 * MINUTE) as setup:
        setup.buildkite.seconds = 10 * MINUTE
        task = setup.task()
        await asyncio.sleep(MINUTE)
        setup.rotate(client_secret="rotated")
        await asyncio.sleep(MINUTE)
        assert (setup.c1.finished[task].code, setup.c1.hellos) == (Code.ABORTED, [None, None])
        again = setup.task()
        await asyncio.sleep(30 * MINUTE)
        assert setup.c1.finished[again].code is Code.OK
        assert [each.id for each in setup.status.history] == ["sync3", "sync2", "sync1"]


@virtual_time
async def test_a_new_api_token_during_a_long_sync_leaves_the_session_and_the_task_alone() -> None:
    async with ready_setup(after=30 * MINUTE) as setup:
        setup.buildkite.seconds = 10 * MINUTE
        task = setup.task()
        await asyncio.sleep(MINUTE)
        setup.rotate(api_token="fresh")
        await asyncio.sleep(25 * MINUTE)
        assert (setup.c1.finished[task].code, setup.c1.hellos) == (Code.OK, [None])
        assert setup.c1.uploads == [(task, "sha-sync3")]


@virtual_time
async def test_a_token_revoked_during_a_sync_fails_no_task_once_the_new_one_is_in_the_secret() -> None:
    async with ready_setup(after=30 * MINUTE) as setup:
        setup.buildkite.seconds = 10 * MINUTE
        task = setup.task()
        await asyncio.sleep(MINUTE)
        setup.rotate(api_token="fresh")
        await asyncio.sleep(MINUTE)
        setup.buildkite.failures.append(REVOKED)
        await asyncio.sleep(25 * MINUTE)
        assert (setup.c1.finished[task].code, setup.c1.uploads) == (Code.OK, [(task, "sha-sync3")])
        assert [each.reason for each in setup.status.history[1:2]] == [Reason.TOKEN_REJECTED]
        assert setup.status.consecutive_failures == 0
        told = {each.condition(ConditionType.CREDENTIALS_VALID) for each in setup.reports.written[1:]}
        assert {each.reason for each in told if each is not None} == {Reason.VALID}


@virtual_time
async def test_a_task_that_went_back_at_a_rotation_and_comes_again_is_carried_out() -> None:
    async with ready_setup(after=30 * MINUTE) as setup:
        setup.buildkite.seconds = 5 * MINUTE
        task = setup.task()
        await asyncio.sleep(MINUTE)
        setup.rotate(client_secret="rotated")
        await asyncio.sleep(MINUTE)
        setup.c1.tasks.append(SyncTask(task, SyncScope()))
        await asyncio.sleep(30 * MINUTE)
        assert (setup.c1.finished[task].code, len(setup.c1.uploads)) == (Code.OK, 1)
