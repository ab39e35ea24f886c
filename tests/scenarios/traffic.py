"""How much is asked of Kubernetes and Buildkite: by many connectors, by a sync, and by one that has nothing to do."""

import asyncio
from itertools import pairwise

import pytest

from harness.kubernetes_apis import Kubernetes
from harness.rig import Rig
from scenarios.tenant import Idler, NewTenant, Tenant
from simulators.buildkite.api import User
from simulators.buildkite.made_organization import make_organization
from simulators.buildkite.quota import Limits
from simulators.buildkite.transcript import Request

MOST_WRITES = 3
"""Of statuses and events, that one sync with its delivery may cause."""


class TestSharing:
    async def test_ten_connectors_share_one_operator_and_none_overlaps_itself(self, new_tenant: NewTenant) -> None:
        tenants = [new_tenant("one-of-ten") for _ in range(10)]
        buildkite = tenants[0].rig.buildkite
        buildkite.latency = 0.1
        await asyncio.gather(*(tenant.become_ready(delivery={"maxSnapshotAge": "0s"}) for tenant in tenants))
        await asyncio.gather(*(ask_from_all_sides(tenant) for tenant in tenants))
        for tenant in tenants:
            syncs = split(tenant.collecting, buildkite.organization.minimum_requests)
            assert len(syncs) >= 2
            for earlier, later in pairwise(syncs):
                assert {(each.path, each.query) for each in earlier} == {(each.path, each.query) for each in later}
                assert max(each.at + each.seconds for each in earlier) <= later[0].at


async def ask_from_all_sides(tenant: Tenant) -> None:
    """A task, and one request after the other, of which some come while a sync is under way."""
    task_id = tenant.add_task()
    requests = [await tenant.request_sync() for _ in range(3)]
    assert (await tenant.finished(task_id)).success
    await tenant.until(
        lambda status: status.get("lastHandledSyncRequest") == requests[-1] and status["phase"] == "Connected"
    )


def split(requests: list[Request], size: int) -> list[list[Request]]:
    """The requests of each sync, when each made so many."""
    assert len(requests) % size == 0, f"{len(requests)} requests are not whole syncs of {size}"
    return [requests[start : start + size] for start in range(0, len(requests), size)]


class TestTenants:
    async def test_connectors_whose_quota_is_used_up_keep_no_other_waiting(self, rig: Rig) -> None:
        organizations = rig.buildkite.api.organizations
        organizations["large"] = make_organization(50, 30, 100, slug="large")
        organizations["small"] = make_organization(5, 2, 6, slug="small")
        rig.buildkite.quota.limits = Limits(user=12, organization=None, window=60.0)
        async with rig.operator(BUILDKITE_CONNECTOR_CONCURRENCY="2"):
            throttled = [Tenant(rig, f"throttled-{number}", "large") for number in range(4)]
            for tenant in throttled:
                tenant.renew_token(user=User(id=tenant.name))
                await tenant.apply()
            await asyncio.gather(*(tenant.until(lambda status: status["phase"] == "Syncing") for tenant in throttled))
            well = Tenant(rig, "well", "small")
            await well.become_ready()
            value = await well.request_sync()
            await well.until(lambda status: status.get("lastHandledSyncRequest") == value, timeout=2)
            for tenant in throttled:
                assert (await tenant.get())["status"]["phase"] == "Syncing"

    async def test_an_older_connector_with_a_wrong_secret_takes_no_host_id(self, rig: Rig) -> None:
        other = rig.c1.register_client().client_secret
        async with rig.operator():
            squatter, victim = Tenant(rig, "a-squatter"), Tenant(rig, "victim")
            identity = {"BATON_CLIENT_ID": victim.client.client_id}
            spec = {"delivery": {"hostID": "production"}}
            await squatter.apply(squatter.secret(**identity, BATON_CLIENT_SECRET=other), squatter.connector(**spec))
            await squatter.until_condition("Ready", "False", "C1ClientRejected")
            await victim.become_ready(**spec)
            await squatter.apply(squatter.secret(**identity, BATON_CLIENT_SECRET=victim.client.client_secret))
            await squatter.request_sync()  # look again at once
            await victim.until_condition("Ready", "False", "HostIDTaken")
            assert "BuildkiteConnector" in (await victim.until_condition("Ready", "False"))["message"]
            await squatter.until_ready()


class TestQuiet:
    async def _quiet(self, tenant: Tenant, kubernetes: Kubernetes) -> int:
        """The writes so far, once a poll brings no more: events are posted beside everything else."""
        writes = -1
        while writes != await kubernetes.writes():
            writes = await kubernetes.writes()
            await tenant.until_polled(1)
        return writes

    @pytest.mark.parametrize("asked_by", ["task", pytest.param("request", marks=pytest.mark.thorough)])
    async def test_a_sync_with_its_delivery_writes_three_times_at_most(
        self, tenant: Tenant, kubernetes: Kubernetes, asked_by: str
    ) -> None:
        await tenant.become_ready(delivery={"maxSnapshotAge": "0s" if asked_by == "task" else "1h"})
        await tenant.deliver()
        await tenant.until_condition("Delivered", "True")
        before = await self._quiet(tenant, kubernetes)
        if asked_by == "request":
            await tenant.sync()
        received = await tenant.deliver()
        await tenant.until(lambda status: status["lastDelivery"]["taskID"] == received.task_id)
        await tenant.until_polled(1)
        assert tenant.syncs == {"request": 2, "task": 3}[asked_by]
        assert await kubernetes.writes() - before <= MOST_WRITES

    async def test_an_idle_connector_asks_c1_for_tasks_and_writes_nothing(
        self, idler: Idler, idle_seconds: float
    ) -> None:
        tenant = idler.tenant
        await tenant.c1.wait_for(lambda: idler.since.seconds >= idle_seconds, 2 * idle_seconds)
        assert tenant.polls - idler.polls > idle_seconds / 2
        assert await tenant.footprint() == idler.footprint


class TestOutage:
    async def test_the_operator_works_on_while_the_api_server_is_away_and_catches_up_afterwards(
        self, tenant: Tenant, kubernetes: Kubernetes
    ) -> None:
        await tenant.become_ready(delivery={"maxSnapshotAge": "0s"})
        async with kubernetes.away():
            received = await tenant.deliver()
        await tenant.until(lambda status: status.get("lastDelivery", {}).get("taskID") == received.task_id)
        await tenant.sync()
        await tenant.until_ready()
        assert tenant.syncs == 3
