"""What C1 may ask for, and what it is answered."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from grpc import StatusCode

from harness.rig import OperatorProcess, Rig
from scenarios.tenant import Tenant
from simulators.c1.tasks import Outcome, Who

USERS, TEAMS, MEMBERSHIPS = 230, 9, 450
TASKS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "everything": ("sync_full", {}),
    "no grants": ("sync_full", {"skip_grants": True}),
    "resources alone": ("sync_full", {"skip_entitlements_and_grants": True}),
    "users alone": ("sync_full", {"sync_resource_type_ids": ["user"]}),
    "teams alone": ("sync_full", {"sync_resource_type_ids": ["team"]}),
    "both types": ("sync_full", {"sync_resource_type_ids": ["team", "user"]}),
    "pebble": ("sync_full", {"storage_engine": "pebble"}),
    "roles": ("sync_full", {"sync_resource_type_ids": ["role"]}),
    "pipelines": ("sync_full", {"sync_resource_type_ids": ["pipeline"]}),
    "a grant": ("grant", {}),
    "hello": ("hello", {}),
}


@dataclass(frozen=True)
class Asked:
    """A task that C1 handed out."""

    tenant: Tenant
    task_id: str

    async def outcome(self) -> Outcome:
        return await self.tenant.finished(self.task_id)

    async def summary(self) -> dict[str, Any]:
        """What C1 ingested under it."""
        outcome = await self.outcome()
        assert outcome.success, outcome
        [received] = [each for each in self.tenant.c1.ingested if each.task_id == self.task_id]
        return received.summary()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def asked(shared_rig: Rig, operator: OperatorProcess) -> Mapping[str, Asked]:
    """Each task of a tenant of its own, who takes a snapshot for it anew."""

    async def ask(number: int, kind: str, options: dict[str, Any]) -> Asked:
        tenant = Tenant(shared_rig, f"asked-{number}")
        await tenant.become_ready(delivery={"maxSnapshotAge": "0s"})
        return Asked(tenant, tenant.add_task(kind, **options))

    asking = (ask(number, *task) for number, task in enumerate(TASKS.values()))
    return dict(zip(TASKS, await asyncio.gather(*asking), strict=True))


class TestTasks:
    @pytest.mark.parametrize(
        ("title", "users", "teams", "memberships", "sync_type"),
        [
            ("everything", USERS, TEAMS, MEMBERSHIPS, "full"),
            ("no grants", USERS, TEAMS, 0, "full"),
            ("resources alone", USERS, TEAMS, 0, "resources_only"),
            ("users alone", USERS, 0, 0, "full"),
            ("teams alone", 0, TEAMS, MEMBERSHIPS, "full"),
            ("both types", USERS, TEAMS, MEMBERSHIPS, "full"),
        ],
    )
    async def test_a_sync_task_gets_what_its_options_ask_for(
        self, asked: Mapping[str, Asked], title: str, users: int, teams: int, memberships: int, sync_type: str
    ) -> None:
        summary = await asked[title].summary()
        assert summary["sync_type"] == sync_type
        assert summary["resources"] == {kind: n for kind, n in (("user", users), ("team", teams)) if n}
        assert sum(summary["grants"].values()) == memberships
        assert bool(summary["entitlements"]) == (sync_type == "full" and teams > 0)

    async def test_a_task_that_wants_pebble_gets_the_sqlite_form_and_is_told_so(
        self, asked: Mapping[str, Asked]
    ) -> None:
        assert (await asked["pebble"].summary())["resources"] == {"user": USERS, "team": TEAMS}
        outcome = await asked["pebble"].outcome()
        assert "sqlite" in outcome.message
        assert "pebble" in outcome.message

    @pytest.mark.parametrize(
        ("title", "code", "says"),
        [
            ("a grant", StatusCode.FAILED_PRECONDITION, "set spec.provisioning.enabled: true"),
            (
                "roles",
                StatusCode.INVALID_ARGUMENT,
                "(role); it has api_token, cluster, organization, pipeline, team and user",
            ),
            (
                "pipelines",
                StatusCode.FAILED_PRECONDITION,
                "asks for pipeline, the connector is set to sync team and user",
            ),
        ],
    )
    async def test_what_cannot_be_done_is_refused_for_good(
        self, asked: Mapping[str, Asked], title: str, code: StatusCode, says: str
    ) -> None:
        outcome = await asked[title].outcome()
        assert (outcome.code, outcome.non_retryable) == (code.value[0], True)
        assert says in outcome.message

    async def test_a_hello_task_is_answered_with_hello(self, asked: Mapping[str, Asked]) -> None:
        hello = asked["hello"]
        assert (await hello.outcome()).success
        session = hello.tenant.c1.sessions[Who(hello.tenant.client.client_id, hello.tenant.host_id)]
        assert session.hellos[-1].task_id == hello.task_id
