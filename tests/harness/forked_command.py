"""Our programs, forked from a process that has loaded their libraries: ready two seconds of processor time sooner.

The rest is as if they had been started: arguments, environment, outputs, signals and exit code.
How the command itself starts is for `unit/cli/test_entry.py`, the end-to-end suite and the demo, which start it.
`fork_server` forks; all workers of a run share one.
"""

import asyncio
import atexit
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

from harness.fork_server import NUMBER, Request

NAME = "buildkite-connector"
SERVER = "TESTS_FORK_SERVER"
"""The variable with the path of the server's socket."""


class ForkedCommand:
    """What the tests use of `asyncio.subprocess.Process`; `errors` None: they go to `output`."""

    def __init__(
        self,
        pid: int,
        server: socket.socket,
        output: asyncio.StreamReader | None = None,
        errors: asyncio.StreamReader | None = None,
    ) -> None:
        """`server` tells the exit code."""
        self.pid = pid
        self.stdout, self.stderr = output, errors
        self.returncode: int | None = None
        self._ending = asyncio.create_task(self._end(server))

    async def _end(self, server: socket.socket) -> int:
        with server:
            self.returncode = await _number(server)
        return self.returncode

    async def wait(self) -> int:
        return await asyncio.shield(self._ending)

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):  # it has ended, and `_end` has not run yet
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


Running = asyncio.subprocess.Process | ForkedCommand


class Begin(Protocol):
    """Begins a program whose output is read; `errors`: STDOUT, PIPE, or None for this process's own."""

    async def __call__(
        self, words: Sequence[str], environment: Mapping[str, str], *, errors: int | None = STDOUT
    ) -> Running: ...


def simulator_environment() -> dict[str, str]:
    """This process's, with the simulators on the path: a program that is started rather than forked looks for them."""
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}


async def start_command(
    words: Sequence[str], environment: Mapping[str, str], *, errors: int | None = STDOUT
) -> Running:
    """A process of its own; see `Begin`."""
    return await asyncio.create_subprocess_exec(*words, stdout=PIPE, stderr=errors, env=dict(environment))


async def fork_command(words: Sequence[str], environment: Mapping[str, str], *, errors: int | None = STDOUT) -> Running:
    """The same, forked where `words` are our command or a simulator's.

    Under coverage it is started: what is forked is not measured.
    """
    request = _request(words, environment)
    if request is None:
        return await start_command(words, environment, errors=errors)
    output, theirs = os.pipe()
    said, their_errors = os.pipe() if errors == PIPE else (None, os.dup(theirs if errors == STDOUT else 2))
    try:
        pid, server = await _fork(request, theirs, their_errors)
    finally:
        os.close(theirs)
        os.close(their_errors)
    return ForkedCommand(pid, server, await _reader(output), None if said is None else await _reader(said))


async def fork_on_terminal(words: Sequence[str], environment: Mapping[str, str], terminal: int) -> Running:
    """The same, both outputs on the terminal of this descriptor."""
    request = _request(words, environment)
    if request is None:
        return await asyncio.create_subprocess_exec(*words, stdout=terminal, stderr=terminal, env=dict(environment))
    return ForkedCommand(*await _fork(request, terminal, terminal))


def share_server() -> None:
    """Start the server for this process and for those that it starts; it costs little until it is asked for a fork."""
    if SERVER in os.environ:
        return
    folder = tempfile.TemporaryDirectory(prefix="forks-")
    path = os.environ[SERVER] = str(Path(folder.name) / "server")
    process = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-m", "harness.fork_server", path],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.readline()  # it listens
    process.stdout.close()
    for end in (folder.cleanup, process.wait, process.stdin.close):  # the last first
        atexit.register(end)


def _request(words: Sequence[str], environment: Mapping[str, str]) -> Request | None:
    """None where the program is to be started."""
    if any(name.startswith("COVERAGE_") for name in os.environ):
        return None
    if Path(words[0]).name == NAME:
        return Request("buildkite_connector.cli.entry", words, dict(environment))
    if words[1] == "-m" and words[2].startswith("simulators."):
        return Request(f"{words[2]}.command", words[2:], dict(environment))
    return None


async def _fork(request: Request, output: int, errors: int) -> tuple[int, socket.socket]:
    share_server()
    server = socket.socket(socket.AF_UNIX)
    try:
        server.connect(os.environ[SERVER])
        socket.send_fds(server, [b"\0"], [output, errors])
        server.sendall(json.dumps(asdict(request)).encode())
        server.shutdown(socket.SHUT_WR)
        server.setblocking(False)
        return await _number(server), server
    except BaseException:
        server.close()
        raise


async def _number(server: socket.socket) -> int:
    told = b""
    while len(told) < NUMBER.size:
        more = await asyncio.get_running_loop().sock_recv(server, NUMBER.size - len(told))
        if not more:
            raise RuntimeError("the server that forks has ended")
        told += more
    return int(NUMBER.unpack(told)[0])


async def _reader(descriptor: int) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    pipe = os.fdopen(descriptor, "rb", buffering=0)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    return reader
