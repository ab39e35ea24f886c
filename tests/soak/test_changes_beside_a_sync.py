"""Grants while a long sync waits for Buildkite's quota: each is answered soon, and the sync hardly takes longer.

WINDOW in the environment is the quota's window in seconds; Buildkite's lasts 60, and the test then takes half an hour.
"""

import asyncio
import os
import random
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import cycle
from math import ceil
from typing import Any

from harness.kubernetes_apis import Kubernetes
from harness.rig import Rig
from scenarios.tenant import Stopwatch, Tenant
from simulators.buildkite.made_organization import make_organization
from simulators.buildkite.quota import Limits
from simulators.c1.readings import Effect

WINDOW = float(os.environ.get("WINDOW", "6"))
LIMIT, SHARE = 50, 40
"""Requests a window, and how many of them a sync takes (80 %)."""
LATENCY = 0.02
ANSWERED_WITHIN = 2.0
"""Seconds within which 95 of 100 changes are answered."""
EACH_WINDOW = 2
"""Changes: what a sync leaves is 10 requests, and each takes two or three, and a team that is read again."""
PROVISIONING: Mapping[str, Any] = {"provisioning": {"enabled": True}}


@dataclass(frozen=True)
class Sync:
    """`seconds` and requests of one sync under the quota; what each change took that came meanwhile."""

    seconds: float
    requests: int
    answered: tuple[float, ...] = ()

    @property
    def p95(self) -> float:
        return sorted(self.answered)[ceil(0.95 * len(self.answered)) - 1]


async def test_changes_are_answered_while_a_sync_waits_for_its_quota(kubernetes: Kubernetes) -> None:
    async with Rig(kubernetes, "beside") as rig:
        organization = make_organization(1000, 500, 3800, slug="large")
        rig.buildkite.api.organizations.clear()
        rig.buildkite.api.organizations["large"] = organization
        tenant = Tenant(rig, "large", writes=True)
        async with rig.operator():
            await tenant.become_ready(**PROVISIONING)
            await tenant.deliver()
            rig.buildkite.latency = LATENCY
            rig.buildkite.quota.limits = Limits(user=LIMIT, organization=None, window=WINDOW, reset_decimals=3)
            alone = await sync(tenant, changes=False)
            beside = await sync(tenant, changes=True)
        own = beside.requests - alone.requests
        print(
            f"alone {alone.seconds:.1f} s, {alone.requests} requests; beside changes {beside.seconds:.1f} s, {own} more"
        )
        print(f"{len(beside.answered)} changes: p95 {beside.p95:.2f} s, longest {max(beside.answered):.2f} s")
        assert rig.buildkite.transcript.throttled == 0
        assert rig.violations == []
        assert len(beside.answered) >= EACH_WINDOW * (alone.seconds // WINDOW - 1)
        assert beside.p95 <= ANSWERED_WITHIN
        assert beside.seconds <= alone.seconds + WINDOW * ceil(own / SHARE)


async def sync(tenant: Tenant, *, changes: bool) -> Sync:
    """One sync on request, from the beginning of a window of the quota."""
    before = len(tenant.rig.buildkite.requests)
    watch = Stopwatch()
    syncing = asyncio.create_task(tenant_sync(tenant))
    answered: list[float] = []
    chance = random.Random(4)
    roles = cycle(("member", "maintainer"))
    while changes and not syncing.done():
        await asyncio.wait({syncing}, timeout=chance.uniform(0.5, 1.5) * WINDOW / EACH_WINDOW)
        if not syncing.done():
            answered.append(await change(tenant, chance, next(roles)))
    await syncing
    return Sync(watch.seconds, len(tenant.rig.buildkite.requests) - before, tuple(answered))


async def tenant_sync(tenant: Tenant) -> None:
    value = await tenant.request_sync()
    await tenant.until(
        lambda status: status.get("lastHandledSyncRequest") == value and status["phase"] != "Syncing",
        timeout=20 * WINDOW + 60,
    )


async def change(tenant: Tenant, chance: random.Random, role: str) -> float:
    """A grant to a random user in a random team; the seconds until C1 has its answer."""
    organization = tenant.rig.buildkite.organization
    team = chance.choice(organization.teams.records)["id"]
    user = chance.choice(organization.members.records)["id"]
    watch = Stopwatch()
    request = tenant.c1.request("grant", team, role, user, client=tenant.client)
    reading = await tenant.c1.ended(request, timeout=3 * WINDOW)
    assert reading.effect in (Effect.DONE, Effect.ALREADY), reading
    return watch.seconds
