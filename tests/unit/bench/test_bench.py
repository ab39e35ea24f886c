"""The bench measures what it says, and its bounds and verdicts are right."""

import asyncio
import os
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from bench.cases import CASES, QUICK, Case, Quota, Size
from bench.command import main
from bench.machine import Machine
from bench.measurement import BENCH, Expansion, Measurement, Run, launch, measure
from bench.promises import MB, ConditionValue, verdicts
from bench.report import markdown, svg
from bench.stall import Stall, watch
from harness.forked_command import fork_command

TINY = Size(accounts=130, teams=12, memberships=200)
"""2 + 1 + 12 pages, and one more for the largest team if it holds over a hundred."""


def measurement(
    name: str = "1k",
    *,
    wall: float = 0.5,
    peak: int = 60_000_000,
    requests: int = 75,
    refused: int = 0,
    stall: float = 0.0,
    exchange: float = 1.0,
) -> Measurement:
    case = CASES[name]
    run = Run(wall, wall / 2, peak)
    return Measurement(
        case=case,
        minimum=73,
        requests=requests,
        refused=refused,
        runs=(run, Run(wall, wall / 2, peak // 2), Run(wall * 9, wall / 2, peak // 2)),
        stalls=(Stall(0.001, 0.001), Stall(stall, stall)),
        snapshot_bytes=319_000,
        sent=(0.0, 0.1, exchange),
        exchange=exchange,
        others=0.0,
        expansion=Expansion(run, 500_000, 319_000) if case.size.pipelines else None,
    )


def judged(*measured: Measurement) -> dict[str, ConditionValue]:
    return {verdict.promise: verdict for verdict in verdicts({one.case.name: one for one in measured})}


async def test_a_case_is_measured_on_the_real_command() -> None:
    measured = await measure(Case("tiny", TINY, latency=0.005, runs=2, probes=1), begin=fork_command)
    assert measured.requests == measured.minimum + 2
    assert measured.refused == 0
    assert len(measured.sent) == measured.requests
    assert measured.exchange > 0.005
    assert all(run.wall > measured.exchange for run in measured.runs)
    assert all(run.cpu > 0 for run in measured.runs)
    assert 10 * MB < measured.peak < 1000 * MB
    assert measured.snapshot_bytes > 1000
    assert measured.stall is not None
    assert measured.stall.seconds > 0
    assert measured.least_seconds is None


async def test_all_types_are_measured_and_what_their_grants_expand_to() -> None:
    size = replace(TINY, pipelines=20, team_pipelines=30, clusters=2)
    measured = await measure(Case("tiny-access", size, latency=0.0), begin=fork_command)
    assert measured.requests == measured.minimum + 2
    assert measured.minimum > 2 + 1 + 12 + 12
    assert measured.expansion is not None
    assert measured.expansion.grants > 200 + 130 + 30
    assert measured.expansion.plain_bytes < measured.snapshot_bytes
    assert measured.expansion.run.cpu > 0


async def test_under_a_quota_nothing_is_refused_and_no_client_can_beat_the_bound() -> None:
    quota = Quota(percent=80, window=0.5, limit=10, others=2)
    measured = await measure(Case("tiny-quota", TINY, latency=0.0, quota=quota), begin=fork_command)
    assert quota.each_window == 6
    assert measured.least_seconds == 1.0
    assert measured.refused == 0
    assert measured.exchange >= measured.least_seconds


@pytest.mark.parametrize(
    ("quota", "requests", "seconds"),
    [
        (Quota(80, 1.0), 1, 0.02),
        (Quota(80, 1.0), 40, 0.02),
        (Quota(80, 1.0), 41, 1.02),
        (Quota(100, 60.0), 150, 120.02),
        (Quota(80, 1.0, others=25), 31, 2.02),
        (Quota(80, 1.0, others=25, spread=True), 41, 1.02),
        (Quota(10, 1.0, others=25), 3, 2.02),
    ],
)
def test_the_bound_is_the_windows_before_the_last_and_one_answer(quota: Quota, requests: int, seconds: float) -> None:
    assert quota.least_seconds(requests, 0.02) == pytest.approx(seconds)


async def test_a_small_program_s_peak_does_not_include_the_bench_s_own(tmp_path: Path) -> None:
    ballast = b"x" * (64 << 20)
    run = await launch([sys.executable, "-I", "-S", "-c", ""], os.environ, tmp_path)
    assert run.peak < len(ballast)


async def test_a_program_that_fails_is_an_error_with_what_it_said(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="ended with 3: no such organization"):
        await launch(
            [sys.executable, "-c", "import sys; print('no such organization', file=sys.stderr); sys.exit(3)"],
            os.environ,
            tmp_path,
        )


async def test_the_watcher_notices_a_blocked_loop() -> None:
    longest = Stall()
    watcher = asyncio.create_task(watch(longest))
    await asyncio.sleep(0)
    time.sleep(0.2)  # noqa: ASYNC251  (this is the stall)
    await asyncio.sleep(0.01)
    watcher.cancel()
    assert longest.seconds > 0.1


def test_walls_are_judged_by_the_median_and_the_rest_by_the_worst() -> None:
    found = judged(measurement("10k-20ms", wall=2.9, peak=151_000_000, stall=0.051))
    assert found["10k-20ms: process start to end ≤ 3 s"].kept
    assert not found["10k-20ms: peak memory ≤ 150 MB"].kept
    assert not found["10k-20ms: longest stall of the event loop ≤ 50 ms"].kept


def test_a_file_with_expanded_grants_is_judged_by_its_own_run() -> None:
    found = judged(measurement("10k-access-20ms", wall=25.1, peak=149_000_000))
    assert not found["10k-access-20ms: a task's file with expanded grants ≤ 25 s"].kept
    assert found["10k-access-20ms: peak memory of that ≤ 150 MB"].kept


@pytest.mark.parametrize(("requests", "kept"), [(73, True), (76, True), (77, False), (72, False)])
def test_at_most_three_requests_may_be_added_and_none_may_lack(requests: int, *, kept: bool) -> None:
    assert judged(measurement(requests=requests))["every case: requests ≤ the minimum + 3"].kept is kept


def test_one_refusal_in_any_case_breaks_the_promise() -> None:
    found = judged(measurement(), measurement("1k-20ms", refused=1))
    assert not found["every case: no 429"].kept


@pytest.mark.parametrize(("exchange", "kept"), [(5.27, True), (5.28, False)])
def test_time_under_a_quota_may_be_a_twentieth_over_the_bound(exchange: float, *, kept: bool) -> None:
    found = judged(measurement("1k-quota80", exchange=exchange))
    assert found["1k-quota80: time ≤ 1.05 × what the windows and the share allow"].kept is kept


@pytest.mark.parametrize(("exchange", "kept"), [(61.2, True), (61.3, False)])
def test_time_under_a_quota_of_a_minute_may_be_a_fiftieth_over_the_bound(exchange: float, *, kept: bool) -> None:
    found = judged(measurement("1k-minute", exchange=exchange))
    assert found["1k-minute: time ≤ 1.02 × what the windows and the share allow"].kept is kept


@pytest.mark.parametrize(("wall", "kept"), [(13.6, True), (13.8, False)])
def test_time_per_membership_is_compared_at_the_same_latency(wall: float, *, kept: bool) -> None:
    found = judged(measurement("10k", wall=1.0), measurement("100k", wall=wall))
    assert found["100k: time per membership ≤ 1.3 × that of 10k"].kept is kept
    assert not any("20ms" in promise for promise in found)


def test_the_page_tells_the_machine_the_date_and_every_verdict() -> None:
    measured = {name: measurement(name) for name in CASES}
    found = verdicts(measured)
    machine = Machine.this()
    page = markdown(measured, found, machine, datetime(2026, 8, 1, tzinfo=UTC), preflight=2)
    assert f"2026-08-01, on {machine}." in page
    assert all(f"| {verdict.promise} | {verdict.measured} |" in page for verdict in found)
    assert all(f"| {name} |" in page for name in CASES)
    assert machine.cores > 0
    assert machine.memory > 0


def test_the_plot_draws_each_case_s_requests_and_allowance() -> None:
    root = ET.fromstring(svg([measurement("1k-quota80"), measurement("10k-quota80")]))  # noqa: S314  (our own text)
    lines = root.findall("{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == 1 + 2 * 2  # the axes, then two a case


def test_quick_cases_are_the_small_ones_that_do_not_wait_a_minute() -> None:
    assert {case.size.accounts for case in QUICK} == {1_000}
    assert all(case.quota is None or case.quota.window < 10 for case in QUICK)


def test_an_unknown_case_is_refused_with_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--case", "2k"])
    assert "invalid choice: '2k'" in capsys.readouterr().err
    assert (BENCH / "__main__.py").is_file()
