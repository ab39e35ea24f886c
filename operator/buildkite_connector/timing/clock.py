"""Time as a value that is passed in, so that a test decides what time it is; backoff, deadlines, servers' clocks."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Protocol

from buildkite_connector.model.jitter import Jitter


@dataclass(frozen=True, slots=True)
class Instant:
    """One moment. `wall` is in UTC, for people and schedules; `monotonic` is in seconds, for waiting."""

    wall: datetime
    monotonic: float


class Clock(Protocol):
    """Wall time, monotonic seconds, and a sleep."""

    def now(self) -> datetime:
        """The wall time, in UTC and aware of it."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...

    async def sleep(self, seconds: float) -> None: ...


def instant(clock: Clock) -> Instant:
    """This moment on both scales; taken once per decision."""
    return Instant(clock.now(), clock.monotonic())


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def system_jitter() -> Jitter:
    """Jitter needs no secrecy."""
    return random.Random()  # noqa: S311


# How long to wait before trying again


LONGEST_PUT_OFF = 6 * 3600.0
"""The longest time in seconds that a server can put off the next sync or check."""


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
        return max(own, min(retry_after or 0.0, LONGEST_PUT_OFF))


BETWEEN_SYNCS = Backoff(first=30.0, cap=900.0)
BETWEEN_REPORTS = Backoff(first=5.0, cap=300.0)
BETWEEN_CALLS = Backoff(first=1.0, cap=300.0)
"""C1's own: 1 s doubling to 5 min."""


# Deadlines that make allowance for this process's own lateness. An answer is worked off over several turns of the event
# loop. In a start of a thousand connectors a turn may take a second, and a deadline by the clock alone would call a
# server silent that answers at once.


TURNS = 100
"""Turns of the event loop that a deadline lasts at least."""


@contextmanager
def fair_alarm(seconds: float, ring: Callable[[], None]) -> Iterator[None]:
    """Calls `ring` when the context lasts longer than these seconds, but not before the loop came round TURNS times."""
    loop = asyncio.get_running_loop()
    timers: list[asyncio.TimerHandle] = []

    def turn(left: int) -> None:
        if left:
            timers[:] = [loop.call_later(seconds / TURNS, turn, left - 1)]
        else:
            ring()

    turn(TURNS)
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()


@asynccontextmanager
async def fair_timeout(seconds: float) -> AsyncIterator[None]:
    """As `asyncio.timeout`, with a `fair_alarm`: raises TimeoutError."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as deadline:
        with fair_alarm(seconds, lambda: deadline.reschedule(loop.time())):
            yield


# What a server says of time in its answer's headers: what time it has, how wrong the clock here is, how long to wait


LONGEST_DATE = 64
"""Characters of a date that are read."""
_LONGEST_AGE = 5
"""Digits of an age that are believed: a day."""
MOST_OFF = timedelta(seconds=60)
"""C1 accepts an assertion within two minutes of its own clock, and other servers within one."""


def server_time(headers: Mapping[str, str]) -> datetime | None:
    """The aware time of `Date`, with the age of an answer from a cache; None where it tells none. Whole seconds."""
    try:
        said = parsedate_to_datetime(headers.get("date", "")[:LONGEST_DATE])
        age = headers.get("age", "")
        seconds = int(age) if age.isascii() and age.isdigit() and len(age) <= _LONGEST_AGE else 0
        return said.replace(tzinfo=said.tzinfo or UTC).astimezone(UTC) + timedelta(seconds=seconds)
    except (ValueError, OverflowError):
        return None


def retry_after(headers: Mapping[str, str], now: datetime, longest: float) -> float | None:
    """Seconds to wait as Retry-After tells them, as a number or a date; from 0 to `longest`, None where there are none.

    `headers` by names in lower case, or by names whose case does not matter.
    """
    text = headers.get("retry-after", "")
    try:
        if text.isdecimal():
            seconds = float(text)
        else:
            moment = parsedate_to_datetime(text[:LONGEST_DATE])
            seconds = (moment.replace(tzinfo=moment.tzinfo or UTC) - now).total_seconds()
    except (ValueError, OverflowError):
        return None
    return min(max(0.0, seconds), longest)


def clock_error(said: datetime, before: datetime, after: datetime) -> timedelta:
    """By how much the local clock is behind the server's (negative: ahead), as far as it is certain.

    The answer came between `before` and `after` by the local clock; a `Date` is cut to whole seconds.
    """
    if said > after:
        return said - after
    return min(said - before + timedelta(seconds=1), timedelta())


def wrong_clock(error: timedelta, whose: str, local: datetime) -> str | None:
    """A sentence when the clock is off by more than `MOST_OFF`; None when it is right.

    `error`: positive where the clock is behind. `whose`: the server's name in the genitive. `local`: the time here.
    """
    if abs(error) <= MOST_OFF:
        return None
    way = "behind" if error > timedelta() else "ahead of"
    return (
        f"This machine's clock says {local:%Y-%m-%d %H:%M:%S} UTC and is {abs(round(error.total_seconds()))} s {way} "
        f"{whose}. Set it by NTP (chrony, systemd-timesyncd; in a cluster: the node's)."
    )
