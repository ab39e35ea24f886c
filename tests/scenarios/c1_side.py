"""The connector in C1: its state in the status, and syncs that reach C1."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pytest

from harness.kubernetes_apis import Manifest
from harness.rig import OperatorProcess, Rig, condition
from scenarios.access import types
from scenarios.observed import scrape
from scenarios.tenant import NewTenant, Tenant
from simulators.buildkite.organization import Organization
from simulators.c1.faults import REST_RPCS
from simulators.c1.journal import Call
from simulators.c1.token import RestClient, Role

DELIVERED_WITHIN = 5.0
"""Seconds from the end of a sync until C1 has its snapshot."""
SELDOM = 60.0
"""Seconds between two GetTask, so that a task that comes sooner was asked for."""
INGESTED_WITHIN = 3.0
"""Seconds that C1 works on a snapshot: long enough for the operator to see it."""
NOT_FORCED = "The operator could not make C1 sync"
MANAGER, READER = Role.CONNECTOR_ADMINISTRATOR, Role.READ_ONLY_ADMINISTRATOR
USERS = types("user")
"""An edit after which the connector syncs anew."""
WITHOUT_C1 = ["Ready", "CredentialsValid", "Synced", "Delivered"]


class Listed:
    """A tenant's connector in C1, with a client of C1's REST API, whose Secret is another than the tenant's."""

    def __init__(self, tenant: Tenant, *roles: Role, client: RestClient | None = None) -> None:
        self.tenant = tenant
        self.connector = tenant.c1.register_connector(tenant.client)
        self.client = client or tenant.c1.register_rest_client(roles=roles)

    def auth(self) -> Manifest:
        return {"secretRef": {"name": f"{self.tenant.name}-c1"}}

    def secret(self) -> Manifest:
        values = {"C1_CLIENT_ID": self.client.client_id, "C1_CLIENT_SECRET": self.client.client_secret}
        none = dict.fromkeys(("BATON_CLIENT_ID", "BATON_CLIENT_SECRET", "BATON_API_TOKEN"))
        return self.tenant.rig.secret(f"{self.tenant.name}-c1", **none, **values)

    def spec(self, **changes: Any) -> dict[str, Any]:
        ids = {"appID": self.connector.app_id, "connectorID": self.connector.id}
        return {"c1": {**ids, "auth": self.auth(), **changes}}

    async def become_ready(self, **changes: Any) -> Manifest:
        """With `changes` in spec.c1."""
        await self.tenant.apply(self.secret())
        return await self.tenant.become_ready(**self.spec(**changes))

    async def until_synced(self) -> Manifest:
        return await self.tenant.until_condition("C1Synced", "True", "C1Synced")

    async def until_told(self, reason: str, text: str) -> str:
        """The message of C1Synced, once it is False for this reason and has this text."""

        def holds(status: Manifest) -> bool:
            found = synced(status)
            return (found.get("status"), found.get("reason")) == ("False", reason) and text in found["message"]

        return str(synced((await self.tenant.until(holds))["status"])["message"])

    def asked(self, rpc: str) -> list[str]:
        """How its calls of this kind ended."""
        return [call.code for call in self.tenant.c1.calls(rpc) if call.client_id == self.client.client_id]


def synced(status: Manifest) -> Manifest:
    return condition({"status": status}, "C1Synced")


def rest_calls(rig: Rig) -> list[Call]:
    return [call for call in rig.c1.transcript if call.rpc in REST_RPCS]


def seconds_between(earlier: str, later: str) -> float:
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


def is_in_c1(status: Manifest) -> bool:
    """Whether C1 has the last snapshot, and has taken it in."""
    last, delivery, c1 = (status.get(each, {}) for each in ("lastSync", "lastDelivery", "c1"))
    if not delivery or last["id"] != delivery["syncID"]:
        return False
    return bool(c1.get("state") == "DONE" and c1["completedAt"] >= delivery["time"])


