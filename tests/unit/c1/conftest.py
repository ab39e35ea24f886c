from collections.abc import AsyncIterator

import pytest

from simulators.c1.policy import Policy
from simulators.c1.server import C1Simulator


@pytest.fixture
async def sim() -> AsyncIterator[C1Simulator]:
    """A C1 that takes any bytes as a snapshot: what is in the file is not this adapter's business."""
    async with C1Simulator(Policy(validate=False)) as simulator:
        yield simulator
