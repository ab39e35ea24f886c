"""How many requests to have out at once, learned from how fast the answers come.

More requests at once help until the server or this machine begins to queue them, which shows as answers
that take longer than the quickest did. So the number grows while answers come quickly, shrinks a little
when they slow down, and is halved when the server shows signs of overload. Decided without I/O.
"""

from math import inf

FIRST = 8
MOST = 64

SLOWER = 1.5
"""An answer that takes this many times as long as the quickest was queued somewhere."""

NOISE = 0.005
"""Seconds by which any answer may be late without meaning anything."""

FORGET = 1.0001
"""The quickest answer is forgotten slowly, by this factor with each answer: networks change."""


class Concurrency:
    """The number of requests that may be out at once: `limit`, from 1 to `most`."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._limit = float(min(FIRST, most))
        self._quickest = inf
        self._slowed = False
        self._lowered_at = -inf

    @property
    def limit(self) -> int:
        return int(self._limit)

    def answered(self, sent: float, now: float, *, full: bool) -> None:
        """An answer came. `full`: as many requests were out as may be."""
        took = now - sent
        self._quickest = min(took, self._quickest * FORGET)
        if took > SLOWER * self._quickest + NOISE:
            self._slowed = True
            # Slowness alone is no reason to go below where it started.
            self._limit = max(min(FIRST, self._limit), self._limit - 1 / self._limit)
        elif full:
            self._limit = min(self._most, self._limit + (1 / self._limit if self._slowed else 1.0))

    def overloaded(self, sent: float, now: float) -> None:
        """The server failed or said nothing. Halves the limit, once for all that was out by then."""
        if sent > self._lowered_at:
            self._slowed = True
            self._lowered_at = now
            self._limit = max(1.0, self._limit / 2)
