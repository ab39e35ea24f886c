"""Buildkite's rate-limit windows as the answers tell of them, decided without I/O.

Two windows hold at once, the user's and the organization's; each answer tells both (facts:
"Rate limits"). `Window` keeps what is known of one and says when the next request may go; `limiter`
combines windows, connectors and concurrency. Times are monotonic seconds, so the machine's clock may jump.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, isnan

USER = "ratelimit-user"
ORGANIZATION = "ratelimit"

MARGIN = 0.01
"""Seconds added to a reset: timers, and two clocks that do not tick quite alike."""

TURNS_ON_TIME = 2
"""After so many windows that had turned when expected, resets are known to be rounded up."""

UNHEARD = 3
"""After so many answers without headers in a row, there is no such limit."""


@dataclass(frozen=True, slots=True)
class WindowReading:
    """What one answer tells of one window. `reset` in seconds, told in steps of `step` seconds."""

    limit: int
    remaining: int
    reset: float
    step: float = 1.0


@dataclass(frozen=True, slots=True)
class WindowReadings:
    """What one answer told of the user's window and the organization's.

    `refused`: it was a 429. `failed`: an error of the server, or of something before the API.
    """

    user: WindowReading | None = None
    organization: WindowReading | None = None
    refused: bool = False
    failed: bool = False


def window_reading(
    limit: int, remaining: int, reset: float, step: float, longest_window: float
) -> WindowReading | None:
    """A believable standing from what was told, or None when it makes no sense.

    Buildkite counts below zero where more was used than there is: then none is left. A reset in the past counts as now,
    one further ahead than `longest_window` seconds as that.
    """
    if limit <= 0 or isnan(reset):
        return None
    return WindowReading(limit, min(max(remaining, 0), limit), min(max(reset, 0.0), longest_window), step)


def read_window(headers: Mapping[str, str], prefix: str, longest_window: float) -> WindowReading | None:
    """The window whose headers start with `prefix`; None when they are missing or make no sense.

    `headers`: by their names in lower case.
    """
    try:
        limit = int(headers[f"{prefix}-limit"])
        remaining = int(headers[f"{prefix}-remaining"])
        reset = headers[f"{prefix}-reset"]
        step = 10.0 ** -len(reset.partition(".")[2])
        return window_reading(limit, remaining, float(reset), step, longest_window)
    except (KeyError, ValueError):
        return None


@dataclass(frozen=True, slots=True)
class Reservation:
    """What was known of a window when a request was sent; comes back with the answer."""

    epoch: int
    remaining: int
    unaccounted: int
    probe: bool
    sent: float


class Window:
    """One rate-limit window after another.

    Requests that are out count as used until their answers tell. When nothing is known, or the window
    must have turned, one request goes ahead to ask (a probe) and the others wait for its answer.

    Resets come in whole seconds, and nothing says which way they are rounded. The first guess is up:
    then no window ends later than its earliest answer says. A probe that still meets the old window
    proves the guess wrong, and one step is added from then on. Until the guess is proven, a share of
    100 % keeps its last request for the probe, so that a probe is never refused. What the request that opens a
    window hears is exact either way and proves nothing: where it was the only one, a window that is used up is
    waited for one step longer.
    """

    def __init__(self) -> None:
        self._limit: int | None = None
        self._remaining = 0
        self._untold = 0
        self._in_flight = 0
        self._ends_by = 0.0
        self._step = 1.0
        self._epoch = 0
        self._old_ends_before = 0.0
        self._probing = False
        self._unheard = 0
        self._rounds_down = False
        self._on_time = 0
        self._heard = 0
        self._surely_on_time = 0

    def opens_at(self, percent: int, now: float) -> float:
        """When a request may go that may use up to `percent` of the limit.

        Gives a time in the past for "at once" and infinity for "once an answer has come".
        """
        if self._unheard >= UNHEARD:
            return -inf
        if self._limit is None or now >= self._turns_at:
            return inf if self._probing else -inf
        used = self._limit - self._remaining + self._untold + self._in_flight
        return -inf if used < self._share(self._limit, percent) else self._turns_at

    def take(self, now: float) -> Reservation:
        """Count a request as sent."""
        probe = self._limit is None or now >= self._turns_at
        self._probing = self._probing or probe
        self._in_flight += 1
        return Reservation(self._epoch, self._remaining, self._untold, probe, now)

    def settle(self, stamp: Reservation, told: WindowReading | None, now: float, *, heard: bool, refused: bool) -> None:
        """Count a request as done, with what its answer told.

        `heard`: the API answered, so the headers would have been there if there were such a limit.
        `refused`: it answered 429.
        """
        self._in_flight -= 1
        if stamp.probe:
            self._probing = False
        if told is not None:
            self._unheard = 0
            self._learn(stamp, told, now, refused)
            return
        if stamp.epoch == self._epoch:
            self._untold += 1  # it may have been counted
        if heard and stamp.probe:
            self._unheard += 1

    @property
    def _turns_at(self) -> float:
        """From when on the window has turned, as far as is known."""
        unsure = self._surely_on_time < TURNS_ON_TIME and self._remaining == 0
        late = self._step if self._rounds_down or unsure or self._step <= MARGIN else 0.0
        return self._ends_by + late + MARGIN

    def _share(self, limit: int, percent: int) -> int:
        share = max(1, limit * percent // 100)
        proven = self._rounds_down or self._on_time >= TURNS_ON_TIME or self._step <= MARGIN
        return share if share < limit or proven or limit == 1 else share - 1

    def _learn(self, stamp: Reservation, told: WindowReading, now: float, refused: bool) -> None:
        current = stamp.epoch == self._epoch
        if self._limit is None or (current and self._has_turned(stamp, told, refused)):
            self._turn(stamp, told, now)
            return
        if not current and stamp.sent + told.reset < self._old_ends_before:
            return  # sent before the window turned, and of the window before
        self._heard += 1
        if current and stamp.probe:
            self._rounds_down = True
            self._ends_by = now + told.reset
        else:
            self._ends_by = min(self._ends_by, now + told.reset)
        self._remaining = min(self._remaining, told.remaining)
        if stamp.unaccounted == self._untold:
            self._untold = 0  # sent after those, so its count includes them

    def _has_turned(self, stamp: Reservation, told: WindowReading, refused: bool) -> bool:
        """Within one window a request leaves less than was known when it was sent, and no later reset."""
        if told.remaining > stamp.remaining or (told.remaining == stamp.remaining and not refused):
            return True
        return stamp.sent + told.reset - told.step > self._ends_by + self._step

    def _turn(self, stamp: Reservation, told: WindowReading, now: float) -> None:
        ends_by = now + told.reset
        if self._limit is not None:
            self._old_ends_before = (self._ends_by + ends_by) / 2
            if stamp.probe and stamp.sent < self._ends_by + self._step:
                self._on_time += 1  # rounded down, it would most likely not have turned by then
                self._surely_on_time += self._heard > 1
        self._limit, self._remaining, self._untold = told.limit, told.remaining, 0
        self._ends_by, self._step = ends_by, told.step
        self._epoch += 1
        self._heard = 1
