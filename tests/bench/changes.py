"""Grants while a long sync waits for Buildkite's quota: how soon C1 has each answer, and what they cost the sync.

Two operators sync the same made organization at the same time, each at simulators of its own; only one of them is
asked for grants meanwhile.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import cycle
from math import ceil
from pathlib import Path

from bench.machine import Bystanders, Machine
from bench.promises import ConditionValue
from bench.report import markdown_table
from harness.kubernetes_apis import Kubernetes, simulated_api
from harness.rig import Rig
from scenarios.tenant import Stopwatch, Tenant
from simulators.buildkite.made_organization import make_organization
from simulators.buildkite.quota import Limits
from simulators.c1.readings import Effect

ACCOUNTS, TEAMS, MEMBERSHIPS = 1000, 500, 3800
LIMIT, SHARE = 50, 40
"""Requests a window, and how many of them a sync takes (80 %)."""
LATENCY = 0.02
NEXT_POLL = 0.2
ANSWERED_WITHIN = 2.0
EACH_WINDOW = 2
"""Changes: a sync leaves 10 requests of a window, and each takes two or three."""
WINDOW = 60.0
"""Seconds of the quota's window at Buildkite: the page is written of no other."""

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Sync:
    """One sync under the quota: `seconds` and `requests` while it ran, `throttled` those that Buildkite refused.

    `answered`: the seconds of each grant that came meanwhile, until C1 had the answer. `writes`: how many of them had
    an effect at Buildkite, `violations` of C1's contract.
    """

    seconds: float
    requests: int
    throttled: int
    violations: int
    writes: int = 0
    answered: tuple[float, ...] = ()

    def within(self, share: float) -> float:
        """The seconds within which this share of the grants was answered."""
        return sorted(self.answered)[ceil(share * len(self.answered)) - 1]


@dataclass(frozen=True, slots=True)
class Beside:
    """The sync alone and the one with changes beside it; `others`: cores that other programs kept busy meanwhile."""

    window: float
    alone: Sync
    beside: Sync
    others: float

    def verdicts(self) -> list[ConditionValue]:
        alone, beside = self.alone, self.beside
        own = beside.requests - alone.requests
        most = alone.seconds + self.window * ceil(own / SHARE)
        refused, breaches = alone.throttled + beside.throttled, alone.violations + beside.violations
        return [
            ConditionValue(
                f"a grant while a sync waits for its quota: p95 ≤ {ANSWERED_WITHIN:g} s",
                f"{beside.within(0.95):.2f} s ({len(beside.answered)} grants, {max(beside.answered):.2f} s at most)",
                beside.within(0.95) <= ANSWERED_WITHIN,
            ),
            ConditionValue(
                "no 429, no breach of C1's contract",
                f"{refused} and {breaches} in {alone.requests + beside.requests:,} requests",
                refused == breaches == 0,
            ),
            ConditionValue(
                "the sync takes no longer than the windows that the grants' own requests fill",
                f"{beside.seconds:.1f} s beside {own} requests more, {alone.seconds:.1f} s alone",
                beside.seconds <= most,
            ),
        ]


async def measure_changes(window: float, tell: Tell) -> Beside:
    """Raises TimeoutError or AssertionError when one of them does not end."""
    bystanders = Bystanders()
    async with simulated_api() as kubernetes:
        alone, beside = await asyncio.gather(
            _run(kubernetes, "alone", window, tell, changes=False),
            _run(kubernetes, "beside", window, tell, changes=True),
        )
    return Beside(window, alone, beside, bystanders.cores())


async def _run(kubernetes: Kubernetes, namespace: str, window: float, tell: Tell, *, changes: bool) -> Sync:
    async with Rig(kubernetes, namespace) as rig:
        rig.buildkite.api.organizations.clear()
        rig.buildkite.api.organizations["large"] = make_organization(ACCOUNTS, TEAMS, MEMBERSHIPS, slug="large")
        rig.buildkite.quota.limits = Limits(user=None, organization=None, window=0.001)  # leaves the first window empty
        rig.c1.policy.next_poll = NEXT_POLL
        tenant = Tenant(rig, "large", writes=True)
        async with rig.operator():
            await tenant.become_ready(provisioning={"enabled": True})
            await tenant.deliver()
            rig.buildkite.latency = LATENCY
            rig.buildkite.quota.limits = Limits(user=LIMIT, organization=None, window=window, reset_decimals=3)
            return await _sync(tenant, window, tell, changes=changes)


