"""What a running operator shows of itself: health, metrics, traces."""

import asyncio
import contextlib
import json
import re
import resource
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from buildkite_connector.buildkite.portal_document import portal_document
from buildkite_connector.model.directory import ResourceKind
from harness.prometheus import needs_prometheus, prometheus
from harness.rig import PATIENCE, OperatorProcess, Rig
from harness.trust import plain_client
from scenarios.secrecy import find_leaks
from scenarios.tenant import Tenant
from simulators.buildkite.api import ACCESS_SCOPES
from simulators.otlp import OtlpReceiver, ReceivedSpan

METRICS_PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
ONLY_WITH_ELECTION = {"buildkite_connector_leader"}
ONLY_WITH_AN_EXPIRING_TOKEN = {"buildkite_connector_token_expiry_timestamp_seconds"}
ONLY_WITH_CHANGES = {"buildkite_connector_membership_changes_total"}
ONLY_WITH_C1 = {"buildkite_connector_c1_state", "buildkite_connector_c1_last_completed_timestamp_seconds"}
NOT_ALWAYS = ONLY_WITH_ELECTION | ONLY_WITH_AN_EXPIRING_TOKEN | ONLY_WITH_CHANGES | ONLY_WITH_C1
EMAIL = re.compile(r"[\w.+-]+@[\w-]+\.\w+")


async def served_port(operator: OperatorProcess) -> int:
    await operator.until_logged("serving health and metrics")
    [port] = [each["port"] for each in operator.records() if each["message"] == "serving health and metrics"]
    return int(port)


async def become_ready_with_everything(tenant: Tenant) -> None:
    """With every resource type, and with the portal that one of them needs."""
    portal = tenant.rig.buildkite.portals.create("metrics", portal_document())
    assert portal.token is not None
    tenant.rig.confided.add(portal.token)
    spec = {"portal": {"slug": "metrics"}, "sync": {"resourceTypes": list(ResourceKind)}}
    await tenant.apply(tenant.secret(BUILDKITE_PORTAL_TOKEN=portal.token), tenant.connector(**spec))
    await tenant.until_ready()


async def get(operator: OperatorProcess, path: str) -> httpx.Response:
    async with plain_client(f"http://127.0.0.1:{await served_port(operator)}") as http:
        return await http.get(path)


async def scrape(operator: OperatorProcess) -> str:
    answer = await get(operator, "/metrics")
    assert answer.status_code == httpx.codes.OK
    return answer.text


def sample_names(text: str) -> set[str]:
    """The metrics of a scrape by the names that the docs use: a histogram is one."""
    return {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in text_string_to_metric_families(text)
        if family.samples
    }


def documented_names() -> set[str]:
    table = METRICS_PAGE.read_text().split("## Metrics")[1].split("## Traces")[0]
    return set(re.findall(r"^\| `([a-z_0-9]+)`", table, re.M))


