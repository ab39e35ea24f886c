"""Two operator processes on one cluster: one acts, and the other takes over; nothing is synced twice at once or lost.

FAILOVERS in the environment is how often each end of a leader is tried.
"""

import asyncio
import os
import signal
import time
from contextlib import AsyncExitStack
from itertools import pairwise
from typing import Any

import pytest

from harness.replicas import ACTS, Replica, replica
from harness.rig import Rig
from scenarios.observed import get
from scenarios.tenant import Tenant

TIMES = range(int(os.environ.get("FAILOVERS", "2")))
CLEAN_SECONDS, CRASH_SECONDS = 2.0, 20.0
SHORT_TIMES: Any = {
    "BUILDKITE_CONNECTOR_LEASE_DURATION": "3s",
    "BUILDKITE_CONNECTOR_RENEW_DEADLINE": "2s",
    "BUILDKITE_CONNECTOR_RETRY_PERIOD": "1s",
}
LOST = 1
"""The exit code of a process that lost its Lease."""
LATENCY = 0.2
"""Seconds of each answer of Buildkite's, so that a sync takes long enough to be interrupted."""


async def begin_sync(rig: Rig, tenant: Tenant) -> str:
    """A sync on request that is under way and goes on for a while; gives the request."""
    syncs = tenant.syncs
    rig.buildkite.latency = LATENCY
    asked = await tenant.request_sync()
    async with asyncio.timeout(30):
        while tenant.syncs == syncs:  # noqa: ASYNC110  (the simulator's transcript has no event)
            await asyncio.sleep(0.02)
    return asked


async def took_over(old: Replica, new: Replica, since: float) -> float:
    """Seconds from `since` until the new leader acts. Nothing that the old one sent came after that."""
    await new.operator.until_logged(ACTS, timeout=40)
    async with asyncio.timeout(10):
        while not new.acts_since(since):  # noqa: ASYNC110  (the proxy has no event)
            await asyncio.sleep(0.01)
    began = new.acts_since(since)[0]
    assert not old.acts_since(began)
    return began - since


async def nothing_is_lost(tenant: Tenant, asked: str, task: str) -> None:
    """The request of before is answered by a whole sync, and so is the task that C1 handed out meanwhile."""
    await tenant.until(lambda status: status.get("lastHandledSyncRequest") == asked and status["phase"] != "Syncing")
    assert (await tenant.finished(task)).success
    await tenant.until_condition("Ready", "True")


@pytest.mark.parametrize("number", TIMES)
class TestFailover:
    async def test_after_a_clean_stop_the_other_acts_within_two_seconds(self, rig: Rig, number: int) -> None:
        async with replica(rig, "first") as old, replica(rig, "second") as new:
            tenant = Tenant(rig, "acme")
            await tenant.become_ready()
            asked = await begin_sync(rig, tenant)
            asyncio.get_running_loop().call_later(0.1, rig.buildkite.__setattr__, "latency", 0.0)
            since = time.monotonic()
            assert await old.operator.stop() == 0
            ended = time.monotonic()
            task = tenant.add_task()
            seconds = await took_over(old, new, since)
            print(f"failover clean: {seconds:.2f} s from SIGTERM, which took {ended - since:.2f} s")
            assert seconds <= CLEAN_SECONDS
            await nothing_is_lost(tenant, asked, task)
            assert tenant.syncs <= 3

    async def test_after_a_crash_the_other_acts_within_twenty_seconds(self, rig: Rig, number: int) -> None:
        async with replica(rig, "first") as old, replica(rig, "second") as new:
            tenant = Tenant(rig, "acme")
            await tenant.become_ready()
            asked = await begin_sync(rig, tenant)
            since = time.monotonic()
            await old.operator.kill()
            rig.buildkite.latency = 0.0
            task = tenant.add_task()
            seconds = await took_over(old, new, since)
            print(f"failover crash: {seconds:.2f} s")
            assert seconds <= CRASH_SECONDS
            await nothing_is_lost(tenant, asked, task)

    async def test_a_leader_without_its_api_server_stops_before_the_other_acts(self, rig: Rig, number: int) -> None:
        async with replica(rig, "first") as old, replica(rig, "second") as new:
            tenant = Tenant(rig, "acme")
            await tenant.become_ready()
            asked = await begin_sync(rig, tenant)
            rig.buildkite.latency = 1.0
            since = time.monotonic()
            old.api.cut()
            task = tenant.add_task()
            seconds = await took_over(old, new, since)
            rig.buildkite.latency = 0.0
            stopped = old.acts_since(since)[-1] - since
            print(f"failover partition: {seconds:.2f} s, the old leader stopped after {stopped:.2f} s")
            assert seconds <= CRASH_SECONDS
            await nothing_is_lost(tenant, asked, task)
            await old.operator.until_logged("error: This process lost its Lease")
            assert await old.operator.ends() == LOST
            async with replica(rig, "first") as again:  # the container is started anew
                await asyncio.sleep(3)
                assert not again.acts_since(0.0)
                assert (old.terms, new.terms, again.terms) == (1, 1, 0)


