from collections.abc import AsyncIterator

import pytest

from simulators.c1.probe import Probe, probe
from simulators.c1.server import C1Simulator


@pytest.fixture
async def sim() -> AsyncIterator[C1Simulator]:
    async with C1Simulator() as simulator:
        yield simulator


@pytest.fixture
async def host(sim: C1Simulator) -> AsyncIterator[Probe]:
    """A connector on the host a-host, which has said Hello."""
    async with probe(sim) as connected:
        await connected.hello()
        yield connected
