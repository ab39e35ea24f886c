from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fakes.check_world import World, world


@pytest.fixture
async def sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """Everything as it should be."""
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    async with world(tmp_path, monkeypatch.setenv) as made:
        yield made
