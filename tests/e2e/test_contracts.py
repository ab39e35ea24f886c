"""kube-apiserver passes the contracts that the simulator of Kubernetes passes."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from buildkite_connector.kubernetes.client import KubernetesApi
from contracts.kubernetes_api import KubernetesContract
from contracts.kubernetes_client import DRAFT, ClientContract, create
from harness.cluster import Cluster
from harness.service_account import ServiceAccount
from harness.trust import plain_client
from simulators.kubernetes.client import DEADLINE, Api


@pytest.fixture(scope="module")
def proxy_url(control_plane: Cluster) -> Iterator[str]:
    with control_plane.proxy() as url:
        yield url


@pytest.mark.usefixtures("widgets")
class TestApiServer(KubernetesContract):
    """All that this project relies on."""

    @pytest.fixture
    async def api(self, proxy_url: str, namespace: str) -> AsyncIterator[Api]:
        async with plain_client(proxy_url, timeout=DEADLINE) as http:
            yield Api(http, namespace)


class RealPlace:
    """The service account's namespace, changed by kubectl as the administrator."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.namespace = namespace
        self.cluster = cluster

    def apply(self, manifest: dict[str, Any]) -> None:
        self.cluster.kubectl("apply", "--filename", "-", input=json.dumps(manifest))

    def apply_status_as_another(self, manifest: dict[str, Any]) -> None:
        how = ("--server-side", "--subresource=status", "--field-manager=auditor")
        self.cluster.kubectl("apply", *how, "--filename", "-", input=json.dumps(manifest))

    def get(self) -> dict[str, Any]:
        found: dict[str, Any] = self.cluster.kubectl_json("get", "bkc/acme", "--namespace", self.namespace)
        return found

    def delete(self) -> None:
        self.cluster.kubectl("delete", "bkc/acme", "--namespace", self.namespace)

    def events(self) -> list[dict[str, Any]]:
        events = self.cluster.kubectl_json("get", "events.events.k8s.io", "--namespace", self.namespace)["items"]
        return list(events)


class TestClient(ClientContract):
    """With the rights of deploy/ and no others."""

    @pytest.fixture
    def place(self, account: ServiceAccount) -> RealPlace:
        return RealPlace(account.cluster, account.namespace)

    async def test_describe_shows_how_often_an_event_came(self, place: RealPlace, api: KubernetesApi) -> None:
        seen = create(place)
        for _ in range(3):
            api.post_event(seen, DRAFT)
            await api.drain_events(10.0)
        told = place.cluster.kubectl("describe", "bkc/acme", "--namespace", place.namespace).stdout
        event = next(line for line in told.splitlines() if "TokenRejected" in line)
        assert event.split()[0] == "Warning"
        assert "(x3 over" in event
        assert event.endswith("Buildkite refuses the token.")
