"""What `/healthz` and `/readyz` look at: that the event loop comes round, and that each part was heard of lately."""

import asyncio
from collections.abc import Callable

from buildkite_connector.telemetry.server import Check
from buildkite_connector.timing.clock import Clock

LONGEST_SILENCE = 60.0
"""Seconds after which a part that should be heard of every few seconds counts as stuck."""
_TICK = 1.0


class LoopMonitor:
    """Measures how late the event loop comes round."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._longest = 0.0
        self.last = clock.monotonic()
        """When the event loop last came round, in monotonic seconds."""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            due = self._clock.monotonic() + _TICK
            await asyncio.sleep(_TICK)
            self.last = self._clock.monotonic()
            self._longest = max(self._longest, self.last - due)

    def take_longest(self) -> float:
        """The longest delay since the last call, in seconds."""
        longest, self._longest = self._longest, 0.0
        return longest


def heard_lately(what: str, last: Callable[[], float], clock: Clock, longest: float = LONGEST_SILENCE) -> Check:
    """A check that fails when `last` (monotonic seconds) is longer ago than `longest` seconds."""

    def check() -> str | None:
        age = clock.monotonic() - last()
        return f"{what} was last heard of {age:.0f} s ago" if age > longest else None

    return check
