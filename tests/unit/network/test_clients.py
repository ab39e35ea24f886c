"""Every client of the process, over real sockets, in every form of the environment: which way it goes, and whom it
trusts.

What the process's own variables say is noise here: a client that reads one of them goes wrong.
"""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trustme

from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.network import Network, read_proxies, read_trust
from simulators.c1.front import ANY_ADDRESS
from simulators.forward_proxy import Mode
from simulators.otlp import OtlpReceiver, grpc_receiver
from unit.network.scene import (
    API,
    BUILDKITE,
    C1,
    CLIENTS,
    COLLECTOR,
    NOBODY_THERE,
    SECRET,
    TO_THE_API_SERVER,
    Scene,
    ask_for_token,
    export,
    export_by_grpc,
    export_by_http,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

BUILDKITES = ("Buildkite", "Buildkite's token exchange")
every_client = pytest.mark.parametrize("client", CLIENTS)

# The way: `{proxy}` is the proxy's host:port, `{ports}` 0.0.0.0 with the port of each server.

BY_NAME: dict[str, dict[str, str]] = {
    "capitals": {"HTTPS_PROXY": "http://{proxy}"},
    "small letters": {"https_proxy": "http://{proxy}"},
    "without http://": {"HTTPS_PROXY": "{proxy}"},
    "capitals before small letters": {"HTTPS_PROXY": "http://{proxy}", "https_proxy": NOBODY_THERE},
    "a line break behind it": {"HTTPS_PROXY": "http://{proxy}/\n"},
    "ALL_PROXY of another kind": {"HTTPS_PROXY": "http://{proxy}", "ALL_PROXY": f"socks5://svc:{SECRET}@10.0.0.1:1"},
    "HTTP_PROXY beside it": {"HTTPS_PROXY": "http://{proxy}", "HTTP_PROXY": NOBODY_THERE},
    "NO_PROXY empty": {"HTTPS_PROXY": "http://{proxy}", "NO_PROXY": ""},
    "NO_PROXY of addresses": {
        "HTTPS_PROXY": "http://{proxy}",
        "NO_PROXY": "::1/128,fd00::/8,fe80::/10,[::1],[::1]:443,::1,10.0.0.0/8,127.0.0.1,::/0,0.0.0.0/0",
    },
    "NO_PROXY of other names": {"HTTPS_PROXY": "http://{proxy}", "NO_PROXY": "localhost, .svc,\t.cluster.local ,, "},
    "NO_PROXY of the ends of names": {
        "HTTPS_PROXY": "http://{proxy}",
        "NO_PROXY": "ildkite.com,ductor.one,tor.example",
    },
    "NO_PROXY of other ports": {"HTTPS_PROXY": "http://{proxy}", "NO_PROXY": "com:80,.one:8443,example:4317"},
    "no_proxy behind NO_PROXY": {"HTTPS_PROXY": "http://{proxy}", "NO_PROXY": "localhost", "no_proxy": "*"},
}


def environment_of(scene: Scene, form: dict[str, str]) -> dict[str, str]:
    ports = ",".join(f"{ANY_ADDRESS}:{port}" for port in scene.ports.values())
    return {name: value.format(proxy=scene.proxy.address, ports=ports) for name, value in form.items()}


def network_of(scene: Scene, form: dict[str, str], folder: Path) -> Network:
    ca_file = folder / "ca.pem"
    ca_file.write_bytes(scene.authorities)
    trust = read_trust({"SSL_CERT_FILE": str(ca_file)}, [], [])
    return Network(trust, read_proxies(environment_of(scene, form)))


@every_client
@pytest.mark.parametrize("form", BY_NAME)
async def test_a_name_is_asked_of_the_proxy(scene: Scene, client: str, form: str, tmp_path: Path) -> None:
    scene.proxy.routes = {BUILDKITE: scene.ports["buildkite"], C1: scene.ports["c1"], COLLECTOR: scene.ports["http"]}
    scene.proxy.routes |= {API: scene.ports["api"]}
    if client == "OTLP by gRPC":
        scene.proxy.routes = {COLLECTOR: scene.ports["grpc"]}
    await CLIENTS[client](scene, network_of(scene, BY_NAME[form], tmp_path), "")
    names = {**dict.fromkeys(BUILDKITES, BUILDKITE), "OTLP by HTTP": COLLECTOR, "OTLP by gRPC": COLLECTOR}
    name = {**names, "the Kubernetes API": API}.get(client, C1)
    assert set(scene.proxy.asked) == {f"{name}:443"}
    assert set(scene.proxy.logins) == {""}


@every_client
@pytest.mark.parametrize("login", ["svc:" + SECRET, "corp\\svc:p/ss#?%@:word", "svc:"])
async def test_a_proxy_gets_its_login(scene: Scene, client: str, login: str, tmp_path: Path) -> None:
    scene.proxy.login = login
    scene.proxy.routes = {ANY_ADDRESS: 0}
    user, _, password = login.partition(":")
    written = password.replace("%", "%25").replace("/", "%2F").replace("#", "%23").replace("?", "%3F")
    form = {"HTTPS_PROXY": f"http://{user.replace(chr(92), '%5C')}:{written}@{{proxy}}"}
    await CLIENTS[client](scene, network_of(scene, form, tmp_path), ANY_ADDRESS)
    assert scene.proxy.asked


@dataclass(frozen=True)
class ByAddress:
    """How this machine's address 0.0.0.0, or `host`, is reached. It is the one that is no loopback address, for Go."""

    direct: bool
    environment: dict[str, str]
    host: str = ANY_ADDRESS


THROUGH = {"HTTPS_PROXY": "http://{proxy}"}
BY_ADDRESS = {
    "no variable": ByAddress(True, {}),
    "no exemption": ByAddress(False, THROUGH),
    "the address": ByAddress(True, {**THROUGH, "NO_PROXY": ANY_ADDRESS}),
    "in small letters": ByAddress(True, {**THROUGH, "no_proxy": ANY_ADDRESS}),
    "the address among others": ByAddress(True, {**THROUGH, "NO_PROXY": "::1/128,localhost, 0.0.0.0 ,.svc"}),
    "the address with ports": ByAddress(True, {**THROUGH, "NO_PROXY": "{ports}"}),
    "another port": ByAddress(False, {**THROUGH, "NO_PROXY": "0.0.0.0:443"}),
    "its network": ByAddress(True, {**THROUGH, "NO_PROXY": "0.0.0.0/8"}),
    "a network by one of its addresses": ByAddress(True, {**THROUGH, "NO_PROXY": "0.1.2.3/8"}),
    "another network": ByAddress(False, {**THROUGH, "NO_PROXY": "10.0.0.0/8,fd00::/8"}),
    "a network of IPv6": ByAddress(False, {**THROUGH, "NO_PROXY": "::/0"}),
    "no network": ByAddress(False, {**THROUGH, "NO_PROXY": "0.0.0.0/99"}),
    "the end of the address": ByAddress(False, {**THROUGH, "NO_PROXY": ".0.0.0,0.0"}),
    "everything": ByAddress(True, {**THROUGH, "NO_PROXY": "*"}),
    "everything among others": ByAddress(True, {**THROUGH, "NO_PROXY": "localhost,*"}),
    "ALL_PROXY alone": ByAddress(True, {"ALL_PROXY": "http://{proxy}"}),
    "HTTP_PROXY alone": ByAddress(True, {"HTTP_PROXY": "http://{proxy}"}),
    "localhost": ByAddress(True, THROUGH, "localhost"),
    "a loopback address": ByAddress(True, THROUGH, "127.0.0.1"),
}


@every_client
@pytest.mark.parametrize("form", BY_ADDRESS)
async def test_an_address_is_reached_as_no_proxy_says(scene: Scene, client: str, form: str, tmp_path: Path) -> None:
    row = BY_ADDRESS[form]
    scene.proxy.routes = {ANY_ADDRESS: 0}
    await CLIENTS[client](scene, network_of(scene, row.environment, tmp_path), row.host)
    assert (scene.proxy.asked == []) is row.direct


# Trust


@dataclass(frozen=True)
class Files:
    """Where certificates are: `variables` and `system` name what `make` wrote into a folder."""

    make: dict[str, tuple[bytes, ...]]
    variables: dict[str, str] = field(default_factory=dict)
    system: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())


