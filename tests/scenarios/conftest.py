"""The simulator of Kubernetes, one for a module, and a fresh namespace for each test.

`test_on_apiserver` and `test_on_stopped_apiserver` have fixtures of these names of their own.
"""

import itertools
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from harness.kubernetes_apis import SimulatedApi, simulated_api

_numbers = itertools.count(1)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def kubernetes() -> AsyncIterator[SimulatedApi]:
    async with simulated_api() as api:
        yield api


@pytest.fixture(scope="module")
def shared_namespace() -> str:
    return "shared"


@pytest.fixture
def namespace() -> str:
    return f"test-{next(_numbers)}"


@pytest.fixture
def idle_seconds() -> float:
    return 15.0
