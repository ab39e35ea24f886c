"""Ends a connector's process at random moments, and says what must be so whenever that was.

A moment is chosen by what the process does: soon after it started, or some milliseconds into a call to C1 or a
request to Buildkite, so that each state of a task is met.
"""

import asyncio
import contextlib
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from harness.rig import OperatorProcess
from scenarios.tenant import Stopwatch
from simulators.c1.tasks import State, TaskRecord
from soak.modes import Mode

HAND_BACK_SECONDS = 10.0
PATIENCE = 180.0
"""Seconds for what should happen much sooner: a soak runs behind everything else that the machine does."""
LATENCY = 0.05
"""Seconds of each answer of Buildkite's, so that a sync lasts long enough to be met."""
LONGEST_DELAYS = (0.01, 0.15)
"""Seconds after a moment has come, so that short states are met as well as later ones."""
MOST_FILES = 4
"""In the data directory after any end: the snapshot, the one before, one that is being written and one derived."""
RPCS = ("Hello", "GetTask", "Heartbeat", "UploadAsset", "FinishTask")
MOMENTS = ("start", "sync", "write", *RPCS)
OPTIONS: tuple[dict[str, Any], ...] = ({}, {}, {"skip_grants": True}, {"sync_resource_type_ids": ["user"]})
EXPECTED = ("none for", "has not been handed out")
"""What C1 notes of a process that was killed, and of its last calls."""


@dataclass
class Tally:
    """What was seen over all endings."""

    moments: Counter[str] = field(default_factory=Counter)
    stop_seconds: list[float] = field(default_factory=list)
    most_files: int = 0

    def __str__(self) -> str:
        slowest = max(self.stop_seconds, default=0.0)
        met = ", ".join(f"{moment} {times}" for moment, times in sorted(self.moments.items()))
        return f"ended at {met}; the slowest stop took {slowest:.2f} s; at most {self.most_files} files"


