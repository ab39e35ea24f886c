"""A release of the chart on a cluster, by Helm's own code. Everything here blocks, as in `harness.cluster`."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import helm_python

from buildkite_connector.kubernetes.schema.crd import to_yaml
from harness.audit import Request, read_requests
from harness.cluster import Cluster
from harness.control_plane import ControlPlane
from harness.helm_chart import CHART, FULL_NAME, REGISTRY, RELEASE, Values, identity, merged

DEFINITION = "buildkiteconnectors.connectors.c1.ai"
NO_DEFINITION: Values = {"crds": {"enabled": False}}
NO_PODS: Values = {"replicaCount": 0}
"""The tests start the operator's process themselves."""
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
        config.install(CHART, RELEASE, merged(REGISTRY, values))
        try:
            yield
        finally:
            config.uninstall(RELEASE)


@dataclass(frozen=True)
class Release:
    """A release whose service account the operator's processes act as. `namespace`: where it was installed.

    `kubeconfig` has that account's token and nothing else to log in with. `provoked`: what a test lets the operator ask
    for beyond its rights, as `Request.kind` has it; any other refusal fails the tests at the release's end.
    """

    cluster: Cluster
    namespace: str
    kubeconfig: Path
    provoked: set[str] = field(default_factory=set)

    @property
    def user(self) -> str:
        return f"system:serviceaccount:{self.namespace}:{FULL_NAME}"

    def requests(self) -> list[Request]:
        """All that the operators asked of the API server; none on an existing cluster, whose log nobody here reads."""
        return read_requests(self.cluster.audit_log, self.user) if isinstance(self.cluster, ControlPlane) else []

    def refused(self) -> set[str]:
        """What the operators may not do and asked for, as `Request.kind`, while the API server was ready."""
        refused = [request for request in self.requests() if request.status in {401, 403}]
        if isinstance(self.cluster, ControlPlane):
            refused = [request for request in refused if not self.cluster.was_starting(request.at)]
        return {request.kind for request in refused}


@contextmanager
def released(cluster: Cluster, values: Values = NO_PODS) -> Iterator[Release]:
    """One for all namespaces, or what the values say, in a namespace of its own."""
    if is_defined(cluster):
        cluster.define(to_yaml())  # somebody's cluster may have that of an older version
    namespace = new_namespace(cluster)
    with released_in(cluster, namespace, values) as release:
        yield release
    cluster.delete_namespace(namespace)


@contextmanager
def released_in(cluster: Cluster, namespace: str, values: Values = NO_PODS) -> Iterator[Release]:
    """With the definition, unless the cluster has it. Nothing that its operators asked for was refused."""
    if is_defined(cluster):
        values = merged(values, NO_DEFINITION)
    with installed(cluster, namespace, values):
        cluster.until_established("crd", DEFINITION)
        release = Release(cluster, namespace, cluster.service_account_kubeconfig(namespace, FULL_NAME))
        yield release
        assert release.refused() <= release.provoked, f"refused: {release.refused() - release.provoked}"


def is_defined(cluster: Cluster) -> bool:
    return cluster.kubectl("get", "crd", DEFINITION, "--ignore-not-found", "--output=name").stdout != ""


def there(cluster: Cluster) -> set[tuple[str, str, str]]:
    """Every object of the cluster, but for what the API server itself writes."""
    known = cluster.kubectl("api-resources", "--verbs=list", "--output=name").stdout.split()
    kinds = [kind for kind in known if kind.split(".")[0] not in BY_ITSELF]
    return {identity(each) for each in cluster.kubectl_json("get", ",".join(kinds), "--all-namespaces")["items"]}
