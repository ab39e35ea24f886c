"""The watch over a real socket: what the hub is told, what it survives, and that it never dies in silence."""

import asyncio
import ssl
import threading
from pathlib import Path

import pytest
import trustme

from buildkite_connector.kubernetes.client import KubernetesApi, connect
from buildkite_connector.kubernetes.client_config import KubeconfigLogin
from buildkite_connector.kubernetes.resource import BrokenConnector
from buildkite_connector.kubernetes.schema.crd import definition
from buildkite_connector.kubernetes.schema.names import (
    API_VERSION,
    KIND,
    PLURAL,
)
from buildkite_connector.kubernetes.watch import WatchSettings
from buildkite_connector.model.failure import Failure
from buildkite_connector.timing.clock import SystemClock
from simulators.kubernetes.server import KubernetesDouble
from unit.kubernetes.watching import DEADLINE, RELIST_SECONDS, EventHandler, Watching, apply


@pytest.fixture
def hub() -> EventHandler:
    return EventHandler()


@pytest.fixture
def watching(hub: EventHandler, api: KubernetesApi, login: KubeconfigLogin) -> Watching:
    return Watching(hub, api, login)


async def test_ready_comes_after_every_object_of_the_start_was_told(
    double: KubernetesDouble, hub: EventHandler, watching: Watching
) -> None:
    for number in range(50):
        apply(double, f"c{number}", f"team-{number % 5}")
    async with watching.running():
        assert len(hub.there) == 50


async def test_an_empty_cluster_is_ready_at_once(
    double: KubernetesDouble, hub: EventHandler, watching: Watching
) -> None:
    async with watching.running():
        assert hub.there == {}


async def test_what_is_made_changed_and_deleted_is_told(
    double: KubernetesDouble, hub: EventHandler, watching: Watching
) -> None:
    async with watching.running():
        uid = apply(double)
        await hub.until(lambda: "default.acme" in hub.there)
        apply(double, request="now")
        await hub.until(lambda: hub.request("default.acme") == "now")
        double.delete(KIND, "default", "acme")
        await hub.until(lambda: bool(hub.forgotten))
        assert hub.forgotten == [("default", "acme", uid)]


async def test_a_spec_that_cannot_be_used_is_told_as_broken(
    bare_double: KubernetesDouble, hub: EventHandler, watching: Watching
) -> None:
    older = definition()
    schema = older["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    schema["spec"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    bare_double.apply(older)
    manifest = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "acme", "namespace": "default"}}
    bare_double.apply({**manifest, "spec": {"credentialsSecretRef": {"name": "s"}, "schedule": {"interval": "3x"}}})
    async with watching.running():
        seen = hub.there["default.acme"]
        assert isinstance(seen, BrokenConnector)
        assert seen.failure.message.startswith("spec.schedule.interval")


async def test_only_the_namespaces_asked_for_are_watched(
    double: KubernetesDouble, hub: EventHandler, watching: Watching
) -> None:
    for namespace in ("one", "two", "three"):
        apply(double, "acme", namespace)
    async with watching.running(WatchSettings(("one", "three"))):
        apply(double, "late", "two")
        apply(double, "late", "three")
        await hub.until(lambda: "three.late" in hub.there)
        assert sorted(hub.there) == ["one.acme", "three.acme", "three.late"]


async def test_it_writes_nothing_and_reads_nothing_but_the_resources(
    double: KubernetesDouble, hub: EventHandler, watching: Watching
) -> None:
    apply(double)
    async with watching.running():
        apply(double, request="now")
        await hub.until(lambda: hub.request("default.acme") == "now")
    assert {each.method for each in double.transcript} == {"GET"}
    assert {each.resource for each in double.transcript} <= {"", PLURAL}
    assert "finalizers" not in double.get(KIND, "default", "acme")["metadata"]


async def test_it_stops_when_told_and_leaves_no_thread(double: KubernetesDouble, watching: Watching) -> None:
    async with watching.running():
        assert [thread for thread in threading.enumerate() if thread.name.startswith("kopf")]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("kopf")]


async def test_its_end_cancels_no_task_that_is_not_its_own(double: KubernetesDouble, watching: Watching) -> None:
    async with watching.running():
        foreign = asyncio.create_task(asyncio.Event().wait())
    await asyncio.sleep(0)
    assert not foreign.done()
    foreign.cancel()


