"""A deadline for others' answers that makes allowance for this process's own lateness.

An answer is worked off over several turns of the event loop. In a start of a thousand connectors a turn may take a
second, and a deadline by the clock alone would call a server silent that answers at once.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

TURNS = 100
"""Turns of the event loop that a deadline lasts at least."""


@contextmanager
def fair_alarm(seconds: float, ring: Callable[[], None]) -> Iterator[None]:
    """Calls `ring` when the context lasts longer than these seconds, but not before the loop came round TURNS times."""
    loop = asyncio.get_running_loop()
    timers: list[asyncio.TimerHandle] = []

    def turn(left: int) -> None:
        if left:
            timers[:] = [loop.call_later(seconds / TURNS, turn, left - 1)]
        else:
            ring()

    turn(TURNS)
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()


@asynccontextmanager
async def fair_timeout(seconds: float) -> AsyncIterator[None]:
    """As `asyncio.timeout`, with a `fair_alarm`: raises TimeoutError."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as deadline:
        with fair_alarm(seconds, lambda: deadline.reschedule(loop.time())):
            yield
