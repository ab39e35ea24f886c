"""For all suites: how many processes run them, which tests stay together, and the cluster of the e2e tests."""

import os
from collections.abc import Iterator

import pytest

from harness.cluster import Cluster
from harness.control_plane import find_cluster, missing_assets
from harness.helm_release import Release, released

pytest.register_assert_rewrite("contracts")

SHARED_PROCESSES = {"shared_rig", "child"}
"""Fixtures behind a process that the tests of a module share: the scenarios' operator, the child that hostile answers
are measured in."""
MOST_WORKERS = 8
"""Each worker imports every library once; above this many the imports cost more than they save."""


def pytest_xdist_auto_num_workers() -> int | None:
    """Processes of `-n auto`: two a core, because a scenario waits for other processes about half of its time."""
    if os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS"):
        return None  # xdist reads the variable itself
    return min(2 * (os.cpu_count() or 1), MOST_WORKERS)


@pytest.hookimpl(tryfirst=True)  # xdist reads the marks in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests that share a process in one worker (`--dist loadgroup`), so that it is started once."""
    for item in items:
        if isinstance(item, pytest.Function) and not SHARED_PROCESSES.isdisjoint(item.fixturenames):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


@pytest.fixture(scope="session")
def release() -> Iterator[Release]:
    """The chart, installed for all namespaces on a real API server, one for each worker; the operators act as its
    service account. The test is skipped where no API server is found."""
    cluster = find_cluster()
    if cluster is None:
        pytest.skip(missing_assets())
    with cluster, released(cluster) as installed:
        yield installed


@pytest.fixture(scope="session")
def control_plane(release: Release) -> Cluster:
    """The API server, with the definition that the chart brought; as the administrator."""
    return release.cluster
