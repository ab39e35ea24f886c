"""The operator's process while its API server, one of this module's own, goes away and comes back."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from harness.control_plane import ControlPlane, find_assets, missing_assets
from harness.helm_release import Release, released
from harness.kubernetes_apis import RealApi, real_api
from scenarios.traffic import TestOutage

__all__ = ("TestOutage",)

pytest_plugins = ("scenarios.fixtures",)
pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]


@pytest.fixture(scope="module")
def fragile_release() -> Iterator[Release]:
    assets = find_assets()
    if assets is None:
        pytest.skip(missing_assets() or "an API server that may be stopped is needed, not an existing cluster")
    with ControlPlane(assets) as running, released(running) as installed:
        yield installed


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def kubernetes(fragile_release: Release) -> AsyncIterator[RealApi]:
    async with real_api(fragile_release.cluster, fragile_release.kubeconfig) as api:
        yield api


@pytest.fixture(scope="module")
def shared_namespace(fragile_release: Release) -> str:
    return fragile_release.cluster.create_namespace()
