"""What outlives an operator's process and a resource, and what must not."""

from buildkite_connector.model.tasks import Code
from harness.rig import OperatorProcess, Rig, condition
from scenarios.access import ALL_TYPES, COUNTS, access_organization, counts, types
from scenarios.tenant import NewTenant, Stopwatch, Tenant
from simulators.buildkite.api import ACCESS_SCOPES
from simulators.buildkite.listing import LARGEST_PAGE

HAND_BACK_SECONDS = 10.0
LATENCY = 0.5
"""Seconds a request to Buildkite, so that a sync is long enough to be met in its middle."""


class TestRestart:
    async def test_a_restart_syncs_nothing_writes_nothing_and_answers_with_what_was_staged_before(
        self, rig: Rig
    ) -> None:
        tenant = Tenant(rig, "acme", "access", scopes=ACCESS_SCOPES)
        organization = access_organization(rig, "access")
        async with rig.operator() as operator:
            before = await tenant.become_ready(**types(*ALL_TYPES))
            assert await operator.stop() == 0
        footprint = await tenant.footprint()
        async with rig.operator():
            await tenant.until_polled(2)
            assert await tenant.footprint() == footprint
            received = await tenant.deliver()
            assert received.summary()["sync_id"] == before["status"]["lastSync"]["id"]
            after = await tenant.until(lambda status: "lastDelivery" in status)
        assert after["status"]["nextSyncTime"] == before["status"]["nextSyncTime"]
        assert counts(after["status"]["lastDelivery"]) == COUNTS
        assert len(tenant.collecting) == organization.requests_at(LARGEST_PAGE, ALL_TYPES)

    async def test_a_sync_and_its_task_that_a_crash_cut_off_are_done_again(self, rig: Rig) -> None:
        rig.c1.policy.requeue_lost, rig.c1.policy.heartbeat_grace = True, 1.5
        tenant = Tenant(rig, "acme")
        async with rig.operator() as operator:
            before = await tenant.become_ready(delivery={"maxSnapshotAge": "0s"})
            rig.buildkite.latency = LATENCY
            task_id = tenant.add_task()
            await tenant.until(lambda status: status["phase"] == "Syncing")
            await operator.kill()
        assert rig.c1.tasks[task_id].outcome is None
        rig.buildkite.latency = 0.0
        async with rig.operator():
            after = await tenant.until(
                lambda status: (
                    status["lastSync"]["id"] != before["status"]["lastSync"]["id"] and status["phase"] == "Connected"
                )
            )
            assert condition(after, "Ready")["status"] == "True"
            assert (await tenant.finished(task_id)).success
        [lost] = rig.c1.violations
        assert lost.startswith(f"Heartbeat by {tenant.host_id}: none for {task_id}")
        rig.c1.violations.clear()

    async def test_a_stop_hands_a_running_task_back_in_time_and_ends_well(self, rig: Rig) -> None:
        tenant = Tenant(rig, "acme")
        async with rig.operator() as operator:
            await tenant.become_ready(delivery={"maxSnapshotAge": "0s"})
            rig.buildkite.latency = 2 * HAND_BACK_SECONDS
            task_id = tenant.add_task()
            await tenant.until(lambda status: status["phase"] == "Syncing")
            stopping = Stopwatch()
            assert await operator.stop() == 0
            assert stopping.seconds < HAND_BACK_SECONDS
        outcome = await tenant.finished(task_id)
        assert (outcome.code, outcome.non_retryable) == (Code.ABORTED, False)


class TestDeletion:
    async def test_a_deleted_connector_leaves_c1_alone_and_no_file_behind(
        self, new_tenant: NewTenant, operator: OperatorProcess
    ) -> None:
        tenant, witness = new_tenant(), new_tenant("witness")
        await witness.become_ready()
        connector = await tenant.become_ready()
        assert "finalizers" not in connector["metadata"]
        assert len(tenant.staged) == 1

        await tenant.delete()
        assert not await tenant.exists()
        await operator.until_logged("connector gone", tenant.host_id)
        await witness.until_polled(1)
        calls = len(tenant.calls)
        await witness.until_polled(2)
        assert len(tenant.calls) == calls
        assert tenant.staged == []

    async def test_a_connector_that_comes_again_under_its_name_begins_anew(self, tenant: Tenant) -> None:
        old = await tenant.become_ready()
        await tenant.delete()
        new = await tenant.become_ready()
        assert new["metadata"]["uid"] != old["metadata"]["uid"]
        assert [each["id"] for each in new["status"]["history"]] == [new["status"]["lastSync"]["id"]]
        assert new["status"]["lastSync"]["id"] != old["status"]["lastSync"]["id"]
        await tenant.deliver()
        assert len(tenant.staged) == 1

    async def test_a_connector_is_deleted_while_no_operator_runs(self, rig: Rig) -> None:
        tenant = Tenant(rig, "acme")
        async with rig.operator():
            await tenant.become_ready()
        await tenant.delete()
        assert not await tenant.exists()
        assert len(rig.staged) == 1
        async with rig.operator() as operator:
            await operator.until_logged("snapshots of deleted connectors were removed")
        assert rig.staged == []
