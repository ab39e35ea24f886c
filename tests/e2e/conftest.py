"""The cluster that the end-to-end suite runs on, and a fresh namespace for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.control_plane import Cluster, find_cluster, missing_assets

HERE = Path(__file__).parent
CRDS = HERE.parents[1] / "crds"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything under this directory, so that no module can forget to."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def control_plane() -> Iterator[Cluster]:
    """A real API server with the CRDs of this project, shared by all tests."""
    cluster = find_cluster()
    if cluster is None:
        pytest.skip(missing_assets())
    with cluster:
        for crd in sorted(CRDS.glob("*.yaml")):
            cluster.kubectl("apply", "--filename", str(crd))
            cluster.kubectl("wait", "--for=condition=Established", "--timeout=30s", "--filename", str(crd))
        yield cluster


@pytest.fixture
def namespace(control_plane: Cluster) -> Iterator[str]:
    """The name of a new, empty namespace; what is in it goes with the test."""
    name = control_plane.create_namespace()
    yield name
    control_plane.delete_namespace(name)
