"""Buildkite's rate limits: which request goes next, and when.

Buildkite has two windows at once, the user's and the organization's, and each response reports both:
https://buildkite.com/docs/apis/rest-api/rate-limits. `Window` keeps what is known of one, `RateLimiter` combines
windows and connectors: both decide without I/O. `RequestQueue` carries the decisions out on the event loop. Times are
monotonic seconds: the machine's clock may jump.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from math import inf, isnan

from buildkite_connector.timing.clock import Clock
from buildkite_connector.timing.slots import Slot

USER = "ratelimit-user"
ORGANIZATION = "ratelimit"

MARGIN = 0.01
"""Seconds added to a reset: timers, and two clocks that do not tick quite alike."""

RESETS_ON_TIME = 2
"""After so many windows that were reset when expected, resets are known to be rounded up."""

UNHEARD = 3
"""After so many answers without headers in a row, there is no such limit."""


@dataclass(frozen=True, slots=True)
class WindowReading:
    """What one answer says of one window. `reset` in seconds, given in steps of `step` seconds."""

    limit: int
    remaining: int
    reset: float
    step: float = 1.0


@dataclass(frozen=True, slots=True)
class WindowReadings:
    """What one answer says of the user's window and the organization's.

    `refused`: it was a 429. `failed`: an error of the server, or of something before the API.
    """

    user: WindowReading | None = None
    organization: WindowReading | None = None
    refused: bool = False
    failed: bool = False


def window_reading(
    limit: int, remaining: int, reset: float, step: float, longest_window: float
) -> WindowReading | None:
    """What an answer says of a window, as far as it can be believed; None when it makes no sense.

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


