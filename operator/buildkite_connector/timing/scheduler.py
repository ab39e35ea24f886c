"""Which activity acts when: a heap of due times in front of asyncio.

An activity is a piece of a connector's life (see `session`) that says when it is next due and then runs one round.
It never overlaps itself; what wakes it while it runs is seen when it says its next due time.
"""

import asyncio
import heapq
import itertools
import logging
from typing import Protocol

from buildkite_connector.timing.clock import Clock

logger = logging.getLogger(__name__)


class Activity(Protocol):
    """`due` is in the clock's monotonic seconds; None means: not until woken."""

    @property
    def name(self) -> str: ...

    def due(self) -> float | None: ...

    async def run(self) -> None: ...


class Scheduler:
    """Runs activities when they are due, each one round at a time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, Activity]] = []
        self._order = itertools.count()
        self._known: set[Activity] = set()
        self._entry: dict[Activity, tuple[float, int]] = {}
        self._running: dict[Activity, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self.beat = clock.monotonic()
        """When the loop last came round: what liveness reads."""

    def add(self, activity: Activity) -> None:
        self._known.add(activity)
        self.wake(activity)

    def wake(self, activity: Activity) -> None:
        """Ask the activity anew when it is due. Call it whenever that may have become sooner."""
        if activity not in self._known or activity in self._running:
            return
        due = activity.due()
        if due is not None and (activity not in self._entry or due < self._entry[activity][0]):
            self._push(due, activity)
            self._changed.set()

    async def remove(self, activity: Activity) -> None:
        """Forget it; a round under way is cancelled and awaited."""
        self._known.discard(activity)
        self._entry.pop(activity, None)
        task = self._running.get(activity)
        if task is not None and task is not asyncio.current_task():
            task.cancel()
            await asyncio.wait({task})
            self._running.pop(activity, None)  # a round cancelled before its first step does not do so itself

    async def run(self) -> None:
        """Until cancelled; then the rounds under way are cancelled and awaited."""
        async with asyncio.TaskGroup() as group:
            while True:
                self.beat = self._clock.monotonic()
                self._start_due(group)
                self._changed.clear()
                wait = self._heap[0][0] - self._clock.monotonic() if self._heap else LONGEST_WAIT
                try:
                    async with asyncio.timeout(min(wait, LONGEST_WAIT)):
                        await self._changed.wait()
                except TimeoutError:
                    continue

    def _start_due(self, group: asyncio.TaskGroup) -> None:
        now = self._clock.monotonic()
        while self._heap and self._heap[0][0] <= now:
            at, order, activity = heapq.heappop(self._heap)
            if self._entry.get(activity) != (at, order):
                continue
            del self._entry[activity]
            due = activity.due()
            if due is None:
                continue
            if due > self._clock.monotonic():
                self._push(due, activity)
            else:
                self._running[activity] = group.create_task(self._round(activity), name=activity.name)

    def _push(self, due: float, activity: Activity) -> None:
        order = next(self._order)
        self._entry[activity] = (due, order)
        heapq.heappush(self._heap, (due, order, activity))

    async def _round(self, activity: Activity) -> None:
        try:
            await activity.run()
        except Exception:
            logger.exception("an activity failed unexpectedly", extra={"activity": activity.name})
            await self._clock.sleep(PAUSE_AFTER_UNEXPECTED)
        finally:
            self._running.pop(activity, None)
            self.wake(activity)


PAUSE_AFTER_UNEXPECTED = 1.0
LONGEST_WAIT = 10.0
"""Seconds after which the loop comes round with nothing due, so that its heartbeat is never older."""
