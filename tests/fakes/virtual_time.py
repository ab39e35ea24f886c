"""An event loop whose time passes only while nothing else can happen: hours of waiting cost no wall time.

Servers and clients of the same process may talk over loopback: what one sends has reached the other before the loop
looks for it, so that no answer is late, however busy the machine is. Work in threads is awaited too. What another
process or gRPC, with its own threads, does is not seen: see `hurried_time`.
"""

import asyncio
import functools
import selectors
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import ParamSpec, TypeVar, TypeVarTuple, Unpack

P = ParamSpec("P")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")
START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


MOST_TURNS = 20_000
"""Turns of the loop without time passing, after which the code under test counts as going round in circles."""


QUIET = 0.01
"""Seconds without an event after which nothing is on its way between sockets: the kernel delivers at once."""


class _JumpingSelector(selectors.SelectSelector):
    """Instead of blocking for the time to the next timer, jumps there."""

    now = 0.0
    turns = 0
    in_threads = 0
    """Calls that run in threads now. Each wakes the loop at its end."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout != 0:
            if self.in_threads:
                ready = super().select(None)
            elif len(self.get_map()) > 1:  # other sockets than the loop's own
                ready = super().select(QUIET)
        if ready or timeout == 0:
            self.turns += 1
            if self.turns > MOST_TURNS:
                self.turns = 0
                raise RuntimeError(f"livelock: {MOST_TURNS} turns of the event loop and no time has passed")
            return ready
        if timeout is None:
            raise RuntimeError("deadlock: nothing is scheduled and nothing can happen")
        self.now += timeout
        self.turns = 0
        return ready


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        self.ticks = 0
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        running = super().run_in_executor(executor, func, *args)
        self._jumping.in_threads += 1
        running.add_done_callback(self._ended_in_thread)
        return running

    async def shutdown_default_executor(self) -> None:
        self._jumping.in_threads += 1  # it waits in a thread of its own
        await super().shutdown_default_executor()

    def _ended_in_thread(self, _: object) -> None:
        self._jumping.in_threads -= 1


class VirtualClock:
    """`Clock` on the running virtual loop; the wall time starts at START.

    `set_by` is how far somebody set the wall clock forward, or back when it is negative.
    """

    def __init__(self) -> None:
        self.set_by = timedelta()

    def now(self) -> datetime:
        return START + timedelta(seconds=self.monotonic()) + self.set_by

    def monotonic(self) -> float:
        """Never the same twice, as a real clock."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, _VirtualLoop)
        loop.ticks += 1
        return loop.time() + loop.ticks * 1e-9

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


async def until(holds: Callable[[], bool]) -> None:
    """Wait until it holds, to a tenth of a virtual second. Raises TimeoutError after a virtual day."""
    async with asyncio.timeout(86_400):
        while not holds():  # noqa: ASYNC110  # costs nothing in virtual time
            await asyncio.sleep(0.1)


@dataclass(frozen=True)
class Share:
    """Always the same share of the range, 0.0 to 1.0."""

    share: float

    def uniform(self, low: float, high: float) -> float:
        return low + self.share * (high - low)


class NoJitter:
    """No surprise: always the middle of the range."""

    def uniform(self, low: float, high: float) -> float:
        return (low + high) / 2


def on_loop(
    test: Callable[P, Awaitable[None]], loop_factory: Callable[[], asyncio.AbstractEventLoop]
) -> Callable[P, None]:
    """Runs an async test on a loop of this kind."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def main() -> None:
            await test(*args, **kwargs)

        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(main())

    return run


def virtual_time(test: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """Runs an async test on a virtual loop."""
    return on_loop(test, _VirtualLoop)
