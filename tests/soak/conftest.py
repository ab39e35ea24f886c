"""The simulator of Kubernetes, for processes that are ended again and again."""

from collections.abc import AsyncIterator

import pytest

from harness.kubernetes_apis import SimulatedApi, simulated_api


@pytest.fixture
async def kubernetes() -> AsyncIterator[SimulatedApi]:
    async with simulated_api() as api:
        yield api
