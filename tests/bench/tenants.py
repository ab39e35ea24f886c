"""Two namespaces in one operator, one of them with connectors that misbehave: how soon the other's syncs begin.

All on simulators: nothing but the operator's own command is needed.
"""

import asyncio
import contextlib
import itertools
import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from secrets import token_hex

from bench.fleet.measurement import use_of
from bench.machine import Bystanders, Machine
from bench.promises import MB, ConditionValue
from bench.report import markdown_table
from buildkite_connector.kubernetes.schema import API_VERSION, KIND, SYNC_REQUESTED_AT
from harness.kubernetes_apis import Manifest, simulated_api
from harness.rig import OperatorProcess, Rig
from simulators.buildkite.api import Token, User
from simulators.buildkite.made_organization import make_organization
from simulators.buildkite.quota import Limits
from simulators.c1.server import C1Simulator

NOISY, CALM = "noisy", "calm"
NOISY_CONNECTORS = 100
"""Connectors of the run that docs/benchmarks-tenants.md tells of."""
LARGE, SMALL = (300, 100, 600), (20, 4, 40)
"""Accounts, teams and memberships of the organizations of the noisy connectors and of the calm one."""
LIMIT, WINDOW = 50, 60.0
ANNOTATION_BYTES = 200_000
ANNOTATED_EACH = 1.0
WORST_FOR = 30.0
"""Seconds that the noisy connectors misbehave before anything is measured."""
TRIES, APART = 10, 12.0
STARTS_WITHIN = 2.0
PATIENCE = 300.0

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds from an annotation until the status says that its sync has begun, for each try, and `ready`: from the
    first apply of a connector until it is Ready."""

    started: tuple[float, ...]
    ready: float

    @property
    def longest(self) -> float:
        return max(self.started)


@dataclass(frozen=True, slots=True)
class Tenants:
    """The calm namespace `alone` and `beside` the noisy one. `reasons`: what the noisy connectors say in Ready.

    `core`: what the operator took of a core, `peak`: its resident bytes. `others`: cores that other programs than these
    kept busy.
    """

    connectors: int
    alone: Waits
    beside: Waits
    reasons: Sequence[tuple[str, int]]
    core: float
    peak: int
    others: float

    def verdicts(self) -> list[ConditionValue]:
        longest = self.beside.longest
        return [
            ConditionValue(
                f"another namespace's sync begins ≤ {STARTS_WITHIN:g} s after its annotation",
                f"{longest:.2f} s at most in {len(self.beside.started)} tries"
                f" ({statistics.median(self.beside.started):.2f} s in the middle)",
                longest <= STARTS_WITHIN,
            )
        ]


async def measure_tenants(connectors: int, tell: Tell) -> Tenants:
    """Raises TimeoutError or AssertionError when something of the calm namespace does not happen at all."""
    bystanders = Bystanders()
    async with simulated_api() as kubernetes, Rig(kubernetes, CALM) as rig:
        _prepare(rig)
        operator = rig.operator(everywhere=True)
        async with operator:
            alone = await _measure(rig, "alone", tell)
            tell(f"{connectors} connectors of another namespace misbehave")
            names = [f"worst-{number:03}" for number in range(connectors)]
            for name, secret in zip(names, _worst_secrets(rig), strict=False):
                await rig.apply(_secret(NOISY, name, secret), _connector(NOISY, name, "x" * ANNOTATION_BYTES))
            before, began = use_of(operator.pid).cpu, time.monotonic()
            async with _annotating(rig, names):
                await asyncio.sleep(WORST_FOR)
                beside = await _measure(rig, "beside", tell)
            use = use_of(operator.pid)
            core = (use.cpu - before) / (time.monotonic() - began)
            reasons = await _reasons(rig, names)
            _end(operator)
    return Tenants(connectors, alone, beside, reasons, core, use.peak, bystanders.cores())


def _prepare(rig: Rig) -> None:
    buildkite = rig.buildkite
    buildkite.api.organizations.clear()
    for slug, size in (("large", LARGE), ("small", SMALL)):
        buildkite.api.organizations[slug] = make_organization(*size, slug=slug)
    buildkite.quota.limits = Limits(user=LIMIT, organization=None, window=WINDOW)
    rig.other_c1.stall("Hello", times=None)


def _token(rig: Rig, organization: str, *, granted: bool = True) -> str:
    """Of a user who has nothing else, so that its quota is its own."""
    value = f"bkua_{token_hex(20)}"
    user = User(id=token_hex(16), name=organization)
    if granted:
        rig.buildkite.grant(Token(value, organizations=frozenset({organization}), user=user))
    return value


def _worst_secrets(rig: Rig) -> Iterator[dict[str, str]]:
    """In turn: a token whose quota is always used up, one that Buildkite refuses, and a C1 that does not answer."""
    good, silent = _client(rig.c1), _client(rig.other_c1)
    while True:
        yield {**good, "BATON_API_TOKEN": _token(rig, "large")}
        yield {**good, "BATON_API_TOKEN": _token(rig, "large", granted=False)}
        yield {**silent, "BATON_API_TOKEN": _token(rig, "large")}


def _client(c1: C1Simulator) -> dict[str, str]:
    client = c1.register_client()
    return {"BATON_CLIENT_ID": client.client_id, "BATON_CLIENT_SECRET": client.client_secret}


@contextlib.asynccontextmanager
async def _annotating(rig: Rig, names: Sequence[str]) -> AsyncIterator[None]:
    """Each of these connectors is annotated once a second."""

    async def annotate() -> None:
        loop = asyncio.get_running_loop()
        for number in itertools.count():
            due = loop.time() + ANNOTATED_EACH / len(names)
            request = {SYNC_REQUESTED_AT: f"request-{number}"}
            await rig.kubernetes.annotate(NOISY, names[number % len(names)], request)
            await asyncio.sleep(max(0.0, due - loop.time()))

    annotating = asyncio.create_task(annotate())
    try:
        yield
        if annotating.done():
            annotating.result()
    finally:
        annotating.cancel()
        await asyncio.wait({annotating})


async def _measure(rig: Rig, name: str, tell: Tell) -> Waits:
    """A new connector in the calm namespace, and the syncs that are asked of it."""
    credentials = {**_client(rig.c1), "BATON_API_TOKEN": _token(rig, "small")}
    began = time.monotonic()
    await rig.apply(_secret(CALM, name, credentials), _connector(CALM, name))
    await rig.until_condition("Ready", "True", timeout=PATIENCE, name=name)
    ready = time.monotonic() - began
    tell(f"{name}: Ready after {ready:.2f} s")
    started = []
    for number in range(TRIES):
        await asyncio.sleep(APART)
        value, began = f"request-{number}", time.monotonic()
        await rig.kubernetes.annotate(CALM, name, {SYNC_REQUESTED_AT: value})
        await rig.until(
            lambda connector, value=value: connector["status"].get("lastHandledSyncRequest") == value,  # type: ignore[misc]
            PATIENCE,
            name,
        )
        started.append(time.monotonic() - began)
    tell(f"{name}: a sync begins after {max(started):.2f} s at most")
    return Waits(tuple(started), ready)


async def _reasons(rig: Rig, names: Sequence[str]) -> list[tuple[str, int]]:
    counted: dict[str, int] = {}
    for name in names:
        status = (await rig.kubernetes.get(NOISY, name)).get("status", {})
        conditions = [each for each in status.get("conditions", []) if each["type"] == "Ready"]
        reason = conditions[0]["reason"] if conditions else "no status"
        counted[reason] = counted.get(reason, 0) + 1
    return sorted(counted.items())


def _secret(namespace: str, name: str, values: dict[str, str]) -> Manifest:
    metadata = {"namespace": namespace, "name": name}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": values}


def _connector(namespace: str, name: str, noise: str = "") -> Manifest:
    metadata = {"namespace": namespace, "name": name, "annotations": {"example.com/noise": noise}}
    spec = {"credentialsSecretRef": {"name": name}}
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec}


def _end(operator: OperatorProcess) -> None:
    """What it logged of a hundred connectors is not needed any more."""
    operator.lines.clear()


PAGE = """\
# Benchmarks: one namespace beside another

