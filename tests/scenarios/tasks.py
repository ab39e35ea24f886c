"""What C1 may ask for, and what it is answered."""

from typing import Any

import pytest
import pytest_asyncio
from grpc import StatusCode

from rig import OperatorProcess, Rig
from scenarios.tenant import Tenant
from simulators.c1_tasks import Who

USERS, TEAMS, MEMBERSHIPS = 230, 9, 450


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ready_tenant(shared_rig: Rig, operator: OperatorProcess) -> Tenant:
    """One that takes a snapshot for each task anew."""
    tenant = Tenant(shared_rig, "asked")
    await tenant.become_ready(delivery={"maxSnapshotAge": "0s"})
    return tenant


class TestTasks:
    @pytest.mark.parametrize(
        ("options", "users", "teams", "memberships", "sync_type"),
        [
            pytest.param({}, USERS, TEAMS, MEMBERSHIPS, "full", id="everything"),
            pytest.param({"skip_grants": True}, USERS, TEAMS, 0, "full", id="no grants"),
            pytest.param(
                {"skip_entitlements_and_grants": True}, USERS, TEAMS, 0, "resources_only", id="resources alone"
            ),
            pytest.param({"sync_resource_type_ids": ["user"]}, USERS, 0, 0, "full", id="users alone"),
            pytest.param(
                {"sync_resource_type_ids": ["team", "user"]}, USERS, TEAMS, MEMBERSHIPS, "full", id="both types"
            ),
        ],
    )
    async def test_a_sync_task_gets_what_its_options_ask_for(
        self, ready_tenant: Tenant, options: dict[str, Any], users: int, teams: int, memberships: int, sync_type: str
    ) -> None:
        summary = (await ready_tenant.deliver(**options)).summary()
        assert summary["sync_type"] == sync_type
        assert summary["resources"] == {kind: n for kind, n in (("user", users), ("team", teams)) if n}
        assert sum(summary["grants"].values()) == memberships
        assert bool(summary["entitlements"]) == (sync_type == "full" and teams > 0)

    async def test_a_task_for_teams_alone_gets_their_memberships_too(self, ready_tenant: Tenant) -> None:
        summary = (await ready_tenant.deliver(sync_resource_type_ids=["team"])).summary()
        assert summary["resources"] == {"team": TEAMS}
        assert sum(summary["grants"].values()) == summary["dangling_grants"] == MEMBERSHIPS

    async def test_a_task_that_wants_pebble_gets_the_sqlite_form_and_is_told_so(self, ready_tenant: Tenant) -> None:
        task_id = ready_tenant.add_task(storage_engine="pebble")
        outcome = await ready_tenant.finished(task_id)
        assert outcome.success
        assert "sqlite" in outcome.message
        assert "pebble" in outcome.message
        assert any(received.task_id == task_id for received in ready_tenant.c1.ingested)

    @pytest.mark.parametrize(
        ("kind", "options", "code", "says"),
        [
            pytest.param("grant", {}, StatusCode.UNIMPLEMENTED, "grant", id="a grant"),
            pytest.param(
                "sync_full",
                {"sync_resource_type_ids": ["pipeline"]},
                StatusCode.INVALID_ARGUMENT,
                "pipeline",
                id="an unknown resource type",
            ),
        ],
    )
    async def test_what_cannot_be_done_is_refused_for_good(
        self, ready_tenant: Tenant, kind: str, options: dict[str, Any], code: StatusCode, says: str
    ) -> None:
        outcome = await ready_tenant.answer(kind, **options)
        assert (outcome.code, outcome.non_retryable) == (code.value[0], True)
        assert says in outcome.message

    async def test_a_hello_task_is_answered_with_hello(self, ready_tenant: Tenant) -> None:
        task_id = ready_tenant.add_task("hello")
        assert (await ready_tenant.finished(task_id)).success
        session = ready_tenant.c1.sessions[Who(ready_tenant.client.client_id, ready_tenant.host_id)]
        assert session.hellos[-1].task_id == task_id
