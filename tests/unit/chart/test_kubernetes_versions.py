"""What is rendered is valid in each version of Kubernetes that Chart.yaml names, unknown fields refused."""

import json
from functools import cache

import kubernetes_validate
import pytest

from harness.examples import some
from harness.helm_chart import Values, chart, hooks, render

VERSIONS = tuple(f"1.{minor}" for minor in range(29, 38))
NOT_OF_KUBERNETES = {"ServiceMonitor", "PodMonitor", "PrometheusRule"}


def test_the_oldest_version_is_that_of_the_chart() -> None:
    assert chart().metadata["kubeVersion"] == f">={VERSIONS[0]}.0-0"


@cache
def _validate(document: str, version: str) -> None:
    """Once for each text: most sets of values share most manifests."""
    kubernetes_validate.validate(json.loads(document), version, strict=True)


@pytest.fixture(autouse=True)
def schemas_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library reads a version's definitions, megabytes, for each manifest anew."""
    monkeypatch.setattr("kubernetes_validate.utils.schema_contents", _contents)


_contents = cache(kubernetes_validate.utils.schema_contents)


@pytest.mark.parametrize("version", some(VERSIONS, one_in=4))
def test_every_manifest_is_valid(version: str, values: Values) -> None:
    for document in [*render(values), *hooks(values)]:
        if document["kind"] not in NOT_OF_KUBERNETES:
            _validate(json.dumps(document, sort_keys=True), version)
