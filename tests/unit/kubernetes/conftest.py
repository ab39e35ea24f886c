"""A Kubernetes API on loopback that knows the definition, and this project's client of it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from buildkite_connector.clock import SystemClock
from buildkite_connector.kubernetes.api import KubernetesApi, connect
from buildkite_connector.kubernetes.crd import definition
from buildkite_connector.kubernetes.login import KubeconfigLogin
from kubernetes_double import KubernetesDouble


@pytest.fixture
async def bare_double() -> AsyncIterator[KubernetesDouble]:
    """Without the definition."""
    async with KubernetesDouble() as running:
        yield running


@pytest.fixture
def double(bare_double: KubernetesDouble) -> KubernetesDouble:
    bare_double.apply(definition())
    return bare_double


@pytest.fixture
def login(bare_double: KubernetesDouble, tmp_path: Path) -> KubeconfigLogin:
    return KubeconfigLogin(str(bare_double.write_kubeconfig(tmp_path / "kubeconfig")))


@pytest.fixture
async def api(login: KubeconfigLogin) -> AsyncIterator[KubernetesApi]:
    async with connect(login, SystemClock(), "pod-1") as connected:
        yield connected
