"""A fresh namespace for each test, on the cluster of `tests/conftest.py`; and the operator's service account."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from buildkite_connector.kubernetes.client import KubernetesApi, connect
from buildkite_connector.timing.clock import SystemClock
from harness.cluster import Cluster
from harness.control_plane import ControlPlane, find_assets, missing_assets
from harness.helm_release import DEFINITION, NO_PODS, installed, new_namespace, released_in
from harness.kubernetes_apis import real_api
from harness.rig import Rig
from harness.service_account import ServiceAccount, service_account
from scenarios.fixtures import watched_rig
from simulators.kubernetes.client import WIDGETS

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything under this directory, so that no module can forget to."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.e2e)


@pytest.fixture
def namespace(control_plane: Cluster) -> Iterator[str]:
    """The name of a new, empty namespace; what is in it goes with the test."""
    name = control_plane.create_namespace()
    yield name
    control_plane.delete_namespace(name)


@pytest.fixture(scope="session")
def widgets(control_plane: Cluster) -> Iterator[None]:
    """The definition that the contract of a Kubernetes API uses."""
    control_plane.define(json.dumps(WIDGETS))
    yield
    control_plane.kubectl("delete", "crd", WIDGETS["metadata"]["name"])


@pytest.fixture
def account(control_plane: Cluster, namespace: str) -> Iterator[ServiceAccount]:
    """The operator's service account with the permissions of deploy/namespace."""
    with service_account(control_plane, namespace) as made:
        yield made


@pytest.fixture
async def api(account: ServiceAccount) -> AsyncIterator[KubernetesApi]:
    async with connect(account.login, SystemClock(), "pod-1") as connected:
        yield connected


@pytest.fixture
async def rig(control_plane: Cluster, namespace: str) -> AsyncIterator[Rig]:
    """The simulators; operators have the rights of a release for this namespace alone."""
    values = {**NO_PODS, "watchNamespaces": [namespace]}
    with released_in(control_plane, namespace, values) as release:
        async with (
            real_api(control_plane, release.kubeconfig) as kubernetes,
            watched_rig(kubernetes, namespace) as opened,
        ):
            yield opened
            for operator in opened.operators:
                print("operator:", *operator.lines, sep="\n  ")


@pytest.fixture(scope="module")
def cluster() -> Iterator[ControlPlane]:
    """An API server without our definition: the chart brings it."""
    assets = find_assets()
    if assets is None:
        pytest.skip(missing_assets())
    with ControlPlane(assets) as started:
        yield started


@pytest.fixture
def ops(cluster: ControlPlane) -> str:
    """A namespace that admits restricted pods only."""
    return new_namespace(cluster)


@pytest.fixture
def undefined(cluster: ControlPlane) -> Iterator[None]:
    """No definition when the test begins, and none when it ends."""
    yield
    cluster.kubectl("delete", "crd", DEFINITION, "--ignore-not-found")


@pytest.fixture(scope="module")
def definition(cluster: ControlPlane) -> Iterator[None]:
    """The definition, by a release of its own."""
    namespace = new_namespace(cluster)
    with installed(cluster, namespace, {"replicaCount": 0, "rbac": {"create": False}}):
        cluster.until_established("crd", DEFINITION)
        yield
    cluster.kubectl("delete", "crd", DEFINITION)