class Endings:
    """One connector in one of the modes; its processes come and go. Made by `endings`."""

    moments: tuple[str, ...] = MOMENTS

    def __init__(self, mode: Mode, chance: random.Random) -> None:
        self.mode = mode
        self.tally = Tally()
        self._chance = chance
        self._moment = ""
        self._handed: dict[str, int] = {}
        self._since = mode.c1.clock.now()
        """When the process began. C1 may accept what a killed one had sent whole a moment after its end."""

    async def kill_once(self) -> None:
        """`kill -9` at a random moment."""
        process = await self._at_a_moment()
        await process.kill()
        self._look(f"after a kill at {self._moment}")

    async def stop_once(self) -> None:
        """SIGTERM at a random moment: it ends well and in time, and nothing that it took is left with it.

        What C1 hands out in the answer to a GetTask under way was not taken: C1 hands it out again after its lease.
        """
        process = await self._at_a_moment()
        begun = any(process.lines)
        watch = Stopwatch()
        code = await process.stop()
        assert code == 0 or (not begun and code == -signal.SIGTERM), f"a stop at {self._moment} ended with {code}"
        self.tally.stop_seconds.append(watch.seconds)
        assert watch.seconds < HAND_BACK_SECONDS, f"a stop at {self._moment} took {watch.seconds:.1f} s"
        log = "\n".join(process.lines)
        running = (task for task in self.mode.c1.tasks.values() if task.state is State.RUNNING and self._had(task))
        kept = [task.id for task in running if task.id in log]
        assert kept == [], f"a stop at {self._moment} kept {kept}"
        self._look(f"after a stop at {self._moment}")

    async def settle(self) -> None:
        """One more process, left alone: all that was begun ends, and one snapshot is left on the disk."""
        self._since = self.mode.c1.clock.now()
        async with self.mode.process():
            task_id = await self._deliver()
            await self.mode.c1.wait_for(self._all_ended, PATIENCE)
            await self.mode.until_told(task_id)
            self._look("at the end")
        assert [path.suffix for path in self.mode.files] == [".c1z"], self.mode.files
        assert self.mode.stray == []

    async def deliver_first(self) -> None:
        """The first process: a connector that synced and delivered once."""
        async with self.mode.process():
            await self.mode.prepare()
            await self._deliver()

    async def _deliver(self) -> str:
        """The task that C1 hands out now, once its snapshot is delivered."""
        task_id = self.mode.add_task()
        outcome = await self.mode.c1.finished(task_id, PATIENCE)
        assert outcome.success, outcome
        assert [received.task_id for received in self.mode.c1.ingested].count(task_id) == 1
        return task_id

    def give_work(self) -> None:
        """What C1 hands out before the next end."""
        if self._all_ended():
            self.mode.add_task(**self._chance.choice(OPTIONS))

    async def until(self, moment: str) -> None:
        """Once the process that was begun has come to it."""
        if moment == "start":
            await asyncio.sleep(self._chance.uniform(0.3, 2.0))
            return
        if moment == "sync":
            before = self.mode.reads
            await until_seen(lambda: self.mode.reads > before)
            return
        if moment == "write":
            there = self.mode.files
            await until_seen(lambda: self.mode.files != there)
            return
        before = self._begun(moment)
        await self.mode.c1.wait_for(lambda: self._begun(moment) > before, PATIENCE)

    async def _at_a_moment(self) -> OperatorProcess:
        self.give_work()
        self._handed = {task.id: task.handed_out for task in self.mode.c1.tasks.values()}
        self._moment = self._chance.choice(self.moments)
        self.tally.moments[self._moment] += 1
        self._since = self.mode.c1.clock.now()
        process = self.mode.process()
        await process.begin()
        try:
            await self.until(self._moment)
        except BaseException:
            await process.kill()
            raise
        await asyncio.sleep(self._chance.uniform(0.0, self._chance.choice(LONGEST_DELAYS)))
        return process

    def _begun(self, rpc: str) -> int:
        return len(self.mode.c1.calls(rpc)) + self.mode.c1.under_way[rpc]

    def _had(self, task: TaskRecord) -> bool:
        """Whether this process was handed it: a former one, killed, may have left it to its lease."""
        return task.handed_out > self._handed.get(task.id, 0)

    def _all_ended(self) -> bool:
        return all(task.state is State.FINISHED for task in self.mode.c1.tasks.values())

    def _look(self, when: str) -> None:
        """The invariants. That no torn upload is accepted, C1 itself looks after: it reads each file."""
        c1 = self.mode.c1
        delivered = Counter(received.task_id for received in c1.ingested)
        assert max(delivered.values(), default=0) <= 1, f"{when} a task was delivered twice"
        uploaded = Counter(received.task_id for received in c1.received if received.began >= self._since)
        assert max(uploaded.values(), default=0) <= 1, f"{when} one process had uploaded twice under a task"
        assert all(received.read is not None for received in c1.received), when
        broken = [each for each in c1.violations if not any(told in each for told in EXPECTED)]
        assert broken == [], f"{when} C1 notes {broken}"
        files, stray = self.mode.files, self.mode.stray
        self.tally.most_files = max(self.tally.most_files, len(files))
        assert len(files) <= MOST_FILES, f"{when} there are {files}"
        assert stray == [], f"{when} there are {stray}"


async def until_seen(holds: Callable[[], bool]) -> None:
    """For what no event tells of. Raises TimeoutError."""
    async with asyncio.timeout(PATIENCE):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


M = TypeVar("M", bound=Mode)
E = TypeVar("E", bound=Endings)


@contextlib.asynccontextmanager
async def endings(
    opened: AbstractAsyncContextManager[M], seed: int, kind: Callable[[M, random.Random], E]
) -> AsyncIterator[E]:
    """A connector that synced and delivered once."""
    async with opened as mode:
        policy = mode.c1.policy
        policy.requeue_lost, policy.retry_failed, policy.heartbeat_grace = True, True, 2.0
        made = kind(mode, random.Random(seed))
        await made.deliver_first()
        mode.buildkite.latency = LATENCY
        try:
            yield made
        finally:
            for process in mode.processes[-2:]:
                print("process:", *process.lines, sep="\n  ")
