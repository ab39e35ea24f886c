"""Whoever follows the pages on a fresh API server gets to Ready: each command of each page, as it stands there.

kubectl is the real one. No kubelet runs: `harness.kubelet` starts the operator as each Deployment says, and
`harness.helm_command` is Helm's own code behind the name `helm`.
"""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.audit import read_requests
from harness.control_plane import ControlPlane, find_assets, missing_assets
from harness.kubelet import Kubelet, kubelet
from harness.kubernetes_apis import real_api
from harness.newcomer import PATIENCE, Newcomer
from harness.pages import ROOT, blocks, commands, manifests
from harness.rig import API_TOKEN, Rig
from scenarios.fixtures import watched_rig

OPERATORS_NAMESPACE = "buildkite-connector"
VENDORS = "default/baton-buildkite"


@pytest.fixture
def fresh() -> Iterator[ControlPlane]:
    """An API server that nobody has used."""
    assets = find_assets()
    if assets is None:
        pytest.skip(missing_assets())
    with ControlPlane(assets) as started:
        yield started


@dataclass
class Reading:
    """`installed`: False once the rights are gone, a moment before the pods are."""

    rig: Rig
    cluster: ControlPlane
    kubelet: Kubelet
    newcomer: Newcomer
    installed: bool = True

    @property
    def values(self) -> dict[str, str]:
        """What a reader has from C1 and Buildkite."""
        return {
            "BATON_CLIENT_ID": self.rig.client.client_id,
            "BATON_CLIENT_SECRET": self.rig.client.client_secret,
            "BATON_API_TOKEN": API_TOKEN,
        }

    def write_values(self) -> None:
        """The file that the page has the reader write, with values of their own."""
        [asked] = [each for each in blocks("first-connector") if each.language == "ini"]
        assert [line.partition("=")[0] for line in asked.text.splitlines()] == list(self.values)
        (self.newcomer.home / "connector.env").write_text("".join(f"{k}={v}\n" for k, v in self.values.items()))

    def is_(self, condition: str, namespace: str = "default") -> str:
        path = f"{{.status.conditions[?(@.type=='{condition}')].status}}"
        where = ("--namespace", namespace, f"--output=jsonpath={path}")
        return self.cluster.kubectl("get", "bkc", "acme", *where).stdout

    async def delivered(self) -> str:
        """The host ID under which a task that C1 hands out now is answered."""
        task = self.rig.c1.add_task(client=self.rig.client)
        assert (await self.rig.c1.finished(task, PATIENCE)).success
        return next(each.who.host_id for each in self.rig.c1.ingested if each.task_id == task)

    async def become_ready(self) -> None:
        """The page about a first connector, from its first command to its last."""
        self.write_values()
        await self.newcomer.run(*commands("first-connector"))
        assert self.is_("Ready") == "True"
        assert not (self.newcomer.home / "connector.env").exists()
        assert await self.delivered() == "default.acme"

    def uninstalls(self) -> None:
        """Nothing was refused so far; from here on the API server may take the rights before the process has ended."""
        assert self.refused() == set()
        self.installed = False

    def refused(self) -> set[str]:
        """What the processes asked for beyond their rights."""
        every = [each for user in self.kubelet.accounts for each in read_requests(self.cluster.audit_log, user)]
        return {each.kind for each in every if each.status in {401, 403} and not self.cluster.was_starting(each.at)}


@asynccontextmanager
async def reading(cluster: ControlPlane, home: Path, namespace: str = "default") -> AsyncIterator[Reading]:
    async with real_api(cluster, cluster.kubeconfig) as kubernetes, watched_rig(kubernetes, namespace) as rig:
        rig.confided |= {API_TOKEN, rig.client.client_secret}
        async with kubelet(cluster, rig) as pods:
            read = Reading(rig, cluster, pods, Newcomer(cluster, home))
            try:
                yield read
            finally:
                for operator in rig.operators:
                    print("operator:", *operator.lines, sep="\n  ")
            assert not read.installed or read.refused() == set()


async def test_by_helm_to_ready_then_upgraded_and_uninstalled(fresh: ControlPlane, tmp_path: Path) -> None:
    async with reading(fresh, tmp_path) as read:
        await read.newcomer.run(*commands("install", "With Helm"))
        assert set(read.kubelet.started) == {f"{OPERATORS_NAMESPACE}/buildkite-connector"}
        await read.become_ready()
        *others, keep_nothing = commands("upgrade")
        read.uninstalls()
        await read.newcomer.run(*others)
        assert read.kubelet.started == {}
        assert read.is_("Ready") == "True", "the connector stays when the release goes"
        await read.newcomer.run(keep_nothing)
        assert "bkc" not in fresh.kubectl("api-resources", "--api-group=connectors.c1.ai").stdout


