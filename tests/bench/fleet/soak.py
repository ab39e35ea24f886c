"""Whether the memory of an operator stays flat while it syncs and delivers without a pause."""

import asyncio
import itertools
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench.fleet.measurement import use_of
from bench.fleet.opened import Tell, open_fleet, scrape
from bench.fleet.reactions import Changes
from bench.promises import MB, ConditionValue
from harness.control_plane import Assets
from harness.rig import OperatorProcess

ASK_SECONDS = 0.5
"""Between two syncs that are asked for by annotation."""
TASK_SECONDS = 60.0
"""Between two tasks of C1 for each connector."""
SAMPLE_SECONDS = 10.0
START_SECONDS = 900.0
MOST_GROWTH = 0.05


@dataclass(frozen=True, slots=True)
class Soak:
    """`memory`: resident bytes, a sample every ten seconds. `longest_reaction`: seconds from annotation to sync."""

    connectors: int
    seconds: float
    syncs: int
    deliveries: int
    memory: Sequence[int]
    longest_reaction: float

    @property
    def growth(self) -> float:
        """Of the last third's median over the middle third's."""
        third = max(1, len(self.memory) // 3)
        return statistics.median(self.memory[-third:]) / statistics.median(self.memory[-2 * third : -third]) - 1

    def verdict(self) -> ConditionValue:
        told = (
            f"{self.memory[-1] / MB:.0f} MB, {self.growth:+.1%} after {self.seconds / 60:.0f} minutes,"
            f" {self.syncs:,} syncs and {self.deliveries:,} deliveries of {self.connectors:,} connectors,"
            f" from annotation to sync {self.longest_reaction:.1f} s at most"
        )
        return ConditionValue(f"soak: memory grows by ≤ {MOST_GROWTH:.0%}", told, self.growth <= MOST_GROWTH)


async def measure_soak(assets: Assets, connectors: int, seconds: float, tell: Tell) -> Soak:
    """Raises TimeoutError when a connector does not become Ready, or does not sync."""
    async with (
        open_fleet(assets, connectors, tell, "--next-poll=15", f"--sync-every={TASK_SECONDS}") as fleet,
        OperatorProcess(dict(fleet.environment), ready_within=START_SECONDS) as operator,
    ):
        seen = fleet.cluster.seen
        await fleet.cluster.until(lambda: all(each.ready_at for each in seen.values()), START_SECONDS)
        tell("all Ready")
        before = await fleet.buildkite.stats(), await fleet.c1.stats()
        reactions: list[float] = []
        asking = asyncio.create_task(_ask(Changes(fleet.cluster, ""), fleet.names, reactions))
        memory: list[int] = []
        end = time.monotonic() + seconds
        while time.monotonic() < end and not asking.done():
            await asyncio.sleep(SAMPLE_SECONDS)
            memory.append(use_of(operator.pid).memory)
            await scrape(operator)
            tell(f"{memory[-1] / MB:.0f} MB")
        if asking.done():
            await asking
        asking.cancel()
        after = await fleet.buildkite.stats(), await fleet.c1.stats()
    requests = after[0]["requests"] - before[0]["requests"]
    least = after[0]["organizations"]["synthetic"]["minimum_requests"]
    uploads = (sum(each["calls"].get("UploadAsset", {}).values()) for each in (after[1], before[1]))
    return Soak(connectors, seconds, requests // least, next(uploads) - next(uploads), memory, max(reactions))


async def _ask(changes: Changes, names: Sequence[str], reactions: list[float]) -> None:
    """One connector after the other, without an end."""

    async def ask(name: str) -> None:
        reactions.append(await changes.ask_for_sync(name))

    async with asyncio.TaskGroup() as group:
        for name in itertools.cycle(names):
            group.create_task(ask(name))
            await asyncio.sleep(ASK_SECONDS)
