"""The operator's process on the embedded Kubernetes API."""

import pytest

from harness.kubernetes_apis import SimulatedApi
from harness.rig import Rig
from scenarios.access import TestAccess
from scenarios.c1_side import TestC1Side, TestForcedOnce, TestForcedSyncs
from scenarios.conditions import TestConditions, stories, story
from scenarios.delivery import TestDelivery
from scenarios.lifecycle import TestDeletion, TestRestart
from scenarios.observed import TestObserved
from scenarios.portal import TestPortal
from scenarios.queries import TestQueries, leading
from scenarios.recovery import TestRecovery
from scenarios.secrecy import TestSecrecy
from scenarios.tasks import TestTasks, asked
from scenarios.tenant import Tenant
from scenarios.token_exchange import TestTokenExchange
from scenarios.traffic import TestOutage, TestQuiet, TestSharing, TestTenants

__all__ = (
    "TestAccess",
    "TestC1Side",
    "TestConditions",
    "TestDeletion",
    "TestDelivery",
    "TestForcedOnce",
    "TestForcedSyncs",
    "TestObserved",
    "TestOutage",
    "TestPortal",
    "TestQueries",
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
pytestmark = pytest.mark.asyncio(loop_scope="module")


class TestWatch:
    async def test_a_watch_that_is_cut_is_taken_up_again(self, tenant: Tenant, kubernetes: SimulatedApi) -> None:
        await tenant.become_ready()
        kubernetes.simulator.drop_watches()
        await tenant.sync()

    async def test_a_watch_whose_place_the_server_has_forgotten_starts_anew(
        self, tenant: Tenant, kubernetes: SimulatedApi
    ) -> None:
        await tenant.become_ready()
        kubernetes.simulator.expire_watches()
        await tenant.sync()


class TestLease:
    async def test_a_leader_whose_lease_another_has_ends_with_a_sentence_and_started_anew_stands_by(
        self, rig: Rig, kubernetes: SimulatedApi
    ) -> None:
        tenant, often = Tenant(rig, "acme"), {"BUILDKITE_CONNECTOR_RETRY_PERIOD": "1s"}
        async with leading(rig, "bkc", "--namespace", rig.namespace, **often) as operator:
            await tenant.become_ready()
            lease = kubernetes.simulator.get("Lease", rig.namespace, "bkc")
            taken = {**lease["spec"], "holderIdentity": "other", "leaseDurationSeconds": 1}
            kubernetes.simulator.apply({**lease, "spec": taken})
            await operator.until_logged("error: This process lost its Lease (other holds it).")
            assert await operator.ends() == 1
        assert [path for path in (rig.directory / "bkc").iterdir() if path.name.startswith(tenant.host_id)]
        syncs, asked = tenant.syncs, await tenant.request_sync()
        async with leading(rig, "bkc", "--namespace", rig.namespace, **often) as again:
            await again.until_logged("leader election", "other holds bkc")
            assert tenant.syncs == syncs
            await tenant.until(lambda status: status.get("lastHandledSyncRequest") == asked)
