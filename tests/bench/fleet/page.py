"""Writes docs/benchmarks-fleet.md from a measurement, and docs/benchmarks-fleet.json beside it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from bench.fleet.measurement import FleetMeasurement, Reaction
from bench.fleet.reactions import PAGE_SECONDS
from bench.machine import Machine
from bench.promises import MB, ConditionValue
from bench.report import markdown_table

INTRODUCTION = """\
# Benchmarks: many connectors

Written by `make bench-fleet`, {date}, on {machine}. [benchmarks.md](benchmarks.md) measures one sync.

One `buildkite-connector operator` with {connectors:,} resources, each with its own Secret and host ID, on a real
kube-apiserver with etcd; Buildkite and C1 are simulators in their own processes. All of them share the machine.
The operator runs as its service account with the permissions of `deploy/cluster`, with leader election; `/metrics` is
scraped every 30 s while it idles. Renewals of the Lease are not counted. Writes until Ready are counted by a watch,
requests by the API server's audit log, processor time and memory by Linux. C1 asks each connector for a sync after its
first Hello, and is asked for tasks every {next_poll:.0f} s by each. The organization is small: this measures many
connectors. Other programs used {others:.2f} cores during the measurement.
"""

REACTIONS = """\
## Reaction while idle

Seconds from the change until the status in the cluster shows it: the sync runs, or the edit has been seen. The operator
notices a changed Secret when it reads it again: within a minute for up to 300 connectors, for more
within {connectors:,} / 5 s.
"""

RESTART = """\
## Restart

The operator is stopped with SIGTERM and started again; no connector has changed. All have said Hello to C1 again after
{seconds:.1f} s, with {writes} status writes each.
"""

BUSY = """\
## Reaction while {syncs} syncs run

The second process allows that many concurrent syncs. Buildkite takes {page:.0f} s for each page of a team's
members, and a sync that ends is requested again at once. The status of an edit is written when its check ends, or
after 2 s at the latest. All connectors share one token here, and therefore one queue for requests to Buildkite.
The peak of memory is {peak:.0f} MB.
"""


def write_page(
    folder: Path,
    measured: FleetMeasurement,
    found: Sequence[ConditionValue],
    machine: Machine,
    date: datetime,
    next_poll: float,
) -> None:
    page = markdown(measured, found, machine, date, next_poll)
    (folder / "benchmarks-fleet.md").write_text(page, encoding="utf-8")
    numbers = {"date": date.isoformat(timespec="seconds"), "machine": asdict(machine), **asdict(measured)}
    (folder / "benchmarks-fleet.json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")


def markdown(
    measured: FleetMeasurement,
    found: Sequence[ConditionValue],
    machine: Machine,
    date: datetime,
    next_poll: float,
) -> str:
    """The whole page."""
    sections = [
        INTRODUCTION.format(
            date=f"{date:%Y-%m-%d}",
            machine=machine,
            connectors=measured.connectors,
            next_poll=next_poll,
            others=measured.others,
        ),
        "## Promises\n",
        markdown_table(
            ("Promise", "Measured", ""),
            [(one.promise, one.measured, "kept" if one.kept else "**missed**") for one in found],
        ),
        "## Start\n\nAll resources exist before the operator's process starts; seconds count from there.\n",
        markdown_table(("", ""), _start_rows(measured)),
        f"## Idle, for {measured.idle.seconds:.0f} s\n",
        markdown_table(("", ""), _idle_rows(measured)),
        REACTIONS.format(connectors=measured.connectors),
        _reaction_table(measured.reactions),
        RESTART.format(seconds=measured.restart.all_greeted, writes=_mean_and_most(measured.restart.writes)),
        BUSY.format(syncs=measured.busy.syncs, peak=measured.busy.peak / MB, page=PAGE_SECONDS),
        _reaction_table(measured.busy.reactions),
    ]
    return "\n".join(sections)


def _reaction_table(reactions: Mapping[str, Reaction]) -> str:
    return markdown_table(
        ("Change", "Tries", "Median", "Longest"),
        [(what, str(one.tries), f"{one.median:.2f} s", f"{one.longest:.2f} s") for what, one in reactions.items()],
    )


def _start_rows(measured: FleetMeasurement) -> list[tuple[str, str]]:
    start = measured.start
    return [
        ("first Ready", f"{start.first_ready:.1f} s"),
        ("all Ready", f"{start.all_ready:.1f} s"),
        ("all delivered to C1", f"{start.all_delivered:.1f} s"),
        ("status writes each until Ready", _mean_and_most(start.writes_until_ready)),
        ("status writes each until delivered", _mean_and_most(start.writes_until_delivered)),
        ("events each", _mean_and_most(start.events)),
        ("Hellos at once", str(start.hellos_at_once)),
        ("processor time", f"{start.cpu:.1f} s"),
        ("peak memory", f"{start.peak / MB:.0f} MB"),
    ]


def _idle_rows(measured: FleetMeasurement) -> list[tuple[str, str]]:
    idle = measured.idle
    return [
        ("memory", f"{idle.memory / MB:.0f} MB"),
        ("processor", f"{idle.core:.1%} of a core"),
        ("GetTask at C1", f"{idle.polls / idle.seconds:.2f} a second"),
        *(
            []
            if idle.rest_requests is None
            else [("requests to C1's REST API", f"{idle.rest_requests / idle.seconds:.2f} a second")]
        ),
        ("reads of Secrets in the busiest second", str(idle.secret_reads_busiest_second)),
        *(
            (f"API server: `{kind}`", f"{number:,} ({number / idle.seconds:.2f} a second)")
            for kind, number in sorted(idle.requests.items())
        ),
    ]


def _mean_and_most(numbers: tuple[float, int]) -> str:
    mean, most = numbers
    return f"{mean:.2f} on average, {most} at most"
