"""Ends a connector's process at random moments, and says what must be so whenever that was.

A moment is chosen by what the process does: soon after it started, or some milliseconds into a call to C1 or a
request to Buildkite, so that each state of a task is met.
"""

import asyncio
import contextlib
import random
import signal
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.kubernetes_apis import Kubernetes
from harness.rig import PATIENCE, OperatorProcess, Rig
from scenarios.tenant import Stopwatch, Tenant
from simulators.c1.tasks import State, TaskRecord

HAND_BACK_SECONDS = 10.0
LATENCY = 0.05
"""Seconds of each answer of Buildkite's, so that a sync lasts long enough to be met."""
LONGEST_DELAY = 0.15
MOST_FILES = 4
"""In the data directory after any end: the snapshot, the one before, one that is being written and one derived."""
RPCS = ("Hello", "GetTask", "Heartbeat", "UploadAsset", "FinishTask")
MOMENTS = ("start", "sync", *RPCS)
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
        return f"ended at {met}; the slowest stop took {slowest:.1f} s; at most {self.most_files} files"


class Endings:
    """One connector on a rig; its processes come and go. Made by `endings`."""

    def __init__(self, rig: Rig, temporary: Path, chance: random.Random) -> None:
        self.rig = rig
        self.tenant = Tenant(rig, "acme")
        self.tally = Tally()
        self._temporary = temporary
        self._chance = chance
        self._moment = ""
        self._beaten: dict[str, int] = {}

    def process(self) -> OperatorProcess:
        return self.rig.operator(TMPDIR=str(self._temporary))

    async def kill_once(self) -> None:
        """`kill -9` at a random moment."""
        process = await self._at_a_moment()
        await process.kill()
        self._look(f"after a kill at {self._moment}")

    async def stop_once(self) -> None:
        """SIGTERM at a random moment: it ends well and in time, and nothing that it had is left with it."""
        process = await self._at_a_moment()
        begun = any(process.lines)
        watch = Stopwatch()
        code = await process.stop()
        assert code == 0 or (not begun and code == -signal.SIGTERM), f"a stop at {self._moment} ended with {code}"
        self.tally.stop_seconds.append(watch.seconds)
        assert watch.seconds < HAND_BACK_SECONDS, f"a stop at {self._moment} took {watch.seconds:.1f} s"
        kept = [task.id for task in self.rig.c1.tasks.values() if task.state is State.RUNNING and self._had(task)]
        assert kept == [] or code, f"a stop at {self._moment} kept {kept}"
        self._look(f"after a stop at {self._moment}")

    async def settle(self) -> None:
        """One more process, left alone: all that was begun ends, and one snapshot is left on the disk."""
        async with self.process():
            received = await self.tenant.deliver()
            await self.rig.c1.wait_for(self._all_ended, PATIENCE)
            await self.tenant.until(lambda status: status["lastDelivery"]["taskID"] == received.task_id)
            self._look("at the end")
        assert len(self.rig.staged) == 1, self.rig.staged
        assert list(self._temporary.iterdir()) == []

    async def _at_a_moment(self) -> OperatorProcess:
        if self._all_ended():
            self.tenant.add_task(**self._chance.choice(OPTIONS))
        self._beaten = {task.id: task.heartbeats for task in self.rig.c1.tasks.values()}
        self._moment = self._chance.choice(MOMENTS)
        self.tally.moments[self._moment] += 1
        process = self.process()
        await process.begin()
        try:
            await self._until(self._moment)
        except BaseException:
            await process.kill()
            raise
        await asyncio.sleep(self._chance.uniform(0.0, LONGEST_DELAY))
        return process

    async def _until(self, moment: str) -> None:
        if moment == "start":
            await asyncio.sleep(self._chance.uniform(0.3, 2.0))
            return
        if moment == "sync":
            before = len(self.tenant.collecting)
            async with asyncio.timeout(PATIENCE):
                while len(self.tenant.collecting) == before:  # noqa: ASYNC110  (the transcript has no event)
                    await asyncio.sleep(0.02)
            return
        before = self._begun(moment)
        await self.rig.c1.wait_for(lambda: self._begun(moment) > before, PATIENCE)

    def _begun(self, rpc: str) -> int:
        return len(self.rig.c1.calls(rpc)) + self.rig.c1.under_way[rpc]

    def _had(self, task: TaskRecord) -> bool:
        """Whether this process worked on it: a former one, killed, may have left it to its lease."""
        return task.heartbeats > self._beaten.get(task.id, 0)

    def _all_ended(self) -> bool:
        return all(task.state is State.FINISHED for task in self.rig.c1.tasks.values())

    def _look(self, when: str) -> None:
        """The invariants. That no torn upload is accepted, C1 itself looks after: it reads each file."""
        c1 = self.rig.c1
        delivered = Counter(received.task_id for received in c1.ingested)
        assert max(delivered.values(), default=0) <= 1, f"{when} a task was delivered twice"
        assert all(received.read is not None for received in c1.received), when
        broken = [each for each in c1.violations if not any(told in each for told in EXPECTED)]
        assert broken == [], f"{when} C1 notes {broken}"
        files = len(self.rig.staged)
        self.tally.most_files = max(self.tally.most_files, files)
        assert files <= MOST_FILES, f"{when} there are {self.rig.staged}"


@contextlib.asynccontextmanager
async def endings(kubernetes: Kubernetes, namespace: str, seed: int) -> AsyncIterator[Endings]:
    """A connector that synced and delivered once."""
    async with Rig(kubernetes, namespace) as rig:
        policy = rig.c1.policy
        policy.requeue_lost, policy.retry_failed, policy.heartbeat_grace = True, True, 2.0
        with tempfile.TemporaryDirectory() as folder:
            made = Endings(rig, Path(folder), random.Random(seed))
            async with made.process():
                await made.tenant.become_ready(delivery={"maxSnapshotAge": "0s"})
                await made.tenant.deliver()
            rig.buildkite.latency = LATENCY
            try:
                yield made
            finally:
                for operator in rig.operators[-2:]:
                    print("operator:", *operator.lines, sep="\n  ")
