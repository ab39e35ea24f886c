"""The operator's process on a real API server: the stories of `test_on_simulator.py`."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from harness.cluster import Cluster
from harness.helm_release import Release
from harness.kubernetes_apis import RealApi, real_api
from scenarios.access import TestAccess
from scenarios.c1_side import TestC1Side, TestForcedSyncs
from scenarios.conditions import TestConditions, stories, story
from scenarios.delivery import TestDelivery
from scenarios.lifecycle import TestDeletion, TestRestart
from scenarios.portal import TestPortal
from scenarios.recovery import TestRecovery
from scenarios.secrecy import TestSecrecy
from scenarios.tasks import TestTasks, asked
from scenarios.token_exchange import TestTokenExchange
from scenarios.traffic import TestQuiet, TestSharing, TestTenants

__all__ = (
    "TestAccess",
    "TestC1Side",
    "TestConditions",
    "TestDeletion",
    "TestDelivery",
    "TestForcedSyncs",
    "TestPortal",
    "TestQuiet",
    "TestRecovery",
    "TestRestart",
    "TestSecrecy",
    "TestSharing",
    "TestTasks",
    "TestTenants",
    "TestTokenExchange",
    "asked",
    "stories",
    "story",
)

pytest_plugins = ("scenarios.fixtures",)
pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def kubernetes(release: Release) -> AsyncIterator[RealApi]:
    async with real_api(release.cluster, release.kubeconfig) as api:
        yield api


@pytest.fixture(scope="module")
def shared_namespace(control_plane: Cluster) -> Iterator[str]:
    name = control_plane.create_namespace()
    yield name
    control_plane.delete_namespace(name)


@pytest.fixture
def idle_seconds() -> float:
    """As long as is promised."""
    return 120.0


@pytest.fixture
def namespace(control_plane: Cluster) -> Iterator[str]:
    name = control_plane.create_namespace()
    yield name
    control_plane.delete_namespace(name)
