"""Every kind of server, the proxy before them, and the clients of the process, for `test_clients`."""

import asyncio
import contextlib
import logging
import os
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
import pytest_asyncio
import trustme

from buildkite_connector.buildkite import BuildkiteSettings, Patience, Timeouts, open_buildkite
from buildkite_connector.c1 import C1Client, C1Settings, open_c1, parse_credentials
from buildkite_connector.kubernetes.client import connect
from buildkite_connector.kubernetes.client_config import KubeconfigLogin
from buildkite_connector.model.observer import Work
from buildkite_connector.network import Network
from buildkite_connector.telemetry.gauges import ProcessGauges
from buildkite_connector.telemetry.setup import open_telemetry
from buildkite_connector.timing.clock import SystemClock
from fakes.exchange_setup import register
from simulators.buildkite.certificate import Certificate
from simulators.buildkite.made_organization import make_organization
from simulators.buildkite.server import BuildkiteSimulator, Config
from simulators.c1.front import ANY_ADDRESS
from simulators.c1.server import C1Simulator
from simulators.forward_proxy import ForwardProxy, Mode
from simulators.otlp import OtlpReceiver, grpc_receiver
from unit.kubernetes.recording_server import Kubeconfig, RecordingServer

BUILDKITE, C1, COLLECTOR = "api.buildkite.com", "acme.conductor.one", "collector.example"
API = "api.kubernetes.example"
NOBODY_THERE = "http://127.0.0.1:1"
SECRET = "hunter22pass"
NOISE = {
    "HTTPS_PROXY": NOBODY_THERE,
    "https_proxy": NOBODY_THERE,
    "HTTP_PROXY": NOBODY_THERE,
    "http_proxy": NOBODY_THERE,
    "grpc_proxy": NOBODY_THERE,
    "ALL_PROXY": "socks5://127.0.0.1:1",
    "NO_PROXY": "one,com,example,::1/128",
    "no_proxy": "one,com,example,::1/128",
    "no_grpc_proxy": "one,example",
    "SSL_CERT_FILE": "/nowhere/ca.pem",
    "SSL_CERT_DIR": "/nowhere",
    "REQUESTS_CA_BUNDLE": "/nowhere/ca.pem",
    "CURL_CA_BUNDLE": "/nowhere/ca.pem",
}


@dataclass
class Scene:
    """Servers that speak TLS, each by the name that `host` gives or by an address of this machine, and the proxy."""

    buildkite: BuildkiteSimulator
    c1: C1Simulator
    collector: OtlpReceiver
    spans: list[str]
    api: RecordingServer
    ports: dict[str, int]
    proxy: ForwardProxy
    authorities: bytes
    setenv: Callable[[str, str], None] = field(default=lambda name, value: None)
    seconds: float = 10.0
    """The deadline of each request."""

    def places(self, host: str) -> dict[str, str]:
        """`host:port` of each server; empty `host`: by its own name, at the usual port."""
        names = {"buildkite": BUILDKITE, "c1": C1, "http": COLLECTOR, "grpc": COLLECTOR, "api": API}
        if not host:
            return {server: f"{name}:443" for server, name in names.items()}
        return {server: f"{host}:{port}" for server, port in self.ports.items()}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def servers() -> AsyncIterator[Scene]:
    ca = trustme.CA()
    leaf = ca.issue_cert(COLLECTOR, ANY_ADDRESS, "localhost", "127.0.0.1")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(tls)
    chain = b"".join(each.bytes() for each in leaf.cert_chain_pems)
    credentials = grpc.ssl_server_credentials([(leaf.private_key_pem.bytes(), chain)])
    async with (
        BuildkiteSimulator(Config([make_organization(1, 1, 1, slug="acme-inc")], tls=Certificate.VALID)) as buildkite,
        C1Simulator(ca=ca) as c1,
        OtlpReceiver(tls=tls) as collector,
        grpc_receiver(credentials) as (grpc_port, spans),
        RecordingServer(ca=ca, names=(API, ANY_ADDRESS, "localhost", "127.0.0.1")) as api,
        ForwardProxy({}) as proxy,
    ):
        assert buildkite.authority is not None
        buildkite_port = int(buildkite.origin.rpartition(":")[2])
        ports = {"buildkite": buildkite_port, "c1": c1.port, "http": collector.port, "grpc": grpc_port}
        ports["api"] = api.port
        authorities = buildkite.authority.pem + ca.cert_pem.bytes()
        yield Scene(buildkite, c1, collector, spans, api, ports, proxy, authorities)


