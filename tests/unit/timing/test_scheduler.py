"""Which activity is stepped when, in virtual time."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from buildkite_connector.timing.scheduler import AFTER_UNEXPECTED, Scheduler
from fakes.virtual_time import VirtualClock, virtual_time


@dataclass(eq=False)
class Chore:
    """Due at the times it is given, in order. `during` is called in each step."""

    times: list[float]
    name: str = "chore"
    stepped_at: list[float] = field(default_factory=list)
    during: Callable[["Chore"], None] = lambda chore: None

    def due(self) -> float | None:
        return self.times[0] if self.times else None

    def step(self) -> None:
        self.stepped_at.append(round(asyncio.get_running_loop().time(), 3))
        self.times.pop(0)
        self.during(self)


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
async def test_each_activity_is_stepped_when_it_is_due() -> None:
    early, late = Chore([1.0, 5.0]), Chore([3.0, 400.0])
    async with started(early, late):
        await asyncio.sleep(500)
    assert early.stepped_at == [1.0, 5.0]
    assert late.stepped_at == [3.0, 400.0]


@virtual_time
async def test_waking_brings_a_due_time_forward() -> None:
    chore = Chore([1000.0])
    async with started(chore) as scheduler:
        await asyncio.sleep(10)
        chore.times[0] = 10.0
        scheduler.wake(chore)
        await asyncio.sleep(1)
    assert chore.stepped_at == [10.0]


@virtual_time
async def test_an_activity_woken_while_it_steps_is_stepped_again_afterwards() -> None:
    def again(chore: Chore) -> None:
        if len(chore.stepped_at) == 1:
            chore.times.append(0.0)
            scheduler.wake(chore)

    chore = Chore([1.0], during=again)
    async with started(chore) as scheduler:
        await asyncio.sleep(2)
    assert chore.stepped_at == [1.0, 1.0]


@virtual_time
async def test_a_due_time_that_moved_back_is_waited_for() -> None:
    chore = Chore([5.0])
    async with started(chore):
        await asyncio.sleep(1)
        chore.times[0] = 50.0
        await asyncio.sleep(100)
    assert chore.stepped_at == [50.0]


@virtual_time
async def test_a_removed_activity_is_not_stepped_any_more() -> None:
    chore = Chore([0.0, 10.0])
    async with started(chore) as scheduler:
        await asyncio.sleep(1)
        scheduler.remove(chore)
        scheduler.wake(chore)
        await asyncio.sleep(100)
    assert chore.stepped_at == [0.0]


@virtual_time
async def test_an_activity_that_fails_is_stepped_again_after_a_pause_and_takes_nothing_else_down(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(chore: Chore) -> None:
        raise ZeroDivisionError

    broken, sound = Chore([0.0] * 13, during=fail), Chore([10.0])
    async with started(broken, sound):
        await asyncio.sleep(20)
        assert broken.stepped_at == [0.0, 1.0, 3.0, 7.0, 15.0]
        assert sound.stepped_at == [10.0]
        await asyncio.sleep(2000)
    assert broken.stepped_at[-1] - broken.stepped_at[-2] == AFTER_UNEXPECTED.cap
    assert len(caplog.records) == 1


@virtual_time
async def test_many_due_activities_leave_other_tasks_their_turn() -> None:
    turns: list[str] = []
    others: list[asyncio.Task[None]] = []

    async def other() -> None:
        turns.append("other")

    def begin_other(chore: Chore) -> None:
        turns.append("chore")
        if not others:
            others.append(asyncio.create_task(other()))

    async with started(*(Chore([1.0], during=begin_other) for _ in range(100))):
        await asyncio.sleep(2)
    assert turns.index("other") < 50
    assert turns.count("chore") == 100


@virtual_time
async def test_the_last_iteration_is_never_older_than_the_longest_wait() -> None:
    async with started() as scheduler:
        await asyncio.sleep(1005)
        assert VirtualClock().monotonic() - scheduler.last_iteration <= 10


@virtual_time
async def test_being_woken_often_leaves_no_pile_of_entries() -> None:
    chore = Chore([1000.0])
    async with started(chore) as scheduler:
        for _ in range(1000):
            scheduler.wake(chore)
        assert len(scheduler._heap) == 1
