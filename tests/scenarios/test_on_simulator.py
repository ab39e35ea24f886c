"""The operator's process on the embedded Kubernetes API."""

import pytest

from harness.kubernetes_apis import DoubleApi
from scenarios.conditions import TestConditions, stories, story
from scenarios.delivery import TestDelivery
from scenarios.lifecycle import TestDeletion, TestRestart
from scenarios.observed import TestObserved
from scenarios.queries import TestQueries
from scenarios.recovery import TestRecovery
from scenarios.secrecy import TestSecrecy
from scenarios.tasks import TestTasks, asked
from scenarios.tenant import Tenant
from scenarios.traffic import TestOutage, TestQuiet, TestSharing, TestTenants

__all__ = (
    "TestConditions",
    "TestDeletion",
    "TestDelivery",
    "TestObserved",
    "TestOutage",
    "TestQueries",
    "TestQuiet",
    "TestRecovery",
    "TestRestart",
    "TestSecrecy",
    "TestSharing",
    "TestTasks",
    "TestTenants",
    "asked",
    "stories",
    "story",
)

pytest_plugins = ("scenarios.fixtures",)
pytestmark = pytest.mark.asyncio(loop_scope="module")


class TestWatch:
    async def test_a_watch_that_is_cut_is_taken_up_again(self, tenant: Tenant, kubernetes: DoubleApi) -> None:
        await tenant.become_ready()
        kubernetes.double.drop_watches()
        await tenant.sync()

    async def test_a_watch_whose_place_the_server_has_forgotten_starts_anew(
        self, tenant: Tenant, kubernetes: DoubleApi
    ) -> None:
        await tenant.become_ready()
        kubernetes.double.expire_watches()
        await tenant.sync()
