"""Requests wait at the queue and are let through in time, without anything left behind."""

import asyncio
from math import inf

import pytest

from buildkite_connector.buildkite.rate_limit.limiter import Lane, RateLimiter
from buildkite_connector.buildkite.rate_limit.queue import RequestQueue
from buildkite_connector.buildkite.rate_limit.window import WindowReading, WindowReadings
from fakes.virtual_time import VirtualClock, virtual_time


def told(remaining: int, reset: float = 60.0) -> WindowReadings:
    return WindowReadings(WindowReading(50, remaining, reset), WindowReading(200, 199, reset))


async def ask(queue: RequestQueue, lane: Lane, answer: WindowReadings, seconds: float = 0.02) -> float:
    """One request and its answer; gives when it went."""
    async with queue.turn(lane, "acme") as passing:
        went = asyncio.get_running_loop().time()
        await asyncio.sleep(seconds)
        passing.answered(answer)
        return went


@virtual_time
async def test_the_first_request_goes_at_once_and_the_others_with_its_answer() -> None:
    queue, lane = RequestQueue(RateLimiter(), VirtualClock()), Lane(80)
    went = await asyncio.gather(*(ask(queue, lane, told(45)) for _ in range(4)))
    assert went == pytest.approx([0, 0.02, 0.02, 0.02], abs=1e-4)


@virtual_time
async def test_requests_beyond_the_share_go_when_the_window_has_turned() -> None:
    queue, lane = RequestQueue(RateLimiter(), VirtualClock()), Lane(80)
    await ask(queue, lane, told(10))
    went = await ask(queue, lane, told(49))
    assert 60 < went < 60.1
    assert queue.throttled_seconds(lane) == pytest.approx(60, abs=0.1)


@virtual_time
async def test_a_cancelled_wait_leaves_the_gate_to_the_others() -> None:
    queue, lane = RequestQueue(RateLimiter(), VirtualClock()), Lane(80)
    await ask(queue, lane, told(10))
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(ask(queue, lane, told(49)))
        next_one = group.create_task(ask(queue, lane, told(49)))
        await asyncio.sleep(1)
        waiting.cancel()
    assert waiting.cancelled()
    assert 60 < next_one.result() < 60.1


@virtual_time
async def test_a_request_cancelled_on_its_way_frees_its_place() -> None:
    queue, lane = RequestQueue(RateLimiter(most_at_once=1), VirtualClock()), Lane(80)
    async with asyncio.TaskGroup() as group:
        stuck = group.create_task(ask(queue, lane, told(49), seconds=1000))
        next_one = group.create_task(ask(queue, lane, told(49)))
        await asyncio.sleep(1)
        stuck.cancel()
    assert next_one.result() == pytest.approx(1, abs=1e-3)


@virtual_time
async def test_all_wait_as_long_as_the_server_asked() -> None:
    queue, lane = RequestQueue(RateLimiter(), VirtualClock()), Lane(80)
    queue.hold(5)
    assert await ask(queue, lane, told(49)) == pytest.approx(5, abs=1e-3)


@virtual_time
async def test_nothing_stays_scheduled_when_nobody_waits() -> None:
    limiter, lane = RateLimiter(), Lane(80)
    queue = RequestQueue(limiter, VirtualClock())
    await ask(queue, lane, told(10))
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(ask(queue, lane, told(49)))
        await asyncio.sleep(1)
        assert limiter.wakes_at == pytest.approx(60, abs=0.1)
        waiting.cancel()
    assert limiter.wakes_at == inf
