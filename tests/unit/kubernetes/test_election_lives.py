"""Random lives of processes that compete for one Lease, in virtual time."""

import asyncio
import random

import pytest

from fakes.election import HANGS, Candidate, Competition, competition
from fakes.virtual_time import virtual_time


class TestRandomLives:
    """Processes start, stop, crash and are cut off, over a slow network: never do two act at once."""

    DELAYS = (0.0, 0.01, 0.2, 1.0)
    """Mean seconds of a message's way."""
    ENDS = (0.0, 0.5, 4.0, 60.0)
    """Seconds that a process takes to end acting; with the last it is ended at once when it must."""

    @pytest.mark.parametrize("seed", range(25))
    @virtual_time
    async def test_one_acts_at_most(self, seed: int) -> None:
        assert await self.live(seed) > 0

    @virtual_time
    async def test_the_lives_are_eventful(self) -> None:
        """Else the test above would prove nothing."""
        assert sum([await self.live(seed) for seed in range(5)]) > 20

    async def live(self, seed: int) -> int:
        """A while of random life; return how many terms there were. A process that failed fails the test."""
        chance = random.Random(seed)
        async with competition() as race:
            for _ in range(60):
                await self.disturb(race, chance)
                await asyncio.sleep(chance.choice((0.1, 1.0, 5.0, 20.0)))
            for each in race.candidates:
                each.network.there = each.network.back = each.stop_seconds = 0.0
                each.network.cut = each.died
            await asyncio.sleep(60)
            if any(not each.ended for each in race.candidates):
                assert race.acting, "somebody could act, and nobody does"
        for each in race.candidates:
            if each.running is not None and not each.running.cancelled():
                each.running.result()
        return sum(len(each.terms) for each in race.candidates)

    def begin(self, race: Competition, chance: random.Random) -> None:
        begun = race.candidate(chance)
        begun.stop_seconds = chance.choice(self.ENDS)

        def alone(_: Candidate) -> None:
            assert race.acting == [begun.name]

        begun.when_acting = alone
        begun.start()

    async def disturb(self, race: Competition, chance: random.Random) -> None:
        """One thing happens to one process."""
        running = [each for each in race.candidates if not each.ended]
        victim = chance.choice(running) if running else None
        match chance.choice(("start", "start", "stop", "kill", "cut", "heal", "hang", "delay", "nothing")):
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
                victim.network.there, victim.network.back = chance.choice(self.DELAYS), chance.choice(self.DELAYS)
            case "start" if len(running) < 5:
                self.begin(race, chance)
            case _:
                pass