GOOD = b"{the authorities}"
BROKEN = b"-----BEGIN CERTIFICATE-----\nbm8gY2VydGlmaWNhdGU=\n-----END CERTIFICATE-----\n"
OTHER = trustme.CA().cert_pem.bytes()
TRUSTED = {
    "SSL_CERT_FILE": Files({"ca.pem": (GOOD,)}, {"SSL_CERT_FILE": "ca.pem"}),
    "SSL_CERT_FILE with a mark of the byte order": Files(
        {"ca.pem": (b"\xef\xbb\xbf", GOOD)}, {"SSL_CERT_FILE": "ca.pem"}
    ),
    "SSL_CERT_FILE with a broken one among them": Files({"ca.pem": (OTHER, BROKEN, GOOD)}, {"SSL_CERT_FILE": "ca.pem"}),
    "SSL_CERT_DIR": Files({"certs/ca.pem": (GOOD,)}, {"SSL_CERT_DIR": "certs"}),
    "SSL_CERT_DIR of two": Files({"a/x.pem": (OTHER,), "b/ca.pem": (GOOD,)}, {"SSL_CERT_DIR": "a:b"}),
    "SSL_CERT_DIR beside SSL_CERT_FILE": Files(
        {"other.pem": (OTHER,), "certs/ca.pem": (GOOD,)}, {"SSL_CERT_FILE": "other.pem", "SSL_CERT_DIR": "certs"}
    ),
    "the system's bundle": Files({"bundle.crt": (GOOD,)}, {}, (("none.crt", "bundle.crt"), ())),
    "the system's directory": Files({"certs/ca.crt": (GOOD,)}, {}, ((), ("certs",))),
    "the system's directory beside SSL_CERT_FILE": Files(
        {"other.pem": (OTHER,), "certs/ca.crt": (GOOD,)}, {"SSL_CERT_FILE": "other.pem"}, ((), ("certs",))
    ),
}
UNTRUSTED = {
    "SSL_CERT_FILE of another": Files({"ca.pem": (OTHER,)}, {"SSL_CERT_FILE": "ca.pem"}),
    "SSL_CERT_FILE in place of the system's bundle": Files(
        {"ca.pem": (OTHER,), "bundle.crt": (GOOD,)}, {"SSL_CERT_FILE": "ca.pem"}, (("bundle.crt",), ())
    ),
    "SSL_CERT_DIR in place of the system's": Files(
        {"a/x.pem": (OTHER,), "certs/ca.crt": (GOOD,)}, {"SSL_CERT_DIR": "a"}, ((), ("certs",))
    ),
}


