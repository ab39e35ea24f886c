"""A command that a signal ends leaves the file as it was and nothing beside it, and says so only when it is true."""

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from buildkite_connector.buildkite import BuildkiteSettings
from buildkite_connector.c1z import read_sync_run, write_snapshot
from buildkite_connector.cli import sync as command
from buildkite_connector.cli.sync import SyncSettings
from buildkite_connector.model.directory import FULL_SCOPE
from buildkite_connector.model.spec import Credentials
from harness.command import COMMAND
from harness.forked_command import Running, fork_command
from harness.organization import ACME_ORG, ACME_REFERENCE
from harness.trust import DIRECT
from simulators.buildkite.api import Call, Token
from simulators.buildkite.faults import stall
from simulators.buildkite.made_organization import make_organization
from simulators.buildkite.organization import Organization
from simulators.buildkite.quota import Limits
from simulators.buildkite.server import BuildkiteSimulator, Config

API_TOKEN = "bkua_" + "5ec4e7" * 6 + "abcd"
DEADLINE = 30.0
OLD = b"what was there before"
COMMANDS = {"sync": ("sync",), "without a sub-command": ()}
CODES = {
    ("sync", signal.SIGTERM): 143,
    ("sync", signal.SIGHUP): 129,
    ("sync", signal.SIGINT): 130,
    ("without a sub-command", signal.SIGTERM): 1,
    ("without a sub-command", signal.SIGINT): 1,
}


@contextlib.asynccontextmanager
async def serving(organization: Organization) -> AsyncIterator[BuildkiteSimulator]:
    unlimited = Limits(user=None, organization=None)
    async with BuildkiteSimulator(Config((organization,), (Token(API_TOKEN),), unlimited)) as simulator:
        yield simulator


@contextlib.asynccontextmanager
async def started(*arguments: str, temporary: Path, **environment: str) -> AsyncIterator[Running]:
    variables = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "TMPDIR": str(temporary), **environment}
    process = await fork_command((str(COMMAND), *arguments), variables, errors=PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def ended(process: Running) -> tuple[int, str]:
    assert process.stderr is not None
    async with asyncio.timeout(DEADLINE):
        said = await process.stderr.read()
        return await process.wait(), said.decode()


def of(buildkite: BuildkiteSimulator) -> dict[str, str]:
    return {"BUILDKITE_API_URL": buildkite.url, "BATON_API_TOKEN": API_TOKEN}


@pytest.mark.parametrize(("name", "number"), CODES)
async def test_while_it_reads_from_buildkite(tmp_path: Path, name: str, number: signal.Signals) -> None:
    file = tmp_path / "out" / "acme.c1z"
    file.parent.mkdir()
    file.write_bytes(OLD)
    async with serving(Organization.load(ACME_ORG)) as buildkite:
        asked = asyncio.Event()

        def ask(_: Call) -> bool:
            asked.set()
            return True

        buildkite.fault(stall(after=None), where=ask, times=None)
        arguments = (*COMMANDS[name], "--file", str(file))
        async with started(*arguments, temporary=tmp_path, **of(buildkite)) as process:
            async with asyncio.timeout(DEADLINE):
                await asked.wait()
            process.send_signal(number)
            assert await ended(process) == (CODES[name, number], f"error: interrupted; {file} is unchanged.\n")
    assert [each.name for each in file.parent.iterdir()] == ["acme.c1z"]
    assert file.read_bytes() == OLD


async def test_while_the_file_is_written(tmp_path: Path) -> None:
    """The signal finds it at any moment of the writing: it is stopped, signalled, and goes on."""
    file = tmp_path / "out" / "large.c1z"
    file.parent.mkdir()
    async with serving(make_organization(accounts=2000, teams=20, memberships=6000)) as buildkite:
        for _ in range(5):
            file.write_bytes(OLD)
            async with started("sync", "--file", str(file), temporary=tmp_path, **of(buildkite)) as process:
                async with asyncio.timeout(DEADLINE):
                    while not list(file.parent.glob(".*.partial")) and process.returncode is None:  # noqa: ASYNC110
                        await asyncio.sleep(0)
                for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGCONT):
                    process.send_signal(number)
                code, said = await ended(process)
            replaced = file.read_bytes() != OLD
            assert replaced == (code == 0)
            assert (said == "") == replaced
            assert [each.name for each in file.parent.iterdir()] == ["large.c1z"]
            if not replaced:
                return
    raise AssertionError("the signal came too late five times")


def settings(buildkite: BuildkiteSimulator, file: Path) -> SyncSettings:
    return SyncSettings(
        BuildkiteSettings(buildkite.url), Credentials("", "", API_TOKEN), None, file, FULL_SCOPE, 80, DEADLINE
    )


@pytest.mark.parametrize("finished", [False, True], ids=["before the file is in place", "after"])
async def test_a_sync_that_is_cancelled_when_its_file_is_in_place_has_succeeded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, finished: bool
) -> None:
    begun, loop = asyncio.Event(), asyncio.get_running_loop()

    def write(*arguments: object, stopped: object, **others: object) -> object:
        def ask() -> bool:
            assert callable(stopped)
            if not finished:
                loop.call_soon_threadsafe(begun.set)
                while not stopped():
                    pass
            return not finished

        written = write_snapshot(*arguments, stopped=ask, **others)  # type: ignore[arg-type]  # passed on
        loop.call_soon_threadsafe(begun.set)
        return written

    monkeypatch.setattr(command, "write_snapshot", write)
    file = tmp_path / "acme.c1z"
    file.write_bytes(OLD)
    async with serving(Organization.load(ACME_ORG)) as buildkite:
        task = asyncio.create_task(command.sync(settings(buildkite, file), DIRECT, None))
        async with asyncio.timeout(DEADLINE):
            await begun.wait()
        task.cancel()
        await asyncio.wait({task})
    if finished:
        assert read_sync_run(file).sync_id == task.result().snapshot.sync_id
    else:
        assert task.cancelled()
        assert file.read_bytes() == OLD
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("arguments", "number"),
    [
        (("inspect",), signal.SIGTERM),
        (("inspect",), signal.SIGHUP),
        (("diff", str(ACME_REFERENCE)), signal.SIGTERM),
        (("access", "--user", "x"), signal.SIGTERM),
    ],
)
async def test_while_a_snapshot_is_unpacked(tmp_path: Path, arguments: tuple[str, ...], number: signal.Signals) -> None:
    """The file is a FIFO whose other end has more to say."""
    temporary, file = tmp_path / "tmp", tmp_path / "x.c1z"
    temporary.mkdir()
    os.mkfifo(file)
    async with started(*arguments, str(file), temporary=temporary) as process:
        writing = await asyncio.to_thread(file.open, "wb", 0)
        with writing:
            writing.write(ACME_REFERENCE.read_bytes()[:1000])
            assert [each.stat().st_mode & 0o777 for each in temporary.iterdir()][-1:] == [0o700]
            process.send_signal(number)
            assert await ended(process) == (128 + number, "")
    assert list(temporary.iterdir()) == []
