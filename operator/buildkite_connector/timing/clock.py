"""Time as a value that is passed in, so that a test decides what time it is."""

import asyncio
import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime
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
