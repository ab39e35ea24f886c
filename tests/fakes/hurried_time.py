"""An event loop whose time runs many times as fast as a clock on the wall: minutes of waiting over real sockets.

For gRPC, which works in threads of its own: `virtual_time` does not see when it is done. Time passes only while the
loop waits, and never beyond its next timer, so that a machine that is busy makes nothing late but what gRPC does.
"""

import asyncio
import selectors
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import ParamSpec

from fakes.virtual_time import on_loop

P = ParamSpec("P")
RATE = 100.0
"""Seconds of the loop in one second."""


class _HurriedSelector(selectors.DefaultSelector):
    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        began = time.monotonic()
        ready = super().select(timeout / RATE if timeout else timeout)
        waited = (time.monotonic() - began) * RATE
        self.now += waited if timeout is None else min(waited, timeout)
        return ready


class _HurriedLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._hurried = _HurriedSelector()
        super().__init__(self._hurried)

    def time(self) -> float:
        return self._hurried.now


class HurriedClock:
    """`Clock` on the running loop; its wall time starts at the real one, where tokens are valid."""

    def __init__(self) -> None:
        self._began = datetime.now(UTC)

    def now(self) -> datetime:
        return self._began + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class TrueClock(HurriedClock):
    """Its wall time is the machine's: for both ends of an assertion that is valid for two minutes."""

    def now(self) -> datetime:
        return datetime.now(UTC)


def hurried_time(test: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """Runs an async test on a hurried loop."""
    return on_loop(test, _HurriedLoop)
