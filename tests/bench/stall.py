"""`stall.py RESULT ARGUMENT…`: the command with those arguments, and a watcher on its event loop; the longest stall
goes to RESULT as JSON.

The product has no such mode. `asyncio.run` is wrapped instead, so that everything else is the command's own, down to
what it does with the garbage collector.
"""

import asyncio
import json
import sys
import time
from collections.abc import Coroutine
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from buildkite_connector import cli

STEP = 0.001
"""Seconds that the watcher sleeps: what it oversleeps, the loop was busy or the machine was."""

T = TypeVar("T")


@dataclass
class Stall:
    """Seconds that the loop was late, and what of them this process was on a processor (all its threads)."""

    seconds: float = 0.0
    cpu: float = 0.0


async def watch(longest: Stall) -> None:
    """Keep the longest stall, until cancelled."""
    while True:
        wall, cpu = time.perf_counter(), time.process_time()
        await asyncio.sleep(STEP)
        late = time.perf_counter() - wall - STEP
        if late > longest.seconds:
            longest.seconds, longest.cpu = late, time.process_time() - cpu


async def watched(work: Coroutine[Any, Any, T], longest: Stall) -> T:
    """The work's own result; the watcher runs as long as it does."""
    watcher = asyncio.create_task(watch(longest))
    try:
        return await work
    finally:
        watcher.cancel()


def main() -> None:
    result = Path(sys.argv.pop(1))
    longest, run = Stall(), asyncio.run
    asyncio.run = lambda work, **options: run(watched(work, longest), **options)
    try:
        cli.main()
    finally:
        result.write_text(json.dumps(asdict(longest)), encoding="utf-8")


if __name__ == "__main__":
    main()
