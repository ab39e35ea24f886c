"""Spreads repeated work of many connectors over time, so that a process never does it faster than a set rate."""

import asyncio
import math
from collections.abc import Callable

from buildkite_connector.timing.slots import RoundRobin

SHARED_SECONDS = 0.4
"""Long waits end at multiples of this, on the monotonic clock."""
LONG_SECONDS = 10.0

Turn = Callable[[], bool]
"""Called in the event loop. False: the turn was not needed any more and goes to the next."""


class Turns:
    """Gives turns that are at least `apart` seconds from each other. Namespaces come one after the other."""

    def __init__(self, apart: float) -> None:
        self._apart = apart
        self._waiting: RoundRobin[str] = RoundRobin()
        self._turns: dict[str, Turn] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._next = -math.inf

    def ask(self, namespace: str, key: str, turn: Turn) -> None:
        """Call `turn` when it is its turn. A `key` that waits already keeps its place."""
        waits = key in self._turns
        self._turns[key] = turn
        if not waits:
            self._waiting.add(namespace, key)
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is None and self._waiting:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(max(self._next, loop.time()), self._give)

    def _give(self) -> None:
        self._timer = None
        try:
            while (key := self._waiting.pop()) is not None:
                if self._turns.pop(key)():
                    self._next = asyncio.get_running_loop().time() + self._apart
                    break
        finally:
            self._set_timer()


def shared_wait(seconds: float, now: float) -> float:
    """A wait of so many seconds; a long one is made longer by up to SHARED_SECONDS and ends together with others.

    What a wake-up of an idle process costs is shared then: eight calls together take a third of the processor time that
    they take one by one. `now` in monotonic seconds.
    """
    if seconds < LONG_SECONDS:
        return seconds
    return max(seconds, math.ceil((now + seconds) / SHARED_SECONDS) * SHARED_SECONDS - now)
