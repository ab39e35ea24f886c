"""A Kubernetes API on loopback that knows the CRD, this project's client of it, and a server that records requests."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from buildkite_connector.kubernetes import connection, watch
from buildkite_connector.kubernetes.client import KubernetesApi, connect
from buildkite_connector.kubernetes.client_config import KubeconfigLogin
from buildkite_connector.timing.clock import SystemClock
from harness.definition import definition
from simulators.kubernetes.server import KubernetesSimulator
from unit.kubernetes.recording_server import Kubeconfig, RecordingServer
from unit.kubernetes.watching import EventHandler, Watching


@pytest.fixture
async def bare_simulator() -> AsyncIterator[KubernetesSimulator]:
    """Without the definition."""
    async with KubernetesSimulator() as running:
        yield running


@pytest.fixture
def simulator(bare_simulator: KubernetesSimulator) -> KubernetesSimulator:
    bare_simulator.apply(definition())
    return bare_simulator


@pytest.fixture
def login(bare_simulator: KubernetesSimulator, tmp_path: Path) -> KubeconfigLogin:
    return KubeconfigLogin(str(bare_simulator.write_kubeconfig(tmp_path / "kubeconfig")))


@pytest.fixture
async def api(login: KubeconfigLogin) -> AsyncIterator[KubernetesApi]:
    async with connect(login, SystemClock(), "pod-1") as connected:
        yield connected


@pytest.fixture
async def server() -> AsyncIterator[RecordingServer]:
    async with RecordingServer() as running:
        yield running


@pytest.fixture
def kubeconfig(server: RecordingServer, tmp_path: Path) -> Kubeconfig:
    return Kubeconfig(server, tmp_path / "config")


@pytest.fixture
def hub() -> EventHandler:
    return EventHandler()


@pytest.fixture
def watching(hub: EventHandler, api: KubernetesApi, monkeypatch: pytest.MonkeyPatch) -> Watching:
    """A watch that tries again at once where nothing asks it to wait."""
    monkeypatch.setattr(watch, "_BACKOFF", (0.01,))
    return Watching(hub, api)


@pytest.fixture
def retry_after(monkeypatch: pytest.MonkeyPatch) -> float:
    """Seconds that the API server asks to wait for, whatever its answer says: the header has whole seconds."""
    monkeypatch.setattr(connection, "bounded_retry_after", lambda _: 0.3)
    return 0.3
