import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from harness.control_plane import (
    ASSETS_VARIABLE,
    CLUSTER_VARIABLE,
    Assets,
    Cluster,
    ControlPlane,
    KubectlError,
    find_assets,
    find_cluster,
    missing_assets,
)
from harness.control_plane_process import ControlPlaneError
from harness.kubectl_table import render_table
from simulators.kubernetes.client import DEADLINE, GROUP, WIDGETS, Api, accepted, widget
from simulators.kubernetes.contract import KubernetesContract
from simulators.kubernetes.probe import observing


@pytest.fixture(scope="module")
def widgets(control_plane: Cluster) -> Iterator[None]:
    define_widgets(control_plane)
    yield
    control_plane.kubectl("delete", "crd", WIDGETS["metadata"]["name"])


@pytest.fixture(scope="module")
def proxy_url(control_plane: Cluster) -> Iterator[str]:
    with control_plane.proxy() as url:
        yield url


@pytest.fixture(scope="module")
def assets() -> Assets:
    found = find_assets()
    return found if found is not None else pytest.skip(missing_assets())


@pytest.fixture(scope="module")
def own_plane(assets: Assets) -> Iterator[ControlPlane]:
    """A control plane that may be stopped: the shared one may be somebody's cluster."""
    with ControlPlane(assets) as plane:
        define_widgets(plane)
        yield plane


@pytest.mark.usefixtures("widgets")
class TestApiServer(KubernetesContract):
    """kube-apiserver and the double are the same in all that this project relies on."""

    @pytest.fixture
    async def api(self, proxy_url: str, namespace: str) -> AsyncIterator[Api]:
        async with httpx.AsyncClient(base_url=proxy_url, timeout=DEADLINE, trust_env=False) as http:
            yield Api(http, namespace)


class TestOperator:
    """kopf on an API server: what `tests/unit/test_kubernetes_double.py` shows on the double."""

    async def test_hears_of_additions_changes_and_deletions(
        self, control_plane: Cluster, widgets: None, namespace: str
    ) -> None:
        async with observing(control_plane.kubeconfig, namespace) as told:
            apply_widget(control_plane, namespace, "first", "small")
            await told("first", "small")
            apply_widget(control_plane, namespace, "second", "small")
            assert await told("second", "small") == "ADDED"
            apply_widget(control_plane, namespace, "second", "large")
            assert await told("second", "large") == "MODIFIED"
            control_plane.kubectl("--namespace", namespace, "delete", "widget", "second")
            assert await told("second", "large") == "DELETED"

    async def test_recovers_when_the_api_server_was_down(self, own_plane: ControlPlane) -> None:
        async with observing(own_plane.kubeconfig, "default") as told:
            apply_widget(own_plane, "default", "stopped", "small")
            await told("stopped", "small")
            own_plane.stop_apiserver()
            await asyncio.to_thread(own_plane.start_apiserver)
            apply_widget(own_plane, "default", "stopped", "large")
            await told("stopped", "large")

    async def test_recovers_when_the_api_server_hung(self, own_plane: ControlPlane) -> None:
        async with observing(own_plane.kubeconfig, "default") as told:
            apply_widget(own_plane, "default", "paused", "small")
            await told("paused", "small")
            own_plane.pause()
            with pytest.raises(httpx.TimeoutException):
                await knock(own_plane)
            own_plane.resume()
            apply_widget(own_plane, "default", "paused", "large")
            await told("paused", "large")


