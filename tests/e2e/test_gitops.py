"""The examples applied twice: what the API server fills in, and what the operator writes, is never a difference."""

import json
from pathlib import Path

import pytest
import yaml

from buildkite_connector.kubernetes.schema import FIELD_MANAGER, SYNC_REQUESTED_AT
from fakes.connector_objects import OBSERVED, Observed
from harness.cluster import Cluster, KubectlError

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = [EXAMPLES / name for name in ("secret.yaml", "connector.yaml", "connector-full.yaml")]
WAYS = {
    "by the client": (),
    "as Argo CD": ("--server-side", "--field-manager=argocd-controller"),
    "as Flux": ("--server-side", "--field-manager=kustomize-controller"),
}
WITH_STATUS = [each for each in OBSERVED if "status" in each.object]


def manifests(namespace: str) -> str:
    """The examples, in this namespace."""
    documents = [yaml.safe_load(path.read_text()) for path in FILES]
    for each in documents:
        each["metadata"]["namespace"] = namespace
    return yaml.safe_dump_all(documents)


def differences(cluster: Cluster, text: str, way: tuple[str, ...]) -> str:
    """What `kubectl diff` prints; empty: nothing would change."""
    done = cluster.kubectl("diff", *way, "--filename", "-", input=text, check=False)
    if done.returncode > 1:
        raise KubectlError(("diff",), done.returncode, done.stderr)
    return done.stdout


def write_status(cluster: Cluster, namespace: str, name: str, seen: Observed) -> None:
    """As the operator writes it: by server-side apply to the subresource alone."""
    body = {key: seen.object[key] for key in ("apiVersion", "kind", "status")}
    body["metadata"] = {"name": name, "namespace": namespace}
    options = ("--server-side", f"--field-manager={FIELD_MANAGER}", "--subresource=status", "--force-conflicts")
    cluster.kubectl("apply", *options, "--filename", "-", input=json.dumps(body))


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_defaults_status_and_a_sync_by_annotation_are_no_difference(
    control_plane: Cluster, namespace: str, way: tuple[str, ...]
) -> None:
    text = manifests(namespace)
    assert differences(control_plane, text, way) != ""
    control_plane.kubectl("apply", *way, "--filename", "-", input=text)
    assert differences(control_plane, text, way) == ""
    for name in ("acme", "acme-full"):
        write_status(control_plane, namespace, name, WITH_STATUS[-1])
    asked = f"{SYNC_REQUESTED_AT}=2026-03-02T09:00:00Z"
    control_plane.kubectl("annotate", "bkc", "acme", asked, "--namespace", namespace)
    assert differences(control_plane, text, way) == ""
    control_plane.kubectl("apply", *way, "--filename", "-", input=text)
    stored = control_plane.kubectl_json("get", "bkc", "acme", "--namespace", namespace)
    assert stored["metadata"]["generation"] == 1
    assert stored["status"] == WITH_STATUS[-1].object["status"]


def test_an_edit_is_a_difference(control_plane: Cluster, namespace: str) -> None:
    control_plane.kubectl("apply", "--filename", "-", input=manifests(namespace))
    edited = manifests(namespace).replace("quotaPercent: 80", "quotaPercent: 70")
    for way in WAYS.values():
        assert "quotaPercent: 70" in differences(control_plane, edited, (*way, "--force-conflicts") if way else way)


def test_the_api_server_stores_each_status_that_the_operator_writes(control_plane: Cluster, namespace: str) -> None:
    control_plane.kubectl("apply", "--filename", "-", input=manifests(namespace))
    for seen in WITH_STATUS:
        write_status(control_plane, namespace, "acme", seen)
        stored = control_plane.kubectl_json("get", "bkc", "acme", "--namespace", namespace)
        assert stored["status"] == seen.object["status"], seen.name