def trusting(scene: Scene, files: Files, folder: Path, good: bytes, **environment: str) -> Network:
    for name, parts in files.make.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"".join(good if part is GOOD else part for part in parts))
    variables = {
        name: ":".join(str(folder / part) for part in value.split(":")) for name, value in files.variables.items()
    }
    bundles, directories = ([str(folder / name) for name in names] for names in files.system)
    return Network(read_trust(variables, bundles, directories), read_proxies(environment_of(scene, environment)))


@every_client
@pytest.mark.parametrize("form", TRUSTED)
async def test_servers_are_verified_by_what_was_read(scene: Scene, client: str, form: str, tmp_path: Path) -> None:
    network = trusting(scene, TRUSTED[form], tmp_path, scene.authorities)
    await CLIENTS[client](scene, network, ANY_ADDRESS)


@every_client
async def test_a_proxy_that_looks_into_tls_is_trusted_by_its_authority(
    scene: Scene, client: str, tmp_path: Path
) -> None:
    scene.proxy.mode, scene.proxy.routes = Mode.INTERCEPT, {ANY_ADDRESS: 0}
    authority = scene.proxy.ca.cert_pem.bytes()
    network = trusting(scene, TRUSTED["SSL_CERT_FILE"], tmp_path, authority, HTTPS_PROXY="http://{proxy}")
    await CLIENTS[client](scene, network, ANY_ADDRESS)
    assert scene.proxy.asked


UNREACHABLE = {
    Reason.BUILDKITE_UNREACHABLE,
    Reason.C1_UNREACHABLE,
    Reason.C1_UNAVAILABLE,
    Reason.KUBERNETES_UNAVAILABLE,
}


async def failing(
    scene: Scene, client: str, network: Network, host: str, log: pytest.LogCaptureFixture, seconds: float = 10.0
) -> str:
    """What is said of it: a Failure's sentence, or what the exporter logged."""
    log.clear()
    scene.seconds = seconds
    try:
        await CLIENTS[client](scene, network, host)
    except Failure as failure:
        return failure.message if failure.reason in UNREACHABLE else f"{failure!r} is no failure to connect"
    except AssertionError:
        return "\n".join(record.getMessage() for record in log.records if record.name.startswith("opentelemetry"))
    pytest.fail("it reached the server")