class TestKubectl:
    def test_prints_the_table_that_we_print_without_it(
        self, control_plane: Cluster, widgets: None, namespace: str
    ) -> None:
        now = datetime.now(UTC)
        condition = {"type": "Ready", "status": "True", "message": "Delivered.\nIn two lines."}
        for name, sync in (("recent", timedelta(days=3, hours=7, minutes=30)), ("future", timedelta(days=-1))):
            apply_widget(control_plane, namespace, name, "ünïcödé")
            status = {"count": 1234, "lastSync": (now - sync).isoformat(), "conditions": [condition]}
            control_plane.kubectl(
                *("--namespace", namespace, "patch", "widget", name),
                *("--subresource=status", "--type=merge", "--patch", json.dumps({"status": status})),
            )
        apply_widget(control_plane, namespace, "without-a-status", "")

        crd = control_plane.kubectl_json("get", "crd", WIDGETS["metadata"]["name"])
        for wide in (False, True):
            before = datetime.now(UTC)
            printed = control_plane.kubectl("--namespace", namespace, "get", "wg", *["--output=wide"] * wide).stdout
            seconds = int((datetime.now(UTC) - before).total_seconds()) + 2
            objects = control_plane.kubectl_json("--namespace", namespace, "get", "widgets")["items"]
            assert printed in [render_table(crd, objects, before + timedelta(seconds=s), wide) for s in range(seconds)]

    def test_says_why_the_api_server_refused(self, control_plane: Cluster, namespace: str) -> None:
        with pytest.raises(KubectlError, match=r'exited with 1: Error from server \(NotFound\): secrets "absent"'):
            control_plane.kubectl("--namespace", namespace, "get", "secret", "absent")

    def test_acts_as_a_service_account_with_its_rights_only(self, control_plane: Cluster, namespace: str) -> None:
        control_plane.kubectl("--namespace", namespace, "create", "serviceaccount", "reader")
        control_plane.kubectl("--namespace", namespace, "create", "secret", "generic", "s", "--from-literal=key=value")
        control_plane.kubectl(
            *("--namespace", namespace, "create", "role", "reader"), "--verb=get", "--resource=secrets"
        )
        control_plane.kubectl(
            *("--namespace", namespace, "create", "rolebinding", "reader"),
            *("--role=reader", f"--serviceaccount={namespace}:reader"),
        )
        kubeconfig = f"--kubeconfig={control_plane.service_account_kubeconfig(namespace, 'reader')}"
        control_plane.kubectl(kubeconfig, "get", "secret", "s")
        with pytest.raises(KubectlError, match="cannot list resource"):
            control_plane.kubectl(kubeconfig, "get", "secrets")


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


class TestAssets:
    def test_are_missed_in_a_sentence_that_says_how_to_get_them(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(ASSETS_VARIABLE, str(tmp_path))
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.delenv(CLUSTER_VARIABLE, raising=False)
        assert find_assets() is None
        assert find_cluster() is None
        sentence = missing_assets()
        assert f"etcd, kube-apiserver, kubectl not found in {tmp_path}" in sentence
        assert "setup-envtest" in sentence
        assert CLUSTER_VARIABLE in sentence

    def test_are_not_needed_for_an_existing_cluster(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "kubectl").touch()
        monkeypatch.setenv(ASSETS_VARIABLE, str(tmp_path))
        monkeypatch.setenv(CLUSTER_VARIABLE, str(tmp_path / "kubeconfig"))
        assert missing_assets() == ""
        cluster = find_cluster()
        assert type(cluster) is Cluster
        assert cluster.kubeconfig == tmp_path / "kubeconfig"


def define_widgets(cluster: Cluster) -> None:
    cluster.kubectl("apply", "--filename", "-", input=json.dumps(WIDGETS))
    cluster.kubectl("wait", "--for=condition=Established", "--timeout=30s", f"crd/{WIDGETS['metadata']['name']}")


def apply_widget(cluster: Cluster, namespace: str, name: str, size: str) -> None:
    manifest = widget({"name": name, "namespace": namespace}, spec={"size": size})
    cluster.kubectl("apply", "--filename", "-", input=json.dumps(manifest))


async def knock(plane: ControlPlane) -> None:
    async with httpx.AsyncClient(verify=plane.tls(), timeout=1, trust_env=False) as http:
        accepted(await http.get(f"{plane.url}/apis/{GROUP}/v1"))
