"""Measures what one hostile answer costs the process that gets it, in a child process made for that.

`Child` starts `python -m unit.hostile.measure`, gives it one row after the other and gets a `Measurement` for each.
The servers run in the test's process, so that their memory and their work are not the product's. While the row's
operation runs in the child, another connector there syncs with an honest server over and over, and a watcher keeps
the longest stall of the event loop.
"""

import asyncio
import base64
import ctypes
import gc
import importlib
import io
import json
import os
import re
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager, redirect_stderr
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from bench.stall import ProcessorWait, Stall, watched
from buildkite_connector.buildkite import BuildkiteSettings, open_buildkite
from buildkite_connector.model.directory import OrganizationSlug
from buildkite_connector.model.failure import Failure
from buildkite_connector.model.scope import FULL_SCOPE
from buildkite_connector.sync.collect import collect
from buildkite_connector.sync.preflight import preflight
from buildkite_connector.telemetry.logs import LogFormat, LogLevel, configure_logs
from fakes.buildkite_world import NO_LIMITS
from simulators.buildkite.organization import make_organization
from simulators.buildkite.server import BuildkiteSimulator, Config
from unit.hostile.rows import Bounds, Row

DEADLINE = 30.0
"""Seconds for an operation that does not end by itself; then it is cancelled, and the bound is broken."""
SILENCE = 120.0
"""Seconds after which a child that says nothing is killed."""
DATA_LIMIT = 3 << 30
"""Bytes of memory that the child may ask for: a fault must not take the machine with it."""
SHORTEST_PART = 12
"""Characters in a row of a credential that nobody may be shown."""
NEIGHBOUR_PAUSE = 0.02


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a row did. Memory in MB over the baseline, times in seconds; `error`: the exception's type, or empty."""

    seconds: float
    ended: bool
    peak: float
    kept: float
    stall: float
    neighbour: float
    neighbour_syncs: int
    error: str
    message: str
    shown: str
    """The exception as text and as repr, and everything that was logged."""

    def broken(self, row: Row) -> list[str]:
        """Each bound that was not kept, in one sentence; empty when all were."""
        bounds, wrong = row.bounds, []
        if not self.ended or self.seconds > bounds.ends_within:
            wrong.append(f"it took {self.seconds:.1f} s and may take {bounds.ends_within} s")
        if self.peak > bounds.peak:
            wrong.append(f"memory grew by {self.peak:.0f} MB and may grow by {bounds.peak:.0f} MB")
        if self.kept > bounds.kept:
            wrong.append(f"{self.kept:.0f} MB were not given back, {bounds.kept:.0f} MB may stay")
        if self.stall > bounds.stall:
            wrong.append(f"the event loop stood still for {self.stall * 1000:.0f} ms")
        if self.neighbour > bounds.neighbour or not self.neighbour_syncs:
            wrong.append(f"a neighbour's sync took {self.neighbour:.2f} s")
        wrong += self._wrong_words(row)
        wrong += [
            f"a credential was shown in {found!r}" for secret in row.secrets for found in leaks(self.shown, secret)
        ]
        return wrong

    def _wrong_words(self, row: Row) -> list[str]:
        if row.outcome is None:
            return [f"it failed with {self.error}: {self.message[:600]}"] if self.error else []
        if self.error not in {"Failure", "ScopesMissing"}:
            return [f"expected a Failure, but it ended with {self.error or 'success'}: {self.message[:600]}"]
        wrong = []
        if not re.search(row.outcome, self.message):
            wrong.append(f"expected a sentence with {row.outcome!r}, but it is {self.message[:600]!r}")
        if len(self.message) > row.bounds.sentence or not self.message.isprintable():
            wrong.append(f"the sentence has {len(self.message)} characters or is not one line: {self.message[:700]!r}")
        return wrong


def leaks(text: str, secret: str) -> list[str]:
    """Parts of the secret that `text` shows: plain, percent-encoded, in base64, or with other characters between."""
    plain = "".join(text.split())
    squeezed = "".join(char for char in text if char.isascii() and char.isprintable() and char not in " \\")
    forms = {secret, quote(secret, safe=""), base64.b64encode(secret.encode()).decode().rstrip("=")}
    parts = {form[at : at + SHORTEST_PART] for form in forms for at in range(max(1, len(form) - SHORTEST_PART + 1))}
    return sorted(part for part in parts if any(part.lower() in shown.lower() for shown in (text, plain, squeezed)))


