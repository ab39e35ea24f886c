"""What `make coverage` starts and `make test` forks does the same."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from harness.forked_command import ForkedCommand, fork_command, simulator_environment

COMMAND = str(Path(sys.executable).parent / "buildkite-connector")


def run_by(monkeypatch: pytest.MonkeyPatch, *, measured: bool) -> None:
    """`make coverage` when measured, whichever runs this test."""
    for name in [each for each in os.environ if each.startswith("COVERAGE_") and not measured]:
        monkeypatch.delenv(name)
    if measured:
        monkeypatch.setenv("COVERAGE_RUN", "true")


@pytest.mark.parametrize("module", ["simulators.buildkite", "simulators.c1"])
async def test_a_simulator_says_where_it_is_and_ends_on_sigterm(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run_by(monkeypatch, measured=False)
    process = await fork_command((sys.executable, "-m", module), simulator_environment(), errors=None)
    assert process.stdout is not None
    try:
        assert b":" in await process.stdout.readline()
        process.terminate()
        async with asyncio.timeout(30):
            await process.stdout.read()
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert isinstance(process, ForkedCommand)


@pytest.mark.parametrize("measured", [False, True], ids=["make test", "make coverage"])
async def test_the_commands_outputs_and_code_are_its_own(measured: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    run_by(monkeypatch, measured=measured)
    process = await fork_command((COMMAND, "sync"), {"COLUMNS": "120"}, errors=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    out, err = await asyncio.gather(process.stdout.read(), process.stderr.read())
    assert (await process.wait(), out) == (2, b"")
    assert b"BATON_API_TOKEN" in err
    assert isinstance(process, ForkedCommand) is not measured
