"""The operator's process while its API server, one of this module's own, goes away and comes back."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from buildkite_connector.kubernetes.schema.crd import to_yaml
from harness.control_plane import ControlPlane, find_assets, missing_assets
from harness.kubernetes_apis import RealApi, real_api
from scenarios.traffic import TestOutage

__all__ = ("TestOutage",)

pytest_plugins = ("scenarios.fixtures",)
pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]


@pytest.fixture(scope="module")
def fragile_control_plane() -> Iterator[ControlPlane]:
    assets = find_assets()
    if assets is None:
        pytest.skip(missing_assets() or "an API server that may be stopped is needed, not an existing cluster")
    with ControlPlane(assets) as running:
        running.define(to_yaml())
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def kubernetes(fragile_control_plane: ControlPlane) -> AsyncIterator[RealApi]:
    async with real_api(fragile_control_plane) as api:
        yield api


@pytest.fixture(scope="module")
def shared_namespace(fragile_control_plane: ControlPlane) -> str:
    return fragile_control_plane.create_namespace()
