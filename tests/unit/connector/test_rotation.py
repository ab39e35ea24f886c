"""A Secret that changes while something runs: nothing restarts, and no task is lost."""

import asyncio

import pytest

from buildkite_connector.model.directory import SyncScope
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.status import ConditionType
from buildkite_connector.model.tasks import Code, SyncTask
from fakes.connector_world import HOUR, MINUTE, ready_world
from fakes.virtual_time import until, virtual_time

REVOKED = Failure(Reason.TOKEN_REJECTED, "Buildkite refuses the token.", remedy=Remedy.CREDENTIALS)


@pytest.mark.parametrize("changes", [{"client_secret": "rotated"}, {"client_id": "another tenant's"}])
@virtual_time
async def test_another_client_or_secret_begins_anew_at_once_and_an_upload_goes_back(changes: dict[str, str]) -> None:
    async with ready_world() as world:
        world.c1.upload_seconds = HOUR
        task = world.task()
        await asyncio.sleep(31)
        world.rotate(**changes)
        await asyncio.sleep(51)
        assert (world.c1.finished[task].code, world.c1.hellos, world.c1.closed) == (Code.ABORTED, [None, None], 1)
        world.c1.upload_seconds = 0.0
        world.c1.tasks.append(SyncTask(task, SyncScope()))
        await asyncio.sleep(MINUTE)
        assert (world.c1.finished[task].code, len(world.c1.uploads)) == (Code.OK, 1)


@virtual_time
async def test_an_upload_that_is_whole_has_its_answer_awaited_before_the_session_gives_way() -> None:
    async with ready_world() as world:
        world.c1.answer_seconds = 5.0
        task = world.task()
        await asyncio.sleep(31)
        world.rotate(client_secret="rotated")
        world.session.reread()
        await until(lambda: task in world.c1.finished)
        await asyncio.sleep(2)
        assert (world.c1.finished[task].code, world.c1.hellos) == (Code.OK, [None, None])
        assert world.status.last_delivery is not None
        assert world.status.last_delivery.task_id == task


@virtual_time
async def test_a_task_that_waits_for_a_long_sync_goes_back_and_is_delivered_by_the_new_session() -> None:
    async with ready_world(after=30 * MINUTE) as world:
        world.buildkite.seconds = 10 * MINUTE
        task = world.task()
        await asyncio.sleep(MINUTE)
        world.rotate(client_secret="rotated")
        await asyncio.sleep(MINUTE)
        assert (world.c1.finished[task].code, world.c1.hellos) == (Code.ABORTED, [None, None])
        again = world.task()
        await asyncio.sleep(30 * MINUTE)
        assert world.c1.finished[again].code is Code.OK
        assert [each.id for each in world.status.history] == ["sync3", "sync2", "sync1"]


@virtual_time
async def test_a_new_api_token_during_a_long_sync_leaves_the_session_and_the_task_alone() -> None:
    async with ready_world(after=30 * MINUTE) as world:
        world.buildkite.seconds = 10 * MINUTE
        task = world.task()
        await asyncio.sleep(MINUTE)
        world.rotate(api_token="fresh")
        await asyncio.sleep(25 * MINUTE)
        assert (world.c1.finished[task].code, world.c1.hellos) == (Code.OK, [None])
        assert world.c1.uploads == [(task, "sha-sync3")]


@virtual_time
async def test_a_token_revoked_during_a_sync_fails_no_task_once_the_new_one_is_in_the_secret() -> None:
    async with ready_world(after=30 * MINUTE) as world:
        world.buildkite.seconds = 10 * MINUTE
        task = world.task()
        await asyncio.sleep(MINUTE)
        world.rotate(api_token="fresh")
        await asyncio.sleep(MINUTE)
        world.buildkite.failures.append(REVOKED)
        await asyncio.sleep(25 * MINUTE)
        assert (world.c1.finished[task].code, world.c1.uploads) == (Code.OK, [(task, "sha-sync3")])
        assert [each.reason for each in world.status.history[1:2]] == [Reason.TOKEN_REJECTED]
        assert world.status.consecutive_failures == 0
        told = {each.condition(ConditionType.CREDENTIALS_VALID) for each in world.reports.written[1:]}
        assert {each.reason for each in told if each is not None} == {Reason.VALID}


@virtual_time
async def test_a_task_that_went_back_at_a_rotation_and_comes_again_is_carried_out() -> None:
    async with ready_world(after=30 * MINUTE) as world:
        world.buildkite.seconds = 5 * MINUTE
        task = world.task()
        await asyncio.sleep(MINUTE)
        world.rotate(client_secret="rotated")
        await asyncio.sleep(MINUTE)
        world.c1.tasks.append(SyncTask(task, SyncScope()))
        await asyncio.sleep(30 * MINUTE)
        assert (world.c1.finished[task].code, len(world.c1.uploads)) == (Code.OK, 1)