async def test_by_manifests_for_all_namespaces_to_ready(fresh: ControlPlane, tmp_path: Path) -> None:
    async with reading(fresh, tmp_path) as read:
        await read.newcomer.run(*commands("install", "For all namespaces"))
        await read.become_ready()
        read.uninstalls()
        await read.newcomer.run("kubectl delete -k deploy/cluster")


async def test_by_manifests_for_its_own_namespace_to_ready(fresh: ControlPlane, tmp_path: Path) -> None:
    async with reading(fresh, tmp_path, OPERATORS_NAMESPACE) as read:
        await read.newcomer.run(*commands("install", "For its own namespace only"))
        read.write_values()
        [own] = [each.text for each in blocks("first-connector") if "--namespace buildkite-connector" in each.text]
        await read.newcomer.run(own)
        assert read.is_("Ready", OPERATORS_NAMESPACE) == "True"
        assert await read.delivered() == f"{OPERATORS_NAMESPACE}.acme"


async def test_the_vendors_two_manifests_run_with_the_image_changed_then_move_to_the_operator(
    fresh: ControlPlane, tmp_path: Path
) -> None:
    apply_theirs, change_image, scale_down, move, end = commands("migration")
    async with reading(fresh, tmp_path) as read:
        secret, deployment = manifests("migration")[:2]
        for key, value in {**read.values, "BATON_ORGANIZATION": "acme-inc"}.items():
            [line] = [line for line in secret.splitlines() if line.strip().startswith(f"{key}:")]
            secret = secret.replace(line, f"  {key}: {value}")
        (tmp_path / "baton-buildkite-secret.yaml").write_text(secret)
        (tmp_path / "baton-buildkite-deployment.yaml").write_text(deployment)
        await read.newcomer.run(apply_theirs)
        assert read.kubelet.started == {}, "the vendor's image is not ours"

        await read.newcomer.run(change_image)
        assert set(read.kubelet.started) == {VENDORS}
        await read.kubelet.started[VENDORS].until_logged("sync succeeded")
        assert await read.delivered() == "baton-buildkite"

        await read.newcomer.run(*commands("install", "With Helm"), scale_down)
        assert VENDORS not in read.kubelet.started
        await read.newcomer.run(move)
        assert read.is_("Ready") == "True"
        assert await read.delivered() == "baton-buildkite"
        await read.newcomer.run(end)
        assert read.is_("Delivered") == "True"


STANDS_FOR = {
    "OPERATOR_NAMESPACE": OPERATORS_NAMESPACE,
    "NAMESPACE": "default",
    "NAME": "acme",
    "SYNC_ID": "none",
    "--watch": "--watch=false",
}
"""What the pages leave to the reader."""
WITHOUT_PODS = ("high-availability", "monitor", "provisioning", "upgrade", "multi-tenancy", "troubleshooting", "faq")
RUNBOOKS = tuple(f"runbooks/{path.stem}" for path in sorted((ROOT / "docs" / "runbooks").glob("*.md")))


def others(page: str) -> list[str]:
    """What a page shows besides: commands for some readers, each as a script."""
    found = [each.text for each in blocks(page) if not each.language and each.text.startswith(("kubectl ", "helm "))]
    for word, value in STANDS_FOR.items():
        found = [re.sub(rf"(?<![\w-]){word}\b", value, text) for text in found]
    return [text for text in found if "oci://" not in text]  # there is no release


async def test_the_other_commands_of_the_pages_run_too(fresh: ControlPlane, tmp_path: Path) -> None:
    async with reading(fresh, tmp_path) as read:
        await read.newcomer.run("kubectl create namespace team-a", *commands("install", "With Helm"))
        await read.become_ready()
        for page in (*RUNBOOKS, *WITHOUT_PODS, "rotate-credentials"):
            for script in others(page):
                await read.newcomer.run(script)
        where = f"--namespace {OPERATORS_NAMESPACE} --output=jsonpath='{{.spec.replicas}}'"
        assert await read.newcomer.run(f"kubectl get deployment buildkite-connector {where}") == "0", "the FAQ's last"


async def test_the_job_that_checks_credentials_is_admitted_where_pods_are_restricted(
    fresh: ControlPlane, tmp_path: Path
) -> None:
    [job] = manifests("check")
    (tmp_path / "check.yaml").write_text(job)
    newcomer = Newcomer(fresh, tmp_path)
    restricted = "kubectl label namespace default pod-security.kubernetes.io/warn=restricted"
    said = await newcomer.run(restricted, "kubectl apply --warnings-as-errors -f check.yaml")
    assert said.endswith("job.batch/connector-check created\n")


def test_every_command_of_these_pages_is_run_by_a_test_above() -> None:
    sections = ["With Helm", "For all namespaces", "For its own namespace only"]
    assert commands("install") == [text for section in sections for text in commands("install", section)]
