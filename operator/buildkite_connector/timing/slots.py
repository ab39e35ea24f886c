"""Slots that bound how much runs at once in a process, shared fairly by its namespaces.

A namespace is a tenant. Where several share a process, none of them holds more than half of the slots, and free slots
go to the namespaces in turn. Work that waits for somebody else, such as a rate limit, gives its slot back meanwhile:
`Slot`. `RoundRobin` is the order of those that wait, and of Secrets that are read again.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

T = TypeVar("T")

KEPT_FOR_EACH = 64
"""Answers for each slot that work may keep in memory while it waits without one: 3 MB of Buildkite's pages."""


class RoundRobin(Generic[T]):
    """What waits, by namespace. Namespaces take turns; within one the first to come is the first to go."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[T]] = {}

    def add(self, namespace: str, item: T) -> None:
        self._queues.setdefault(namespace, deque()).append(item)

    def pop(self, may: Callable[[str], bool] = lambda _: True) -> T | None:
        """The next item of the first namespace that `may` go, which then goes to the end; None when there is none."""
        namespace = next(filter(may, self._queues), None)
        if namespace is None:
            return None
        queue = self._queues.pop(namespace)
        item = queue.popleft()
        if queue:
            self._queues[namespace] = queue
        return item

    def remove(self, namespace: str, item: T) -> None:
        """Raises ValueError when it does not wait."""
        queue = self._queues.get(namespace, deque())
        queue.remove(item)
        if not queue:
            del self._queues[namespace]


class Slots:
    """So many slots. `shared`: by several namespaces, of which none holds more than half (but at least one)."""

    def __init__(self, number: int, *, shared: bool) -> None:
        self._free = number
        self._most = max(1, number // 2) if shared else number
        self._most_kept = KEPT_FOR_EACH * number
        self._most_kept_each = self._most_kept // 2 if shared else self._most_kept
        self._held: Counter[str] = Counter()
        self._kept: Counter[str] = Counter()
        self._waiting: RoundRobin[Slot] = RoundRobin()

    @property
    def free(self) -> int:
        """The number of free slots."""
        return self._free

    @asynccontextmanager
    async def slot(self, namespace: str) -> AsyncIterator["Slot"]:
        """Wait for a slot. It is free again when the context ends, or while its holder gave it back."""
        slot = Slot(self, namespace)
        there = asyncio.Event()
        try:
            slot.take_back(there.set)
            await there.wait()
            yield slot
        finally:
            self._end(slot)

    def _queue(self, slot: "Slot") -> None:
        self._waiting.add(slot.namespace, slot)
        self._advance()

    def _park(self, slot: "Slot") -> bool:
        """Take the slot from its holder, unless those that wait would keep too much in memory."""
        kept = self._kept[slot.namespace] + slot.kept
        if kept > self._most_kept_each or self._kept.total() + slot.kept > self._most_kept:
            return False
        slot.parked = slot.kept
        self._kept[slot.namespace] = kept
        self._release(slot)
        return True

    def _end(self, slot: "Slot") -> None:
        slot.ended = True
        if slot.held:
            self._release(slot)
        elif slot.then:
            self._waiting.remove(slot.namespace, slot)
        self._unpark(slot)

    def _release(self, slot: "Slot") -> None:
        slot.held = False
        self._free += 1
        self._held[slot.namespace] -= 1
        self._held += Counter()  # forgets namespaces that hold none
        self._advance()

    def _advance(self) -> None:
        while self._free and (slot := self._waiting.pop(lambda namespace: self._held[namespace] < self._most)):
            self._free -= 1
            self._held[slot.namespace] += 1
            self._unpark(slot)
            slot.held, awaiting, slot.then = True, slot.then, []
            for then in awaiting:
                asyncio.get_running_loop().call_soon(then)

    def _unpark(self, slot: "Slot") -> None:
        self._kept[slot.namespace] -= slot.parked
        self._kept += Counter()
        slot.parked = 0


class Slot:
    """One holder's slot. `kept`: answers that its holder has read and keeps until it ends; the holder counts them.

    The holder works only while `held`. It may wait for one server while it works with another: it says `begin` and
    `end` of each request, and `of` which of its works that is.
    """

    def __init__(self, slots: Slots, namespace: str) -> None:
        self._slots = slots
        self.namespace = namespace
        self.kept = 0
        self._out = 0
        self._waiting: set[object] = set()
        """Which of its holder's works wait. While one does, the slot is given back whenever no request is out."""
        self.held = False
        self.ended = False
        self.parked = 0
        """What of `kept` counts to what is kept without a slot."""
        self.then: list[Callable[[], None]] = []
        """What to call when the slot is free; empty: nothing waits for it."""

    def give_back(self, of: object = None) -> None:
        """The holder waits for somebody else: others may use the slot.

        It stays held while a request is out, and where too much is kept in memory already by others that wait.
        """
        self._waiting.add(of)
        self._park()

    def begin(self, of: object = None) -> None:
        self._out += 1
        self._waiting.discard(of)

    def end(self) -> None:
        self._out -= 1
        if self._waiting:
            self._park()

    def _park(self) -> None:
        if self.held and not self._out:
            self._slots._park(self)

    def take_back(self, then: Callable[[], None]) -> None:
        """Ask for the slot (again). `then` is called when it is there; asking once more changes nothing."""
        if not self.held and not self.ended and then not in self.then:
            self.then.append(then)
            if len(self.then) == 1:
                self._slots._queue(self)
