"""The command as people run it: a process in an environment of its own, its exit code and what it prints."""

import asyncio
import os
import pty
import sys
from dataclasses import dataclass
from pathlib import Path

from typer.testing import CliRunner

from buildkite_connector.cli.app import app
from harness.forked_command import fork_command, fork_on_terminal

COMMAND = Path(sys.executable).parent / "buildkite-connector"


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


def invoke(*arguments: str, **environment: str) -> Ended:
    """The command within this process, which saves its start."""
    ended = CliRunner().invoke(app, arguments, env={"COLUMNS": "200", **environment})
    return Ended(ended.exit_code, ended.stdout, ended.stderr)


async def run_on_terminal(*arguments: str, **environment: str) -> Ended:
    """The command on a terminal: both outputs come back as `out`."""
    mine, theirs = pty.openpty()
    process = await fork_on_terminal((str(COMMAND), *arguments), _environment(environment), theirs)
    os.close(theirs)
    shown = await asyncio.to_thread(_read_all, mine)
    return Ended(await process.wait(), shown, "")


async def run(*arguments: str, **environment: str) -> Ended:
    """The command in an environment of its own."""
    process = await fork_command((str(COMMAND), *arguments), _environment(environment), errors=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    out, err = await asyncio.gather(process.stdout.read(), process.stderr.read())
    return Ended(await process.wait(), out.decode(), err.decode())


def _environment(settings: dict[str, str]) -> dict[str, str]:
    measured = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
    return {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
        "COLUMNS": "120",
        "TERM": "xterm",
        **measured,
        **settings,
    }


def _read_all(descriptor: int) -> str:
    shown = b""
    while True:
        try:
            shown += os.read(descriptor, 65536)
        except OSError:  # the other side is closed
            os.close(descriptor)
            return shown.decode()
