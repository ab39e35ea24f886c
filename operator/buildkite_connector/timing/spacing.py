"""Spreads repeated work of many connectors over time, so that a process never does it faster than a set rate."""

import math


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
