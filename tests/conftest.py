"""For all suites: how many processes run them, which tests stay together, and the cluster of the e2e tests."""

import gc
import os
import signal
import warnings
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol
from hypothesis import HealthCheck, settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

from harness.cluster import Cluster
from harness.control_plane import find_cluster, missing_assets
from harness.examples import examples
from harness.forked_command import share_server
from harness.helm_release import Release, released
from harness.trust import NOBODY

os.environ |= {"SSL_CERT_FILE": str(NOBODY), "SSL_CERT_DIR": str(NOBODY.parent)}
for proxies in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"):  # of the machine that the suite runs on
    os.environ.pop(proxies, None)
    os.environ.pop(proxies.lower(), None)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored, also by the processes that tests start
gc.set_threshold(20_000, 50, 100)  # each test's end looks for garbage anyway: to look less often saves a tenth
pytest.register_assert_rewrite("contracts")
settings.register_profile(
    "busy", deadline=None, max_examples=examples(100), suppress_health_check=[HealthCheck.too_slow]
)  # others use the machine
settings.load_profile("busy")

SHARED_PROCESSES = {"shared_rig", "child"}
"""Fixtures behind a process that the tests of a module share: the scenarios' operator, the child that hostile answers
are measured in."""
ALONE = (
    *(
        f"::Test{each}::"
        for each in (
            "ForcedOnce",
            "ForcedSyncs",
            "Lease",
            "Observed",
            "Queries",
            "Restart",
            "Secrecy",
            "Tenants",
            "TokenExchange",
        )
    ),
    "tests/e2e/",
)
"""Tests that start processes of their own: each may run in any worker."""
WAITING = ("tests/scenarios/", "tests/unit/tools/test_image.py")
"""Tests that wait for processes more than they compute."""
THOROUGH = tuple(
    f"tests/unit/{each}"
    for each in (
        "bench/",
        "dashboard/",
        "harness/",
        "simulators/",
        "tools/",
        "hostile/",
        "chart/test_upgrade.py",
        "chart/test_values.py",
        "cli/test_nothing_of_a_secret.py",
        "cli/test_nothing_of_c1s_secret.py",
        "network/test_clients.py",
    )
)
"""The tests of what tests and measures the product, and the widest tables: `make thorough` runs them."""
MOST_WORKERS = 8
"""Each worker imports every library once; above this many the imports cost more than they save."""


def pytest_xdist_auto_num_workers() -> int | None:
    """Processes of `-n auto`: two a core, because a scenario waits for other processes about half of its time."""
    if os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS"):
        return None  # xdist reads the variable itself
    return min(2 * (os.cpu_count() or 1), MOST_WORKERS)


def pytest_configure(config: pytest.Config) -> None:
    """The workers of a run share one server that forks."""
    if getattr(config.option, "numprocesses", None):
        share_server()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """What would be deselected is not even imported: that takes each worker a second of processor time."""
    left_out = tuple(f"{config.rootpath.as_posix()}/{each}" for each in THOROUGH)
    deselected = "not thorough" in config.option.markexpr and f"{collection_path.as_posix()}/".startswith(left_out)
    return True if deselected else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what takes long. What shares a process has to stay in one worker."""
    for item in items:
        if item.nodeid.startswith(THOROUGH):
            item.add_marker(pytest.mark.thorough)
        shares = isinstance(item, pytest.Function) and not SHARED_PROCESSES.isdisjoint(item.fixturenames)
        if shares and scope_of(item.nodeid) == item.nodeid:
            raise pytest.UsageError(f"{item.nodeid} shares a process and is named in ALONE (tests/conftest.py)")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Modules and tests stay for the whole run. To look for garbage among them, now and later, takes more than a second
    of processor time in each worker."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """Fail the test that leaves a socket, file or transport open, rather than a later test in which Python happens to
    look for garbage. What is alive now is never looked at again, so that this costs about a millisecond."""
    yield
    with warnings.catch_warnings(record=True) as left:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", ResourceWarning)
        gc.collect()
    gc.freeze()
    if left:
        pytest.fail("left open: " + ", ".join(str(each.message) for each in left), pytrace=False)


def scope_of(nodeid: str) -> str:
    """What runs in one worker: a module, so that what its tests share is started once; or a test that is alone.

    xdist's own groups do not hold: xdist 3.8 writes the group to an attribute that pytest 9.2 no longer reads.
    """
    return nodeid if any(each in nodeid for each in ALONE) else nodeid.partition("::")[0]


class ByModule(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Gives the next module, or test that is alone, to whichever worker is free.

    At most half of the workers have tests of WAITING, from the start; the others keep the cores busy.
    """

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)

    def _assign_work_unit(self, node: WorkerController) -> None:
        waiting = sum(any(map(_waits, _unfinished(work))) for work in self.assigned_work.values())
        wanted = 2 * waiting < len(self.assigned_work)
        scope = next((each for each in self.workqueue if _waits(each) == wanted), next(iter(self.workqueue)))
        self.workqueue.move_to_end(scope, last=False)
        super()._assign_work_unit(node)


def _waits(scope: str) -> bool:
    return scope.startswith(WAITING)


def _unfinished(work: Mapping[str, Mapping[str, bool]]) -> list[str]:
    """The scopes of a worker's work of which a test is not completed."""
    return [scope for scope, tests in work.items() if not all(tests.values())]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByModule:
    return ByModule(config, log)


def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """A worker tells of each test what somebody reads, as each report costs a millisecond of processor time: not that
    it begins, that its fixtures were fine, what it logged or how it is marked, unless it failed."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return None
    for report in runtestprotocol(item, log=False, nextitem=nextitem):
        if report.passed:
            report.sections.clear()
            report.keywords = {}
        if report.when == "call" or not report.passed:
            item.ihook.pytest_runtest_logreport(report=report)
    return True


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
