"""Spreads repeated work of many connectors over time, so that a process never does it faster than a set rate."""

import math

SHARED_SECONDS = 0.4
"""Long waits end at multiples of this, on the monotonic clock."""
LONG_SECONDS = 10.0


class Spacing:
    """Hands out times that are at least `apart` seconds from each other."""

    def __init__(self, apart: float) -> None:
        self._apart = apart
        self._taken: set[int] = set()

    def reserve(self, earliest: float, now: float) -> float:
        """The first free time from `earliest` on, in monotonic seconds; it is taken from then on."""
        passed = math.floor(now / self._apart)
        if len(self._taken) > 64 and min(self._taken) < passed - 64:
            self._taken = {slot for slot in self._taken if slot >= passed}
        slot = math.ceil(earliest / self._apart)
        while slot in self._taken:
            slot += 1
        self._taken.add(slot)
        return slot * self._apart


def shared_wait(seconds: float, now: float) -> float:
    """A wait of so many seconds; a long one is made longer by up to SHARED_SECONDS and ends together with others.

    What a wake-up of an idle process costs is shared then: eight calls together take a third of the processor time that
    they take one by one. `now` in monotonic seconds.
    """
    if seconds < LONG_SECONDS:
        return seconds
    return max(seconds, math.ceil((now + seconds) / SHARED_SECONDS) * SHARED_SECONDS - now)
