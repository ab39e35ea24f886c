"""How long to wait before trying again: exponential, capped, jittered, and no sooner than the other side said."""

from dataclasses import dataclass

LONGEST_RETRY_AFTER = 6 * 3600.0
"""Upper bound in seconds for a server's Retry-After."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds. The wait after the n-th failure in a row (n from 1) is `first` doubled n - 1 times, at most `cap`."""

    first: float
    cap: float

    def longest(self, failures: int) -> float:
        """The longest wait that is our own."""
        return min(self.cap, self.first * 2.0 ** min(failures - 1, 30))

    def wait(self, failures: int, share: float, retry_after: float | None = None) -> float:
        """From half (`share` 0.0) to the whole (1.0) of that time, or `retry_after` when it is longer.

        The caller draws `share` at random.
        """
        own = self.longest(failures) * (1 + share) / 2
        return max(own, min(retry_after or 0.0, LONGEST_RETRY_AFTER))


BETWEEN_SYNCS = Backoff(first=30.0, cap=900.0)
BETWEEN_REPORTS = Backoff(first=5.0, cap=300.0)
BETWEEN_CALLS = Backoff(first=1.0, cap=300.0)
"""C1's own: 1 s doubling to 5 min."""
