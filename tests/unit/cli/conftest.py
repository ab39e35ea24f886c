"""For tests that call the command in their own process."""

import logging
from collections.abc import AsyncIterator, Iterator
from functools import cache
from pathlib import Path

import pytest
import typer.main
import typer.testing

from fakes.check_setup import Setup, setup

# Typer's test runner builds the command from the functions' signatures at each call, which takes 50 ms.
typer.testing._get_command = cache(typer.main.get_command)  # type: ignore[attr-defined]  # there is no other seam


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    """A command that sets up the log writes it to the runner's output, which is closed when the call ends."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers, root.level = handlers, level


@pytest.fixture
async def sound(tmp_path: Path) -> AsyncIterator[Setup]:
    """Everything as `check` wants it."""
    async with setup(tmp_path) as made:
        yield made
