"""A setup of one rate-limited server, connectors and time, played event by event for the limiter's tests.

Nothing here waits: a minute of quota takes no time. The server counts as Buildkite does (fixed windows;
refused requests count too) and the setup records who was let through when.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from math import ceil, floor, inf

from buildkite_connector.buildkite.rate_limit import Lane, Permit, RateLimiter, WindowReading, WindowReadings


@dataclass
class Limit:
    """One limit of the server. `aligned`: windows follow each other by the clock; else each opens_at with
    its first use. `others`: what other tools take at the opening of each window. `step`: resets are
    told in such steps of seconds."""

    size: int
    window: float = 60.0
    aligned: bool = False
    rounds_up: bool = True
    others: int = 0
    step: float = 1.0
    opened: float = -inf
    used: int = 0
    ours: Counter[float] = field(default_factory=Counter)

    def count(self, now: float) -> WindowReading:
        if now >= self.opened + self.window:
            self.opened = now - now % self.window if self.aligned else now
            self.used = self.others
        self.used += 1
        self.ours[self.opened] += 1
        steps = (self.opened + self.window - now) / self.step
        reset = (ceil(steps) if self.rounds_up else floor(steps)) * self.step
        return WindowReading(self.size, max(0, self.size - self.used), reset, self.step)


@dataclass
class Setup:
    """Plays requests through a limiter. `latency` gives the seconds there and back for the n-th request."""

    user: Limit
    organization: Limit | None = None
    latency: Callable[[int], tuple[float, float]] = lambda _: (0.01, 0.01)
    start: float = 0.0
    limiter: RateLimiter = field(default_factory=lambda: RateLimiter(32))
    now: float = field(init=False)
    done: float = field(init=False)
    refused: int = 0
    sent: list[tuple[float, Lane]] = field(default_factory=list)
    out: int = 0
    most_out: int = 0

    def __post_init__(self) -> None:
        self.now = self.done = self.start
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def play(self, requests: Sequence[tuple[Lane, int]]) -> float:
        """So many requests for each lane, all wanted at once; gives the seconds until the last is done."""
        for lane, number in requests:
            for _ in range(number):
                self.limiter.join(lane, None if self.organization is None else "acme")
        self._advance()
        while self._events:
            self.now, _, event = heapq.heappop(self._events)
            event()
            self._advance()
        return self.done - self.start

    def _at(self, time: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (time, next(self._order), event))

    def _advance(self) -> None:
        for permit in self.limiter.grant(self.now):
            self.sent.append((self.now, permit.lane))
            self.out += 1
            self.most_out = max(self.most_out, self.out)
            there, back = self.latency(len(self.sent))
            self._at(self.now + there, lambda permit=permit, back=back: self._arrive(permit, back))  # type: ignore[misc]
        if self.limiter.wakes_at < inf:
            self._at(max(self.now, self.limiter.wakes_at), lambda: None)

    def _arrive(self, permit: Permit, back: float) -> None:
        user = self.user.count(self.now)
        organization = None if self.organization is None else self.organization.count(self.now)
        refused = self.user.used > self.user.size
        if self.organization is not None:
            refused = refused or self.organization.used > self.organization.size
        self.refused += refused
        self._at(self.now + back, lambda: self._return(permit, WindowReadings(user, organization, refused)))

    def _return(self, permit: Permit, told: WindowReadings) -> None:
        self.out -= 1
        self.done = self.now
        self.limiter.answered(permit, told, self.now)
        self.limiter.leave(permit, self.now)