def read_windows(status: int, headers: Mapping[str, str], longest_window: float) -> WindowReadings:
    """What an answer with this status says of both windows."""
    lower = dict(headers.items())  # each look-up in httpx's own goes through them all
    return WindowReadings(
        read_window(lower, USER, longest_window),
        read_window(lower, ORGANIZATION, longest_window),
        refused=status == 429,
        failed=status >= 500,
    )


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

    Requests that are out count as used until their answers come. When nothing is known, or the window
    must have been reset, one request goes ahead to ask (a probe) and the others wait for its answer.

    Resets come in whole seconds, and nothing says which way they are rounded. The first guess is up:
    then no window ends later than its earliest answer says. A probe that still meets the old window
    proves the guess wrong, and one step is added from then on. Until the guess is proven, a share of
    100 % keeps its last request for the probe, so that a probe is never refused. What the request that opens a
    window hears is exact either way and proves nothing: where it was the only one, a window that is used up is
    waited for one step longer.
    """

    def __init__(self, *, limited: bool = True) -> None:
        """`limited`: False where there is no such limit as long as no answer tells of one."""
        self._limit: int | None = None
        self._remaining = 0
        self._untold = 0
        self._in_flight = 0
        self._ends_by = 0.0
        self._step = 1.0
        self._epoch = 0
        self._old_ends_before = 0.0
        self._probing = False
        self._unheard = 0 if limited else UNHEARD
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
        if self._limit is None or now >= self._resets_at:
            return inf if self._probing else -inf
        used = self._limit - self._remaining + self._untold + self._in_flight
        return -inf if used < self._share(self._limit, percent) else self._resets_at

    def take(self, now: float) -> Reservation:
        """Count a request as sent."""
        probe = self._limit is None or now >= self._resets_at
        self._probing = self._probing or probe
        self._in_flight += 1
        return Reservation(self._epoch, self._remaining, self._untold, probe, now)

    def settle(
        self, reservation: Reservation, reading: WindowReading | None, now: float, *, heard: bool, refused: bool
    ) -> None:
        """Count a request as done, with the reading that its answer gave.

        `heard`: the API answered, so the headers would have been there if there were such a limit.
        `refused`: it answered 429.
        """
        self._in_flight -= 1
        if reservation.probe:
            self._probing = False
        if reading is not None:
            self._unheard = 0
            self._learn(reservation, reading, now, refused)
            return
        if reservation.epoch == self._epoch:
            self._untold += 1  # it may have been counted
        if heard and reservation.probe:
            self._unheard += 1

    @property
    def _resets_at(self) -> float:
        """From when on the window has been reset, as far as is known."""
        unsure = self._surely_on_time < RESETS_ON_TIME and self._remaining == 0
        late = self._step if self._rounds_down or unsure or self._step <= MARGIN else 0.0
        return self._ends_by + late + MARGIN

    def _share(self, limit: int, percent: int) -> int:
        share = max(1, limit * percent // 100)
        proven = self._rounds_down or self._on_time >= RESETS_ON_TIME or self._step <= MARGIN
        return share if share < limit or proven or limit == 1 else share - 1

    def _learn(self, reservation: Reservation, reading: WindowReading, now: float, refused: bool) -> None:
        current = reservation.epoch == self._epoch
        if self._limit is None or (current and self._was_reset(reservation, reading, refused)):
            self._reset(reservation, reading, now)
            return
        if not current and reservation.sent + reading.reset < self._old_ends_before:
            return  # sent before the reset, and of the window before
        self._heard += 1
        if current and reservation.probe:
            self._rounds_down = True
            self._ends_by = now + reading.reset
        else:
            self._ends_by = min(self._ends_by, now + reading.reset)
        self._remaining = min(self._remaining, reading.remaining)
        if reservation.unaccounted == self._untold:
            self._untold = 0  # sent after those, so its count includes them

    def _was_reset(self, reservation: Reservation, reading: WindowReading, refused: bool) -> bool:
        """Within one window a request leaves less than was known when it was sent, and no later reset."""
        if reading.remaining > reservation.remaining or (reading.remaining == reservation.remaining and not refused):
            return True
        return reservation.sent + reading.reset - reading.step > self._ends_by + self._step

    def _reset(self, reservation: Reservation, reading: WindowReading, now: float) -> None:
        ends_by = now + reading.reset
        if self._limit is not None:
            self._old_ends_before = (self._ends_by + ends_by) / 2
            if reservation.probe and reservation.sent < self._ends_by + self._step:
                self._on_time += 1  # rounded down, it would most likely not have been reset by then
                self._surely_on_time += self._heard > 1
        self._limit, self._remaining, self._untold = reading.limit, reading.remaining, 0
        self._ends_by, self._step = ends_by, reading.step
        self._epoch += 1
        self._heard = 1


@dataclass(eq=False, slots=True)
class Lane:
    """One connector's requests. `percent` of each window's limit it may see used before it waits.

    `urgent`: a person waits for these few requests. They go before those of other lanes, also while as many are out
    as may be. `slot`: without it no request goes; None: none is needed. `out`: requests that are out, `pausing`: those
    that are to be tried again later.
    """

    percent: int
    urgent: bool = False
    slot: Slot | None = None
    waiting: deque["Permit"] = field(default_factory=deque)
    out: int = 0
    pausing: int = 0
    _throttled: float = 0.0
    _throttled_since: float | None = None

    def throttled_seconds(self, now: float) -> float:
        """Time spent waiting for a window, however many requests were waiting."""
        return self._throttled + (0.0 if self._throttled_since is None else now - self._throttled_since)

    def throttle(self, throttled: bool, now: float) -> None:
        self._throttled = self.throttled_seconds(now)
        self._throttled_since = now if throttled else None

    def rest(self) -> None:
        """Give the slot back while all that the lane has to do is to try again later."""
        if self.pausing and not self.out and not self.waiting:
            self.give_back()

    def give_back(self) -> None:
        if self.slot is not None:
            self.slot.give_back(self)


@dataclass(eq=False, slots=True)
class Permit:
    """One request: waiting in its lane, then out, then answered, then over. `admitted` is set when it may go."""

    lane: Lane
    windows: tuple[Window, ...]
    """The user's, and the organization's where the request is about one."""
    reservations: tuple[Reservation, ...] = ()
    """One for each window once the request is out."""
    answered: bool = False
    admitted: asyncio.Future[None] | None = None

    def opens_at(self, now: float) -> float:
        return max(window.opens_at(self.lane.percent, now) for window in self.windows)

    def settle(self, readings: WindowReadings, now: float, *, heard: bool) -> None:
        for window, reservation, reading in zip(
            self.windows, self.reservations, (readings.user, readings.organization), strict=False
        ):
            window.settle(reservation, reading, now, heard=heard, refused=readings.refused)


class RateLimiter:
    """Grants permits. Its caller passes the time and what was answered.

    One limiter serves all that use the same token in this process: it keeps the token's user window and a window for
    each organization that the token is used on. One serves all portals of an organization, whose tokens are nobody's
    (`of_user`: False). Each connector has a lane; lanes take turns, and within a lane the first to come is the first to
    go. At most `most_at_once` requests are out, urgent ones aside.
    """

    def __init__(self, most_at_once: int, *, of_user: bool = True) -> None:
        self._most_at_once = most_at_once
        self._user = Window(limited=of_user)
        self._organizations: dict[str, Window] = {}
        self._rotation: deque[Lane] = deque()
        self._urgent: deque[Lane] = deque()
        self._out = 0
        self._held_until = -inf
        self.wakes_at = inf
        """When to ask again although nothing happened: the earliest reset of a window waited for."""
        self.idle: list[Lane] = []
        """Lanes whose requests all wait for a window: they do not need their slots meanwhile."""
        self.missing: list[Slot] = []
        """Slots without which the next request of their lanes cannot go."""

    def join(self, lane: Lane, organization: str | None) -> Permit:
        """Queue a request on `organization` (None: on none in particular)."""
        windows = [self._user]
        if organization is not None:
            windows.append(self._organizations.setdefault(organization, Window()))
        permit = Permit(lane, tuple(windows))
        if not lane.waiting:
            self._rotation_of(lane).append(lane)
        lane.waiting.append(permit)
        return permit

    def grant(self, now: float) -> list[Permit]:
        """The permits of requests that may go now; they count as sent."""
        self.wakes_at = inf
        self.idle, self.missing = [], []
        granted = self._grant(self._urgent, now, within_limit=False)
        return granted + self._grant(self._rotation, now, within_limit=True)

    def _grant(self, rotation: deque[Lane], now: float, *, within_limit: bool) -> list[Permit]:
        granted: list[Permit] = []
        passed_over = 0
        while passed_over < len(rotation) and not (within_limit and self._out >= self._most_at_once):
            lane = rotation[0]
            rotation.rotate(-1)
            opens_at = max(self._held_until, lane.waiting[0].opens_at(now))
            if opens_at > now:
                passed_over += 1
                lane.throttle(opens_at < inf, now)
                self.wakes_at = min(self.wakes_at, opens_at)
                if not lane.out:
                    self.idle.append(lane)
                continue
            lane.throttle(False, now)
            if lane.slot is not None and not lane.slot.held:
                passed_over += 1
                self.missing.append(lane.slot)
                continue
            passed_over = 0
            permit = lane.waiting.popleft()
            if not lane.waiting:
                rotation.pop()
            self._out += 1
            lane.out += 1
            if lane.slot is not None:
                lane.slot.begin(lane)
            permit.reservations = tuple(window.take(now) for window in permit.windows)
            granted.append(permit)
        return granted

    def answered(self, permit: Permit, readings: WindowReadings, now: float) -> None:
        """An answer began to come, with these readings of the windows."""
        if permit.reservations and not permit.answered:
            permit.answered = True
            permit.settle(readings, now, heard=not readings.failed)

    def leave(self, permit: Permit, now: float) -> None:
        """The request is over: done with, given up while it waited, or without an answer."""
        lane = permit.lane
        if permit.reservations:
            self._out -= 1
            lane.out -= 1
            if lane.slot is not None:
                lane.slot.end()
            if not permit.answered:
                permit.settle(WindowReadings(), now, heard=False)
        elif permit in lane.waiting:
            lane.waiting.remove(permit)
            if not lane.waiting:
                self._rotation_of(lane).remove(lane)
                lane.throttle(False, now)

    def hold(self, until: float) -> None:
        """No request goes before that time: the server said so without naming a window."""
        self._held_until = max(self._held_until, until)

    def _rotation_of(self, lane: Lane) -> deque[Lane]:
        return self._urgent if lane.urgent else self._rotation


class RequestQueue:
    """Admits requests when the rate limiter allows them; holds the futures and the timer.

    One serves all requests of a token, of every connector that uses it. A sync or check whose requests all wait, for a
    window or for another try, gives its slot back meanwhile.
    """

    def __init__(self, limiter: RateLimiter, clock: Clock) -> None:
        self._limiter = limiter
        self._clock = clock
        self._alarm: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def permit(self, lane: Lane, organization: str | None) -> AsyncIterator[Permit]:
        """Wait until a request of this lane may go; it is out until the context ends."""
        permit = self._limiter.join(lane, organization)
        permit.admitted = asyncio.get_running_loop().create_future()
        self._advance()
        try:
            await permit.admitted
            yield permit
        finally:
            self._limiter.leave(permit, self._clock.monotonic())
            lane.rest()
            self._advance()

    async def pause(self, lane: Lane, seconds: float) -> None:
        """Sleep before a request of this lane is tried again."""
        lane.pausing += 1
        lane.rest()
        try:
            await self._clock.sleep(seconds)
        finally:
            lane.pausing -= 1

    def answered(self, permit: Permit, readings: WindowReadings) -> None:
        """Take in what the answer's headers say, as soon as they are there."""
        self._limiter.answered(permit, readings, self._clock.monotonic())
        self._advance()

    def hold(self, seconds: float) -> None:
        """Let no request go for so many seconds."""
        self._limiter.hold(self._clock.monotonic() + seconds)

    def _advance(self) -> None:
        now = self._clock.monotonic()
        for permit in self._limiter.grant(now):
            if permit.admitted is not None and not permit.admitted.done():
                permit.admitted.set_result(None)
        for lane in self._limiter.idle:
            lane.give_back()
        for slot in self._limiter.missing:
            slot.take_back(self._advance)
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._limiter.wakes_at < inf:
            delay = max(0.0, self._limiter.wakes_at - now)
            self._alarm = asyncio.get_running_loop().call_later(delay, self._advance)