@pytest.fixture
def scene(servers: Scene, monkeypatch: pytest.MonkeyPatch) -> Scene:
    for name, value in NOISE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GRPC_VERBOSITY", "NONE")
    once_a_minute = logging.getLogger("opentelemetry.exporter.otlp.proto.grpc.exporter")
    monkeypatch.setattr(once_a_minute, "filters", [])
    servers.setenv = monkeypatch.setenv
    servers.proxy.mode, servers.proxy.login, servers.seconds = Mode.TUNNEL, "", 10.0
    servers.proxy.asked.clear()
    servers.proxy.logins.clear()
    return servers


# The clients: each asks once and raises Failure, or AssertionError where only its log tells.


async def ask_buildkite(scene: Scene, network: Network, host: str) -> None:
    settings = BuildkiteSettings(
        f"https://{scene.places(host)['buildkite']}/v2",
        patience=Patience(tries=1),
        timeouts=Timeouts(total=scene.seconds),
    )
    async with open_buildkite(settings, network) as buildkite:
        await buildkite.reach()


async def exchange_a_token(scene: Scene, network: Network, host: str) -> None:
    settings = BuildkiteSettings(
        "http://127.0.0.1:1/v2",  # which is not asked
        f"https://{scene.places(host)['buildkite']}/oauth/token",
        patience=Patience(tries=1),
        timeouts=Timeouts(total=scene.seconds),
    )
    async with open_buildkite(settings, network) as buildkite:
        await buildkite.client(register(scene.buildkite).request()).token()


@contextlib.asynccontextmanager
async def connector(scene: Scene, network: Network, host: str) -> AsyncIterator[C1Client]:
    registered = scene.c1.register_client(C1)
    credentials = parse_credentials(registered.client_id, registered.client_secret)
    settings = C1Settings(api_host=scene.places(host)["c1"], call_timeout=scene.seconds)
    async with open_c1(settings, network) as c1, c1.client(credentials, "a-host") as client:
        yield client


async def ask_for_token(scene: Scene, network: Network, host: str) -> None:
    async with connector(scene, network, host) as client:
        await client.authenticate()


async def call_c1(scene: Scene, network: Network, host: str) -> None:
    """By gRPC, and by HTTP for a token before."""
    async with connector(scene, network, host) as client:
        await client.hello()


def export(scene: Scene, network: Network, endpoint: str, protocol: str) -> None:
    """One span; the exporters read the process's own variables."""
    environment = {
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "1.3",  # the pause before a second try is 0.8 to 1.2
        "OTEL_METRICS_EXPORTER": "none",
    }
    for name, value in environment.items():
        scene.setenv(name, value)
    environment = {name: value for name, value in os.environ.items() if name.startswith("OTEL_")}
    gauges = ProcessGauges(list, lambda: None, lambda: 0.0, lambda: None)
    with open_telemetry(environment, network, gauges) as telemetry, telemetry.observer.operation(Work.SYNC):
        pass


async def export_by_http(scene: Scene, network: Network, host: str) -> None:
    before = len(scene.collector.spans)
    endpoint = f"https://{scene.places(host)['http']}/v1/traces"
    await asyncio.to_thread(export, scene, network, endpoint, "http/protobuf")
    assert len(scene.collector.spans) == before + 1


async def export_by_grpc(scene: Scene, network: Network, host: str) -> None:
    before = len(scene.spans)
    await asyncio.to_thread(export, scene, network, f"https://{scene.places(host)['grpc']}", "grpc")
    assert len(scene.spans) == before + 1


@contextlib.contextmanager
def kubeconfig(scene: Scene, network: Network, host: str) -> Iterator[KubeconfigLogin]:
    """One that names no authority: those of the network count."""
    with tempfile.TemporaryDirectory() as folder:
        fields = {"server": f"https://{scene.places(host)['api']}", "certificate-authority-data": None}
        yield KubeconfigLogin(str(Kubeconfig(scene.api, Path(folder) / "config").write(fields)), network)


async def read_a_secret(scene: Scene, network: Network, host: str) -> None:
    with kubeconfig(scene, network, host) as login:
        async with connect(login, SystemClock(), "pod-1", request_seconds=scene.seconds) as api:
            await api.read_secret("default", "s")


Client = Callable[[Scene, Network, str], Awaitable[None]]
CLIENTS: dict[str, Client] = {
    "Buildkite": ask_buildkite,
    "Buildkite's token exchange": exchange_a_token,
    "C1's token endpoint": ask_for_token,
    "C1 by gRPC": call_c1,
    "OTLP by HTTP": export_by_http,
    "OTLP by gRPC": export_by_grpc,
    "the Kubernetes API": read_a_secret,
}
TO_THE_API_SERVER = ("the Kubernetes API",)