@every_client
@pytest.mark.parametrize("form", UNTRUSTED)
async def test_a_server_of_another_authority_is_refused_with_the_name_of_the_variable(
    scene: Scene, client: str, form: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    network = trusting(scene, UNTRUSTED[form], tmp_path, scene.authorities)
    said = await failing(scene, client, network, ANY_ADDRESS, caplog)
    own_words = {"OTLP by gRPC": "CERTIFICATE_VERIFY_FAILED"} | dict.fromkeys(TO_THE_API_SERVER, "certificate")
    assert own_words.get(client, "SSL_CERT_FILE") in said


# What the proxy itself says

REFUSALS = {
    Mode.FORBID: ("403 Forbidden", "Have the proxy allow"),
    Mode.DEMAND_LOGIN: ("407 Proxy Authentication Required", "Correct the user name and password in HTTPS_PROXY"),
    Mode.BAD_GATEWAY: ("502 Bad Gateway", "Check that the proxy reaches"),
    Mode.GARBAGE: ("", "HTTPS_PROXY"),
    Mode.HANG_UP: ("", "HTTPS_PROXY"),
}
REFUSED = [
    (client, mode)
    for client in CLIENTS
    for mode in REFUSALS
    if client != "OTLP by gRPC" or mode in {Mode.FORBID, Mode.DEMAND_LOGIN}  # its words are gRPC's, each a second late
]


@pytest.mark.parametrize(("client", "mode"), REFUSED)
async def test_what_the_proxy_refuses_is_said_to_be_the_proxys(
    scene: Scene, client: str, mode: Mode, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scene.proxy.mode = mode
    form = {"HTTPS_PROXY": f"http://svc-user:{SECRET}@{{proxy}}"}
    said = await failing(scene, client, network_of(scene, form, tmp_path), "", caplog)
    status, advice = REFUSALS[mode]
    if client == "OTLP by gRPC":  # the exporter's own words, in which the proxy is an address
        status, advice = (f"HTTP proxy returned response code {status[:3]}" if status else ""), ""
    if client in TO_THE_API_SERVER:
        status, advice = status[:3], ""
    if mode is not Mode.HANG_UP or client not in TO_THE_API_SERVER:
        assert scene.proxy.address in said
    assert status in said
    assert advice in said
    assert SECRET not in said
    assert "svc-user" not in said
    assert "rotate" not in said


async def test_a_proxy_that_wants_a_login_says_where_to_put_it(
    scene: Scene, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scene.proxy.mode = Mode.DEMAND_LOGIN
    for client in ("Buildkite", "C1's token endpoint", "C1 by gRPC", "OTLP by HTTP"):
        said = await failing(scene, client, network_of(scene, THROUGH, tmp_path), "", caplog)
        assert "Put its user name and password into HTTPS_PROXY (http://user:password@host:port)" in said


async def test_inspection_without_http_2_is_called_that(
    scene: Scene, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scene.proxy.mode, scene.proxy.routes = Mode.INTERCEPT_HTTP1, {C1: scene.ports["c1"]}
    authority = scene.proxy.ca.cert_pem.bytes()
    network = trusting(scene, TRUSTED["SSL_CERT_FILE"], tmp_path, authority, HTTPS_PROXY="http://{proxy}")
    await ask_for_token(scene, network, "")
    said = await failing(scene, "C1 by gRPC", network, "", caplog)
    assert "a proxy or gateway supports only HTTP/1.1" in said
    assert f"Exempt {C1} from TLS inspection by the proxy {scene.proxy.address} (HTTPS_PROXY)" in said
    assert "DNS" not in said


@pytest.mark.parametrize("client", ["Buildkite", "C1's token endpoint", "C1 by gRPC"])
async def test_a_silent_proxy_is_named(
    scene: Scene, client: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scene.proxy.mode = Mode.SILENT
    network = network_of(scene, {"HTTPS_PROXY": f"http://svc-user:{SECRET}@{{proxy}}"}, tmp_path)
    said = await failing(scene, client, network, "", caplog, seconds=0.3)
    assert f"through the proxy {scene.proxy.address} (HTTPS_PROXY)" in said
    assert SECRET not in said


# Collectors without TLS


async def test_plain_http_goes_through_http_proxy(scene: Scene) -> None:
    scene.proxy.login = "svc:p/ss"
    environment = {"HTTP_PROXY": "http://svc:p%2Fss@{proxy}", "HTTPS_PROXY": NOBODY_THERE, "NO_PROXY": "other.example"}
    network = Network(proxies=read_proxies(environment_of(scene, environment)))
    async with OtlpReceiver() as collector:
        scene.proxy.routes = {COLLECTOR: collector.port}
        await asyncio.to_thread(export, scene, network, f"http://{COLLECTOR}:4318/v1/traces", "http/protobuf")
        assert len(collector.spans) == 1
    assert scene.proxy.asked == [f"POST http://{COLLECTOR}:4318/v1/traces"]


async def test_grpc_without_tls_goes_through_https_proxy_as_with_grpc_go(scene: Scene) -> None:
    network = Network(proxies=read_proxies(environment_of(scene, THROUGH | {"HTTP_PROXY": NOBODY_THERE})))
    async with grpc_receiver() as (port, spans):
        scene.proxy.routes = {COLLECTOR: port}
        await asyncio.to_thread(export, scene, network, f"http://{COLLECTOR}:4317", "grpc")
        assert len(spans) == 1
    assert scene.proxy.asked == [f"{COLLECTOR}:4317"]


async def test_a_collectors_own_ca_file_takes_the_place_of_the_authorities(scene: Scene, tmp_path: Path) -> None:
    ca_file = tmp_path / "collector.pem"
    ca_file.write_bytes(scene.authorities)
    scene.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(ca_file))
    network = Network()
    await export_by_http(scene, network, ANY_ADDRESS)
    await export_by_grpc(scene, network, ANY_ADDRESS)