class TestForcedSyncs:
    async def test_an_annotation_reaches_c1_within_seconds_whose_state_goes_from_running_to_done(
        self, rig: Rig
    ) -> None:
        rig.c1.policy.next_poll = SELDOM
        listed = Listed(Tenant(rig, "acme"), MANAGER)
        tenant = listed.tenant
        async with rig.operator():
            await listed.become_ready()
            first = await listed.tenant.until(is_in_c1)
            before, told = first["status"]["lastSync"]["id"], Collected()
            rig.c1.policy.ingest_seconds = INGESTED_WITHIN
            await tenant.request_sync()
            last = await tenant.until(
                lambda status: told.take(status) and status["lastSync"]["id"] != before and is_in_c1(status)
            )
        for connector in (first, last):
            status = connector["status"]
            waited = seconds_between(status["lastSync"]["finishedAt"], status["lastDelivery"]["time"])
            print(f"delivered {waited:.1f} s after the sync ({status['lastSync']['trigger']})")
            assert waited <= DELIVERED_WITHIN
        triggers = [each["status"]["lastSync"]["trigger"] for each in (first, last)]
        assert triggers == ["Change", "Request"]
        assert told.states == ["DONE", "RUNNING", "DONE"]
        assert told.verdicts == [("True", "C1Synced"), ("True", "C1Syncing"), ("True", "C1Synced")]
        assert listed.asked("ForceSync") == ["200", "200"]
        shown = last["status"]["c1"]
        assert (shown["appID"], shown["connectorID"]) == (listed.connector.app_id, listed.connector.id)
        assert shown["startedAt"] < shown["completedAt"]

    @pytest.mark.thorough
    async def test_without_a_connector_in_c1_its_rest_api_is_left_alone(self, rig: Rig) -> None:
        tenant = Tenant(rig, "acme")
        async with rig.operator() as operator:
            await tenant.become_ready()
            await tenant.deliver()
            await tenant.sync()
            await tenant.deliver()
            connector = await tenant.until(
                lambda status: condition({"status": status}, "Delivered")["status"] == "True"
            )
            assert "buildkite_connector_c1_state" not in await scrape(operator)
        assert rest_calls(rig) == []
        assert {call.client_id for call in rig.c1.calls("Token")} == {tenant.client.client_id}
        assert [each["type"] for each in connector["status"]["conditions"]] == WITHOUT_C1
        assert "c1" not in connector["status"]
        assert {each["reason"] for each in await tenant.events()} == {"Ready", "Delivered"}


@pytest.mark.thorough
class TestForcedOnce:
    async def test_a_restart_makes_c1_sync_no_second_time_and_finds_its_state_unchanged(self, rig: Rig) -> None:
        listed = Listed(Tenant(rig, "acme"), MANAGER)
        tenant = listed.tenant
        async with rig.operator() as operator:
            await listed.become_ready(forceSync=False)
            await tenant.sync()
            before = (await tenant.until(is_in_c1))["status"]["c1"]
            await listed.until_synced()
            assert await operator.stop() == 0
        footprint, looks = await tenant.footprint(), len(listed.asked("GetConnector"))
        async with rig.operator():
            await tenant.until_polled(3)
            assert await tenant.footprint() == footprint
            edit = {"schedule": {"interval": "2h"}}
            await tenant.apply(tenant.connector(**edit, **listed.spec(forceSync=False)))  # to look at once
            await tenant.c1.wait_for(lambda: len(listed.asked("GetConnector")) > looks)
            await tenant.until_polled(1)
            after = await tenant.until(lambda status: status["observedGeneration"] == 2)
        assert after["status"]["c1"] == before
        assert listed.asked("ForceSync") == ["200"]

    async def test_what_a_crash_leaves_undelivered_after_c1_was_made_to_sync_is_delivered_by_the_next(
        self, rig: Rig
    ) -> None:
        listed = Listed(Tenant(rig, "acme"), MANAGER)
        rig.c1.policy.force_sync_latency = 1.5
        async with rig.operator() as operator:
            await listed.become_ready()
            left = await listed.tenant.until(lambda status: status.get("c1", {}).get("forcedFor"))
            await operator.kill()
        assert "lastDelivery" not in left["status"]
        async with rig.operator():
            connector = await listed.tenant.until(is_in_c1)
        assert connector["status"]["lastSync"]["id"] == left["status"]["lastSync"]["id"]
        assert listed.asked("ForceSync") == ["200"]


