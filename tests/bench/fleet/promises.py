"""What is promised of many connectors, beside what was measured: docs/benchmarks-fleet.md, "Promises"."""

from collections.abc import Iterator, Mapping

from bench.fleet.measurement import FleetMeasurement, Reaction
from bench.promises import MB, ConditionValue
from buildkite_connector.connector.c1_side import LOOK_SECONDS

MOST_START_WRITES, MOST_RESTART_WRITES, MOST_EVENTS = 5, 3, 2
MOST_MEMORY = 300
MOST_CORE = 0.05
MOST_READS = 5.0
REST_SLACK = 1.1
"""The looks are spread over a little more than their interval, not evenly."""
MOST_ANNOTATION_SECONDS = 1.0
MOST_EDIT_SECONDS = 3.0
"""The check of an edit, for which its status is held, and the write."""
SECRET_SLACK = 5.0
"""Seconds beyond the round of reads: the change itself, and the sync's start."""


def fleet_verdicts(measured: FleetMeasurement) -> list[ConditionValue]:
    """All of them, kept or missed."""
    return [*_start(measured), *_idle(measured), *_life(measured)]


def _start(measured: FleetMeasurement) -> Iterator[ConditionValue]:
    start = measured.start
    mean, most = start.writes_until_ready
    yield ConditionValue(
        f"start: ≤ {MOST_START_WRITES} status writes each until Ready",
        f"{most} (mean {mean:.2f})",
        most <= MOST_START_WRITES,
    )
    mean, most = start.events
    yield ConditionValue(f"start: ≤ {MOST_EVENTS} events each", f"{most} (mean {mean:.2f})", most <= MOST_EVENTS)
    yield ConditionValue(
        "start: no failure reported, no Warning event",
        f"failures: {_told(start.failures)}; warnings: {start.warnings:,}",
        not start.failures and not start.warnings,
    )


def _idle(measured: FleetMeasurement) -> Iterator[ConditionValue]:
    idle = measured.idle
    yield ConditionValue(
        f"idle: memory ≤ {MOST_MEMORY} MB", f"{idle.memory / MB:.0f} MB", idle.memory <= MOST_MEMORY * MB
    )
    yield ConditionValue(f"idle: ≤ {MOST_CORE:.0%} of a core", f"{idle.core:.1%}", idle.core <= MOST_CORE)
    yield ConditionValue("idle: no write to the API server", f"{idle.writes:,}", idle.writes == 0)
    yield ConditionValue(
        f"idle: ≤ {MOST_READS:g} reads of Secrets a second",
        f"{idle.secret_reads:.2f} (in the busiest second {idle.secret_reads_busiest_second})",
        idle.secret_reads <= MOST_READS * (1 + 1 / idle.seconds),
    )
    if idle.rest_requests is not None:
        rate, most = idle.rest_requests / idle.seconds, measured.connectors / LOOK_SECONDS
        yield ConditionValue(
            f"idle: ≤ {most:.2f} requests a second to C1's REST API", f"{rate:.2f}", rate <= most * REST_SLACK
        )


def _life(measured: FleetMeasurement) -> Iterator[ConditionValue]:
    yield from _reactions(measured.reactions, measured.connectors, "")
    yield from _reactions(measured.busy.reactions, measured.connectors, f" while {measured.busy.syncs} syncs run")
    restart = measured.restart
    yield ConditionValue("restart: no failure reported", f"failures: {_told(restart.failures)}", not restart.failures)
    mean, most = restart.writes
    yield ConditionValue(
        f"restart: ≤ {MOST_RESTART_WRITES} status writes each", f"{most} (mean {mean:.2f})", most <= MOST_RESTART_WRITES
    )
    yield ConditionValue("no breach of C1's contract", f"{measured.violations:,}", measured.violations == 0)


def _reactions(reactions: Mapping[str, Reaction], connectors: int, meanwhile: str) -> Iterator[ConditionValue]:
    within = max(60.0, connectors / MOST_READS) + SECRET_SLACK
    bounds = {"annotation": MOST_ANNOTATION_SECONDS, "edit": MOST_EDIT_SECONDS, "Secret": within}
    for what, bound in bounds.items():
        one = reactions[what]
        told = f"{one.longest:.2f} s (the longest of {one.tries})"
        yield ConditionValue(f"{what} acts ≤ {bound:g} s{meanwhile}", told, one.longest <= bound)


def _told(failures: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} of {number:,}" for reason, number in sorted(failures.items())) or "none"