async def _sync(tenant: Tenant, window: float, tell: Tell, *, changes: bool) -> Sync:
    """One sync on request, with grants at random moments of it."""
    buildkite = tenant.rig.buildkite
    before = len(buildkite.requests)
    watch = Stopwatch()
    syncing = asyncio.create_task(_one_sync(tenant, window))
    answered: list[float] = []
    chance, roles = random.Random(4), cycle(("member", "maintainer"))
    while changes and not syncing.done():
        await asyncio.wait({syncing}, timeout=chance.uniform(0.5, 1.5) * window / EACH_WINDOW)
        if not syncing.done():
            answered.append(await _grant(tenant, chance, next(roles), window))
            tell(f"{watch.seconds:.0f} s: a grant was answered after {answered[-1]:.2f} s")
    await syncing
    seconds, requests = watch.seconds, len(buildkite.requests) - before
    tell(f"{tenant.rig.namespace}: synced after {seconds:.1f} s, with {requests} requests")
    return Sync(
        seconds,
        requests,
        buildkite.transcript.throttled,
        len(tenant.rig.violations),
        len([each for each in buildkite.writes if each.effective]),
        tuple(answered),
    )


async def _one_sync(tenant: Tenant, window: float) -> None:
    value = await tenant.request_sync()
    await tenant.until(
        lambda status: status.get("lastHandledSyncRequest") == value and status["phase"] != "Syncing",
        timeout=20 * window + 60,
    )


async def _grant(tenant: Tenant, chance: random.Random, role: str, window: float) -> float:
    """A grant to a random person in a random team; the seconds until C1 has its answer."""
    organization = tenant.rig.buildkite.organization
    team = chance.choice(organization.teams.records)["id"]
    user = chance.choice(organization.members.records)["id"]
    watch = Stopwatch()
    request = tenant.c1.request("grant", team, role, user, client=tenant.client)
    reading = await tenant.c1.ended(request, timeout=3 * window)
    assert reading.effect in (Effect.DONE, Effect.ALREADY), reading
    return watch.seconds


PAGE = """\
# Benchmarks: grants beside a sync

Written by `make bench-changes`, {date}, on {machine}.

A sync of an organization with {accounts:,} accounts, {teams} teams and {memberships:,} memberships waits for
Buildkite's quota: {limit} requests every {window:.0f} s, of which it takes {share} (`sync.quotaPercent: 80`).
Buildkite answers after {latency:.0f} ms. C1 asks for grants at random moments, about {each} in each window, and
is asked for tasks every {poll} s. The table shows the time from the request in C1 until C1 has the answer. A second
operator syncs the same organization at the same time without grants. Buildkite, C1 and Kubernetes are simulators.
Other programs kept {others:.2f} cores busy.
[provisioning.md](provisioning.md) describes what a grant does.

"""


def write_page(folder: Path, measured: Beside, machine: Machine, date: datetime) -> None:
    beside = measured.beside
    page = PAGE.format(
        date=f"{date:%Y-%m-%d}",
        machine=machine,
        accounts=ACCOUNTS,
        teams=TEAMS,
        memberships=MEMBERSHIPS,
        limit=LIMIT,
        share=SHARE,
        window=measured.window,
        latency=LATENCY * 1000,
        each=EACH_WINDOW,
        poll=NEXT_POLL,
        others=measured.others,
    )
    kept = [(each.promise, each.measured, "kept" if each.kept else "MISSED") for each in measured.verdicts()]
    shares: Sequence[tuple[str, str]] = [
        (f"{share:.0%}", f"{beside.within(share):.2f} s") for share in (0.5, 0.9, 0.95, 1.0)
    ]
    page += markdown_table(("Promise", "Measured", ""), kept) + "\n"
    page += markdown_table(("Of the grants", "answered within"), shares)
    (folder / "benchmarks-changes.md").write_text(page, encoding="utf-8")
