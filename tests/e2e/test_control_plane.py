import json
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from control_plane import Cluster
from kubernetes_double_client import WIDGETS, Api
from kubernetes_double_contract import KubernetesContract


@pytest.fixture(scope="module")
def widgets(control_plane: Cluster) -> Iterator[None]:
    control_plane.kubectl("apply", "--filename", "-", input=json.dumps(WIDGETS))
    name = WIDGETS["metadata"]["name"]
    control_plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", f"crd/{name}")
    yield
    control_plane.kubectl("delete", "crd", name)


@pytest.fixture(scope="module")
def proxy_url(control_plane: Cluster) -> Iterator[str]:
    """A plain HTTP way to the API server, whatever credentials its kubeconfig has."""
    with control_plane.proxy() as url:
        yield url


@pytest.mark.usefixtures("widgets")
class TestApiServer(KubernetesContract):
    @pytest.fixture
    async def api(self, proxy_url: str, namespace: str) -> AsyncIterator[Api]:
        async with httpx.AsyncClient(base_url=proxy_url, timeout=10, trust_env=False) as http:
            yield Api(http, namespace)
