"""An event loop whose time runs many times as fast as a clock on the wall: minutes of waiting over real sockets.

In `virtual_time` nothing but timers happens; here servers and clients of the same process talk over loopback, which
takes the time that it takes. What an answer costs on a busy machine must be little of what a test waits.
"""

import asyncio
import functools
import selectors
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import ParamSpec

P = ParamSpec("P")
RATE = 100.0
"""Seconds of the loop in one second."""


class _HurriedSelector(selectors.DefaultSelector):
    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return super().select(timeout / RATE if timeout else timeout)


class _HurriedLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._began = time.monotonic()
        super().__init__(_HurriedSelector())

    def time(self) -> float:
        return (time.monotonic() - self._began) * RATE


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

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def main() -> None:
            await test(*args, **kwargs)

        with asyncio.Runner(loop_factory=_HurriedLoop) as runner:
            runner.run(main())

    return run
