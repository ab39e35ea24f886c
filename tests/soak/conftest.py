"""The simulator of Kubernetes, for processes that are ended again and again."""

from collections.abc import AsyncIterator

import pytest

from harness.kubernetes_apis import DoubleApi, double_api


@pytest.fixture
async def kubernetes() -> AsyncIterator[DoubleApi]:
    async with double_api() as api:
        yield api
