"""What the tests' own control plane does, and what of kubectl, watches and odd statuses only a real one shows."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from buildkite_connector.kubernetes.client import connect
from buildkite_connector.kubernetes.client_config import KubeconfigLogin
from buildkite_connector.kubernetes.handlers import operate
from buildkite_connector.kubernetes.informer import Informer, WatchSettings
from buildkite_connector.kubernetes.resource import ObservedResource
from buildkite_connector.kubernetes.schema import API_VERSION, GROUP, KIND, SYNC_REQUESTED_AT
from buildkite_connector.kubernetes.watch import Pulse
from buildkite_connector.timing.clock import SystemClock
from harness.cluster import Cluster, KubectlError
from harness.control_plane import Assets, ControlPlane, find_assets, missing_assets
from harness.control_plane_process import ControlPlaneError
from harness.helm_release import released
from harness.rig import Rig
from scenarios.observed import scrape
from scenarios.tenant import Tenant
from simulators.kubernetes.client import accepted

DEADLINE = 60.0
RELIST_SECONDS = 5.0
ODD_TIMES = {
    "no-such-month": "9999-99-99T00:00:00Z",
    "after-all-time": "9999-12-31T23:59:59-23:59",
    "before-all-time": "0001-01-01T00:00:00+23:59",
    "no-zone": "2026-03-02T09:00:00",
    "as-buildkite-writes": "2026-02-30 25:61:61 UTC",
    "empty": "",
}
"""What the API server takes as the time at which a token expires, by the connector's name."""


@pytest.fixture(scope="module")
def assets() -> Assets:
    found = find_assets()
    if found is None:
        pytest.skip(missing_assets() or "an API server that may be stopped is needed, not an existing cluster")
    return found


class EventHandler:
    """Remembers the sync request of each connector that it was told of."""

    def __init__(self) -> None:
        self.requests: dict[str, str | None] = {}
        self.told = asyncio.Event()

    def observe(self, resource: ObservedResource) -> None:
        assert resource.failure is None
        self.requests[resource.name] = resource.sync_request
        self.told.set()

    def forget(self, namespace: str, name: str, uid: str) -> None:
        del self.requests[name]
        self.told.set()

    async def until(self, requests: dict[str, str | None]) -> None:
        async with asyncio.timeout(DEADLINE):
            while self.requests != requests:
                self.told.clear()
                await self.told.wait()


@asynccontextmanager
async def watching(login: KubeconfigLogin, hub: EventHandler, settings: WatchSettings) -> AsyncIterator[None]:
    """Once every object was seen; the watch ends with the context."""

    ready = asyncio.Event()

    async def end() -> None: ...

    async with connect(login, SystemClock(), "pod-1") as api, asyncio.TaskGroup() as group:
        task = group.create_task(operate(api, Informer(hub.observe, hub.forget, ready), settings, Pulse(), end))
        await ready.wait()
        yield
        task.cancel()


def apply(cluster: Cluster, name: str, request: str) -> None:
    metadata = {"name": name, "namespace": "default", "annotations": {SYNC_REQUESTED_AT: request}}
    body = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": metadata,
        "spec": {"credentialsSecretRef": {"name": "s"}},
    }
    cluster.kubectl("apply", "--filename", "-", input=json.dumps(body))


async def test_the_watch_tells_what_happens_and_goes_on_after_the_api_server_was_down_and_hung(assets: Assets) -> None:
    """On a control plane of the test's own: the shared one may be somebody's cluster."""
    with ControlPlane(assets) as plane, released(plane) as release:
        login, hub = KubeconfigLogin(str(release.kubeconfig)), EventHandler()
        apply(plane, "acme", "once")
        async with watching(login, hub, WatchSettings(("default",))):
            assert hub.requests == {"acme": "once"}
            await asyncio.to_thread(apply, plane, "second", "once")
            await hub.until({"acme": "once", "second": "once"})
            await asyncio.to_thread(apply, plane, "second", "again")
            await hub.until({"acme": "once", "second": "again"})
            await asyncio.to_thread(plane.kubectl, "delete", "bkc/acme")
            await hub.until({"second": "again"})

            plane.stop_apiserver()
            await asyncio.to_thread(plane.start_apiserver)
            await asyncio.to_thread(apply, plane, "second", "after a restart")
            await hub.until({"second": "after a restart"})

            plane.pause()
            with pytest.raises(httpx.TimeoutException):
                await knock(plane)
            plane.resume()
            await asyncio.to_thread(apply, plane, "second", "after a pause")
            await hub.until({"second": "after a pause"})


