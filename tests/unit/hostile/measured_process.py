"""The process that gets hostile answers: `python -m unit.hostile.measured_process URL TOKEN` (started by `measure`).

A row is one line of JSON on standard input, its `Measurement` one line on standard output. While the row's operation
runs, another connector syncs with the honest server at URL over and over, and a watcher keeps the longest stall of the
event loop. Process, event loop and neighbour serve all rows, as an operator's do: only what a row itself opens is new.
"""

import asyncio
import ctypes
import gc
import importlib
import io
import json
import os
import re
import resource
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, redirect_stderr, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Self

from bench.stall import ProcessorWait, Stall, watched
from buildkite_connector.buildkite import BuildkiteSettings, open_buildkite
from buildkite_connector.model.directory import FULL_SCOPE
from buildkite_connector.model.failure import Failure
from buildkite_connector.model.spec import OrganizationChoice
from buildkite_connector.sync.collect import collect
from buildkite_connector.sync.preflight import preflight
from buildkite_connector.telemetry.logs import LogFormat, LogLevel, configure_logs
from harness.trust import DIRECT
from unit.hostile.measurement import Measurement
from unit.hostile.rows import NEIGHBOUR_PAUSE, STALL_STEP, Row

DEADLINE = 30.0
"""Seconds for an operation that does not end by itself; then it is cancelled, and the bound is broken."""
DATA_LIMIT = 3 << 30
"""Bytes of memory that this process may ask for: a fault must not take the machine with it."""


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
        self.synced = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def at(cls, url: str, token: str) -> AsyncIterator[Self]:
        async with open_buildkite(replace(BuildkiteSettings(url), page_size=10), DIRECT) as buildkite:

            async def sync() -> None:
                client = buildkite.client(token)
                found = await preflight(client, OrganizationChoice("neighbour"), FULL_SCOPE.kinds)
                await collect(client, found.organization, FULL_SCOPE)

            await sync()  # connections are there, and what is loaded late
            yield cls(sync)

    async def run(self) -> None:
        """Sync until cancelled, and count a sync that the cancelling cut short as well.

        What this thread waited for a processor that others had is not counted: machines are busy.
        """
        self.longest, self.syncs = 0.0, 0
        self.synced.clear()
        with ProcessorWait() as processor:
            while True:
                began, waited = time.perf_counter(), processor.waited()
                try:
                    await self._sync()
                    self.syncs += 1
                    self.synced.set()
                finally:
                    took = time.perf_counter() - began - (processor.waited() - waited)
                    self.longest = max(self.longest, took)
                await asyncio.sleep(NEIGHBOUR_PAUSE)


async def _measured(row: Row, address: str, neighbour: _Neighbour, log: io.StringIO) -> Measurement:
    before = asyncio.all_tasks()
    async with row.operation(address) as operate:
        log.seek(0)
        log.truncate()
        memory, stall = _Memory(), Stall()
        syncing = asyncio.create_task(neighbour.run())
        began = time.perf_counter()
        ended, error, message, shown = await watched(_outcome(operate), stall, STALL_STEP)
        seconds = time.perf_counter() - began
        with suppress(TimeoutError):  # the operation may be over at once
            async with asyncio.timeout(row.bounds.neighbour):
                await neighbour.synced.wait()
        syncing.cancel()
        await asyncio.wait([syncing])
        peak = memory.peak()
    kept = memory.kept()
    left = asyncio.all_tasks() - before
    if left:  # a generator that was left midway closes in a task of its own
        _, left = await asyncio.wait(left, timeout=1.0)
    return Measurement(
        seconds=seconds,
        ended=ended,
        peak=peak,
        kept=kept,
        stall=stall.seconds,
        neighbour=neighbour.longest,
        neighbour_syncs=neighbour.syncs,
        tasks_left=len(left),
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


async def _serve(url: str, token: str) -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    async with _Neighbour.at(url, token) as neighbour:
        gc.collect()
        gc.freeze()  # what is loaded stays: each row's collections need not go through it
        while line := await asyncio.to_thread(sys.stdin.readline):
            order = json.loads(line)
            rows = {row.name: row for row in importlib.import_module(order["module"]).ROWS}
            log = io.StringIO()
            with redirect_stderr(log):
                configure_logs(LogFormat.JSON, LogLevel.DEBUG)
                measurement = await _measured(rows[order["row"]], order["address"], neighbour, log)
            print(json.dumps(asdict(measurement)), file=answers, flush=True)


def main() -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (DATA_LIMIT, DATA_LIMIT))
    asyncio.run(_serve(*sys.argv[1:]))


if __name__ == "__main__":
    main()
