"""What is rendered is valid in each version of Kubernetes that Chart.yaml names, unknown fields refused."""

import kubernetes_validate
import pytest

from harness.helm_chart import Values, chart, render

VERSIONS = tuple(f"1.{minor}" for minor in range(29, 38))
NOT_OF_KUBERNETES = {"ServiceMonitor", "PodMonitor", "PrometheusRule"}


def test_the_oldest_version_is_that_of_the_chart() -> None:
    assert chart().metadata["kubeVersion"] == f">={VERSIONS[0]}.0-0"


@pytest.mark.parametrize("version", VERSIONS)
def test_every_manifest_is_valid(version: str, values: Values) -> None:
    for document in render(values):
        if document["kind"] not in NOT_OF_KUBERNETES:
            kubernetes_validate.validate(document, version, strict=True)
