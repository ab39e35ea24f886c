"""What one process competes for in an election, and the times that make it safe."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ElectionSettings:
    """`lease` is what is competed for; Leases of another number of `shards` must all be free first.

    `duration`, `deadline` and `retry` in seconds, as in `check_times`. `identity` is of this process alone.
    """

    lease: str
    identity: str
    duration: float = 15.0
    deadline: float = 10.0
    retry: float = 2.0
    shards: int = 1

    @property
    def call_seconds(self) -> float:
        """So short that a second call has its time when one hangs."""
        return self.deadline / 2

    @property
    def standby_seconds(self) -> float:
        """Between two looks at another's Lease, at most: a release is seen within half a retry period."""
        return self.retry / 2


def check_times(duration: float, deadline: float, retry: float) -> None:
    """Raises ValueError with a sentence when these times, in seconds, make no safe election."""
    if duration < 1 or duration != round(duration):
        raise ValueError(f"the lease duration is {duration:g} s: whole seconds are needed, 1 s or more")
    if not deadline < duration:
        raise ValueError(
            f"the renew deadline ({deadline:g} s) must be shorter than the lease duration ({duration:g} s): what lies"
            " between is the time in which a leader stops acting"
        )
    if not retry * 1.2 < deadline:
        raise ValueError(
            f"the retry period ({retry:g} s) must be shorter than the renew deadline ({deadline:g} s) divided by 1.2:"
            " a renewal that fails is tried again"
        )
    if retry <= 0:
        raise ValueError("the retry period must be longer than 0s")