@contextlib.contextmanager
def silent_connections(port: int, number: int) -> Iterator[None]:
    """That many connections on which nothing is sent, or as many as this process may open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, number + 1000), hard), hard))
    try:
        with contextlib.ExitStack() as opened:
            for _ in range(min(number, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 1000)):
                opened.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE))
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class TestObserved:
    async def test_thousands_of_silent_connections_stop_neither_probes_nor_syncs_and_fill_no_log(
        self, rig: Rig
    ) -> None:
        """The process may open 1,024 files, as is usual."""
        operator = rig.operator()
        operator.command = ("sh", "-c", 'ulimit -n 1024; exec "$0" "$@"', *operator.command)
        tenant = Tenant(rig, "acme")
        async with operator:
            await tenant.become_ready()
            port = await served_port(operator)
            opening = silent_connections(port, 2_000)
            await asyncio.to_thread(opening.__enter__)
            try:
                before = len(operator.lines)
                for path in ("/healthz", "/readyz", "/metrics"):
                    assert (await get(operator, path)).status_code == httpx.codes.OK
                await tenant.sync()
                assert (await get(operator, "/readyz")).status_code == httpx.codes.OK
                assert len(operator.lines) - before < 20
            finally:
                opening.__exit__(None, None, None)
        assert [each["message"] for each in operator.records() if each["level"] in {"warning", "error"}] == []

    async def test_every_metric_of_the_docs_is_in_a_scrape_and_the_other_way_round(self, rig: Rig) -> None:
        async with rig.operator() as operator:
            tenant = Tenant(rig, "seen", scopes=ACCESS_SCOPES)
            await become_ready_with_everything(tenant)
            await tenant.deliver()
            await tenant.until_condition("Delivered", "True")
            text = await scrape(operator)
        names = {each for each in sample_names(text) if not each.startswith("process_")}
        assert names == documented_names() - NOT_ALWAYS
        assert "process_resident_memory_bytes" in text
        status = (await tenant.get())["status"]
        labels = f'{{name="seen",namespace="{rig.namespace}"}}'
        assert f"buildkite_connector_snapshot_accounts{labels} {float(status['lastSync']['accounts'])}" in text
        assert f'_status_condition{{name="seen",namespace="{rig.namespace}",status="True",type="Ready"}} 1.0' in text
        assert 'buildkite_connector_syncs_total{reason="SyncSucceeded",result="success",trigger="Change"} 1.0' in text
        assert 'buildkite_connector_c1_tasks_total{kind="sync_full",result="success"} 1.0' in text
        assert find_leaks(rig, [text]) == []
        assert EMAIL.findall(text) == []
        if promtool := shutil.which("promtool"):
            check = await asyncio.create_subprocess_exec(
                promtool, "check", "metrics", stdin=asyncio.subprocess.PIPE, stdout=-1, stderr=-1
            )
            told = await check.communicate(text.encode())
            assert (check.returncode, *told) == (0, b"", b"")

    async def test_changes_of_memberships_are_counted_and_name_nobody(self, rig: Rig) -> None:
        organization = rig.buildkite.organization
        team, person = organization.teams.records[0]["id"], organization.members.records[-1]
        async with rig.operator() as operator:
            tenant = Tenant(rig, "changed", writes=True)
            await tenant.become_ready(provisioning={"enabled": True, "roles": ["member"]})
            await tenant.deliver()
            for role in ("member", "maintainer"):
                await rig.c1.ended(rig.c1.request("grant", team, role, person["id"], client=tenant.client))
            text = await scrape(operator)
        counted = [line for line in text.splitlines() if line.startswith(tuple(ONLY_WITH_CHANGES))]
        labels = [f'{{action="grant",result="{result}"}} 1.0' for result in ("Granted", "Refused")]
        assert counted == [f"{name}{label}" for name in ONLY_WITH_CHANGES for label in labels]
        assert find_leaks(rig, [text]) == []
        assert EMAIL.findall(text) == []

    @needs_prometheus
    async def test_a_real_prometheus_scrapes_every_metric(self, rig: Rig, tmp_path: Path) -> None:
        async with (
            rig.operator() as operator,
            prometheus(tmp_path, {f"127.0.0.1:{await served_port(operator)}": {}}) as server,
        ):
            tenant = Tenant(rig, "scraped", scopes=ACCESS_SCOPES)
            await become_ready_with_everything(tenant)
            await tenant.deliver()
            await tenant.until_condition("Delivered", "True")
            [up] = await server.ask("up", lambda found: found and found[0]["value"][1] == "1")
            assert up["metric"]["job"] == "operator"
            for name in documented_names() - NOT_ALWAYS:
                await server.ask(f'{{__name__=~"{name}|{name}_count"}}')
            await server.ask('buildkite_connector_status_condition{name="scraped",type="Ready",status="True"} == 1')

    async def test_a_deleted_connector_has_no_series_at_the_next_scrape(self, rig: Rig) -> None:
        async with rig.operator() as operator:
            first, second = Tenant(rig, "first"), Tenant(rig, "second")
            for tenant in (first, second):
                await tenant.become_ready()
            assert 'name="first"' in await scrape(operator)
            await first.delete()
            await operator.until_logged("connector gone", "first")
            text = await scrape(operator)
        assert 'name="first"' not in text
        assert 'name="second"' in text

    async def test_the_probes_answer_before_all_is_seen_and_after(self, rig: Rig) -> None:
        async with rig.operator() as operator:
            alive, ready = await get(operator, "/healthz"), await get(operator, "/readyz")
        assert (alive.status_code, alive.text) == (200, "loop: ok\nwatch: ok\n")
        assert (ready.status_code, ready.text) == (200, "resources: ok\ncrd: ok\n")

    async def test_a_sync_and_a_task_are_traces_with_their_requests_and_an_idle_poll_is_none(self, rig: Rig) -> None:
        async with OtlpReceiver() as receiver:
            tenant = Tenant(rig, "traced")
            settings: dict[str, Any] = {
                "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
                "OTEL_BSP_SCHEDULE_DELAY": "200",
                "OTEL_METRIC_EXPORT_INTERVAL": "300",
                "OTEL_RESOURCE_ATTRIBUTES": "k8s.namespace.name=here",
            }
            async with rig.operator("--log-level", "debug", **settings) as operator:
                await tenant.become_ready()
                await tenant.deliver()
                await tenant.until_polled(2)
                await receiver.until(lambda it: it.named("sync") and it.named("task") and it.metrics)
                assert await operator.stop() == 0
        [sync], [task] = receiver.named("sync"), receiver.named("task")
        assert sync.attributes["buildkite_connector.connector"] == f"{rig.namespace}.traced"
        assert sync.attributes["buildkite_connector.result"] == "success"
        requests = children(receiver, sync)
        assert {span.name for span in requests} == {"request to Buildkite"}
        assert len(requests) == sync.attributes["buildkite_connector.requests"]
        assert {span.attributes["http.response.status_code"] for span in requests} == {200}
        assert {"Heartbeat", "FinishTask"} <= {span.attributes.get("rpc.method") for span in children(receiver, task)}
        traced = {sync.trace_id, task.trace_id}
        assert {span.trace_id for span in receiver.spans} == traced
        assert "GetTask" not in {span.attributes.get("rpc.method") for span in receiver.spans}
        assert receiver.resources[0]["service.name"] == "buildkite-connector"
        assert receiver.resources[0]["k8s.namespace.name"] == "here"
        assert "buildkite_connector.syncs" in receiver.metrics
        logged = [each for each in operator.records() if each["message"] == "sync succeeded"]
        assert [each["trace_id"] for each in logged] == [sync.trace_id]
        assert find_leaks(rig, [body.decode("latin-1") for body in receiver.bodies]) == []
        assert EMAIL.findall(json.dumps([span.attributes for span in receiver.spans])) == []

    @pytest.mark.parametrize(
        ("name", "value"), [("OTEL_METRICS_EXPORTER", "promtheus"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")]
    )
    async def test_a_setting_that_cannot_be_used_is_named(self, rig: Rig, name: str, value: Any) -> None:
        operator = rig.operator(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9", **{name: value})
        with pytest.raises(AssertionError, match="ended before"):
            await operator.__aenter__()
        assert any(name in line and value in line for line in operator.lines)


def children(receiver: OtlpReceiver, parent: ReceivedSpan) -> list[ReceivedSpan]:
    """The spans within this one, at any depth."""
    direct = [span for span in receiver.spans if span.parent_id == parent.span_id]
    return [*direct, *(deeper for span in direct for deeper in children(receiver, span))]
