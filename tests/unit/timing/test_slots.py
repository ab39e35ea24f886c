"""Slots that no namespace can hold alone, and that work gives back while it waits."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from functools import partial

import pytest

from buildkite_connector.timing.slots import KEPT_FOR_EACH, RoundRobin, Slot, Slots
from fakes.virtual_time import virtual_time


class Crowd:
    """Work of several namespaces. `began`: who had a slot, in order; `most`: most that one namespace held at once."""

    def __init__(self, number: int = 4, *, shared: bool = True) -> None:
        self.slots = Slots(number, shared=shared)
        self.began: list[str] = []
        self.active = 0
        self.most: dict[str, int] = {}
        self.active_of: dict[str, int] = {}
        self.tasks: list[asyncio.Task[None]] = []

    def start(self, namespace: str, number: int = 1, seconds: float = 10.0) -> None:
        self.tasks += [asyncio.create_task(self._work(namespace, seconds)) for _ in range(number)]

    async def _work(self, namespace: str, seconds: float) -> None:
        async with self.slots.slot(namespace):
            self.began.append(namespace)
            held = self.active_of[namespace] = self.active_of.get(namespace, 0) + 1
            self.most[namespace] = max(self.most.get(namespace, 0), held)
            await asyncio.sleep(seconds)
            self.active_of[namespace] -= 1

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def held(slots: Slots, *namespaces: str) -> AsyncIterator[list[Slot]]:
    async with contextlib.AsyncExitStack() as opened:
        yield [await opened.enter_async_context(slots.slot(each)) for each in namespaces]


# Shares


@virtual_time
async def test_no_namespace_holds_more_than_half_and_another_begins_at_once() -> None:
    crowd = Crowd(4)
    crowd.start("many", 40)
    await asyncio.sleep(1)
    crowd.start("one")
    await asyncio.sleep(0.1)
    assert crowd.began == ["many", "many", "one"]
    await asyncio.sleep(1000)
    assert (crowd.most, len(crowd.began)) == ({"many": 2, "one": 1}, 41)
    assert crowd.slots.free == 4


@virtual_time
async def test_one_namespace_alone_in_its_process_has_them_all() -> None:
    crowd = Crowd(4, shared=False)
    crowd.start("many", 40)
    await asyncio.sleep(1)
    assert crowd.began == ["many"] * 4
    await crowd.end()
    assert crowd.slots.free == 4


@pytest.mark.parametrize(("number", "most"), [(1, 1), (2, 1), (3, 1), (5, 2), (32, 16)])
@virtual_time
async def test_half_is_rounded_down_but_one_at_least(number: int, most: int) -> None:
    crowd = Crowd(number)
    crowd.start("many", 40)
    await asyncio.sleep(1)
    assert len(crowd.began) == most
    await crowd.end()


@virtual_time
async def test_free_slots_go_to_the_namespaces_in_turn_and_within_one_to_the_first() -> None:
    crowd = Crowd(2)
    for namespace in ("a", "a", "a", "b", "c", "a", "b"):
        crowd.start(namespace)
    await asyncio.sleep(1000)
    assert crowd.began == ["a", "b", "a", "c", "b", "a", "a"]


@virtual_time
async def test_who_gives_up_while_it_waits_takes_no_slot_with_it() -> None:
    crowd = Crowd(2)
    crowd.start("a", 3)
    await asyncio.sleep(1)
    crowd.tasks[2].cancel()
    crowd.tasks[1].cancel()
    await asyncio.sleep(20)
    assert (crowd.began, crowd.slots.free) == (["a"], 2)


@virtual_time
async def test_who_is_cancelled_as_its_slot_comes_gives_it_on() -> None:
    crowd = Crowd(2)
    async with held(crowd.slots, "a"):
        crowd.start("a", 2)
        await asyncio.sleep(1)
    crowd.tasks[0].cancel()  # it has the slot and has not noticed
    await asyncio.sleep(1)
    assert (crowd.began, crowd.slots.free) == (["a"], 1)
    await crowd.end()


# Giving a slot back


@virtual_time
async def test_a_slot_that_is_given_back_serves_others_and_is_taken_back_in_turn() -> None:
    crowd = Crowd(2)
    async with held(crowd.slots, "a") as [slot]:
        crowd.start("a", 2)
        await asyncio.sleep(1)
        assert crowd.began == []
        slot.give_back()
        slot.give_back()
        await asyncio.sleep(1)
        assert (crowd.began, slot.held) == (["a"], False)
        there = asyncio.Event()
        slot.take_back(there.set)
        slot.take_back(there.set)
        await asyncio.sleep(10)
        assert (crowd.began, slot.held) == (["a", "a"], False)  # the other one came first
        await there.wait()
        assert (asyncio.get_running_loop().time(), slot.held) == (21.0, True)
    assert crowd.slots.free == 2


@virtual_time
async def test_all_that_wait_for_the_same_slot_are_called() -> None:
    slots = Slots(1, shared=True)
    async with held(slots, "a") as [slot]:
        slot.give_back()
        async with held(slots, "a"):
            called: list[str] = []
            one, other = partial(called.append, "one"), partial(called.append, "other")
            for then in (one, other, one):
                slot.take_back(then)
        await asyncio.sleep(1)
        assert (called, slot.held) == (["one", "other"], True)


@virtual_time
async def test_a_slot_is_given_back_when_the_last_request_is_done() -> None:
    """One that works with a server while it waits for another still works."""
    slots = Slots(1, shared=True)
    async with held(slots, "a") as [slot]:
        slot.begin()
        slot.begin()
        slot.give_back()
        slot.end()
        assert slots.free == 0
        slot.end()
        assert slots.free == 1
        slot.take_back(lambda: None)
        slot.begin()
        slot.give_back()
        slot.begin()
        slot.end()
        slot.end()
        assert slots.free == 0


@virtual_time
async def test_one_that_has_its_slot_needs_none() -> None:
    slots = Slots(2, shared=True)
    async with held(slots, "a") as [slot]:
        called: list[str] = []
        slot.take_back(lambda: called.append("again"))
        await asyncio.sleep(1)
        assert (called, slots.free) == ([], 1)


@virtual_time
async def test_work_that_ends_without_its_slot_leaves_nothing_behind() -> None:
    slots = Slots(2, shared=True)
    async with held(slots, "a") as [waiting]:
        waiting.give_back()
        async with held(slots, "a") as [idle]:
            waiting.take_back(lambda: None)
            idle.kept = 5
            idle.give_back()
            waiting.give_back()
    assert slots.free == 2
    idle.take_back(lambda: None)
    assert slots.free == 2
    crowd = Crowd(2)
    crowd.slots = slots
    crowd.start("a", 2)
    await asyncio.sleep(100)
    assert crowd.began == ["a", "a"]


@virtual_time
async def test_what_waits_without_a_slot_keeps_a_bounded_part_in_memory() -> None:
    slots = Slots(4, shared=True)
    async with held(slots, "a", "a", "b", "b") as [first, second, third, fourth]:
        first.kept = 2 * KEPT_FOR_EACH - 1
        second.kept = 2
        third.kept = 2 * KEPT_FOR_EACH
        fourth.kept = 1
        for slot in (first, second, third, fourth):
            slot.give_back()
        assert [slot.held for slot in (first, second, third, fourth)] == [False, True, False, True]
        first.take_back(lambda: None)
        await asyncio.sleep(0)
        second.give_back()
        assert [slot.held for slot in (first, second)] == [True, False]


@virtual_time
async def test_what_all_namespaces_keep_together_is_bounded() -> None:
    slots = Slots(6, shared=True)
    async with held(slots, "a", "b", "c") as waiting:
        for slot in waiting:
            slot.kept = 3 * KEPT_FOR_EACH
            slot.give_back()
        assert [slot.held for slot in waiting] == [False, False, True]


def test_an_item_that_does_not_wait_cannot_be_removed() -> None:
    waiting: RoundRobin[str] = RoundRobin()
    waiting.add("a", "1")
    with pytest.raises(ValueError, match="2"):
        waiting.remove("a", "2")
    with pytest.raises(ValueError, match="1"):
        waiting.remove("b", "1")
    waiting.remove("a", "1")
    assert waiting.pop() is None


# Whatever happens


@pytest.mark.parametrize("seed", range(20))
@virtual_time
async def test_in_any_order_of_events_the_bounds_hold_and_everybody_ends(seed: int) -> None:
    """Work that begins, waits, keeps more, goes on or is cancelled at random moments."""
    chance, number = random.Random(seed), 6
    slots, working = Slots(number, shared=True), [set[Slot]() for _ in range(4)]

    def look() -> None:
        held = [[slot for slot in of_one if slot.held] for of_one in working]
        assert all(len(each) <= number // 2 for each in held)
        assert slots.free <= number - sum(map(len, held))  # others have theirs and have not noticed
        kept = [sum(slot.kept for slot in of_one if not slot.held) for of_one in working]
        assert all(each <= number * KEPT_FOR_EACH // 2 for each in kept)
        assert sum(kept) <= number * KEPT_FOR_EACH

    async def work(tenant: int) -> None:
        async with slots.slot(f"tenant-{tenant}") as slot:
            working[tenant].add(slot)
            try:
                for _ in range(chance.randrange(5)):
                    look()
                    await asyncio.sleep(chance.random())
                    slot.kept += chance.randrange(100)
                    slot.give_back()
                    look()
                    await asyncio.sleep(chance.random())
                    there = asyncio.Event()
                    slot.take_back(there.set)
                    if not slot.held:
                        await there.wait()
                    assert slot.held
            finally:
                working[tenant].discard(slot)

    tasks = []
    for _ in range(200):
        tasks.append(asyncio.create_task(work(chance.randrange(4))))
        await asyncio.sleep(chance.random() / 10)
        if chance.random() < 0.2:
            chance.choice(tasks).cancel()
    async with asyncio.timeout(10_000):
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert not [each for each in ended if isinstance(each, Exception)]
    assert slots.free == number
    async with held(slots, "tenant-0", "tenant-1") as both:  # nothing of those that have ended counts any more
        for slot in both:
            slot.kept = number * KEPT_FOR_EACH // 2
            slot.give_back()
            assert not slot.held
