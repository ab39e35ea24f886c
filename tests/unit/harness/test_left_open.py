"""A test that leaves something open fails itself (`tests/conftest.py`)."""

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[2]
LEAKS = """
import asyncio, socket

def test_leaves_a_socket():
    left = [socket.socket()]
    left.append(left)

async def test_leaves_a_transport():
    here, there = socket.socketpair()
    left = [await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=here), there]
    left.append(left)

def test_leaves_a_file():
    left = [open(__file__)]
    left.append(left)

def test_that_is_next():
    pass
"""


def test_a_test_that_leaves_something_open_fails_itself(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(LEAKS)
    ran = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-m", "pytest", "-q", "-p", "conftest", "-c", TESTS.parent / "pyproject.toml", tmp_path],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        check=False,
    )
    for what in ("socket", "transport", "file"):
        assert f"ERROR test_it.py::test_leaves_a_{what} - Failed: left open: unclosed" in ran.stdout, ran.stdout
    assert "4 passed, 3 errors" in ran.stdout
