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
from buildkite_connector.kubernetes.schema import (
    API_VERSION,
    KIND,
    PLURAL,
)
from buildkite_connector.kubernetes.schema.crd import definition
from buildkite_connector.kubernetes.watch import WatchSettings
from buildkite_connector.model.failure import Failure
from buildkite_connector.timing.clock import SystemClock
from simulators.kubernetes.exchange import Exchange
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
            before = asked(double)
            await double.wait_until(lambda: asked(double) > before + 5, timeout=DEADLINE)
        apply(double, request="now")
        with pytest.raises(Failure, match="default/acme changed, and the watch did not report"):
            async with asyncio.timeout(DEADLINE):
                await task

    async def test_an_error_in_the_handler_is_logged_once_and_costs_no_other_object_anything(
        self, double: KubernetesDouble, hub: EventHandler, watching: Watching, caplog: pytest.LogCaptureFixture
    ) -> None:
        hub.broken = {"broken"}
        apply(double, "broken")
        apply(double, "sound")
        async with watching.running():  # ready, too
            assert list(hub.there) == ["default.sound"]
            apply(double, "broken", request="again")
            apply(double, "sound", request="now")
            await hub.until(lambda: hub.request("default.sound") == "now")
            double.delete(KIND, "default", "broken")
            apply(double, "late")
            await hub.until(lambda: "default.late" in hub.there)
            hub.broken = set()
            apply(double, "broken")
            await hub.until(lambda: "default.broken" in hub.there)
        told = [(each.getMessage(), vars(each)["connector"]) for each in caplog.records if each.exc_info]
        assert told == [
            ("a resource could not be taken in; the others are served", "default.broken"),
            ("a resource that is gone could not be let go", "default.broken"),
        ]

    @pytest.mark.parametrize("status", [400, 401, 403, 405, 409, 410, 422, 429, 500, 502, 504])
    async def test_a_watch_that_is_refused_begins_anew_and_says_so_in_one_line_at_most(
        self,
        double: KubernetesDouble,
        hub: EventHandler,
        watching: Watching,
        status: int,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        apply(double)
        async with watching.running(WatchSettings(poll_seconds=0.01)):
            await double.wait_until(lambda: double.watches(KIND) == 1, timeout=DEADLINE)
            with double.failing(status, watches=True):
                before = len(refused_watches(double, status))
                double.drop_watches()
                await double.wait_until(lambda: len(refused_watches(double, status)) > before, timeout=DEADLINE)
                apply(double, request="now")
            await hub.until(lambda: hub.request("default.acme") == "now")
        assert caplog.text.count("the watch was broken off and begins anew") <= 1
        assert [each for each in caplog.records if each.exc_info and each.name != "aiohttp.server"] == []

    async def test_a_watch_that_is_refused_again_and_again_is_one_line_of_the_log(
        self, double: KubernetesDouble, hub: EventHandler, watching: Watching, caplog: pytest.LogCaptureFixture
    ) -> None:
        apply(double)
        with double.failing(410, watches=True):
            async with watching.running(WatchSettings(poll_seconds=0.01)):
                await double.wait_until(lambda: len(refused_watches(double, 410)) > 3, timeout=DEADLINE)
                apply(double, request="now")
                await hub.until(lambda: hub.request("default.acme") == "now")  # by the lists
        assert caplog.text.count("the watch was broken off and begins anew") == 1

    @pytest.mark.parametrize(
        "body",
        ["no JSON", "[]", '{"type":"ERROR","object":{"code":500,"message":"etcd"}}\n', '{"type":"ERROR"}\n', "\n"],
    )
    async def test_a_watch_that_tells_what_cannot_be_read_begins_anew(
        self, double: KubernetesDouble, hub: EventHandler, watching: Watching, body: str
    ) -> None:
        apply(double)
        async with watching.running(WatchSettings(poll_seconds=0.01)):
            await double.wait_until(lambda: double.watches(KIND) == 1, timeout=DEADLINE)
            with double.failing(200, watches=True, body=body):
                before = len(refused_watches(double, 200))
                double.drop_watches()
                await double.wait_until(lambda: len(refused_watches(double, 200)) > before, timeout=DEADLINE)
                apply(double, request="now")
            await hub.until(lambda: hub.request("default.acme") == "now")


class TestRestoreOfEtcd:
    """Everything is set back: objects and versions are as they were at a backup."""

    SETTINGS = WatchSettings(relist_seconds=RELIST_SECONDS, poll_seconds=0.01)

    async def test_an_annotation_with_a_lower_version_is_told(
        self, double: KubernetesDouble, hub: EventHandler, watching: Watching, caplog: pytest.LogCaptureFixture
    ) -> None:
        uid = apply(double)
        async with watching.running(self.SETTINGS):
            backup = double.backup()
            for number in range(50):
                apply(double, request=f"before {number}")
            await hub.until(lambda: hub.request("default.acme") == "before 49")
            double.restore(backup)
            await hub.until(lambda: ("default", "acme", uid) in hub.forgotten)
            apply(double, request="after the restore")
            await hub.until(lambda: hub.request("default.acme") == "after the restore")
        assert caplog.text.count("the cluster was set back, as by a restore of etcd") == 1

    async def test_an_object_that_was_deleted_and_is_back_is_told(
        self, double: KubernetesDouble, hub: EventHandler, watching: Watching
    ) -> None:
        apply(double)
        async with watching.running(self.SETTINGS):
            backup = double.backup()
            double.delete(KIND, "default", "acme")
            await hub.until(lambda: not hub.there)
            double.restore(backup)
            await hub.until(lambda: "default.acme" in hub.there)

    async def test_an_object_that_was_made_since_is_forgotten(
        self, double: KubernetesDouble, hub: EventHandler, watching: Watching
    ) -> None:
        async with watching.running(self.SETTINGS):
            backup = double.backup()
            uid = apply(double)
            await hub.until(lambda: "default.acme" in hub.there)
            double.restore(backup)
            await hub.until(lambda: hub.forgotten == [("default", "acme", uid)])

    async def test_an_object_set_back_is_noticed_though_the_cluster_has_overtaken_its_old_version(
        self, double: KubernetesDouble, hub: EventHandler, watching: Watching
    ) -> None:
        uid = apply(double)
        async with watching.running(self.SETTINGS):
            await double.wait_until(lambda: double.watches(KIND) == 1, timeout=DEADLINE)
            backup = double.backup()
            apply(double, request="before")
            await hub.until(lambda: hub.request("default.acme") == "before")
            double.restore(backup)
            for number in range(20):
                double.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"s{number}"}})
            await hub.until(lambda: ("default", "acme", uid) in hub.forgotten)
            await hub.until(lambda: "default.acme" in hub.there and not hub.request("default.acme"))

    async def test_a_cluster_that_only_goes_on_is_no_reason(
        self, double: KubernetesDouble, hub: EventHandler, watching: Watching, caplog: pytest.LogCaptureFixture
    ) -> None:
        apply(double)
        async with watching.running(self.SETTINGS):
            for number in range(2):
                apply(double, request=str(number))
                lists = asked(double)
                await double.wait_until(lambda lists=lists: asked(double) > lists, timeout=DEADLINE)  # type: ignore[misc]
        assert hub.forgotten == []
        assert "set back" not in caplog.text


def refused_watches(double: KubernetesDouble, status: int) -> list[Exchange]:
    return [each for each in double.transcript if each.path.endswith(PLURAL) and each.status == status]


def asked(double: KubernetesDouble) -> int:
    return sum(each.path.endswith(PLURAL) for each in double.transcript)
