from collections.abc import AsyncIterator

import pytest

from simulators.c1.server import C1Simulator


@pytest.fixture
async def sim() -> AsyncIterator[C1Simulator]:
    async with C1Simulator() as simulator:
        yield simulator
