"""Measures what one hostile answer costs the process that gets it, in a child process made for that.

`Child` starts `python -m unit.hostile.measured_process`, gives it one row after the other and gets a `Measurement` for
each. The servers run in the test's process, so that their memory and their work are not the product's.
"""

import asyncio
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from fakes.buildkite_setup import NO_LIMITS
from simulators.buildkite.made_organization import make_organization
from simulators.buildkite.server import BuildkiteSimulator, Config
from unit.hostile.measurement import Measurement
from unit.hostile.rows import Row

SILENCE = 120.0
"""Seconds after which a child that says nothing is killed."""


class Child:
    """The process that is measured. One row at a time; after a row that killed it, it starts again.

    The honest server that the child's neighbour syncs with runs as long as this is entered, in the same event loop.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        honest = make_organization(5, 1, 3, slug="neighbour")
        self._neighbour = BuildkiteSimulator(Config([honest], limits=NO_LIMITS))

    async def __aenter__(self) -> Self:
        await self._neighbour.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        await self._neighbour.stop()

    async def measure(self, module: str, row: Row, *, tries: int = 3) -> list[str]:
        """Run a row of `module.ROWS` and give the bounds that it broke in each of `tries` runs: machines are noisy."""
        wrong: list[str] = []
        for _ in range(tries):
            wrong = (await self.run(module, row)).broken(row)
            if not wrong:
                break
        return wrong

    async def run(self, module: str, row: Row) -> Measurement:
        async with row.serve() as address:
            order = {"module": module, "row": row.name, "address": address}
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

    def _start(self) -> subprocess.Popen[str]:
        tests = Path(__file__).parents[2]
        environment = {**os.environ, "PYTHONPATH": str(tests), "MALLOC_ARENA_MAX": "2", "GRPC_VERBOSITY": "NONE"}
        neighbour = self._neighbour
        return subprocess.Popen(  # noqa: S603  (this project's own module)
            [sys.executable, "-m", "unit.hostile.measured_process", neighbour.url, neighbour.token.value],
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
