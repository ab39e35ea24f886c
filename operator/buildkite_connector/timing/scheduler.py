"""Steps activities when they are due: a heap of due times in front of asyncio.

An activity is one connector (see `connector.connector`). A step is synchronous: it decides and starts tasks, and
awaits nothing, so that no step overlaps another.
"""

import asyncio
import heapq
import itertools
import logging
from typing import Protocol

from buildkite_connector.timing.backoff import Backoff
from buildkite_connector.timing.clock import Clock

logger = logging.getLogger(__name__)

LONGEST_WAIT = 10.0
"""Seconds after which the loop comes round with nothing due, so that `last_iteration` is never older."""
AFTER_UNEXPECTED = Backoff(first=1.0, cap=300.0)
"""Before an activity whose step failed unexpectedly is stepped again; what fails at once again is not logged again."""
STEPS_AT_ONCE = 20
"""Steps after which other tasks of the event loop get their turn."""


class Activity(Protocol):
    """`due` is in the clock's monotonic seconds; None means: not until woken."""

    @property
    def name(self) -> str: ...

    def due(self) -> float | None: ...

    def step(self) -> None: ...


class Scheduler:
    """Steps the activities that were added, each when it is due."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, Activity]] = []
        self._order = itertools.count()
        self._known: set[Activity] = set()
        self._entry: dict[Activity, tuple[float, int]] = {}
        self._failures: dict[Activity, int] = {}
        self._changed = asyncio.Event()
        self.last_iteration = clock.monotonic()
        """When the loop last came round, in monotonic seconds: what liveness reads."""

    def add(self, activity: Activity) -> None:
        self._known.add(activity)
        self.wake(activity)

    def remove(self, activity: Activity) -> None:
        """The activity is not stepped any more."""
        self._known.discard(activity)
        self._entry.pop(activity, None)
        self._failures.pop(activity, None)

    def wake(self, activity: Activity) -> None:
        """Read the activity's due time again. Call it whenever that time may have become sooner."""
        if activity not in self._known:
            return
        due = activity.due()
        if due is not None and (activity not in self._entry or due < self._entry[activity][0]):
            self._push(due, activity)
            self._changed.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.last_iteration = self._clock.monotonic()
            await self._step_due()
            self._changed.clear()
            wait = self._heap[0][0] - self._clock.monotonic() if self._heap else LONGEST_WAIT
            try:
                async with asyncio.timeout(min(wait, LONGEST_WAIT)):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _step_due(self) -> None:
        now = self._clock.monotonic()
        for number in itertools.count(1):
            if not self._heap or self._heap[0][0] > now:
                return
            at, order, activity = heapq.heappop(self._heap)
            if self._entry.get(activity) != (at, order):
                continue  # woken for an earlier time, or removed
            del self._entry[activity]
            due = activity.due()
            if due is None:
                continue
            if due > self._clock.monotonic():
                self._push(due, activity)
                continue
            self._step(activity)
            if number % STEPS_AT_ONCE == 0:
                await asyncio.sleep(0)

    def _step(self, activity: Activity) -> None:
        try:
            activity.step()
        except Exception:
            failures = self._failures[activity] = self._failures.get(activity, 0) + 1
            if failures == 1:
                logger.exception("an activity failed unexpectedly", extra={"activity": activity.name})
            self._push(self._clock.monotonic() + AFTER_UNEXPECTED.longest(failures), activity)
        else:
            self._failures.pop(activity, None)
            self.wake(activity)

    def _push(self, due: float, activity: Activity) -> None:
        order = next(self._order)
        self._entry[activity] = (due, order)
        heapq.heappush(self._heap, (due, order, activity))
