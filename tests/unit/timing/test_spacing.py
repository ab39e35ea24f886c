"""Turns that keep their distance, and waits that end together."""

import asyncio

import pytest

from buildkite_connector.timing.clock import SystemClock
from buildkite_connector.timing.spacing import SHARED_SECONDS, Turns, shared_wait
from fakes.virtual_time import virtual_time


class Reader:
    """Asks for turns of namespaces; `read`: who had one, and when."""

    def __init__(self, apart: float = 1.0) -> None:
        self.turns = Turns(apart)
        self.read: list[tuple[str, float]] = []

    def ask(self, key: str, *, used: bool = True) -> None:
        def turn() -> bool:
            if used:
                self.read.append((key, asyncio.get_running_loop().time()))
            return used

        self.turns.ask(key.partition(".")[0], key, turn)


@virtual_time
async def test_turns_keep_their_distance_and_the_first_comes_at_once() -> None:
    reader = Reader(10.0)
    for key in ("a.1", "a.2", "a.3"):
        reader.ask(key)
    await asyncio.sleep(100)
    reader.ask("a.1")
    await asyncio.sleep(100)
    assert reader.read == [("a.1", 0.0), ("a.2", 10.0), ("a.3", 20.0), ("a.1", 100.0)]


@virtual_time
async def test_a_namespace_with_many_waits_no_longer_than_each_other_does() -> None:
    reader = Reader()
    for number in range(1000):
        reader.ask(f"many.{number}")
    await asyncio.sleep(0.5)
    reader.ask("one.1")
    reader.ask("two.1")
    reader.ask("two.2")
    await asyncio.sleep(5)
    assert [key for key, _ in reader.read] == ["many.0", "many.1", "one.1", "two.1", "many.2", "two.2"]


@virtual_time
async def test_who_waits_already_keeps_its_place_and_has_one_turn() -> None:
    reader = Reader()
    for key in ("a.1", "a.2", "a.1"):
        reader.ask(key)
    await asyncio.sleep(10)
    assert reader.read == [("a.1", 0.0), ("a.2", 1.0)]


@virtual_time
async def test_a_turn_that_is_not_needed_any_more_goes_to_the_next_at_once() -> None:
    reader = Reader()
    reader.ask("a.1")
    reader.ask("a.2", used=False)
    reader.ask("a.3")
    await asyncio.sleep(10)
    assert reader.read == [("a.1", 0.0), ("a.3", 1.0)]


def test_a_turn_that_breaks_ends_no_others() -> None:
    broken: list[object] = []

    @virtual_time
    async def life() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: broken.append(context["exception"]))
        reader = Reader()
        reader.turns.ask("a", "a.0", lambda: bool(1 // 0))
        reader.ask("a.1")
        await asyncio.sleep(10)
        assert [key for key, _ in reader.read] == ["a.1"]

    life()
    assert [type(each) for each in broken] == [ZeroDivisionError]


@pytest.mark.parametrize("now", [0.0, 0.1, 12345.678])
@pytest.mark.parametrize("seconds", [10.0, 10.3, 60.0, 300.0])
def test_a_long_wait_ends_together_with_others_and_never_early(seconds: float, now: float) -> None:
    wait = shared_wait(seconds, now)
    assert seconds <= wait < seconds + SHARED_SECONDS
    assert (now + wait) / SHARED_SECONDS == pytest.approx(round((now + wait) / SHARED_SECONDS), abs=1e-6)


def test_a_short_wait_is_as_long_as_it_is_asked_to_be() -> None:
    assert shared_wait(9.9, 0.05) == 9.9


async def test_the_machines_clock_sleeps_no_shorter_than_it_is_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("asyncio.sleep", sleep)
    await SystemClock().sleep(60.0)
    await SystemClock().sleep(0.5)
    assert 60.0 <= slept[0] < 60.0 + SHARED_SECONDS
    assert slept[1] == 0.5
