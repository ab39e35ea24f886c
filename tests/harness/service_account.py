"""The operator's service account in a namespace of its own, with the permissions of deploy/ and no others."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from buildkite_connector.kubernetes.client_config import KubeconfigLogin
from harness.cluster import Cluster
from harness.yaml_text import all_parsed

DEPLOY = Path(__file__).parents[2] / "deploy"
DEPLOYED = "buildkite-connector"
"""The name of everything in it; a part after it tells some from others."""
DEADLINE = 20.0
POLL_SECONDS = 0.1


@dataclass(frozen=True)
class ServiceAccount:
    cluster: Cluster
    namespace: str
    name: str
    login: KubeconfigLogin

    def may(self, *what: str) -> bool:
        """Whether the API server lets it: `may("get", "secrets")`."""
        asked = ("--kubeconfig", self.login.path, "auth", "can-i", *what, "--namespace", self.namespace)
        return self.cluster.kubectl(*asked, check=False).stdout.startswith("yes")

    def until(self, *what: str, may: bool) -> None:
        """Permissions take effect a moment after they were given or taken."""
        end = time.monotonic() + DEADLINE
        while self.may(*what) is not may:
            assert time.monotonic() < end, what
            time.sleep(POLL_SECONDS)


def permissions(folder: str, namespace: str, name: str) -> str:
    """The service account and its permissions as deploy/ has them, moved to another namespace and name."""
    moved = []
    for path in (DEPLOY / folder / f"{part}.yaml" for part in ("serviceaccount", "rbac", "leases")):
        for document in all_parsed(path.read_text()):
            document["metadata"]["name"] = document["metadata"]["name"].replace(DEPLOYED, name)
            if "namespace" in document["metadata"]:
                document["metadata"]["namespace"] = namespace
            if "roleRef" in document:
                document["roleRef"]["name"] = document["roleRef"]["name"].replace(DEPLOYED, name)
                document["subjects"][0].update(name=name, namespace=namespace)
            moved.append(document)
    return str(yaml.safe_dump_all(moved))


@contextmanager
def service_account(cluster: Cluster, namespace: str, folder: str = "namespace") -> Iterator[ServiceAccount]:
    """The service account with the permissions of this folder of deploy/, once they are in effect."""
    name = f"buildkite-connector-{namespace}"
    documents = permissions(folder, namespace, name)
    cluster.kubectl("apply", "--filename", "-", input=documents)
    path = cluster.service_account_kubeconfig(namespace, name)
    made = ServiceAccount(cluster, namespace, name, KubeconfigLogin(str(path)))
    made.until("list", "bkc", may=True)
    yield made
    cluster.kubectl("delete", "--filename", "-", "--wait=false", "--ignore-not-found", input=documents)
