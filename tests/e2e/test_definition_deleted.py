"""The operator's process while its CRD is deleted, applied again and older, on an API server of this module's own."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from buildkite_connector.kubernetes.schema import GROUP, PLURAL
from buildkite_connector.kubernetes.schema.crd import to_yaml
from harness.cluster import Cluster, KubectlError
from harness.control_plane import ControlPlane, find_assets, missing_assets
from harness.helm_release import Release, released
from harness.kubernetes_apis import real_api
from harness.rig import OperatorProcess, Rig, condition
from scenarios.c1_side import MANAGER, Listed, is_in_c1
from scenarios.fixtures import watched_rig
from scenarios.observed import get
from scenarios.tenant import Tenant

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def own_release() -> Iterator[Release]:
    """Another test's resources must not go with the definition."""
    assets = find_assets()
    if assets is None:
        pytest.skip(missing_assets() or "an API server whose definition may be deleted is needed")
    with ControlPlane(assets) as running, released(running) as installed:
        yield installed


@pytest.fixture(scope="module")
def plane(own_release: Release) -> Cluster:
    return own_release.cluster


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(own_release: Release) -> AsyncIterator[Rig]:
    plane = own_release.cluster
    async with (
        real_api(plane, own_release.kubeconfig) as kubernetes,
        watched_rig(kubernetes, plane.create_namespace()) as opened,
    ):
        yield opened


def define(plane: Cluster) -> None:
    plane.kubectl("apply", "--filename", "-", input=to_yaml())
    plane.until_established("crd", f"{PLURAL}.{GROUP}")


@pytest.mark.parametrize("everywhere", [True, False])
async def test_all_connectors_close_and_the_operator_goes_on_once_it_is_applied_again(
    rig: Rig, plane: Cluster, everywhere: bool
) -> None:
    tenants = [Tenant(rig, f"{name}-{everywhere}".lower()) for name in ("first", "second")]
    async with rig.operator(everywhere=everywhere) as operator:
        for _ in range(2):
            old = [await tenant.become_ready() for tenant in tenants]
            operator.lines.clear()
            await asyncio.to_thread(plane.kubectl, "delete", "crd", f"{PLURAL}.{GROUP}")
            await operator.until_logged(f"{PLURAL}.{GROUP} was deleted, with all its resources")
            for tenant in tenants:
                await operator.until_logged("connector gone", tenant.host_id)
            await asyncio.to_thread(define, plane)
            new = [await tenant.become_ready() for tenant in tenants]
            assert {each["metadata"]["uid"] for each in old}.isdisjoint(each["metadata"]["uid"] for each in new)
            [sentence] = severe(operator)
            assert "kubectl apply -f crds/" in sentence


async def test_one_that_is_applied_again_at_once_is_served_too(rig: Rig, plane: Cluster) -> None:
    tenant = Tenant(rig, "at-once")
    async with rig.operator() as operator:
        old = await tenant.become_ready()
        await asyncio.to_thread(plane.kubectl, "delete", "crd", f"{PLURAL}.{GROUP}")
        await asyncio.to_thread(define, plane)
        new = await tenant.become_ready()
        assert old["metadata"]["uid"] != new["metadata"]["uid"]
        assert [each for each in severe(operator) if "crds/" not in each] == []


async def test_one_that_is_older_than_the_operator_is_said_and_freezes_no_status(rig: Rig, plane: Cluster) -> None:
    path = "/spec/versions/0/schema/openAPIV3Schema/properties/status/properties/phase"
    patch = json.dumps([{"op": "remove", "path": path}])
    await asyncio.to_thread(plane.kubectl, "patch", "crd", f"{PLURAL}.{GROUP}", "--type=json", "--patch", patch)
    tenant = Tenant(rig, "older-crd")
    try:
        async with rig.operator() as operator:
            resource = await tenant.become_ready()
            assert "phase" not in resource["status"]
            await operator.until_logged("is older than this operator and lacks status.phase")
            ready = await get(operator, "/readyz")
            assert ready.status_code == 503
            assert "crd: The CRD buildkiteconnectors.connectors.c1.ai in the cluster is older" in ready.text
            rig.buildkite.revoke(tenant.token)
            await tenant.request_sync()
            await tenant.until_condition("Ready", "False", "TokenRejected")
            told = [each for each in await tenant.events() if "kubectl apply -f crds/" in each["note"]]
            assert [(each["type"], each["reason"]) for each in told] == [("Warning", "KubernetesRefused")]
    finally:
        await asyncio.to_thread(define, plane)


STATUS = "/spec/versions/0/schema/openAPIV3Schema/properties/status/properties/c1"
SPEC = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/c1"


def without(plane: Cluster, *paths: str) -> None:
    patch = json.dumps([{"op": "remove", "path": path} for path in paths])
    plane.kubectl("patch", "crd", f"{PLURAL}.{GROUP}", "--type=json", "--patch", patch)


async def test_an_upgrade_from_the_crd_before_c1_writes_nothing_and_spec_c1_works_then(
    rig: Rig, plane: Cluster
) -> None:
    listed = Listed(Tenant(rig, "upgraded"), MANAGER)
    tenant = listed.tenant
    await asyncio.to_thread(without, plane, SPEC, STATUS)
    try:
        async with rig.operator() as operator:
            await tenant.become_ready()
            await tenant.deliver()
            await tenant.until_condition("Delivered", "True")
            await operator.until_logged("is older than this operator and lacks spec.c1")
            with pytest.raises(KubectlError, match=r'unknown field "spec\.c1"'):
                await listed.become_ready()
    finally:
        await asyncio.to_thread(define, plane)
    footprint = await tenant.footprint()
    async with rig.operator():
        await tenant.until_polled(2)
        assert await tenant.footprint() == footprint
        await listed.become_ready()
        await tenant.until(is_in_c1)
        await listed.until_synced()


async def test_a_crd_without_the_status_of_c1_is_said_once_and_c1_syncs_all_the_same(rig: Rig, plane: Cluster) -> None:
    listed = Listed(Tenant(rig, "older-status"), MANAGER)
    await asyncio.to_thread(without, plane, STATUS)
    try:
        async with rig.operator() as operator:
            await listed.become_ready()
            await listed.until_synced()
            resource = await listed.tenant.get()
            assert condition(resource, "Delivered")["status"] == "True"
            assert "c1" not in resource["status"]
            await operator.until_logged("is older than this operator and lacks status.c1")
            told = [each for each in await listed.tenant.events() if "kubectl apply -f crds/" in each["note"]]
            assert [(each["type"], each["reason"]) for each in told] == [("Warning", "KubernetesRefused")]
    finally:
        await asyncio.to_thread(define, plane)


def severe(operator: OperatorProcess) -> list[str]:
    """Messages of warnings and errors."""
    return [each["message"] for each in operator.records() if each["level"] not in {"DEBUG", "INFO"}]
