"""`stall.py RESULT ARGUMENT…`: the command with those arguments, and a watcher on its event loop; the longest stall
goes to RESULT as JSON.

The product has no such mode. `asyncio.run` is wrapped instead, so that everything else is the command's own, down to
what it does with the garbage collector.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Coroutine
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from buildkite_connector.cli import app as cli

STEP = 0.001
"""Seconds that the watcher sleeps: what it oversleeps, the loop was busy or the machine was."""

T = TypeVar("T")


@dataclass
class Stall:
    """Seconds that the loop was blocked by the program itself: work, a call that blocked, a lock.

    `waited`: seconds beyond those that its thread was ready to go on, but the machine had no processor for it.
    """

    seconds: float = 0.0
    waited: float = 0.0


async def watch(longest: Stall, step: float = STEP) -> None:
    """Keep the longest stall, until cancelled; `step` in seconds."""
    with ProcessorWait() as processor:
        while True:
            began, ready = time.perf_counter(), processor.waited()
            await asyncio.sleep(step)
            waited = processor.waited() - ready
            own = time.perf_counter() - began - step - waited
            if own > longest.seconds:
                longest.seconds, longest.waited = own, waited


class ProcessorWait:
    """How long this thread has waited for a processor, as Linux counts it; without that count, never."""

    def __enter__(self) -> Self:
        try:
            self._file = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
        except FileNotFoundError:
            self._file = -1
        return self

    def __exit__(self, *_: object) -> None:
        if self._file >= 0:
            os.close(self._file)

    def waited(self) -> float:
        """In seconds, since the thread's start."""
        return 0.0 if self._file < 0 else int(os.pread(self._file, 100, 0).split()[1]) / 1e9


async def watched(work: Coroutine[Any, Any, T], longest: Stall, step: float = STEP) -> T:
    """The work's own result; the watcher runs as long as it does."""
    watcher = asyncio.create_task(watch(longest, step))
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