class Collected:
    """The states of C1 and the verdicts on them that a status goes through."""

    def __init__(self) -> None:
        self.states: list[str | None] = []
        self.verdicts: list[tuple[str, str]] = []

    def take(self, status: Manifest) -> bool:
        """True."""
        verdict = synced(status)
        _append(self.states, status["c1"].get("state"))
        _append(self.verdicts, (verdict["status"], verdict["reason"]))
        return True


def _append(changes: list[Any], value: object) -> None:
    if changes[-1:] != [value]:
        changes.append(value)


class TestC1Side:
    @pytest.mark.thorough
    async def test_a_pause_in_c1_is_told_with_its_reason_and_remedy_and_ends_when_it_is_resumed(
        self, new_tenant: NewTenant
    ) -> None:
        listed = Listed(new_tenant(), MANAGER)
        tenant, connectors = listed.tenant, listed.tenant.c1.connectors
        await listed.become_ready()
        await tenant.until(is_in_c1)
        connectors.pause(listed.connector, "DATA_DROP", "Half of the accounts are gone.")
        await tenant.sync()  # what makes the operator look before the five minutes are over
        told = await listed.until_told("C1Paused", "C1's reason: DATA_DROP: Half of the accounts are gone.")
        assert "Find out why on the connector's page in C1, then resume it or confirm its changes there." in told
        paused = await tenant.get()
        assert paused["status"]["c1"]["state"] == "DISABLED"
        assert condition(paused, "Ready")["status"] == "True"
        assert listed.asked("ForceSync") == ["200"], "a paused connector is not made to sync"

        connectors.resume(listed.connector)
        await listed.until_synced()
        delivered = (await tenant.get())["status"]
        assert delivered["lastDelivery"]["syncID"] == delivered["lastSync"]["id"]
        warnings = [each for each in await tenant.events() if each["type"] == "Warning"]
        assert [(each["reason"], each["note"]) for each in warnings] == [("C1Paused", told)]

    @pytest.mark.thorough
    async def test_c1_that_pauses_the_connector_after_a_drop_is_told_after_that_delivery(
        self, new_tenant: NewTenant
    ) -> None:
        tenant = new_tenant("dropping", "dropping")
        organization = Organization.from_document(tenant.rig.buildkite.organization.document())
        organization.slug = "dropping"
        tenant.rig.buildkite.api.organizations["dropping"] = organization
        listed, policy = Listed(tenant, MANAGER), tenant.c1.policy
        await tenant.apply(listed.secret())
        await tenant.become_ready(delivery={"shrinkGuard": {"maxDropPercent": 0}}, **listed.spec())
        await tenant.until(is_in_c1)
        for member in organization.members.records[30:]:
            organization.remove_member(member["id"])
        policy.pause_on_drop = True
        try:
            await tenant.sync()
            told = await listed.until_told("C1Paused", "the one before had 239.")
        finally:
            policy.pause_on_drop = False
        assert "resume it or confirm its changes" in told
        assert listed.asked("ForceSync") == ["200", "200"]

    @pytest.mark.thorough
    async def test_what_c1_says_of_a_sync_that_failed_is_told(self, new_tenant: NewTenant) -> None:
        listed = Listed(new_tenant(), MANAGER)
        tenant = listed.tenant
        tenant.c1.connectors.fail_sync(listed.connector, "the file has no resources")
        await listed.become_ready()
        await listed.until_told("C1SyncFailed", "C1's last sync of the connector failed: the file has no resources")
        failed = (await tenant.get())["status"]
        assert (failed["c1"]["state"], failed["c1"]["lastError"]) == ("ERROR", "the file has no resources")
        assert condition({"status": failed}, "Delivered")["status"] == "True"

    @pytest.mark.thorough
    async def test_a_client_without_the_role_leaves_syncs_and_deliveries_alone_until_it_has_it(
        self, new_tenant: NewTenant
    ) -> None:
        listed = Listed(new_tenant())
        tenant = listed.tenant
        await listed.become_ready()
        await listed.until_told("C1AccessDenied", "Read-Only Administrator or Connector Administrator")
        await tenant.deliver()
        listed.client.roles.add(READER)
        await tenant.apply(tenant.connector(**USERS, **listed.spec()))
        told = await listed.until_told("C1AccessDenied", NOT_FORCED)
        assert "the role Connector Administrator" in told
        await tenant.deliver()
        delivered = await tenant.until(lambda status: status["lastDelivery"]["syncID"] == status["lastSync"]["id"])
        assert conditions(delivered, WITHOUT_C1) == ["True"] * 4
        assert synced(delivered["status"])["message"] == told
        assert listed.asked("ForceSync") == ["403"]

        listed.client.roles.add(MANAGER)
        await tenant.sync()
        await tenant.until(is_in_c1)
        await listed.until_synced()
        assert listed.asked("ForceSync") == ["403", "200"]

    @pytest.mark.thorough
    async def test_without_force_sync_only_a_request_reaches_c1_and_with_it_an_edit_too(
        self, new_tenant: NewTenant
    ) -> None:
        listed = Listed(new_tenant(), MANAGER)
        tenant = listed.tenant
        await listed.become_ready(forceSync=False)
        await tenant.until_condition("C1Synced", "Unknown", "C1AwaitingSync")
        await tenant.c1.wait_for(lambda: listed.asked("GetConnector"))
        await tenant.until_polled(2)
        assert listed.asked("ForceSync") == []
        await tenant.sync()
        await tenant.until(is_in_c1)

        before = (await tenant.get())["status"]["lastSync"]["id"]
        await tenant.apply(tenant.connector(**USERS, **listed.spec()))
        edited = await tenant.until(lambda status: status["lastSync"]["id"] != before and is_in_c1(status))
        assert edited["status"]["lastSync"]["trigger"] == "Change"
        assert listed.asked("ForceSync") == ["200", "200"]

    @pytest.mark.thorough
    async def test_a_client_that_c1_refuses_is_read_again_from_its_secret(self, new_tenant: NewTenant) -> None:
        listed = Listed(new_tenant(), MANAGER)
        tenant = listed.tenant
        await listed.become_ready()
        await tenant.until(is_in_c1)
        tenant.c1.authority.refuse(listed.client.client_id)
        await tenant.apply(tenant.connector(**USERS, **listed.spec()))
        await listed.until_told("C1ClientRejected", "client")
        listed.client = tenant.c1.register_rest_client(roles=(MANAGER,))
        await tenant.apply(listed.secret())
        await tenant.sync()
        await tenant.until(is_in_c1)
        assert listed.asked("ForceSync")

    async def test_a_connector_that_is_taken_out_of_the_spec_leaves_nothing_behind(
        self, new_tenant: NewTenant, operator: OperatorProcess
    ) -> None:
        listed = Listed(new_tenant(), MANAGER)
        tenant = listed.tenant
        await listed.become_ready()
        await tenant.until(is_in_c1)
        series = f'buildkite_connector_c1_state{{name="{tenant.name}"'
        assert series in await scrape(operator)
        await tenant.apply(tenant.connector())
        await tenant.until(lambda status: "c1" not in status)
        calls = len(rest_calls(tenant.rig))
        await tenant.sync()
        await tenant.deliver()
        plain = await tenant.until(lambda status: status["lastDelivery"]["syncID"] == status["lastSync"]["id"])
        assert [each["type"] for each in plain["status"]["conditions"]] == WITHOUT_C1
        assert [call for call in rest_calls(tenant.rig)[calls:] if call.client_id == listed.client.client_id] == []
        assert series not in await scrape(operator)


def conditions(connector: Manifest, kinds: Sequence[str]) -> list[str]:
    return [condition(connector, kind)["status"] for kind in kinds]
