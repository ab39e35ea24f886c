"""Changes of memberships beside syncs and in batches: what takes a slot, and how soon C1 is asked again."""

import asyncio

import pytest

from buildkite_connector.model.directory import AccountID, Membership, Role, TeamID
from buildkite_connector.model.spec import Provisioning
from buildkite_connector.model.tasks import Code, MembershipTask, TaskID
from buildkite_connector.tasks.session import MOST_TASKS, MOST_WAITING, SHORTEST_POLL_IN_BATCH
from fakes.connector_world import HOUR, MINUTE, World, ready_world
from fakes.virtual_time import virtual_time

ON = Provisioning(enabled=True)


def ask(world: World, number: int, team: str | None = None) -> TaskID:
    """C1 asks for a grant at its next poll, in a team of its own unless one is named."""
    team_id = TeamID(team or f"t-{number}")
    world.members.slugs[team_id] = "slug"
    task = TaskID(f"grant{number}")
    world.c1.tasks.append(MembershipTask(task, True, Membership(team_id, AccountID(f"u-{number}"), Role.MEMBER)))
    return task


@virtual_time
async def test_the_grants_of_a_batch_do_not_wait_for_one_another() -> None:
    async with ready_world(provisioning=ON) as world:
        world.members.seconds = world.c1.next_poll = 0.0
        await asyncio.sleep(MINUTE)
        tasks = [ask(world, number) for number in range(20)]
        await asyncio.sleep(1.0 + 20 * SHORTEST_POLL_IN_BATCH)
        assert [world.c1.finished[task].code for task in tasks if task in world.c1.finished] == [Code.OK] * 20


@virtual_time
async def test_c1_decides_how_soon_it_is_asked_for_the_next_of_a_batch() -> None:
    async with ready_world(provisioning=ON) as world:
        world.c1.next_poll = 10.0
        await asyncio.sleep(MINUTE)
        tasks = [ask(world, number) for number in range(2)]
        await asyncio.sleep(10.5)
        assert [task in world.c1.finished for task in tasks] == [True, False]


@pytest.mark.parametrize("what", ["nothing", "the same change", "a snapshot", "a change while that is off"])
@virtual_time
async def test_without_a_new_change_c1_is_asked_once_a_second(what: str) -> None:
    async with ready_world(provisioning=Provisioning(enabled="off" not in what)) as world:
        world.members.seconds, world.c1.next_poll = HOUR, 0.0
        await asyncio.sleep(MINUTE)
        if what != "nothing":
            _ = world.task() if what == "a snapshot" else ask(world, 1)
            world.c1.tasks.extend([world.c1.tasks[0]] * 50)
        polls = world.c1.polls
        await asyncio.sleep(10.5)
        assert world.c1.polls - polls in (10, 11, 12)


@virtual_time
async def test_tasks_that_wait_for_a_sync_leave_the_slots_to_changes() -> None:
    async with ready_world(provisioning=ON) as world:
        world.buildkite.seconds, world.c1.next_poll = HOUR, 1.0
        await asyncio.sleep(30 * MINUTE)
        syncs = [world.task() for _ in range(MOST_TASKS + 2)]
        await asyncio.sleep(MINUTE)
        grant = ask(world, 1)
        await asyncio.sleep(2.0)
        assert world.c1.finished[grant].code is Code.OK
        assert {beaten for beaten, _ in world.c1.heartbeats} == set(syncs)
        await asyncio.sleep(3 * HOUR)
        assert [task for task, _ in world.c1.uploads] == syncs
        assert len({sha256 for _, sha256 in world.c1.uploads}) == 1, "one sync answers them all"


@virtual_time
async def test_as_many_changes_run_at_once_as_there_are_slots() -> None:
    async with ready_world(provisioning=ON) as world:
        world.members.seconds, world.c1.next_poll = 5.0, 0.0
        tasks = [ask(world, number) for number in range(5)]
        await asyncio.sleep(MINUTE)
        assert world.members.most == MOST_TASKS
        await asyncio.sleep(MINUTE)
        assert all(world.c1.finished[task].code is Code.OK for task in tasks)


@virtual_time
async def test_tasks_that_wait_are_not_taken_without_bound() -> None:
    async with ready_world(provisioning=ON) as world:
        world.buildkite.seconds, world.c1.next_poll = 10 * HOUR, 0.0
        await asyncio.sleep(30 * MINUTE)
        for _ in range(MOST_WAITING + 3):
            world.task()
        await asyncio.sleep(5 * MINUTE)
        assert len(world.c1.tasks) == 3
        assert len({beaten for beaten, _ in world.c1.heartbeats}) == MOST_WAITING
