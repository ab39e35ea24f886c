"""Randomness as a value that is passed in, so that tests can fix it."""

from typing import Protocol


class Jitter(Protocol):
    """A source of random numbers for spreading times."""

    def uniform(self, low: float, high: float) -> float: ...
