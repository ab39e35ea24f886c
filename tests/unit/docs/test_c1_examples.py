"""The examples and the page of the connector in C1 fit the spec and one another."""

import re
from pathlib import Path
from typing import Any

import pytest

from buildkite_connector.kubernetes.schema.spec import SpecModel
from harness.helm_chart import render, workload
from harness.pages import blocks
from harness.yaml_text import parsed

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "examples" / "c1"
CONNECTORS = ("connector.yaml", "workload-identity.yaml", "create.yaml")
PAGE = (ROOT / "docs" / "c1.md").read_text()
MINIMAL = {"credentialsSecretRef": {"name": "buildkite-credentials"}}


def read(name: str) -> dict[str, Any]:
    document: dict[str, Any] = parsed((EXAMPLES / name).read_text())
    return document


@pytest.mark.parametrize("name", CONNECTORS)
def test_each_example_is_a_spec_with_the_connector_in_c1(name: str) -> None:
    assert SpecModel.model_validate(read(name)["spec"]).c1 is not None


def test_the_examples_show_each_way_once() -> None:
    assert {path.name for path in EXAMPLES.iterdir()} == {*CONNECTORS, "secret.yaml"}
    by_secret, by_identity, created = (read(name)["spec"]["c1"] for name in CONNECTORS)
    assert by_secret["auth"].keys() == {"secretRef"}
    assert by_identity["auth"].keys() == {"workloadIdentity"}
    assert created.keys() == {"auth", "create"}


def test_the_secret_is_the_one_that_the_connectors_name_with_the_default_keys() -> None:
    secret = read("secret.yaml")
    for name in ("connector.yaml", "create.yaml"):
        connector = read(name)
        assert connector["spec"]["c1"]["auth"]["secretRef"] == {"name": secret["metadata"]["name"]}
        assert connector["metadata"]["namespace"] == secret["metadata"]["namespace"]
    assert secret["stringData"].keys() == {"C1_CLIENT_ID", "C1_CLIENT_SECRET"}


def test_the_pages_specs_are_valid() -> None:
    shown = [parsed(block.text) for block in blocks("c1") if block.language == "yaml"]
    specs = [each["spec"] for each in shown if "spec" in each]
    assert len(specs) == 3
    for spec in specs:
        assert SpecModel.model_validate(MINIMAL | spec).c1 is not None


def test_the_chart_takes_the_pages_values_and_mounts_the_token() -> None:
    """For the release and the namespace that the page names, whose service account the trust names."""
    shown = [parsed(block.text) for block in blocks("c1") if block.language == "yaml"]
    [values] = [each for each in shown if "spec" not in each]
    name = "buildkite-connector"
    rendered = render({"image": {"registry": "registry.example.com"}, **values}, name=name, namespace=name)
    pod = workload(rendered)["spec"]["template"]["spec"]
    tokens = [source["serviceAccountToken"] for volume in pod["volumes"] for source in _sources(volume)]
    assert [each["audience"] for each in tokens if "audience" in each] == ["acme.conductor.one"]
    names = [each["name"] for each in pod["containers"][0]["env"]]
    assert "BUILDKITE_CONNECTOR_C1_TOKEN_FILE" in names
    [trust] = [block.text for block in blocks("c1") if block.text.startswith("claims.sub")]
    assert trust.strip() == f'claims.sub == "system:serviceaccount:{name}:{pod["serviceAccountName"]}"'


def _sources(volume: dict[str, Any]) -> list[dict[str, Any]]:
    return [each for each in volume.get("projected", {}).get("sources", []) if "serviceAccountToken" in each]


def test_the_page_has_a_row_for_each_reason_of_the_condition() -> None:
    rows = PAGE.split("| `C1Synced` | reason |")[1].split("\n\n")[0]
    named = set(re.findall(r"`(C1\w+|WorkloadIdentityRejected)`", rows))
    assert named >= {
        "C1Synced",
        "C1Syncing",
        "C1AwaitingSync",
        "C1SyncFailed",
        "C1Paused",
        "C1AccessDenied",
        "C1NotFound",
    }