async def test_cancelling_it_ends_kopf_too(double: KubernetesDouble, watching: Watching) -> None:
    task = watching.begin()
    await watching.until_ready(task)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("kopf")]


async def test_both_clients_log_in_over_tls_as_the_kubeconfig_says(hub: EventHandler, tmp_path: Path) -> None:
    """With a client certificate, to a server of another name, by relative paths."""
    authority, tls = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("api.test").configure_cert(tls)
    authority.configure_trust(tls)
    tls.verify_mode = ssl.CERT_REQUIRED
    client = authority.issue_cert("operator.test")
    for name, blob in (("ca.crt", authority.cert_pem), ("tls.crt", client.cert_chain_pems[0])):
        blob.write_to_path(tmp_path / name)
    client.private_key_pem.write_to_path(tmp_path / "tls.key")
    async with KubernetesDouble(tls=tls) as double:
        double.apply(definition())
        apply(double)
        (tmp_path / "config").write_text(
            f"""
            current-context: x
            contexts: [{{name: x, context: {{cluster: c, user: u}}}}]
            clusters:
            - name: c
              cluster: {{server: "{double.server_url}", certificate-authority: ca.crt, tls-server-name: api.test}}
            users: [{{name: u, user: {{client-certificate: tls.crt, client-key: tls.key}}}}]
            """
        )
        login = KubeconfigLogin(str(tmp_path / "config"))
        async with connect(login, SystemClock(), "pod-1") as api, Watching(hub, api, login).running():
            assert sorted(hub.there) == ["default.acme"]
            apply(double, request="now")
            await hub.until(lambda: hub.request("default.acme") == "now")


class TestTrouble:
    async def test_a_watch_that_is_cut_goes_on_where_it_was(
        self, double: KubernetesDouble, hub: EventHandler, watching: Watching
    ) -> None:
        apply(double)
        async with watching.running():
            await double.wait_until(lambda: double.watches(KIND) == 1, timeout=DEADLINE)
            told = hub.observations
            double.drop_watches()
            apply(double, request="now")
            await hub.until(lambda: hub.request("default.acme") == "now")
            assert hub.observations == told + 1

    @pytest.mark.parametrize("status", [503, None])
    async def test_an_outage_is_waited_out(
        self, double: KubernetesDouble, hub: EventHandler, watching: Watching, status: int | None
    ) -> None:
        apply(double)
        async with watching.running():
            await double.wait_until(lambda: double.watches(KIND) == 1, timeout=DEADLINE)
            with double.outage(status):
                before = len(double.transcript)
                await double.wait_until(lambda: len(double.transcript) > before, timeout=DEADLINE)
                apply(double, request="now")
            await hub.until(lambda: hub.request("default.acme") == "now")

    async def test_what_was_deleted_while_the_watch_was_lost_is_forgotten(
        self, double: KubernetesDouble, hub: EventHandler, watching: Watching
    ) -> None:
        uid = apply(double)
        apply(double, "stays")
        async with watching.running(WatchSettings(relist_seconds=RELIST_SECONDS)):
            await double.wait_until(lambda: double.watches(KIND) == 1, timeout=DEADLINE)
            with double.outage(503):
                double.delete(KIND, "default", "acme")
                double.expire_watches()
            await hub.until(lambda: bool(hub.forgotten))
            assert hub.forgotten == [("default", "acme", uid)]
            assert "default.stays" in hub.there

    async def test_a_stale_watch_ends_it_with_a_failure(self, double: KubernetesDouble, watching: Watching) -> None:
        apply(double)
        task = watching.begin(WatchSettings(relist_seconds=RELIST_SECONDS))
        await watching.until_ready(task)
        await double.wait_until(lambda: double.watches(KIND) == 1, timeout=DEADLINE)
        with double.outage(503):  # kopf waits 1, 2, then 4 seconds: longer than two relists take
            before = len(double.transcript)
            await double.wait_until(lambda: len(double.transcript) > before + 5, timeout=DEADLINE)
        apply(double, request="now")
        with pytest.raises(Failure, match="default/acme changed, and the watch did not report"):
            async with asyncio.timeout(DEADLINE):
                await task

    async def test_an_error_in_the_hub_ends_it_rather_than_being_swallowed(
        self, double: KubernetesDouble, hub: EventHandler, watching: Watching
    ) -> None:
        hub.error = RuntimeError("a bug")
        apply(double)
        with pytest.raises(Failure, match="a bug"):
            async with asyncio.timeout(DEADLINE):
                await watching.begin()
