"""The operator with the rights of deploy/, and none beside them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.control_plane import Cluster
from harness.kubernetes_apis import real_api
from harness.rig import Rig
from scenarios.fixtures import watched_rig
from scenarios.tenant import Tenant

DEPLOY = Path(__file__).parents[2] / "deploy"
HOME = "buildkite-connector"
"""The operator's own namespace, and its service account."""


@pytest.fixture(scope="module")
def home(control_plane: Cluster) -> Iterator[str]:
    """Gone in the end: it cannot be made anew where no namespace controller runs."""
    yield HOME
    control_plane.delete_namespace(HOME)


@pytest.fixture
def rights(request: pytest.FixtureRequest, control_plane: Cluster, home: str) -> Iterator[Path]:
    """A kubeconfig of the service account, once this folder of deploy/ is applied."""
    folder = DEPLOY / request.param
    control_plane.kubectl("apply", "--kustomize", str(folder))
    yield control_plane.service_account_kubeconfig(home, HOME)
    control_plane.kubectl("delete", "--filename", str(folder / "rights.yaml"))


async def deliver_once(rig: Rig, kubeconfig: Path, *, everywhere: bool) -> None:
    tenant = Tenant(rig, "acme")
    async with rig.operator(everywhere=everywhere, KUBECONFIG=str(kubeconfig)) as operator:
        await tenant.become_ready()
        await tenant.deliver()
        await tenant.until_condition("Delivered", "True")
        await tenant.sync()
        assert await operator.stop() == 0
    assert {"Ready", "Delivered"} <= {event["reason"] for event in await tenant.events()}
    assert [record for record in operator.records() if record["level"] not in {"INFO", "DEBUG"}] == []
    await tenant.delete()


@pytest.mark.parametrize("rights", ["cluster"], indirect=True)
async def test_the_rights_of_deploy_cluster_suffice_for_any_namespace(
    control_plane: Cluster, rights: Path, namespace: str
) -> None:
    async with real_api(control_plane) as kubernetes, watched_rig(kubernetes, namespace) as rig:
        await deliver_once(rig, rights, everywhere=True)


@pytest.mark.parametrize("rights", ["namespace"], indirect=True)
async def test_the_rights_of_deploy_namespace_suffice_for_that_namespace(
    control_plane: Cluster, rights: Path, home: str
) -> None:
    async with real_api(control_plane) as kubernetes, watched_rig(kubernetes, home) as rig:
        await deliver_once(rig, rights, everywhere=False)
