"""A test that leaves something open fails itself (`tests/conftest.py`)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[2]
LEAKS = {
    "a socket": """
        def test_leaves_it_open():
            left = [socket.socket()]
            left.append(left)
    """,
    "a transport": """
        async def test_leaves_it_open():
            here, there = socket.socketpair()
            left = [await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=here), there]
            left.append(left)
    """,
    "a file": """
        def test_leaves_it_open():
            left = [open(__file__)]
            left.append(left)
    """,
}


@pytest.mark.parametrize("what", LEAKS)
def test_a_test_that_leaves_something_open_fails_itself(what: str, tmp_path: Path) -> None:
    source = "\n".join(line[8:] for line in LEAKS[what].splitlines())
    (tmp_path / "test_it.py").write_text(f"import asyncio, socket\n{source}\n\ndef test_that_is_next(): pass\n")
    ran = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-m", "pytest", "-q", "-p", "conftest", "-c", TESTS.parent / "pyproject.toml", tmp_path],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "ERROR test_it.py::test_leaves_it_open - Failed: left open: unclosed" in ran.stdout, ran.stdout
    assert "2 passed, 1 error" in ran.stdout
