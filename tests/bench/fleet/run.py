"""Measures one operator process with many connectors on a real API server.

All resources and their Secrets exist before the operator starts, as after an upgrade or a node's loss. The operator
runs as its service account with the rights of deploy/cluster, so that the audit log tells its requests from others'.
"""

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from bench.fleet.cluster import FleetCluster
from bench.fleet.measurement import WRITES, Busy, FleetMeasurement, Idle, Restart, Start, busiest_second, count, use_of
from bench.fleet.opened import SLUG, Tell, open_fleet, scrape
from bench.fleet.reactions import BUSY, TRIES, Changes
from bench.machine import Bystanders
from harness.audit import read_requests
from harness.control_plane import Assets, ControlPlane
from harness.rig import OperatorProcess
from harness.service_account import ServiceAccount
from simulators.c1.faults import REST_RPCS
from simulators.c1.process import C1Process

NEXT_POLL = 60.0
"""Seconds between two GetTask of a connector."""
START_SECONDS = 900.0
QUIET_SECONDS = 20.0
"""Without a new status, before idle life begins."""
SAMPLE_SECONDS = 5.0
SCRAPE_SECONDS = 30.0
MOST_NOTES = 5


async def measure_fleet(
    assets: Assets, connectors: int, idle_seconds: float, tell: Tell, *, in_c1: bool = False
) -> FleetMeasurement:
    """`in_c1`: each has `spec.c1`. Raises TimeoutError when a connector does not become Ready, or does not react."""
    bystanders = Bystanders()
    async with open_fleet(assets, connectors, tell, f"--next-poll={NEXT_POLL}", in_c1=in_c1) as opened:
        cluster, c1, names, environment = opened.cluster, opened.c1, opened.names, dict(opened.environment)
        operator = OperatorProcess(environment, ready_within=START_SECONDS)
        changes, changed = Changes(cluster, SLUG), 3 * max(1, min(TRIES, connectors // 9))
        fleet = _Fleet(opened.control_plane, opened.account, cluster, c1, operator, names, tell)
        began = time.monotonic()
        async with operator:
            start = await fleet.start(began)
            idle = await fleet.idle(idle_seconds)
            idle = idle if in_c1 else replace(idle, rest_requests=None)
            reactions = await changes.react(names[:changed], tell)
            await fleet.until_quiet()
        began, hellos = time.monotonic(), await fleet.hellos()
        environment["BUILDKITE_CONNECTOR_CONCURRENCY"] = str(2 * (BUSY + changed))  # one namespace has half of them
        async with OperatorProcess(environment, ready_within=START_SECONDS) as operator:
            restart = await fleet.restart(began, hellos)
            syncing = names[2 * changed :][:BUSY]
            tell(f"{len(syncing)} syncs run")
            async with changes.all_syncing(opened.buildkite, syncing):
                busy = await changes.react(names[changed : 2 * changed], tell)
            peak = use_of(operator.pid).peak
        violations = len((await c1.stats())["violations"])
    return FleetMeasurement(
        connectors, start, idle, reactions, restart, Busy(len(syncing), busy, peak), violations, bystanders.cores()
    )


class _Fleet:
    def __init__(
        self,
        control_plane: ControlPlane,
        account: ServiceAccount,
        cluster: FleetCluster,
        c1: C1Process,
        operator: OperatorProcess,
        names: Sequence[str],
        tell: Tell,
    ) -> None:
        self._log = control_plane.audit_log
        self._user = f"system:serviceaccount:{account.namespace}:{account.name}"
        self._cluster = cluster
        self._c1 = c1
        self._operator = operator
        self._names = names
        self._tell = tell

    async def start(self, began: float) -> Start:
        """Until every connector is Ready, and C1 has its snapshot."""
        seen = self._cluster.seen
        await self._until(lambda: all(each.ready_at is not None for each in seen.values()))
        ready = sorted(each.ready_at - began for each in seen.values() if each.ready_at is not None)
        self._tell(f"all Ready after {ready[-1]:.1f} s")
        await self._until(lambda: all("lastDelivery" in each.status for each in seen.values()))
        delivered = time.monotonic() - began
        self._tell(f"all delivered after {delivered:.1f} s")
        use = use_of(self._operator.pid)
        await self.until_quiet()  # the last events come after the last status
        events = await self._cluster.events()
        by_connector = Counter(event["regarding"]["name"] for event in events)
        failures = Counter(reason for each in seen.values() for reason in each.failures)
        warnings = [event for event in events if event["type"] == "Warning"]
        for note in sorted({event["note"] for event in warnings})[:MOST_NOTES]:
            self._tell(f"Warning: {note}")
        return Start(
            first_ready=ready[0],
            all_ready=ready[-1],
            all_delivered=delivered,
            writes_until_ready=_mean_and_most([each.writes_until_ready for each in seen.values()]),
            writes_until_delivered=_mean_and_most([each.writes for each in seen.values()]),
            events=_mean_and_most([by_connector[name] for name in self._names]),
            warnings=len(warnings),
            failures=dict(failures),
            hellos_at_once=(await self._c1.stats())["most_under_way"].get("Hello", 0),
            cpu=use.cpu,
            peak=use.peak,
        )

    async def idle(self, seconds: float) -> Idle:
        """Nothing is written any more when this begins."""
        self._tell(f"idle for {seconds:.0f} s")
        begin, before, polls = datetime.now(UTC), use_of(self._operator.pid), await self._calls("GetTask")
        rest_requests = await self._calls(*REST_RPCS)
        clock, memory = time.monotonic(), before.memory
        scraped = clock
        while (left := clock + seconds - time.monotonic()) > 0:
            await asyncio.sleep(min(left, SAMPLE_SECONDS))
            if time.monotonic() - scraped >= SCRAPE_SECONDS:
                scraped = time.monotonic()
                await self._scrape()
            memory = max(memory, use_of(self._operator.pid).memory)
        end, after = datetime.now(UTC), use_of(self._operator.pid)
        requests = await asyncio.to_thread(read_requests, self._log, self._user)
        counted = count(requests, begin, end)
        return Idle(
            seconds=(end - begin).total_seconds(),
            memory=memory,
            cpu=after.cpu - before.cpu,
            requests=dict(counted),
            writes=sum(
                number for kind, number in counted.items() if kind.split()[0] in WRITES and not kind.endswith(" leases")
            ),
            secret_reads_busiest_second=busiest_second(requests, "get secrets", begin, end),
            polls=await self._calls("GetTask") - polls,
            rest_requests=await self._calls(*REST_RPCS) - rest_requests,
        )

    async def _scrape(self) -> None:
        """As Prometheus does."""
        text = await scrape(self._operator)
        assert text.count("buildkite_connector_info{") == len(self._names)

    async def hellos(self) -> int:
        """So far, at C1."""
        return await self._calls("Hello")

    async def restart(self, began: float, hellos: int) -> Restart:
        """Until C1 was greeted for each connector again, and nothing is written. `hellos`: of the process before."""
        seen = self._cluster.seen.values()
        before = [each.writes for each in seen]
        for each in seen:
            each.failures.clear()
        async with asyncio.timeout(START_SECONDS):
            while await self.hellos() < hellos + len(self._names):  # noqa: ASYNC110  (another process counts them)
                await asyncio.sleep(1.0)
        greeted = time.monotonic() - began
        self._tell(f"all have said Hello to C1 again after {greeted:.1f} s")
        await self.until_quiet()
        failures = Counter(reason for each in seen for reason in each.failures)
        writes = [each.writes - had for each, had in zip(seen, before, strict=True)]
        return Restart(greeted, _mean_and_most(writes), dict(failures))

    async def _calls(self, *rpcs: str) -> int:
        calls = (await self._c1.stats())["calls"]
        return sum(sum(calls.get(rpc, {}).values()) for rpc in rpcs)

    async def _until(self, predicate: Callable[[], bool]) -> None:
        try:
            await self._cluster.until(predicate, START_SECONDS)
        except TimeoutError:
            raise TimeoutError(f"not within {START_SECONDS:.0f} s: {dict(self._cluster.reasons())}") from None

    async def until_quiet(self) -> None:
        while True:
            before = sum(each.writes for each in self._cluster.seen.values())
            await asyncio.sleep(QUIET_SECONDS)
            if sum(each.writes for each in self._cluster.seen.values()) == before:
                return


def _mean_and_most(numbers: Sequence[int]) -> tuple[float, int]:
    return statistics.fmean(numbers), max(numbers)