async def test_a_leader_that_was_frozen_does_nothing_when_it_goes_on(rig: Rig) -> None:
    """As on a machine that stands still for a while: its timers, and what has arrived, all come at once."""
    async with replica(rig, "first", **SHORT_TIMES) as old, replica(rig, "second", **SHORT_TIMES) as new:
        tenant = Tenant(rig, "acme")
        await tenant.become_ready()
        rig.buildkite.latency = 1.0
        asked = await tenant.request_sync()
        async with asyncio.timeout(30):  # until it has asked for accounts and teams, and waits for the answers
            while rig.buildkite.transcript.in_flight < 2:  # noqa: ASYNC110  (the transcript has no event)
                await asyncio.sleep(0.02)
        os.kill(old.operator.pid, signal.SIGSTOP)
        task, since = tenant.add_task(), time.monotonic()
        await took_over(old, new, since)
        os.kill(old.operator.pid, signal.SIGCONT)
        resumed = time.monotonic()
        rig.buildkite.latency = 0.0
        await nothing_is_lost(tenant, asked, task)
        await old.operator.until_logged("Timeout (")
        assert await old.operator.ends() == LOST
        assert not old.acts_since(resumed)


async def test_a_rolling_update_hands_over_within_two_seconds_and_no_two_act_at_once(rig: Rig) -> None:
    """As a Deployment does it: a new pod comes and is Ready, then an old one gets SIGTERM; and once more."""
    async with AsyncExitStack() as pods:
        old = [await pods.enter_async_context(replica(rig, name)) for name in ("old-1", "old-2")]
        running = [*old]
        tenant = Tenant(rig, "acme")
        await tenant.become_ready()
        for number, leaving in enumerate(old, start=1):
            new = await pods.enter_async_context(replica(rig, f"new-{number}"))
            running.append(new)
            assert (await get(new.operator, "/readyz")).status_code == 200
            asked = await begin_sync(rig, tenant)
            asyncio.get_running_loop().call_later(0.1, rig.buildkite.__setattr__, "latency", 0.0)
            led, since = leaving.terms > 0, time.monotonic()
            assert await leaving.operator.stop() == 0
            running.remove(leaving)
            task = tenant.add_task()
            if led:
                seconds = await first_act(running, since)
                print(f"rolling update: {seconds:.2f} s from SIGTERM")
                assert seconds <= CLEAN_SECONDS
            await nothing_is_lost(tenant, asked, task)
        assert [replica.name for replica in running] == ["new-1", "new-2"]
        acted = sorted((each for each in (*old, *running) if each.acts_since(0.0)), key=lambda each: each.first_act)
        assert all(before.last_act < after.first_act for before, after in pairwise(acted))
        assert [each.terms for each in acted] == [1] * len(acted)
        assert acted[0] in old
        assert acted[-1] in running


async def first_act(replicas: list[Replica], since: float) -> float:
    """Seconds from `since` until one of them acts."""
    async with asyncio.timeout(10):
        while not (acts := [at for each in replicas for at in each.acts_since(since)]):  # noqa: ASYNC110  (as above)
            await asyncio.sleep(0.01)
    return min(acts) - since
