"""Admits requests when the limiter says so: the edge where its decisions meet the event loop.

A sync or check whose requests all wait, for a window or for another try, gives its slot back meanwhile.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import inf

from buildkite_connector.buildkite.rate_limit.limiter import Lane, Permit, RateLimiter
from buildkite_connector.buildkite.rate_limit.window import WindowReadings
from buildkite_connector.timing.clock import Clock


class RequestQueue:
    """One token's limiter and the requests that wait for it, of every connector that uses the token."""

    def __init__(self, limiter: RateLimiter, clock: Clock) -> None:
        self._limiter = limiter
        self._clock = clock
        self._waiting: dict[Permit, asyncio.Future[None]] = {}
        self._alarm: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def turn(self, lane: Lane, organization: str | None) -> AsyncIterator["Admission"]:
        """Wait until a request of this lane may go; it is out until the context ends."""
        turn = self._limiter.join(lane, organization)
        admitted = self._waiting[turn] = asyncio.get_running_loop().create_future()
        self._advance()
        entered = Admission(self, turn)
        try:
            await admitted
            yield entered
        finally:
            self._waiting.pop(turn, None)
            self._limiter.leave(turn, self._clock.monotonic(), overload=entered.overload)
            _rest(lane)
            self._advance()

    async def pause(self, lane: Lane, seconds: float) -> None:
        """Sleep before a request of this lane is tried again."""
        lane.pausing += 1
        _rest(lane)
        try:
            await self._clock.sleep(seconds)
        finally:
            lane.pausing -= 1

    def answered(self, turn: Permit, told: WindowReadings) -> None:
        self._limiter.answered(turn, told, self._clock.monotonic())
        self._advance()

    def hold(self, seconds: float) -> None:
        """Nobody goes for so many seconds."""
        self._limiter.hold(self._clock.monotonic() + seconds)

    def throttled_seconds(self, lane: Lane) -> float:
        return lane.throttled_seconds(self._clock.monotonic())

    def _advance(self) -> None:
        now = self._clock.monotonic()
        for turn in self._limiter.grant(now):
            admitted = self._waiting.pop(turn)
            if not admitted.done():
                admitted.set_result(None)
        for lane in self._limiter.idle:
            if lane.slot is not None:
                lane.slot.give_back()
        for lane in self._limiter.without_slot:
            if lane.slot is not None:
                lane.slot.take_back(self._advance)
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._limiter.wakes_at < inf:
            delay = max(0.0, self._limiter.wakes_at - now)
            self._alarm = asyncio.get_running_loop().call_later(delay, self._advance)


def _rest(lane: Lane) -> None:
    """Give the lane's slot back while all it has to do is to try again later."""
    if lane.slot is not None and lane.pausing and not lane.out and not lane.waiting:
        lane.slot.give_back()


class Admission:
    """One request on its way. Set `overload` when the server failed to answer in time."""

    def __init__(self, queue: RequestQueue, turn: Permit) -> None:
        self._queue = queue
        self._turn = turn
        self.overload = False

    def answered(self, told: WindowReadings) -> None:
        """Tell what the answer's headers said, as soon as they are there."""
        self._queue.answered(self._turn, told)
