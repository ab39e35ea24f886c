"""The examples for GitOps fit the chart, the connector and one another."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from buildkite_connector.kubernetes.schema.spec import SecretKeysModel
from harness.control_plane import find_kubectl
from harness.helm_chart import CHART, merged, of_kind, one, render, workload
from harness.yaml_text import all_parsed, parsed
from unit.gitops.flux import KUSTOMIZATIONS

EXAMPLES = Path(__file__).parents[3] / "examples"
KEYS = {
    str(value)
    for field, value in SecretKeysModel().model_dump(exclude={"write_api_token"}).items()
    if not field.startswith(("token_exchange", "portal"))
}
"""The Secret's keys with an API token; one of its own for writes, or a portal's, is for what is optional."""


needs_kubectl = pytest.mark.skipif(find_kubectl() is None, reason="no kubectl on PATH")


def documents(path: str) -> list[dict[str, Any]]:
    return all_parsed((EXAMPLES / path).read_text())


def of(path: str, kind: str, number: int = 0) -> dict[str, Any]:
    return [each for each in documents(path) if each["kind"] == kind][number]


SECRETS = {
    "secret.yaml": ("Secret", ("stringData",)),
    "secrets/external-secret.yaml": ("ExternalSecret", ("spec", "target", "template", "data")),
    "secrets/sealed-secret.yaml": ("SealedSecret", ("spec", "encryptedData")),
    "secrets/sops/secret.sops.yaml": ("Secret", ("stringData",)),
}


@pytest.mark.parametrize("path", SECRETS)
def test_each_way_to_the_secret_makes_the_one_that_the_connector_names(path: str) -> None:
    kind, place = SECRETS[path]
    found = of(path, kind)
    connector = of("connector.yaml", "BuildkiteConnector")
    assert found["metadata"]["name"] == connector["spec"]["credentialsSecretRef"]["name"]
    assert found["metadata"]["namespace"] == connector["metadata"]["namespace"]
    for part in place:
        found = found[part]
    assert set(found) == KEYS


def test_the_external_secret_reads_each_value_that_its_template_uses() -> None:
    spec = of("secrets/external-secret.yaml", "ExternalSecret")["spec"]
    used = set(re.findall(r"\{\{ \.(\w+) \}\}", str(spec["target"]["template"]["data"])))
    assert used == {each["secretKey"] for each in spec["data"]}


def kustomized(folder: Path) -> list[dict[str, Any]]:
    kubectl = find_kubectl()
    assert kubectl is not None
    return all_parsed(subprocess.check_output([kubectl, "kustomize", folder], text=True, timeout=60))  # noqa: S603


@needs_kubectl
def test_kustomize_renames_the_secret_and_the_connector_names_the_renamed_one() -> None:
    secret, connector = kustomized(EXAMPLES / "kustomize")
    name = secret["metadata"]["name"]
    assert name.startswith("buildkite-credentials-")
    assert connector["spec"]["credentialsSecretRef"]["name"] == name
    assert connector["metadata"]["namespace"] == secret["metadata"]["namespace"]
    assert set(secret["data"]) == KEYS


@needs_kubectl
def test_kustomize_follows_a_prefix_of_an_overlay_too(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLES / "kustomize", tmp_path / "base")
    overlay = tmp_path / "overlay"
    overlay.mkdir()
    (overlay / "kustomization.yaml").write_text("resources: [../base]\nnamePrefix: acme-\n")
    secret, connector = kustomized(overlay)
    assert secret["metadata"]["name"].startswith("acme-buildkite-credentials-")
    assert connector["spec"]["credentialsSecretRef"]["name"] == secret["metadata"]["name"]


@needs_kubectl
@pytest.mark.parametrize("folder", ["cluster", "namespace"])
def test_kustomize_builds_the_plain_manifests(folder: str) -> None:
    assert workload(kustomized(EXAMPLES.parent / "deploy" / folder))


VALUES = {
    "Argo CD": of("argocd/applications.yaml", "Application")["spec"]["source"]["helm"]["valuesObject"],
    "Flux": of("flux/operator.yaml", "HelmRelease")["spec"]["values"],
}
UNSET = {"image": {"registry": ""}}
"""As the chart is in the repository, from which a reader packages it."""


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_the_chart_takes_the_examples_values(values: dict[str, Any]) -> None:
    there = {kind: {"renderMode": "alwaysRender"} for kind in ("podMonitor", "prometheusRule")}
    rendered = render(merged(merged(UNSET, values), there))
    assert of_kind(rendered, "PrometheusRule")
    assert of_kind(rendered, "PodMonitor"), "without a scrape an alert fires for ever"
    deployment = workload(rendered)
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"].startswith("registry.example.com/buildkite-connector:")


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_the_examples_have_the_values_for_high_availability(values: dict[str, Any]) -> None:
    preset = parsed((CHART / "values-ha.yaml").read_text())
    del preset["leaderElection"]  # the default
    assert {key: values.get(key) for key in preset} == preset


def test_argo_cd_never_prunes_the_definition() -> None:
    """It honours Helm's annotation when the application is deleted, and not when it prunes."""
    definition = one(render(VALUES["Argo CD"]), "CustomResourceDefinition")
    assert definition["metadata"]["annotations"]["argocd.argoproj.io/sync-options"] == "Prune=false"


def test_the_examples_take_the_charts_version() -> None:
    version = parsed((EXAMPLES.parent / "charts/buildkite-connector/Chart.yaml").read_text())["version"]
    assert of("argocd/applications.yaml", "Application")["spec"]["source"]["targetRevision"] == version
    reference = of("flux/operator.yaml", "OCIRepository")["spec"]["ref"]["semver"]
    assert version.startswith(reference.removesuffix("x"))


def test_flux_waits_for_the_operator_and_then_for_each_connector() -> None:
    operator, connectors = KUSTOMIZATIONS.values()
    assert connectors["spec"]["dependsOn"] == [{"name": operator["metadata"]["name"]}]
    assert all(each["spec"]["wait"] for each in (operator, connectors))
    release = of("flux/operator.yaml", "HelmRelease")
    assert release["spec"]["chartRef"]["name"] == of("flux/operator.yaml", "OCIRepository")["metadata"]["name"]


def test_terraform_makes_the_same_secret_and_connector() -> None:
    text = (EXAMPLES / "terraform/main.tf").read_text()
    assert set(re.findall(r"^    (BATON_\w+) +=", text, re.M)) == KEYS
    connector = of("connector.yaml", "BuildkiteConnector")
    for value in (connector["apiVersion"], connector["kind"], connector["spec"]["credentialsSecretRef"]["name"]):
        assert f'"{value}"' in text
    c1 = of("c1/connector.yaml", "BuildkiteConnector")["spec"]["c1"]
    assert [name for name in c1 if not re.search(rf"^        {name} +=", text, re.M)] == []
    assert set(re.findall(r"^    (C1_\w+) +=", text, re.M)) == of("c1/secret.yaml", "Secret")["stringData"].keys()


@pytest.mark.skipif(shutil.which("terraform") is None, reason="no terraform on PATH")
def test_terraform_reads_the_example_and_finds_it_formatted() -> None:
    done = subprocess.run(  # noqa: S603 - no shell
        ["terraform", "fmt", "-check", "-diff", str(EXAMPLES / "terraform")],  # noqa: S607 - the one on PATH
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "CHECKPOINT_DISABLE": "1", "TF_CLI_CONFIG_FILE": "/dev/null"},
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
