"""The operator with the rights of deploy/, and none beside them."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from buildkite_connector.kubernetes.client import KubernetesApi
from buildkite_connector.kubernetes.connection import ApiError
from buildkite_connector.kubernetes.resource import SecretKeys, SecretRef
from buildkite_connector.kubernetes.secrets import read_credentials
from buildkite_connector.model.failure import Failure, Reason
from harness.cluster import Cluster
from harness.kubernetes_apis import real_api
from harness.rig import Rig, condition
from harness.service_account import DEPLOY, ServiceAccount
from scenarios.fixtures import watched_rig
from scenarios.tenant import Tenant

HOME = "buildkite-connector"
"""The operator's own namespace, and its service account."""
ALLOWED = (
    ("list", "bkc"),
    ("watch", "bkc"),
    ("patch", "bkc", "--subresource=status"),
    ("get", "secrets"),
    ("create", "events.events.k8s.io"),
)
DENIED = (
    ("list", "secrets"),
    ("watch", "secrets"),
    ("update", "secrets"),
    ("patch", "bkc"),
    ("delete", "bkc"),
    ("create", "bkc"),
    ("list", "namespaces"),
    ("list", "customresourcedefinitions"),
    ("create", "pods"),
)

READ_WITHIN = 120.0
"""Seconds; a Secret is read again within a minute."""


@pytest.mark.parametrize("account", ["cluster", "namespace"], indirect=True)
def test_no_more_is_allowed_than_is_needed(account: ServiceAccount) -> None:
    assert [what for what in ALLOWED if not account.may(*what)] == []
    assert [what for what in DENIED if account.may(*what)] == []


async def test_without_the_right_a_secret_is_told_as_forbidden(account: ServiceAccount, api: KubernetesApi) -> None:
    account.cluster.kubectl("delete", "rolebinding", account.name, "--namespace", account.namespace)
    account.until("get", "secrets", may=False)
    ref = SecretRef("s", SecretKeys("BATON_CLIENT_ID", "BATON_CLIENT_SECRET", "BATON_API_TOKEN", "BATON_ORGANIZATION"))
    with pytest.raises(Failure) as caught:
        await read_credentials(api.read_secret, account.namespace, ref)
    assert caught.value.reason is Reason.SECRET_FORBIDDEN


async def test_a_secret_that_cannot_be_read_any_more_is_told_once_and_so_is_its_return(account: ServiceAccount) -> None:
    """One is gone, which is a condition at the next reading; the other is forbidden, which may be for a moment."""

    async def kubectl(*arguments: str) -> str:
        done = await asyncio.to_thread(account.cluster.kubectl, "--namespace", account.namespace, *arguments)
        return done.stdout

    async with (
        real_api(account.cluster, Path(account.login.path)) as kubernetes,
        watched_rig(kubernetes, account.namespace) as rig,
        rig.operator() as operator,
    ):
        gone, forbidden = Tenant(rig, "gone"), Tenant(rig, "forbidden")
        for tenant in (gone, forbidden):
            await tenant.become_ready()
        rules = json.loads(await kubectl("get", "role", account.name, "--output=json"))["rules"]
        [place] = [number for number, rule in enumerate(rules) if rule["resources"] == ["secrets"]]
        narrow = {"op": "add", "path": f"/rules/{place}/resourceNames", "value": [gone.secret_name]}
        await kubectl("patch", "role", account.name, "--type=json", "--patch", json.dumps([narrow]))
        await kubectl("delete", "secret", gone.secret_name)
        await operator.until_logged("the Secret cannot be read", forbidden.secret_name, timeout=READ_WITHIN)
        await gone.until_condition("CredentialsValid", "False", "SecretNotFound", READ_WITHIN)
        assert condition(await forbidden.get(), "Ready")["status"] == "True"
        await kubectl("patch", "role", account.name, "--type=json", "--patch", json.dumps([{**narrow, "op": "remove"}]))
        await operator.until_logged("the Secret was read again", forbidden.host_id, timeout=READ_WITHIN)
        await gone.become_ready()
    told = [record["message"] for record in operator.records() if "the Secret" in record["message"]]
    assert told == ["the Secret cannot be read", "the Secret was read again"]


async def test_another_namespace_is_out_of_reach_with_the_rights_of_one(api: KubernetesApi) -> None:
    with pytest.raises(ApiError) as caught:
        await api.list_connectors(("default",))
    assert caught.value.status == 403


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


async def deliver_once(rig: Rig, *, everywhere: bool) -> None:
    tenant = Tenant(rig, "acme")
    async with rig.operator(everywhere=everywhere) as operator:
        await tenant.become_ready()
        await tenant.deliver()
        await tenant.until_condition("Delivered", "True")
        await tenant.sync()
        assert await operator.stop() == 0
    assert {"Ready", "Delivered"} <= {event["reason"] for event in await tenant.events()}
    assert [record for record in operator.records() if record["level"] not in {"INFO", "DEBUG"}] == []
    await tenant.delete()


# One group: both use the namespace `home`, and the first acts on the connectors of every namespace.
@pytest.mark.xdist_group("operator of deploy")
class TestDeployment:
    @pytest.mark.parametrize("rights", ["cluster"], indirect=True)
    async def test_the_rights_of_deploy_cluster_suffice_for_any_namespace(
        self, control_plane: Cluster, rights: Path, namespace: str
    ) -> None:
        async with real_api(control_plane, rights) as kubernetes, watched_rig(kubernetes, namespace) as rig:
            await deliver_once(rig, everywhere=True)

    @pytest.mark.parametrize("rights", ["namespace"], indirect=True)
    async def test_the_rights_of_deploy_namespace_suffice_for_that_namespace(
        self, control_plane: Cluster, rights: Path, home: str
    ) -> None:
        async with real_api(control_plane, rights) as kubernetes, watched_rig(kubernetes, home) as rig:
            await deliver_once(rig, everywhere=False)

    @pytest.mark.parametrize("folder", ["cluster", "namespace"])
    def test_what_is_to_be_deployed_is_accepted(self, control_plane: Cluster, folder: str) -> None:
        rendered = control_plane.kubectl("kustomize", str(DEPLOY / folder)).stdout
        documents = list(yaml.safe_load_all(rendered))
        home = next(each for each in documents if each["kind"] == "Namespace")
        for document in documents:
            if document["metadata"].get("namespace") == home["metadata"]["name"]:
                document["metadata"]["namespace"] = "default"  # a dry run makes no namespace for the others to be in
        done = control_plane.kubectl(
            "apply", "--dry-run=server", "--validate=strict", "--filename", "-", input=yaml.safe_dump_all(documents)
        )
        assert done.stdout.count("(server dry run)") == len(documents)
