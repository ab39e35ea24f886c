from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fakes.check_world import World, world


@pytest.fixture
async def sound(tmp_path: Path) -> AsyncIterator[World]:
    """Everything as it should be."""
    async with world(tmp_path) as made:
        yield made
