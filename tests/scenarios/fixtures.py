"""The fixtures of the scenarios: one operator that most share, and rigs of their own for those that end it.

A test module has to have `kubernetes` and `shared_namespace` (module) and `namespace` (function). All run in the
module's event loop. Whatever the scenario, C1 must have seen no breach of its contract, and nothing secret be told.
"""

import contextlib
import itertools
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from harness.kubernetes_apis import Kubernetes, SimulatedApi
from harness.rig import OperatorProcess, Rig
from scenarios.secrecy import everything_told, find_leaks
from scenarios.tenant import Idler, NewTenant, Stopwatch, Tenant


@contextlib.asynccontextmanager
async def watched_rig(kubernetes: Kubernetes, namespace: str) -> AsyncIterator[Rig]:
    """A rig whose end shows what must be so after every scenario."""
    async with Rig(kubernetes, namespace) as rig:
        rig.forks = isinstance(kubernetes, SimulatedApi)
        yield rig
        assert rig.violations == []
        assert [line for operator in rig.operators for line in operator.lines if "Traceback" in line] == []
        assert find_leaks(rig, await everything_told(rig)) == []


@pytest_asyncio.fixture(loop_scope="module")
async def rig(kubernetes: Kubernetes, namespace: str) -> AsyncIterator[Rig]:
    """A rig without an operator: the scenario starts and ends its own."""
    async with watched_rig(kubernetes, namespace) as opened:
        yield opened
        for operator in opened.operators:
            print("operator:", *operator.lines, sep="\n  ")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_rig(kubernetes: Kubernetes, shared_namespace: str) -> AsyncIterator[Rig]:
    async with watched_rig(kubernetes, shared_namespace) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_operator(shared_rig: Rig) -> AsyncIterator[OperatorProcess]:
    """One operator for many tenants; it tells all that it can."""
    async with shared_rig.operator("--log-level", "debug") as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def idler(shared_rig: Rig, shared_operator: OperatorProcess) -> Idler:
    """The operator's first tenant."""
    tenant = Tenant(shared_rig, "idle")
    await tenant.become_ready()
    await tenant.deliver()
    await tenant.until_condition("Delivered", "True")
    await tenant.until_polled(1)
    return Idler(tenant, await tenant.footprint(), tenant.polls, Stopwatch())


@pytest.fixture(scope="module")
def operator(shared_operator: OperatorProcess, idler: Idler) -> OperatorProcess:
    """The shared operator, with a tenant that idles from the first scenario to the last."""
    return shared_operator


_numbers = itertools.count(1)


@pytest_asyncio.fixture(loop_scope="module")
async def new_tenant(shared_rig: Rig, operator: OperatorProcess) -> AsyncIterator[NewTenant]:
    """Makes tenants of the shared operator, by name or without; their connectors are deleted in the end."""
    tenants: list[Tenant] = []
    start = len(operator.lines)

    def make(name: str = "acme", *organizations: str, **others: Any) -> Tenant:
        tenants.append(Tenant(shared_rig, f"{name}-{next(_numbers)}", *organizations, **others))
        return tenants[-1]

    yield make
    shared_rig.buildkite.latency = 0.0
    print("operator:", *operator.lines[start:], sep="\n  ")
    for tenant in tenants:
        if await tenant.exists():
            assert find_leaks(shared_rig, [json.dumps((await tenant.get())["status"])]) == []
            await tenant.delete()
    assert shared_rig.violations == []
    shared_rig.buildkite.journal.check()


@pytest_asyncio.fixture(loop_scope="module")
async def tenant(new_tenant: NewTenant) -> Tenant:
    return new_tenant()