async def test_a_restore_of_etcd_makes_every_resource_begin_anew(assets: Assets) -> None:
    """Versions go back: what is changed or back since the restore is told, though the versions seen are higher."""
    with ControlPlane(assets) as plane, released(plane) as release:
        login, hub = KubeconfigLogin(str(release.kubeconfig)), EventHandler()
        apply(plane, "acme", "once")
        apply(plane, "second", "once")
        await asyncio.to_thread(plane.back_up)
        settings = WatchSettings(("default",), relist_seconds=RELIST_SECONDS)
        async with watching(login, hub, settings):
            for number in range(20):
                await asyncio.to_thread(apply, plane, "acme", f"before {number}")
            await asyncio.to_thread(plane.kubectl, "delete", "bkc/second")
            await asyncio.to_thread(apply, plane, "third", "once")
            await hub.until({"acme": "before 19", "third": "once"})

            await asyncio.to_thread(plane.restore)
            await hub.until({"acme": "once", "second": "once"})
            await asyncio.to_thread(apply, plane, "acme", "after the restore")
            await hub.until({"acme": "after the restore", "second": "once"})


async def test_an_odd_expiry_in_a_status_takes_no_connector_from_the_metrics(rig: Rig, control_plane: Cluster) -> None:
    for name, odd in ODD_TIMES.items():
        await rig.apply(rig.connector(name, suspend=True))
        patch = json.dumps({"status": {"token": {"expiresAt": odd}}})
        options = ("--subresource=status", "--type=merge", "--patch", patch, "--namespace", rig.namespace)
        await asyncio.to_thread(control_plane.kubectl, "patch", "bkc", name, *options)
    async with rig.operator() as operator:
        await Tenant(rig, "well").become_ready()
        text = await scrape(operator)
    for name in ("well", *ODD_TIMES):
        assert f'buildkite_connector_suspended{{name="{name}",namespace="{rig.namespace}"}}' in text


async def knock(plane: ControlPlane) -> None:
    async with httpx.AsyncClient(verify=plane.tls(), timeout=1, trust_env=False) as http:
        accepted(await http.get(f"{plane.url}/apis/{GROUP}"))


class TestKubectl:
    def test_says_why_the_api_server_refused(self, control_plane: Cluster, namespace: str) -> None:
        with pytest.raises(KubectlError, match=r'exited with 1: Error from server \(NotFound\): secrets "absent"'):
            control_plane.kubectl("--namespace", namespace, "get", "secret", "absent")


class TestControlPlane:
    def test_leaves_nothing_behind(self, assets: Assets) -> None:
        with ControlPlane(assets) as plane:
            directory, url = plane.directory, plane.url
            plane.pause()  # even one that is paused has to end
        assert not directory.exists()
        with pytest.raises(httpx.ConnectError):
            httpx.get(url, trust_env=False)

    @pytest.mark.parametrize("broken", ["etcd", "kube-apiserver"])
    def test_shows_the_log_of_a_start_that_failed(self, assets: Assets, tmp_path: Path, broken: str) -> None:
        script = tmp_path / broken
        script.write_text("#!/bin/sh\necho 'no such flag' >&2\nexit 3\n")
        script.chmod(0o755)
        binaries = {"etcd": assets.etcd, "kube-apiserver": assets.kube_apiserver, broken: script}
        plane = ControlPlane(Assets(binaries["etcd"], binaries["kube-apiserver"], assets.kubectl))
        with pytest.raises(ControlPlaneError, match=f"{broken} ended at its start.\nno such flag"), plane:
            pass
        assert not plane.directory.exists()
