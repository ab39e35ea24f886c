"""Which request goes next, and when: quota, fairness and concurrency together, decided without I/O.

One limiter serves everyone in the process who uses the same token: it keeps the token's user window and a
window for each organization that the token is used on. Each connector has a lane; lanes take turns, and
within a lane the first to come is the first to go. `queue` carries the decisions out.
"""

from collections import deque
from dataclasses import dataclass, field
from math import inf

from buildkite_connector.buildkite.rate_limit.concurrency import MOST, Concurrency
from buildkite_connector.buildkite.rate_limit.window import Reservation, Window, WindowReadings
from buildkite_connector.timing.slots import Slot


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
        if throttled and self._throttled_since is None:
            self._throttled_since = now
        elif not throttled and self._throttled_since is not None:
            self._throttled += now - self._throttled_since
            self._throttled_since = None


@dataclass(eq=False, slots=True)
class Permit:
    """One request: waiting in its lane, then out, then answered, then over."""

    lane: Lane
    user: Window
    organization: Window | None
    user_stamp: Reservation | None = None
    organization_stamp: Reservation | None = None
    answered: bool = False

    def opens_at(self, now: float) -> float:
        opens_at = self.user.opens_at(self.lane.percent, now)
        if self.organization is not None:
            opens_at = max(opens_at, self.organization.opens_at(self.lane.percent, now))
        return opens_at


class RateLimiter:
    """Grants turns. Its caller tells it the time and what was answered."""

    def __init__(self, most_at_once: int = MOST) -> None:
        self._user = Window()
        self._organizations: dict[str, Window] = {}
        self._rotation: deque[Lane] = deque()
        self._urgent: deque[Lane] = deque()
        self._concurrency = Concurrency(most_at_once)
        self._out = 0
        self._held_until = -inf
        self.wakes_at = inf
        """When to ask again although nothing happened: the earliest turn of a window waited for."""
        self.idle: list[Lane] = []
        """Lanes whose requests all wait for a window: they need no slot meanwhile."""
        self.without_slot: list[Lane] = []
        """Lanes whose next request could go if they had their slot."""

    def join(self, lane: Lane, organization: str | None) -> Permit:
        """Queue a request on `organization` (None: on none in particular)."""
        window = None if organization is None else self._organizations.setdefault(organization, Window())
        turn = Permit(lane, self._user, window)
        if not lane.waiting:
            self._rotation_of(lane).append(lane)
        lane.waiting.append(turn)
        return turn

    def grant(self, now: float) -> list[Permit]:
        """The turns that may go now; they count as sent."""
        self.wakes_at = inf
        self.idle, self.without_slot = [], []
        granted = self._grant(self._urgent, now, within_limit=False)
        return granted + self._grant(self._rotation, now, within_limit=True)

    def _grant(self, rotation: deque[Lane], now: float, *, within_limit: bool) -> list[Permit]:
        granted: list[Permit] = []
        passed_over = 0
        while passed_over < len(rotation) and not (within_limit and self._out >= self._concurrency.limit):
            lane = rotation[0]
            rotation.rotate(-1)
            opens_at = max(self._held_until, lane.waiting[0].opens_at(now))
            if opens_at > now:
                passed_over += 1
                lane.throttle(opens_at < inf, now)
                self.wakes_at = min(self.wakes_at, opens_at)
                if lane.slot is not None and not lane.out:
                    self.idle.append(lane)
                continue
            if lane.slot is not None and not lane.slot.held:
                passed_over += 1
                lane.throttle(False, now)
                self.without_slot.append(lane)
                continue
            passed_over = 0
            lane.throttle(False, now)
            turn = lane.waiting.popleft()
            if not lane.waiting:
                rotation.pop()
            self._send(turn, now)
            granted.append(turn)
        return granted

    def _rotation_of(self, lane: Lane) -> deque[Lane]:
        return self._urgent if lane.urgent else self._rotation

    def answered(self, turn: Permit, told: WindowReadings, now: float) -> None:
        """An answer began to come: what it told of the windows, and how long it took."""
        if turn.user_stamp is None or turn.answered:
            return
        turn.answered = True
        if told.failed:
            self._concurrency.overloaded(turn.user_stamp.sent, now)
        else:
            self._concurrency.answered(turn.user_stamp.sent, now, full=self._out >= self._concurrency.limit)
        self._settle(turn, told, now, heard=not told.failed)

    def leave(self, turn: Permit, now: float, *, overload: bool = False) -> None:
        """The request is over: done with, given up while it waited, or without an answer.

        `overload`: the server failed to answer in time.
        """
        if turn.user_stamp is None:
            self._give_up(turn, now)
            return
        self._out -= 1
        turn.lane.out -= 1
        if overload:
            self._concurrency.overloaded(turn.user_stamp.sent, now)
        if not turn.answered:
            self._settle(turn, WindowReadings(), now, heard=False)

    def hold(self, until: float) -> None:
        """Nobody goes before that time: the server said so without naming a window."""
        self._held_until = max(self._held_until, until)

    def _send(self, turn: Permit, now: float) -> None:
        self._out += 1
        turn.lane.out += 1
        turn.user_stamp = turn.user.take(now)
        if turn.organization is not None:
            turn.organization_stamp = turn.organization.take(now)

    def _settle(self, turn: Permit, told: WindowReadings, now: float, *, heard: bool) -> None:
        if turn.user_stamp is not None:
            turn.user.settle(turn.user_stamp, told.user, now, heard=heard, refused=told.refused)
        if turn.organization is not None and turn.organization_stamp is not None:
            turn.organization.settle(turn.organization_stamp, told.organization, now, heard=heard, refused=told.refused)

    def _give_up(self, turn: Permit, now: float) -> None:
        lane = turn.lane
        if turn in lane.waiting:
            lane.waiting.remove(turn)
            if not lane.waiting:
                self._rotation_of(lane).remove(lane)
                lane.throttle(False, now)
