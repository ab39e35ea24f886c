"""Granting and revoking on a real API server: one apply switches it on, kubectl shows each change, one switches it off.

The operator has the rights that the chart gives it whether provisioning is enabled or not: what it is refused fails
the release (`harness/helm_release.py`).
"""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from harness.cluster import Cluster
from harness.rig import PATIENCE, Rig
from scenarios.tenant import Stopwatch, Tenant
from simulators.buildkite.api import Call
from simulators.buildkite.faults import slow, unavailable
from simulators.c1.readings import Effect, Reading

ON, OFF = {"provisioning": {"enabled": True}}, {"provisioning": {"enabled": False}}
SWITCHED_OFF_WITHIN = 1.0


class Requests:
    """C1's access requests for one person in a team, and what Buildkite has of them."""

    def __init__(self, tenant: Tenant) -> None:
        self.tenant = tenant
        organization = tenant.rig.buildkite.organization
        self.team = organization.teams.records[0]
        inside = {each["user_id"] for each in organization.team_members[self.team["id"]].records}
        self.person = next(each for each in organization.members.records if each["id"] not in inside)

    async def ask(self, action: str, role: str = "member") -> Reading:
        tenant = self.tenant
        asked = tenant.c1.request(action, self.team["id"], role, self.person["id"], client=tenant.client)
        return await tenant.c1.ended(asked)

    def role(self) -> str | None:
        rows = self.tenant.rig.buildkite.organization.team_members[self.team["id"]].records
        return next((row["role"] for row in rows if row["user_id"] == self.person["id"]), None)


async def until_shown(control_plane: Cluster, holds: Callable[[str], bool], *arguments: str) -> str:
    """What kubectl prints, once it holds. Raises TimeoutError."""
    async with asyncio.timeout(30):
        while True:  # another process prints it: no event tells when
            told = (await asyncio.to_thread(control_plane.kubectl, *arguments)).stdout
            if holds(told):
                return told
            await asyncio.sleep(0.2)


@pytest.fixture
def requests(rig: Rig) -> Requests:
    return Requests(Tenant(rig, "acme", writes=True))


async def test_a_grant_and_a_revoke_are_seen_with_kubectl(
    rig: Rig, requests: Requests, control_plane: Cluster, namespace: str
) -> None:
    async with rig.operator():
        await requests.tenant.become_ready(**ON)
        await requests.tenant.until_condition("ProvisioningReady", "True")
        await requests.tenant.deliver()
        assert (await requests.ask("grant")).effect is Effect.DONE
        assert requests.role() == "member"
        events = await until_shown(control_plane, lambda told: "Granted" in told, "get", "events", "-n", namespace)
        [line] = [line for line in events.splitlines() if "Granted" in line]
        for word in ("buildkiteconnector/acme", requests.person["name"], requests.team["name"], "member", "C1's task"):
            assert word in line
        assert (await requests.ask("revoke")).effect is Effect.DONE
        assert requests.role() is None
        described = await until_shown(
            control_plane, lambda told: "Revoked: 1" in " ".join(told.split()), "describe", "bkc/acme", "-n", namespace
        )
        for word in ("ProvisioningReady", "Last Change:", "Action:", "revoke", requests.team["name"]):
            assert word in described
        assert requests.person["email"] not in events + described


async def test_switched_off_it_refuses_within_a_second_of_the_apply_and_back_on_it_goes_on(
    rig: Rig, requests: Requests
) -> None:
    tenant = requests.tenant
    rig.c1.policy.next_poll = 0.0
    async with rig.operator():
        await tenant.become_ready(**ON)
        await tenant.deliver()
        await tenant.apply(tenant.connector(**OFF))
        watch = Stopwatch()
        while (reading := await requests.ask("grant")).success:
            assert watch.seconds < SWITCHED_OFF_WITHIN, "it was still carried out"
            assert (await requests.ask("revoke")).success
        writes = len(rig.buildkite.writes)
        assert "spec.provisioning.enabled: true" in reading.reason
        assert requests.role() is None
        await tenant.until(lambda status: not any(c["type"] == "ProvisioningReady" for c in status["conditions"]))
        await tenant.apply(tenant.connector(**ON))
        await tenant.until_condition("ProvisioningReady", "True")
        assert len(rig.buildkite.writes) == writes
        assert (await requests.ask("grant")).effect is Effect.DONE


async def test_a_change_under_way_while_the_spec_is_edited_is_carried_out_and_never_told_as_switched_off(
    rig: Rig, requests: Requests
) -> None:
    async with rig.operator():
        await requests.tenant.become_ready(**ON)
        await requests.tenant.deliver()
        granted = await edited_during(requests, "grant", {**ON, "schedule": {"interval": "2h"}})
        assert (granted.effect, requests.role()) == (Effect.DONE, "member")
        revoked = await edited_during(requests, "revoke", {"provisioning": {"enabled": True, "roles": ["member"]}})
        assert (revoked.effect, requests.role()) == (Effect.DONE, None)
    ends = [task.outcome for task in rig.c1.tasks.values() if task.outcome is not None]
    assert [end for end in ends if end.non_retryable] == []


async def edited_during(requests: Requests, action: str, spec: dict[str, Any]) -> Reading:
    """Buildkite answers what the membership is once the check of the edit has begun, which then takes a while."""
    reads, checks = asyncio.Event(), asyncio.Event()
    buildkite, tenant = requests.tenant.rig.buildkite, requests.tenant

    def unread(_: Call) -> bool:
        reads.set()
        return not checks.is_set()

    def checked(_: Call) -> bool:
        checks.set()
        return True

    buildkite.fault(
        unavailable(),
        path=f"/v2/organizations/*/teams/{requests.team['id']}/members/{requests.person['id']}",
        where=unread,
        times=None,
    )
    buildkite.fault(slow(4), path="/v2/access-token", where=checked)
    async with asyncio.timeout(2 * PATIENCE), asyncio.TaskGroup() as together:
        asked = together.create_task(requests.ask(action))
        await reads.wait()
        await tenant.apply(tenant.connector(**spec))
        await checks.wait()
    return asked.result()


async def test_a_protected_team_that_is_renamed_stays_protected_over_a_restart(rig: Rig, requests: Requests) -> None:
    tenant, slug = requests.tenant, requests.team["slug"]
    async with rig.operator():
        await tenant.become_ready(provisioning={"enabled": True, "protectedTeams": [slug]})
        await tenant.deliver()
        rig.buildkite.organization.update_team(requests.team["id"], {"slug": "renamed"})
        await tenant.sync()
        told = await tenant.until_condition("ProvisioningReady", "True", "ProtectedTeamUnknown")
        assert f"the slug {slug} has the slug renamed now, and stays protected" in told["message"]
    async with rig.operator():
        reading = await requests.ask("grant")
        assert reading.effect is Effect.CANCELLED
        assert f"The team {slug} is protected" in reading.reason
        await tenant.until(lambda status: status["provisioning"]["refused"] == 1)
    assert rig.buildkite.writes == []
