"""How long to wait before trying again: exponential, capped, jittered, and no sooner than the other side said."""

from dataclasses import dataclass

from buildkite_connector.model.jitter import Jitter

LONGEST_RETRY_AFTER = 6 * 3600.0
"""Seconds: nobody's word stops a connector for longer."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds. The wait after the n-th failure in a row (n from 1) is `first` doubled n - 1 times, at most `cap`."""

    first: float
    cap: float

    def longest(self, failures: int) -> float:
        """The longest wait that is our own."""
        return min(self.cap, self.first * 2.0 ** min(failures - 1, 30))

    def wait(self, failures: int, jitter: Jitter, retry_after: float | None = None) -> float:
        """Between half and the whole of that time, or `retry_after` when it is longer."""
        whole = self.longest(failures)
        return max(jitter.uniform(whole / 2, whole), min(retry_after or 0.0, LONGEST_RETRY_AFTER))


BETWEEN_SYNCS = Backoff(first=30.0, cap=900.0)
BETWEEN_REPORTS = Backoff(first=5.0, cap=300.0)
BETWEEN_CALLS = Backoff(first=1.0, cap=300.0)
"""C1's own: 1 s doubling to 5 min."""
