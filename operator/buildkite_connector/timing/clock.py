"""Time and jitter as values passed in, so that a test decides what time it is."""

import asyncio
import random
import time
from datetime import UTC, datetime
from typing import Protocol

from buildkite_connector.model.jitter import Jitter


class Clock(Protocol):
    """Wall time for people and schedules, monotonic seconds for waiting, and a sleep."""

    def now(self) -> datetime:
        """The wall time, in UTC and aware of it."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...

    async def sleep(self, seconds: float) -> None: ...


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
