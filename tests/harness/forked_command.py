"""The command in a process forked from one that has loaded its libraries: ready two seconds of processor time sooner.

The rest is as if it had been started: its arguments, environment, outputs, signals and exit code.
How the command itself starts is for `unit/cli/test_entry.py`, the end-to-end suite and the demo, which start it.
"""

import asyncio
import contextlib
import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

NAME = "buildkite-connector"
LOADED = ("app", "check", "diff", "operator", "service", "sync")
"""Modules of `buildkite_connector.cli` that the first process loads."""


class ForkedCommand:
    """What the tests use of `asyncio.subprocess.Process`; `errors` None: they go to `output`."""

    def __init__(self, process: ForkServerProcess, output: asyncio.StreamReader, errors: asyncio.StreamReader | None):
        assert process.pid is not None
        self.pid = process.pid
        self.stdout, self.stderr = output, errors
        self.returncode: int | None = None
        self._process = process
        self._ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(process.sentinel, self._end)

    def _end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._process.sentinel)
        self._process.join()
        self.returncode = self._process.exitcode
        self._process.close()
        self._ended.set()

    async def wait(self) -> int:
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):  # it has ended, and `_end` has not run yet
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


async def start_command(
    words: Sequence[str], environment: Mapping[str, str], *, separate_errors: bool = False
) -> asyncio.subprocess.Process:
    """A process of its own; without `separate_errors` they go to its output."""
    errors = asyncio.subprocess.PIPE if separate_errors else asyncio.subprocess.STDOUT
    return await asyncio.create_subprocess_exec(
        *words, stdout=asyncio.subprocess.PIPE, stderr=errors, env=dict(environment)
    )


async def fork_command(
    words: Sequence[str], environment: Mapping[str, str], *, separate_errors: bool = False
) -> asyncio.subprocess.Process | ForkedCommand:
    """The same, forked where the first of `words` is our command; coverage measures only what is started."""
    if Path(words[0]).name != NAME or any(name.startswith("COVERAGE_") for name in os.environ):
        return await start_command(words, environment, separate_errors=separate_errors)
    context = _context()
    output, theirs = context.Pipe(duplex=False)
    errors, their_errors = context.Pipe(duplex=False) if separate_errors else (None, theirs)
    process = context.Process(target=_run, args=(tuple(words[1:]), dict(environment), theirs, their_errors))
    await asyncio.to_thread(process.start)
    theirs.close()
    their_errors.close()
    return ForkedCommand(process, await _reader(output), await _reader(errors) if errors is not None else None)


@cache
def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([f"buildkite_connector.cli.{each}" for each in LOADED])
    return context


async def _reader(connection: Connection) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    pipe = os.fdopen(os.dup(connection.fileno()), "rb", buffering=0)
    connection.close()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    return reader


def _run(arguments: Sequence[str], environment: Mapping[str, str], output: Connection, errors: Connection) -> None:
    """In the forked process."""
    os.dup2(output.fileno(), 1)
    os.dup2(errors.fileno(), 2)
    output.close()
    if errors is not output:
        errors.close()
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None  # TMPDIR may be another
    sys.argv = [NAME, *arguments]
    from buildkite_connector.cli.entry import main  # noqa: PLC0415 - here only

    main()
