"""Measures one case: the real `sync` command as a process, against the Buildkite simulator in another.

Wall time runs from the process's start to its end. A snapshot that does not hold the whole organization is an error,
not a measurement.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from bench.cases import PREFLIGHT, SLUG, Case, Size
from bench.expansion import stage_plain
from bench.machine import Bystanders
from bench.stall import Stall
from buildkite_connector.c1z.reader import opened, read_sync_run
from harness.forked_command import Begin, start_command
from simulators.buildkite.api import Token
from simulators.buildkite.control import BuildkiteProcess

BENCH = Path(__file__).parent
COMMAND = Path(sys.executable).with_name("buildkite-connector")
DEADLINE = 900.0
"""Seconds for one run; the longest under a quota takes three minutes."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the command: seconds of wall and processor time, peak bytes of memory."""

    wall: float
    cpu: float
    peak: int


@dataclass(frozen=True, slots=True)
class Expansion:
    """What it takes to answer a task with expanded grants: the run, how many `grants` there are, the staged `bytes`."""

    run: Run
    grants: int
    plain_bytes: int


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a case took. `sent`: when each request of the last run arrived, in seconds after the first.

    `exchange`: seconds from that first request's arrival to the last answer. `minimum`, `requests` and `refused`
    (429s) are of the run that made the most. `others`: cores that other programs kept busy meanwhile, on average.
    `expansion`: where there are grants that expand.
    """

    case: Case
    minimum: int
    requests: int
    refused: int
    runs: tuple[Run, ...]
    stalls: tuple[Stall, ...]
    snapshot_bytes: int
    sent: tuple[float, ...]
    exchange: float
    others: float
    expansion: Expansion | None = None

    @property
    def wall(self) -> float:
        """The median run's."""
        return median(run.wall for run in self.runs)

    @property
    def best_wall(self) -> float:
        return min(run.wall for run in self.runs)

    @property
    def cpu(self) -> float:
        return median(run.cpu for run in self.runs)

    @property
    def peak(self) -> int:
        """The largest of all runs."""
        return max(run.peak for run in self.runs)

    @property
    def stall(self) -> Stall | None:
        """The longest of all probes."""
        return max(self.stalls, key=lambda stall: stall.seconds, default=None)

    @property
    def excess(self) -> int:
        """Requests beyond the minimum."""
        return self.requests - self.minimum

    @property
    def least_seconds(self) -> float | None:
        """What the quota's windows and share allow, for no more requests than are needed; None without a quota."""
        quota = self.case.quota
        return None if quota is None else quota.least_seconds(self.minimum + PREFLIGHT, self.case.latency)


async def measure(case: Case, begin: Begin = start_command) -> Measurement:
    """Run a case; `begin` is for the simulator.

    Raises RuntimeError when the command fails or its snapshot is not the organization.
    """
    bystanders = Bystanders()
    with TemporaryDirectory(prefix="bench-") as directory:
        scratch = Path(directory)
        file = scratch / "sync.c1z"
        arguments = ["sync", "--file", str(file), "--sync-resource-types", ",".join(sorted(case.size.kinds))]
        if case.quota is not None:
            arguments += ["--quota-percent", str(case.quota.percent)]
        runs: list[Run] = []
        stalls: list[Stall] = []
        requests = refused = 0
        async with BuildkiteProcess(*case.simulator_arguments(), begin=begin) as sim:
            environment = _environment(sim.url)
            for _ in range(case.runs):
                await sim.control("reset_counts")
                file.unlink(missing_ok=True)
                runs.append(await launch([str(COMMAND), *arguments], environment, scratch))
                stats = await sim.stats(case.size.kinds)
                requests, refused = max(requests, stats["requests"]), max(refused, stats["throttled"])
                _check(file, case.size)
            answered = await sim.requests()
            snapshot_bytes = file.stat().st_size
            for _ in range(case.probes):
                result = scratch / "stall.json"
                await launch([sys.executable, str(BENCH / "stall.py"), str(result), *arguments], environment, scratch)
                stalls.append(Stall(**json.loads(result.read_bytes())))
        expansion = await _expand(file, environment) if case.size.team_pipelines and case.quota is None else None
    first = min(request["at"] for request in answered)
    return Measurement(
        case=case,
        minimum=stats["organizations"][SLUG]["minimum_requests"],
        requests=requests,
        refused=refused,
        runs=tuple(runs),
        stalls=tuple(stalls),
        snapshot_bytes=snapshot_bytes,
        sent=tuple(sorted(request["at"] - first for request in answered)),
        exchange=max(request["at"] + request["seconds"] for request in answered) - first,
        others=bystanders.cores(),
        expansion=expansion,
    )


async def _expand(file: Path, environment: Mapping[str, str]) -> Expansion:
    staged = await stage_plain(file, file.parent / "staged")
    script = [sys.executable, str(BENCH / "expansion.py"), str(staged.path.parent), staged.sha256]
    run = await launch(script, environment, file.parent)
    return Expansion(run, await asyncio.to_thread(_count_grants, file), staged.size)


def _count_grants(file: Path) -> int:
    """All of the file, expanded ones too."""
    with opened(file, file.parent) as connection:
        (count,) = connection.execute("select count(*) from v1_grants").fetchone()
    return int(count)


def _environment(api_url: str) -> Mapping[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("BATON_", "BUILDKITE_"))}
    return inherited | {
        "BUILDKITE_API_URL": api_url,
        "BATON_API_TOKEN": Token().value,
        "BATON_ORGANIZATION": SLUG,
        "NO_PROXY": "127.0.0.1",
    }


async def launch(program: Sequence[str], environment: Mapping[str, str], scratch: Path) -> Run:
    """Run a program to its end; gives what it took. Raises RuntimeError when it fails."""
    result = scratch / "result.json"
    launcher = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", str(BENCH / "launch.py"), str(result), *program),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(DEADLINE):
            _, complained = await launcher.communicate()
    except BaseException:
        os.killpg(launcher.pid, signal.SIGKILL)
        await launcher.wait()
        raise
    if launcher.returncode != 0:
        raise RuntimeError(f"{program[0]} ended with {launcher.returncode}: {complained.decode()[-2000:]}")
    took: dict[str, Any] = json.loads(result.read_bytes())
    return Run(**took)


def _check(file: Path, size: Size) -> None:
    counts = read_sync_run(file, scratch=file.parent).counts
    access = (counts.pipelines or 0, counts.pipeline_access or 0, counts.clusters or 0)
    found = Size(counts.accounts, counts.teams, counts.memberships, *access)
    if found != size:
        raise RuntimeError(f"the snapshot holds {found}, expected {size}")