class Child:
    """The process that is measured. One row at a time; after a row that killed it, it starts again."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    async def measure(self, module: str, row: Row, *, tries: int = 3) -> list[str]:
        """Run a row of `module.ROWS` and give the bounds that it broke in each of `tries` runs: machines are noisy."""
        wrong: list[str] = []
        for _ in range(tries):
            wrong = (await self.run(module, row)).broken(row)
            if not wrong:
                break
        return wrong

    async def run(self, module: str, row: Row) -> Measurement:
        honest = make_organization(5, 2, 6, slug="neighbour")
        async with row.serve() as address, BuildkiteSimulator(Config([honest], limits=NO_LIMITS)) as neighbour:
            order = {
                "module": module,
                "row": row.name,
                "address": address,
                "neighbour": neighbour.url,
                "token": neighbour.token.value,
            }
            answer = await asyncio.to_thread(self._ask, json.dumps(order))
        return Measurement(**json.loads(answer))

    def _ask(self, order: str) -> str:
        if self._process is None or self._process.poll() is not None:
            self._process = self._start()
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        watchdog = threading.Timer(SILENCE, process.kill)
        watchdog.start()
        try:
            process.stdin.write(order + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        finally:
            watchdog.cancel()
        if not answer:
            self._stop()
            raise AssertionError(f"the child ended or was killed after {SILENCE} s: {order}")
        return answer

    @staticmethod
    def _start() -> subprocess.Popen[str]:
        tests = Path(__file__).parents[2]
        environment = {**os.environ, "PYTHONPATH": str(tests), "MALLOC_ARENA_MAX": "2", "GRPC_VERBOSITY": "NONE"}
        return subprocess.Popen(
            [sys.executable, "-m", "unit.hostile.measure"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


# What follows runs in the child.


class _Memory:
    """This process's resident memory, in MB."""

    def __init__(self) -> None:
        self.baseline = self._trimmed()
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak counts from here

    @staticmethod
    def _read(field: str) -> float:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        found = re.search(rf"^{field}:\s+(\d+) kB", status, re.MULTILINE)
        assert found is not None
        return int(found[1]) / 1024

    def _trimmed(self) -> float:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        return self._read("VmRSS")

    def peak(self) -> float:
        return self._read("VmHWM") - self.baseline

    def kept(self) -> float:
        return self._trimmed() - self.baseline


class _Neighbour:
    """Another connector, whose syncs are timed."""

    def __init__(self, sync: Callable[[], Awaitable[object]]) -> None:
        self._sync = sync
        self.longest = 0.0
        self.syncs = 0

    @classmethod
    @asynccontextmanager
    async def at(cls, url: str, token: str) -> Any:
        async with open_buildkite(replace(BuildkiteSettings(url), page_size=10)) as buildkite:

            async def sync() -> None:
                client = buildkite.client(token)
                found = await preflight(client, OrganizationSlug("neighbour"), FULL_SCOPE.kinds)
                await collect(client, found.organization, FULL_SCOPE)

            await sync()  # connections are there, and what is loaded late
            yield cls(sync)

    async def run(self) -> None:
        """Sync until cancelled, and count a sync that the cancelling cut short as well.

        What this thread waited for a processor that others had is not counted: machines are busy.
        """
        with ProcessorWait() as processor:
            while True:
                began, waited = time.perf_counter(), processor.waited()
                try:
                    await self._sync()
                    self.syncs += 1
                finally:
                    took = time.perf_counter() - began - (processor.waited() - waited)
                    self.longest = max(self.longest, took)
                await asyncio.sleep(NEIGHBOUR_PAUSE)


async def _measured(row: Row, order: dict[str, str], log: io.StringIO) -> Measurement:
    async with (
        _Neighbour.at(order["neighbour"], order["token"]) as neighbour,
        row.operation(order["address"]) as operate,
    ):
        log.seek(0)
        log.truncate()
        memory, stall = _Memory(), Stall()
        running = asyncio.create_task(neighbour.run())
        began = time.perf_counter()
        ended, error, message, shown = await watched(_outcome(operate), stall)
        seconds = time.perf_counter() - began
        if not neighbour.syncs:  # the operation was over at once
            await asyncio.sleep(10 * NEIGHBOUR_PAUSE)
        running.cancel()
        await asyncio.wait([running])
        peak = memory.peak()
    kept = memory.kept()
    return Measurement(
        seconds=seconds,
        ended=ended,
        peak=peak,
        kept=kept,
        stall=stall.seconds,
        neighbour=neighbour.longest,
        neighbour_syncs=neighbour.syncs,
        error=error,
        message=message[:5000],
        shown=f"{shown}\n{log.getvalue()}"[:1_000_000],
    )


async def _outcome(operate: Callable[[], Awaitable[object]]) -> tuple[bool, str, str, str]:
    """Whether it ended by itself, the error's type, its message, and all that can be shown of it."""
    try:
        async with asyncio.timeout(DEADLINE) as deadline:
            await operate()
    except Failure as failure:
        return True, type(failure).__name__, failure.message, f"{failure}\n{failure!r}\n{failure.args!r}"
    except BaseException as error:
        return not deadline.expired(), type(error).__name__, str(error), f"{error}\n{error!r}"
    return True, "", "", ""


def main() -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (DATA_LIMIT, DATA_LIMIT))
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    for line in sys.stdin:
        order = json.loads(line)
        rows = {row.name: row for row in importlib.import_module(order["module"]).ROWS}
        log = io.StringIO()
        with redirect_stderr(log):
            configure_logs(LogFormat.JSON, LogLevel.DEBUG)
            measurement = asyncio.run(_measured(rows[order["row"]], order, log))
        print(json.dumps(asdict(measurement)), file=answers, flush=True)


__all__ = ["Bounds", "Child", "Measurement", "Row", "leaks"]

if __name__ == "__main__":
    main()
