"""The bench's command line."""

import argparse
import asyncio
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.live import Live

from bench.cases import CASES, PREFLIGHT, QUICK, Case
from bench.changes import WINDOW, measure_changes
from bench.changes import write_page as write_changes
from bench.fleet.page import write_page
from bench.fleet.promises import fleet_verdicts
from bench.fleet.run import NEXT_POLL, measure_fleet
from bench.fleet.soak import measure_soak
from bench.hostile import hostile_verdicts
from bench.machine import Bystanders, Machine
from bench.measurement import Measurement, measure
from bench.promises import verdicts
from bench.report import case_row, case_table, markdown, print_verdicts, svg
from bench.tenants import NOISY_CONNECTORS, measure_tenants
from bench.tenants import write_page as write_tenants
from harness.control_plane import find_assets, missing_assets

IDLE_CORES, IDLE_SECONDS, IDLE_WATCHES = 0.1, 2.0, 60
"""What others may keep busy of an idle machine, for how long that is watched, and how often at most."""

FLEET, FLEET_IDLE_SECONDS = 1000, 310.0
"""Connectors of the run that docs/benchmarks-fleet.md tells of, and its idle seconds: one regular relist is in them."""

DOCS = Path(__file__).parents[2] / "docs"


def main(arguments: Sequence[str] | None = None) -> int:
    """Gives the exit code: 1 when a promise was missed, 2 when something to measure with is missing.

    Only a run of all cases writes docs/benchmarks.md, only one of 1,000 connectors without spec.c1
    docs/benchmarks-fleet.md, only one with Buildkite's own window docs/benchmarks-changes.md, and only one of 100 noisy
    connectors docs/benchmarks-tenants.md.
    """
    options = _parser().parse_args(arguments)
    console = Console()
    machine = Machine.this()
    console.print(str(machine), highlight=False)
    if options.soak:
        return _soak(options.connectors, options.soak * 60, console)
    if options.changes:
        return _changes(options.changes, machine, console)
    if options.tenants:
        return _tenants(options.tenants, machine, console)
    if options.fleet:
        return _fleet(options.fleet, options.idle, machine, console, in_c1=options.c1)
    cases = [CASES[name] for name in options.case] if options.case else QUICK if options.quick else list(CASES.values())
    measured = asyncio.run(_measure(cases, console, when_idle=options.when_idle))
    found = verdicts(measured)
    if not options.case and not options.quick:
        found += asyncio.run(hostile_verdicts())
    print_verdicts(found, console)
    if not options.case and not options.quick:
        page = markdown(measured, found, machine, datetime.now(UTC), preflight=PREFLIGHT)
        (DOCS / "benchmarks.md").write_text(page, encoding="utf-8")
        drawn = [one for name, one in measured.items() if name.startswith("10k-quota")]
        (DOCS / "benchmarks-quota.svg").write_text(svg(drawn), encoding="utf-8")
    return 0 if all(verdict.kept for verdict in found) else 1


def _fleet(connectors: int, idle_seconds: float, machine: Machine, console: Console, *, in_c1: bool) -> int:
    assets = find_assets()
    if assets is None:
        console.print(missing_assets() or "The fleet needs an API server of its own, not an existing cluster.")
        return 2
    measured = asyncio.run(measure_fleet(assets, connectors, idle_seconds, console.print, in_c1=in_c1))
    found = fleet_verdicts(measured)
    print_verdicts(found, console)
    if connectors == FLEET and not in_c1:
        write_page(DOCS, measured, found, machine, datetime.now(UTC), NEXT_POLL)
    else:
        console.print_json(data=asdict(measured))
    return 0 if all(verdict.kept for verdict in found) else 1


def _soak(connectors: int, seconds: float, console: Console) -> int:
    assets = find_assets()
    if assets is None:
        console.print(missing_assets() or "The soak needs an API server of its own, not an existing cluster.")
        return 2
    verdict = asyncio.run(measure_soak(assets, connectors, seconds, console.print)).verdict()
    print_verdicts([verdict], console)
    return 0 if verdict.kept else 1


def _changes(window: float, machine: Machine, console: Console) -> int:
    measured = asyncio.run(measure_changes(window, console.print))
    found = measured.verdicts()
    print_verdicts(found, console)
    if window == WINDOW:
        write_changes(DOCS, measured, machine, datetime.now(UTC))
    return 0 if all(verdict.kept for verdict in found) else 1


def _tenants(connectors: int, machine: Machine, console: Console) -> int:
    measured = asyncio.run(measure_tenants(connectors, console.print))
    found = measured.verdicts()
    print_verdicts(found, console)
    if connectors == NOISY_CONNECTORS:
        write_tenants(DOCS, measured, machine, datetime.now(UTC))
    return 0 if all(verdict.kept for verdict in found) else 1


async def _measure(cases: Sequence[Case], console: Console, *, when_idle: bool) -> dict[str, Measurement]:
    """Measure one after the other, and show each as soon as it is there."""
    measured: dict[str, Measurement] = {}
    with Live(console=console, auto_refresh=False) if console.is_terminal else nullcontext() as live:
        for case in cases:
            if when_idle:
                await _idle()
            measured[case.name] = await measure(case)
            if live is not None:
                live.update(case_table(measured.values()), refresh=True)
            else:
                console.print(*case_row(measured[case.name]), sep=" | ", soft_wrap=True, highlight=False)
    return measured


async def _idle() -> None:
    for _ in range(IDLE_WATCHES):
        bystanders = Bystanders()
        await asyncio.sleep(IDLE_SECONDS)
        if bystanders.cores() < IDLE_CORES:
            return


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python tests/bench", description="Measures what this project promises.")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--quick", action="store_true", help="the small cases only, in less than half a minute")
    choice.add_argument("--case", action="append", choices=list(CASES), metavar="NAME", help="this one; repeatable")
    choice.add_argument(
        "--fleet", type=int, metavar="N", help="one operator with so many connectors, on a real API server"
    )
    choice.add_argument("--soak", type=float, metavar="MINUTES", help="one operator that syncs without a pause")
    choice.add_argument(
        "--changes", type=float, metavar="SECONDS", help="grants beside a sync, with such windows of the quota"
    )
    choice.add_argument(
        "--tenants", type=int, metavar="N", help="a calm namespace beside N connectors of another that misbehave"
    )
    parser.add_argument("--connectors", type=int, default=100, metavar="N", help="of the soak (default: %(default)s)")
    parser.add_argument(
        "--idle", type=float, default=FLEET_IDLE_SECONDS, metavar="SECONDS", help="of the fleet (default: %(default)s)"
    )
    parser.add_argument("--c1", action="store_true", help="the fleet's connectors have spec.c1; no page is written")
    parser.add_argument(
        "--when-idle", action="store_true", help="before each case wait for others, two minutes at most"
    )
    parser.epilog = f"Cases: {', '.join(CASES)}."
    return parser
