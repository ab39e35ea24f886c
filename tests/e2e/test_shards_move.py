"""The connectors of a StatefulSet's pods while their number changes from two to three, pod after pod."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from buildkite_connector.kubernetes.shards import shard_of
from harness.replicas import ACTS, Replica, replica
from harness.rig import Rig
from scenarios.tenant import Tenant

CONNECTORS = 10
LATENCY = 0.1


class Pods:
    """Of a StatefulSet; each has the settings that it was started with, as during a rolling update."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._stacks: dict[str, AsyncExitStack] = {}
        self.started: list[tuple[int, Replica]] = []

    async def start(self, ordinal: int, shards: int) -> Replica:
        name = f"bkc-{ordinal}"
        self._stacks[name] = AsyncExitStack()
        pod = await self._stacks[name].enter_async_context(
            replica(self._rig, name, BUILDKITE_CONNECTOR_SHARDS=str(shards))
        )
        self.started.append((shards, pod))
        return pod

    async def stop(self, ordinal: int) -> None:
        await self._stacks.pop(f"bkc-{ordinal}").aclose()

    def of(self, shards: int) -> list[Replica]:
        return [pod for count, pod in self.started if count == shards]

    def that_acted(self, shards: int) -> list[Replica]:
        return [pod for pod in self.of(shards) if pod.acts_since(0.0)]

    def senders(self, tenant: Tenant) -> list[str]:
        """Who made its requests to Buildkite, in their order, each change once."""
        found: list[str] = []
        for request in tenant.collecting:
            [sender] = [f"{pod.name} of {count}" for count, pod in self.started if pod.made(request)]
            if not found or found[-1] != sender:
                found.append(sender)
        return found


@pytest.fixture
async def pods(rig: Rig) -> AsyncIterator[Pods]:
    running = Pods(rig)
    yield running
    for stack in list(running._stacks.values()):
        with contextlib.suppress(AssertionError):
            await stack.aclose()


async def test_a_connector_moves_without_being_synced_twice_at_once_and_none_is_left_behind(
    rig: Rig, pods: Pods
) -> None:
    tenants = [Tenant(rig, f"acme-{number}") for number in range(CONNECTORS)]
    for tenant in tenants:
        await tenant.apply()
    await pods.start(0, 2)
    await pods.start(1, 2)
    for tenant in tenants:
        await tenant.until_ready()
    rig.buildkite.latency = LATENCY

    newest = await pods.start(2, 3)
    await newest.operator.until_logged("of 2 shards in place of 3")
    asked = {tenant.name: await tenant.request_sync() for tenant in tenants}
    await pods.stop(1)
    await (await pods.start(1, 3)).operator.until_logged("of 2 shards in place of 3")
    assert [pod.terms for pod in pods.of(3)] == [0, 0]
    await pods.stop(0)
    stopped = time.monotonic()
    await pods.start(0, 3)
    for pod in pods.of(3):
        await pod.operator.until_logged(ACTS)
    for tenant in tenants:
        wanted = asked[tenant.name]
        await tenant.until(
            lambda status, wanted=wanted: (  # type: ignore[misc]
                status.get("lastHandledSyncRequest") == wanted and status["phase"] != "Syncing"
            )
        )
    print(f"shards: all served {time.monotonic() - stopped:.2f} s after the last old pod had stopped")
    for tenant in tenants:
        await tenant.sync()

    old_pods, new_pods = pods.that_acted(2), pods.that_acted(3)  # of three shards one is empty in 1 of 20 namespaces
    assert max(pod.last_act for pod in old_pods) < min(pod.first_act for pod in new_pods)
    for tenant in tenants:
        old, new = (shard_of(rig.namespace, tenant.name, count) for count in (2, 3))
        assert pods.senders(tenant) == [f"bkc-{old} of 2", f"bkc-{new} of 3"]
    await asyncio.gather(*(pods.stop(ordinal) for ordinal in range(3)))
