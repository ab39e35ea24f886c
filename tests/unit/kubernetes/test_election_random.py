"""Processes that start, stop, crash and are cut off at random, over a slow network: never do two act at once."""

import asyncio
import random
from collections import Counter

import pytest

from buildkite_connector.kubernetes.shards import Shard
from fakes.lease_world import HANGS, Candidate, LeaseWorld
from fakes.virtual_time import virtual_time

SEEDS = 25
STEPS = 60
DELAYS = (0.0, 0.01, 0.2, 1.0)
"""Mean seconds of a message's way."""
ENDS = (0.0, 0.5, 4.0, 60.0)
"""Seconds that a process takes to end acting; with the last it ends at once when it must."""


def conflicts(first: Candidate, second: Candidate) -> bool:
    """Whether two that act at once could sync one connector twice."""
    return first.settings.lease == second.settings.lease or first.settings.shards != second.settings.shards


def forbid_conflicts(world: LeaseWorld) -> None:
    def check(begins: Candidate) -> None:
        others = [each for each in world.candidates if each.acting and each is not begins]
        assert not [each.name for each in others if conflicts(begins, each)]

    for each in world.candidates:
        each.when_acting = check


async def disturb(world: LeaseWorld, chance: random.Random, start: list[Shard]) -> None:
    """One thing happens to one process."""
    running = [each for each in world.candidates if each.running is not None and not each.running.done()]
    victim = chance.choice(running) if running else None
    match chance.choice(("start", "stop", "kill", "cut", "heal", "hang", "delay", "nothing")):
        case "stop" if victim is not None:
            await victim.stop()
        case "kill" if victim is not None:
            victim.kill()
        case "cut" if victim is not None:
            victim.network.cut = True
        case "heal" if victim is not None and not victim.died:
            victim.network.cut, victim.network.there, victim.network.back = False, 0.01, 0.01
        case "hang" if victim is not None:
            setattr(victim.network, chance.choice(("there", "back")), HANGS)
        case "delay" if victim is not None:
            victim.network.there, victim.network.back = chance.choice(DELAYS), chance.choice(DELAYS)
        case "start" if len(running) < 5:
            shard = chance.choice(start)
            begun = world.candidate(shard.lease("lease"), shard.count, chance)
            begun.stop_seconds = chance.choice(ENDS)
            forbid_conflicts(world)
            begun.start()
        case _:
            pass


async def live(seed: int, shards: list[Shard]) -> int:
    """A while of random life; gives how many terms there were. A process that failed fails the test."""
    chance = random.Random(seed)
    world = LeaseWorld()
    for _ in range(STEPS):
        await disturb(world, chance, shards)
        await asyncio.sleep(chance.choice((0.1, 1.0, 5.0, 20.0)))
    for each in world.candidates:
        each.network.there = each.network.back = 0.0
        each.stop_seconds = 0.0
        if not each.died:
            each.network.cut = False
    await asyncio.sleep(60)
    running = [each for each in world.candidates if each.running is not None and not each.running.done()]
    if running:
        assert world.acting, "somebody could act, and nobody does"
    await world.close()
    for each in world.candidates:
        if each.running is not None and not each.running.cancelled():
            each.running.result()
    return sum(len(each.terms) for each in world.candidates)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_of_processes_with_one_lease_one_acts_at_most(seed: int) -> None:
    @virtual_time
    async def test() -> None:
        assert await live(seed, [Shard()]) > 0

    test()


@pytest.mark.parametrize("seed", range(SEEDS))
def test_while_the_number_of_shards_changes_no_two_divisions_act_at_once(seed: int) -> None:
    @virtual_time
    async def test() -> None:
        assert await live(seed, [Shard(), Shard(0, 2), Shard(1, 2), Shard(0, 3), Shard(2, 3)]) > 0

    test()


@virtual_time
async def test_the_lives_are_eventful() -> None:
    """Else the two tests above would prove nothing."""
    ends: Counter[str] = Counter()
    for seed in range(5):
        ends["terms"] += await live(seed, [Shard()])
    assert ends["terms"] > 20
