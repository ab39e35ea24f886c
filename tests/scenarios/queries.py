"""Every expression of the chart's alerts and dashboard, run on a real Prometheus that scrapes running operators."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from harness.helm_chart import CHART, Values, merged, one, render
from harness.prometheus import Prometheus, Sample, needs_prometheus, prometheus
from harness.rig import OperatorProcess, Rig
from scenarios.c1_side import READER, Listed
from scenarios.observed import served_port
from scenarios.tenant import Tenant
from simulators.buildkite.faults import links_elsewhere
from simulators.buildkite.organization import Organization
from simulators.buildkite.quota import Limits

SHOWN: Values = {"prometheusRule": {"enabled": True, "renderMode": "alwaysRender"}}
ANY_WAIT: Values = {"prometheusRule": {"rules": {"BuildkiteConnectorQuotaShort": {"threshold": 0}}}}
"""The shortest wait fires: nobody waits for three hours here."""
HOUR, DAY = 3600.0, 86400.0
LATER = {"BuildkiteConnectorSyncOverdue": 3 * HOUR, "BuildkiteConnectorDeliveryStale": 3 * DAY}
"""Seconds after which an alert fires when all stands still."""
FIRING = {
    "BuildkiteConnectorNotReady": {"rejected", "failing", "held"},
    "BuildkiteConnectorStalled": {"rejected", "held"},
    "BuildkiteConnectorSyncFailing": {"failing"},
    "BuildkiteConnectorSyncOverdue": {"well", "rejected", "failing", "held", "shrunk", "reading", "paused"},
    "BuildkiteConnectorDeliveryStale": {"well", "held", "shrunk"},
    "BuildkiteConnectorShrinkHeld": {"held"},
    "BuildkiteConnectorShrunk": {"shrunk"},
    "BuildkiteConnectorProvisioningNotReady": {"reading"},
    "BuildkiteConnectorC1NotSynced": {"paused"},
    "BuildkiteConnectorTokenExpiring": {"well"},
    "BuildkiteConnectorQuotaShort": {""},
    "BuildkiteConnectorMultipleLeaders": {""},
}
"""The connectors for which each alert fires."""
LAST = {"BuildkiteConnectorNoLeader", "BuildkiteConnectorOperatorDown"}


def expressions(values: Values | None = None) -> dict[str, str]:
    rules = one(render(merged(SHOWN, values or {})), "PrometheusRule")["spec"]["groups"][0]["rules"]
    return {rule["alert"]: rule["expr"] for rule in rules}


def dashboard_queries() -> list[str]:
    """Each, with what Grafana fills in."""
    dashboard = json.loads((CHART / "files" / "dashboard.json").read_text())
    targets = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    return [expression.replace("$namespace", ".*").replace("$__rate_interval", "60s") for expression in targets]


def of(connectors: set[str]) -> Callable[[list[Sample]], bool]:
    """Whether a result is of these connectors, each and no other."""
    return lambda found: {each["metric"].get("name", "") for each in found} == connectors


def leading(rig: Rig, lease: str, *arguments: str, **others: str) -> OperatorProcess:
    """An operator with a Lease of its own."""
    settings: Mapping[str, str] = {
        "BUILDKITE_CONNECTOR_LEADER_ELECTION": "true",
        "BUILDKITE_CONNECTOR_LEASE_NAME": lease,
        "BUILDKITE_CONNECTOR_LEASE_NAMESPACE": rig.namespace,
        "BUILDKITE_CONNECTOR_DATA_DIR": str(rig.directory / lease),
        "POD_NAME": lease,
        **others,
    }
    return rig.operator(*(arguments or ("--namespace", rig.namespace)), everywhere=True, **settings)


def organization(rig: Rig, slug: str) -> Organization:
    """One more, with the people of the first."""
    made = Organization.from_document(rig.buildkite.organization.document())
    made.slug = slug
    rig.buildkite.api.organizations[slug] = made
    return made


async def go_well(rig: Rig, server: Prometheus) -> None:
    """It has delivered; its syncs wait for the rate limit, and its token expires in 5 days."""
    rig.buildkite.quota.limits = Limits(user=None, organization=15, window=1.0, reset_decimals=3)
    tenant = Tenant(rig, "well")
    rig.buildkite.grant(replace(tenant.token, expires_at=datetime.now(UTC) + timedelta(days=5)))
    await tenant.become_ready()
    await server.ask("buildkite_connector_syncs_total")
    await tenant.sync()
    await tenant.deliver()
    rig.buildkite.quota.limits = Limits(user=None, organization=None)


async def be_rejected(rig: Rig) -> None:
    tenant = Tenant(rig, "rejected")
    await tenant.become_ready()
    rig.buildkite.revoke(tenant.token)
    await tenant.request_sync()
    await tenant.until_condition("Stalled", "True", "TokenRejected")


async def fail_twice(rig: Rig) -> None:
    organization(rig, "broken")
    tenant = Tenant(rig, "failing", "broken")
    rig.buildkite.fault(links_elsewhere("https://api.example.com"), path="/v2/organizations/broken/members", times=None)
    await tenant.apply()
    await tenant.until(lambda status: status.get("consecutiveFailures", 0) >= 1)
    await tenant.request_sync()
    await tenant.until(lambda status: status.get("consecutiveFailures", 0) >= 2)


async def be_held(rig: Rig) -> None:
    shrinking = organization(rig, "shrinking")
    tenant = Tenant(rig, "held", "shrinking")
    await tenant.become_ready()
    await tenant.deliver()
    for member in shrinking.members.records[30:]:
        shrinking.remove_member(member["id"])
    await tenant.sync()
    await tenant.until_condition("Delivered", "False", "ShrinkHeld")


async def shrink(rig: Rig, server: Prometheus) -> None:
    """It loses a third of its members, which is delivered with a warning."""
    smaller = organization(rig, "smaller")
    tenant = Tenant(rig, "shrunk", "smaller")
    await tenant.become_ready()
    await tenant.deliver()
    await server.ask('buildkite_connector_snapshot_accounts{name="shrunk"}')
    for member in smaller.members.records[len(smaller.members.records) * 2 // 3 :]:
        smaller.remove_member(member["id"])
    await tenant.sync()
    await tenant.until_condition("Delivered", "False", "Shrunk")


async def be_unable_to_write(rig: Rig) -> None:
    organization(rig, "readable")
    tenant = Tenant(rig, "reading", "readable")
    await tenant.become_ready(provisioning={"enabled": True})
    await tenant.until_condition("ProvisioningReady", "False", "TokenScopeMissing")


async def be_paused_in_c1(rig: Rig) -> None:
    listed = Listed(Tenant(rig, "paused"), READER)
    rig.c1.connectors.pause(listed.connector, "DATA_DROP", "Half of the accounts are gone.")
    await listed.become_ready(forceSync=False)
    await listed.tenant.until_condition("C1Synced", "False", "C1Paused")


@contextlib.asynccontextmanager
async def scraped(rig: Rig, directory: Path) -> AsyncIterator[tuple[Prometheus, list[OperatorProcess]]]:
    """Two operators that both lead, in the eyes of one release, and all that can be wrong with connectors."""
    async with leading(rig, "one") as first, leading(rig, "two", "--namespace", "elsewhere") as second:
        operators = [first, second]
        targets: dict[str, dict[str, Any]] = {
            f"127.0.0.1:{await served_port(each)}": {"namespace": "ops", "pod": each.environment["POD_NAME"]}
            for each in operators
        }
        async with prometheus(directory, targets) as server:
            async with asyncio.TaskGroup() as together:
                for story in (be_rejected, fail_twice, be_held, be_paused_in_c1):
                    together.create_task(story(rig))
            await go_well(rig, server)
            yield server, operators


class TestQueries:
    @needs_prometheus
    async def test_every_alert_fires_and_every_panel_shows_data(self, rig: Rig, tmp_path: Path) -> None:
        alerts = expressions(ANY_WAIT)
        assert set(FIRING) | LAST == set(alerts)
        async with scraped(rig, tmp_path) as (server, operators):
            await shrink(rig, server)
            await be_unable_to_write(rig)
            for alert, expected in FIRING.items():
                await server.ask(alerts[alert], of(expected), LATER.get(alert, 0))
            for query in dashboard_queries():
                await server.ask(query, lambda found: {each["value"][1] for each in found} - {"NaN"})
            await server.ask(alerts["BuildkiteConnectorNoLeader"].replace("< 1", "< 3"))
            assert await server.ask(alerts["BuildkiteConnectorOperatorDown"], lambda found: not found) == []
            for operator in operators:
                await operator.stop()
            await server.ask(alerts["BuildkiteConnectorOperatorDown"])
