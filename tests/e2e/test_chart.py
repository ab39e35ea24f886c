"""The chart on a real API server, by Helm's own code: installed, upgraded, rolled back, uninstalled.

On an API server of its own, which has no definition of ours before the chart brings it. No controller runs: no pod
starts, and nobody adds the aggregated roles up.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml

from harness.cluster import Cluster, KubectlError
from harness.control_plane import ControlPlane
from harness.helm_chart import CHART, FULL_NAME, REGISTRY, RELEASE, Values, identity, merged, of_kind, render, workload
from harness.helm_release import DEFINITION, NO_DEFINITION, helm, installed, there

OLDEST = CHART.parents[1] / "tests" / "data" / "oldest-chart" / "values.yaml"
EXAMPLES = CHART.parents[1] / "examples"
MONITORING = {"PodMonitor": "podmonitors", "ServiceMonitor": "servicemonitors", "PrometheusRule": "prometheusrules"}

# One group: the tests share the API server, and the first need it without the definition.
pytestmark = pytest.mark.xdist_group("chart")


@pytest.mark.usefixtures("undefined")
def test_the_definition_and_the_resources_outlive_the_release(cluster: ControlPlane, ops: str) -> None:
    before = there(cluster)
    with helm(cluster, ops) as config:
        config.install(CHART, RELEASE, REGISTRY)
        assert {identity(each) for each in render(namespace=ops)} <= there(cluster)
        cluster.until_established("crd", DEFINITION)
        for example in ("secret.yaml", "connector.yaml"):
            cluster.kubectl("apply", "--filename", str(EXAMPLES / example))
        connector = cluster.kubectl_json("get", "bkc", "acme")

        config.upgrade(
            CHART, RELEASE, merged(REGISTRY, {"replicaCount": 2, "podLabels": {"team": "a"}, "image": {"tag": "2"}})
        )
        deployed = cluster.kubectl_json("get", "deployment", FULL_NAME, "--namespace", ops)
        assert (deployed["spec"]["replicas"], deployed["spec"]["strategy"]["type"]) == (2, "RollingUpdate")

        config.rollback(RELEASE)
        assert cluster.kubectl_json("get", "deployment", FULL_NAME, "--namespace", ops)["spec"]["replicas"] == 1
        assert [each["revision"] for each in config.history(RELEASE)] == [1, 2, 3]

        config.uninstall(RELEASE)
    left = there(cluster) - before
    assert {each for each in left if each[2] != "kube-root-ca.crt"} == {
        ("CustomResourceDefinition", "", DEFINITION),
        ("BuildkiteConnector", "default", "acme"),
        ("Secret", "default", "buildkite-credentials"),
    }
    assert cluster.kubectl_json("get", "bkc", "acme") == connector

    with installed(cluster, ops, {}):  # the same release takes the definition over again
        assert cluster.kubectl_json("get", "bkc", "acme") == connector


@pytest.mark.usefixtures("undefined")
def test_an_upgrade_brings_the_new_definition_and_a_rollback_the_old_one(
    cluster: ControlPlane, ops: str, tmp_path: Path
) -> None:
    older = tmp_path / CHART.name
    shutil.copytree(CHART, older)
    template = older / "templates" / "crd.yaml"
    template.write_text(template.read_text().replace("    - name: Teams\n", "    - name: Groups\n"))

    def columns() -> list[str]:
        version = cluster.kubectl_json("get", "crd", DEFINITION)["spec"]["versions"][0]
        return [column["name"] for column in version["additionalPrinterColumns"]]

    with helm(cluster, ops) as config:
        config.install(older, RELEASE, REGISTRY)
        assert "Groups" in columns()
        config.upgrade(CHART, RELEASE, REGISTRY)
        assert "Teams" in columns()
        assert "Groups" not in columns()
        config.rollback(RELEASE)
        assert "Groups" in columns()
        config.upgrade(CHART, RELEASE, merged(REGISTRY, {"crds": {"keep": False}}))
        config.uninstall(RELEASE)
    cluster.kubectl("wait", "--for=delete", "--timeout=30s", "crd", DEFINITION)


@pytest.mark.usefixtures("undefined")
def test_a_definition_that_was_applied_by_hand_is_taken_over_once_it_is_marked(cluster: ControlPlane, ops: str) -> None:
    cluster.kubectl("apply", "--filename", str(CHART.parents[1] / "crds"))
    with helm(cluster, ops) as config, pytest.raises(helm_python.HelmReleaseError, match="cannot be imported"):
        config.install(CHART, RELEASE, REGISTRY)
    marks = (f"meta.helm.sh/release-name={RELEASE}", f"meta.helm.sh/release-namespace={ops}")
    cluster.kubectl("label", "crd", DEFINITION, "app.kubernetes.io/managed-by=Helm")
    cluster.kubectl("annotate", "crd", DEFINITION, *marks)
    with installed(cluster, ops, {}):
        assert "helm.sh/resource-policy" in cluster.kubectl_json("get", "crd", DEFINITION)["metadata"]["annotations"]


PODS: Mapping[str, Values] = {
    "defaults": {},
    "a CA bundle": {"caBundle": {"configMapName": "cas"}},
    "workload identity": {"c1": {"workloadIdentity": {"enabled": True, "audience": "acme.conductor.one"}}},
    "claim": {"data": {"existingClaim": "claim"}},
    "openshift": {"global": {"compatibility": {"openshift": {"adaptSecurityContext": "force"}}}},
}


def create_pod(cluster: Cluster, namespace: str, values: Values) -> str:
    template: Any = workload(render(values, namespace=namespace))["spec"]["template"]
    pod = {"apiVersion": "v1", "kind": "Pod", **template}
    pod["metadata"] = {**template["metadata"], "name": "operator-0", "namespace": namespace}
    return cluster.kubectl(
        "create", "--dry-run=server", "--validate=strict", "--filename", "-", input=yaml.safe_dump(pod)
    ).stderr


@pytest.mark.parametrize("values", PODS.values(), ids=PODS.keys())
def test_a_restricted_namespace_admits_the_pod(cluster: ControlPlane, ops: str, values: Values) -> None:
    assert create_pod(cluster, ops, values) == ""


def test_a_restricted_namespace_refuses_a_pod_with_more(cluster: ControlPlane, ops: str) -> None:
    with pytest.raises(KubectlError, match='violates PodSecurity "restricted'):
        create_pod(cluster, ops, {"securityContext": {"allowPrivilegeEscalation": True}})


def monitoring_definition(kind: str) -> str:
    plural, group = MONITORING[kind], "monitoring.coreos.com"
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema}
    names = {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"}
    spec = {"group": group, "scope": "Namespaced", "names": names, "versions": [version]}
    return json.dumps(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.{group}"},
            "spec": spec,
        }
    )


@pytest.mark.usefixtures("definition")
@pytest.mark.parametrize("kind", MONITORING)
def test_a_monitor_is_made_where_its_definition_is_and_left_out_elsewhere(
    cluster: ControlPlane, ops: str, kind: str
) -> None:
    values = merged(NO_DEFINITION, {kind[0].lower() + kind[1:]: {"enabled": True}})
    with installed(cluster, ops, values):
        pass
    cluster.define(monitoring_definition(kind))
    with installed(cluster, ops, values):
        assert cluster.kubectl("get", kind, "--namespace", ops, "--output=name").stdout.count(FULL_NAME) == 1
    cluster.kubectl("delete", "--filename", "-", input=monitoring_definition(kind))


@pytest.mark.usefixtures("definition")
def test_the_api_server_accepts_all_that_can_be_asked_for(cluster: ControlPlane, ops: str) -> None:
    values = {
        "podDisruptionBudget": {"enabled": True},
        "networkPolicy": {"enabled": True},
        "metrics": {"service": {"enabled": True}},
        "grafanaDashboard": {"enabled": True},
        "otel": {"endpoint": "http://collector:4318", "headersSecretRef": {"name": "otlp"}},
        "topologySpreadConstraints": [{"topologyKey": "topology.kubernetes.io/zone"}],
        "c1": {
            "workloadIdentity": {"enabled": True, "audience": "acme.conductor.one"},
            "create": {"enabled": True},
        },
    }
    with installed(cluster, ops, merged(NO_DEFINITION, values)):
        asked = render(merged(NO_DEFINITION, values), namespace=ops)
        assert {identity(each) for each in asked} <= there(cluster)
        assert len(of_kind(asked, "Service")) == 1


@pytest.mark.usefixtures("definition")
@pytest.mark.parametrize("flag", ["--reuse-values", "--reset-then-reuse-values"])
def test_an_upgrade_from_the_oldest_values_keeps_the_users_own(
    cluster: ControlPlane, ops: str, tmp_path: Path, flag: str
) -> None:
    older = tmp_path / CHART.name
    shutil.copytree(CHART, older)
    shutil.copy(OLDEST, older / "values.yaml")
    (older / "values.schema.json").unlink()
    own: Values = merged(
        REGISTRY,
        NO_DEFINITION,
        {
            "http": {"port": 9090},
            "prometheusRule": {"rules": {"BuildkiteConnectorQuotaLow": {"enabled": False}}},  # an alert that is gone
        },
    )
    with helm(cluster, ops) as config:
        config.install(older, RELEASE, dict(own))
        try:
            if flag == "--reuse-values":
                config.upgrade(CHART, RELEASE, reuse_values=True)
            else:  # the flag takes the user's values from the release, as is done here by hand: the library lacks it
                config.upgrade(CHART, RELEASE, dict(config.get_values(RELEASE)), reset_values=True)
            deployed = cluster.kubectl_json("get", "deployment", FULL_NAME, "--namespace", ops)
        finally:
            config.uninstall(RELEASE)
    expected = workload(render(own, namespace=ops))["spec"]["template"]["spec"]["containers"][0]
    (container,) = deployed["spec"]["template"]["spec"]["containers"]
    assert [container[key] for key in ("args", "ports", "image")] == [
        expected[key] for key in ("args", "ports", "image")
    ]
    assert {each["name"]: each.get("value") for each in container["env"]} == {
        each["name"]: each.get("value") for each in expected["env"]
    }
