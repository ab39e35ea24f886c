"""Which activity acts when, in virtual time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from buildkite_connector.timing.scheduler import Scheduler
from fakes.virtual_time import VirtualClock, virtual_time


@dataclass(eq=False)
class Chore:
    """Due at the times it is given, in order; each round takes `seconds`."""

    times: list[float]
    seconds: float = 0.0
    name: str = "chore"
    ran_at: list[float] = field(default_factory=list)
    overlaps: int = 0
    running: bool = False
    cancelled: bool = False
    fails: bool = False

    def due(self) -> float | None:
        return self.times[0] if self.times else None

    async def run(self) -> None:
        self.overlaps += self.running
        self.running = True
        self.ran_at.append(round(asyncio.get_running_loop().time(), 3))
        self.times.pop(0)
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        finally:
            self.running = False
        if self.fails:
            raise ZeroDivisionError


@asynccontextmanager
async def started(*chores: Chore) -> AsyncIterator[Scheduler]:
    scheduler = Scheduler(VirtualClock())
    runner = asyncio.create_task(scheduler.run())
    for chore in chores:
        scheduler.add(chore)
    try:
        yield scheduler
    finally:
        runner.cancel()
        await asyncio.wait({runner})


@virtual_time
async def test_each_activity_runs_when_it_is_due() -> None:
    early, late = Chore([1.0, 5.0]), Chore([3.0, 400.0])
    async with started(early, late):
        await asyncio.sleep(500)
    assert early.ran_at == [1.0, 5.0]
    assert late.ran_at == [3.0, 400.0]


@virtual_time
async def test_an_activity_never_overlaps_itself() -> None:
    chore = Chore([0.0, 1.0, 2.0], seconds=10)
    async with started(chore) as scheduler:
        for _ in range(20):
            scheduler.wake(chore)
            await asyncio.sleep(1)
        await asyncio.sleep(100)
    assert chore.overlaps == 0
    assert chore.ran_at == [0.0, 10.0, 20.0]


@virtual_time
async def test_a_slow_activity_holds_up_no_other() -> None:
    slow, quick = Chore([0.0], seconds=1000), Chore([1.0, 2.0])
    async with started(slow, quick):
        await asyncio.sleep(10)
    assert quick.ran_at == [1.0, 2.0]


@virtual_time
async def test_waking_brings_a_due_time_forward() -> None:
    chore = Chore([1000.0])
    async with started(chore) as scheduler:
        await asyncio.sleep(10)
        chore.times[0] = 10.0
        scheduler.wake(chore)
        await asyncio.sleep(1)
    assert chore.ran_at == [10.0]


@virtual_time
async def test_a_due_time_that_moved_back_is_waited_for() -> None:
    chore = Chore([5.0])
    async with started(chore):
        await asyncio.sleep(1)
        chore.times[0] = 50.0
        await asyncio.sleep(100)
    assert chore.ran_at == [50.0]


@virtual_time
async def test_removing_cancels_the_round_under_way_and_awaits_it() -> None:
    chore = Chore([0.0, 1.0], seconds=1000)
    async with started(chore) as scheduler:
        await asyncio.sleep(1)
        await scheduler.remove(chore)
        assert chore.cancelled
        assert not chore.running
        await asyncio.sleep(100)
    assert chore.ran_at == [0.0]


@virtual_time
async def test_an_activity_that_fails_takes_nothing_else_down() -> None:
    broken, sound = Chore([0.0, 5.0], fails=True), Chore([10.0])
    async with started(broken, sound):
        await asyncio.sleep(20)
    assert broken.ran_at == [0.0, 5.0]
    assert sound.ran_at == [10.0]


@virtual_time
async def test_the_heartbeat_is_never_older_than_its_longest_wait() -> None:
    async with started() as scheduler:
        await asyncio.sleep(1005)
        assert VirtualClock().monotonic() - scheduler.beat <= 10


@virtual_time
async def test_shutdown_cancels_and_awaits_what_runs() -> None:
    chore = Chore([0.0], seconds=1000)
    async with started(chore):
        await asyncio.sleep(1)
    assert chore.cancelled
    assert not chore.running


@virtual_time
async def test_being_woken_often_leaves_no_pile_of_entries() -> None:
    chore = Chore([1000.0])
    async with started(chore) as scheduler:
        for _ in range(1000):
            scheduler.wake(chore)
        assert len(scheduler._heap) == 1