Written by `make bench-tenants`, {date}, on {machine}.

One operator serves two namespaces. In one of them, {connectors} connectors misbehave. A third have tokens whose
quota ({limit} requests every {window:.0f} s) is always used up by an organization of {teams} teams. A third have tokens
that Buildkite rejects. A third use a C1 that accepts connections and never answers Hello. Each of the
{connectors} has {kilobytes} kB of annotations, and an annotation requests a sync every second. The table shows the time
from an annotation in the other namespace until the status says that its sync has begun, and how long a new connector
there takes until it is Ready. Buildkite, C1 and Kubernetes are simulators, in one process; all share the machine. Other
programs kept {others:.2f} cores busy.
[sizing.md](sizing.md#several-tenants-in-one-operator) describes how slots are shared.

"""


def write_page(folder: Path, measured: Tenants, machine: Machine, date: datetime) -> None:
    page = PAGE.format(
        date=f"{date:%Y-%m-%d}",
        machine=machine,
        connectors=measured.connectors,
        limit=LIMIT,
        window=WINDOW,
        teams=LARGE[1],
        kilobytes=ANNOTATION_BYTES // 1000,
        others=measured.others,
    )
    kept = [(each.promise, each.measured, "kept" if each.kept else "MISSED") for each in measured.verdicts()]
    rows = [
        (who, f"{statistics.median(waits.started):.2f} s", f"{waits.longest:.2f} s", f"{waits.ready:.2f} s")
        for who, waits in (("alone", measured.alone), ("beside the others", measured.beside))
    ]
    page += markdown_table(("Promise", "Measured", ""), kept) + "\n"
    page += markdown_table(("The namespace", "a sync begins after", "at most", "a new connector is Ready after"), rows)
    said = ", ".join(f"{number} {reason}" for reason, number in measured.reasons)
    page += f"\nThe operator took {measured.core:.2f} of a core meanwhile, and {measured.peak / MB:.0f} MB at most."
    page += f" The reasons of the noisy connectors' `Ready` in the end: {said}.\n"
    (folder / "benchmarks-tenants.md").write_text(page, encoding="utf-8")
