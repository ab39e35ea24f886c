"""A release of the chart on a cluster, by Helm's own code. Everything here blocks, as in `harness.cluster`."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import helm_python

from harness.cluster import Cluster
from harness.helm_chart import CHART, RELEASE, Values, identity

DEFINITION = "buildkiteconnectors.connectors.c1.ai"
NO_DEFINITION: Values = {"crds": {"enabled": False}}
BY_ITSELF = {"events", "leases", "componentstatuses", "apiservices"}
"""What the API server writes as time goes by."""


def new_namespace(cluster: Cluster) -> str:
    name = f"ops-{uuid4().hex[:8]}"
    cluster.kubectl("create", "namespace", name)
    cluster.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    return name


@contextmanager
def helm(cluster: Cluster, namespace: str) -> Iterator[helm_python.Config]:
    with helm_python.Config(kubeconfig_path=cluster.kubeconfig, namespace=namespace) as config:
        yield config


@contextmanager
def installed(cluster: Cluster, namespace: str, values: Values) -> Iterator[None]:
    with helm(cluster, namespace) as config:
        config.install(CHART, RELEASE, dict(values))
        try:
            yield
        finally:
            config.uninstall(RELEASE)


def there(cluster: Cluster) -> set[tuple[str, str, str]]:
    """Every object of the cluster, but for what the API server itself writes."""
    known = cluster.kubectl("api-resources", "--verbs=list", "--output=name").stdout.split()
    kinds = [kind for kind in known if kind.split(".")[0] not in BY_ITSELF]
    return {identity(each) for each in cluster.kubectl_json("get", ",".join(kinds), "--all-namespaces")["items"]}
