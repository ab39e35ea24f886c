"""Where a client ID may lead: to hosts that the operator's setting allows, and from nowhere else is a socket opened."""

import asyncio
import base64
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jwt.algorithms import OKPAlgorithm

from buildkite_connector.c1 import C1Settings, open_c1, parse_credentials
from buildkite_connector.c1.channel import Channel
from buildkite_connector.c1.hosts import Endpoint, parse_endpoint, parse_patterns
from buildkite_connector.c1.token import AssertingClient, TokenSource
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.observer import SILENT
from buildkite_connector.network import Network, read_proxies
from buildkite_connector.timing.clock import SystemClock
from fakes.c1_setup import HOST_ID, connect
from harness.examples import examples
from harness.trust import DIRECT, NOBODY, reaching
from simulators.c1.server import C1Simulator
from simulators.sockets import stop_listening

KEY = json.dumps(OKPAlgorithm.to_jwk(Ed25519PrivateKey.generate(), as_dict=True)).encode()
WAYS = (
    (socket, "getaddrinfo"),
    (socket, "gethostbyname"),
    (socket, "gethostbyname_ex"),
    (socket.socket, "connect"),
    (socket.socket, "connect_ex"),
)
"""By which Python resolves a name or opens a connection."""
SECRET = f"secret-token:conductorone.com:v1:{base64.urlsafe_b64encode(KEY).rstrip(b'=').decode()}"


@contextmanager
def watched_sockets() -> Iterator[list[str]]:
    """What this process resolves and connects to meanwhile."""
    used: list[str] = []

    def noted(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def note(*arguments: Any, **named: Any) -> Any:
            used.append(f"{name} {arguments}")
            return call(*arguments, **named)

        return note

    with pytest.MonkeyPatch.context() as patch:
        for place, name in WAYS:
            patch.setattr(place, name, noted(name, getattr(place, name)))
        yield used


@asynccontextmanager
async def listener() -> AsyncIterator[tuple[int, list[object]]]:
    """A port of loopback, and the connections that came to it."""
    came: list[object] = []

    def note(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(writer.get_extra_info("peername"))
        writer.close()

    server = await asyncio.start_server(note, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], came
    finally:
        stop_listening(server)


async def outcome(client_id: str, allowed_hosts: str) -> Failure | None:
    """How a call of this client ends: with a refusal of its ID, or otherwise."""
    settings = C1Settings(allowed_hosts=allowed_hosts, connect_timeout=2.0, call_timeout=2.0)
    async with open_c1(settings, reaching(NOBODY)) as c1:
        try:
            async with c1.client(parse_credentials(client_id, SECRET), HOST_ID) as connector:
                await connector.hello()
        except Failure as failure:
            return failure if failure.reason is Reason.CLIENT_ID_INVALID else None
    return None


ELSEWHERE = [
    "a@127.0.0.1:{port}/x",
    "a@localhost:{port}/x",
    "a@LOCALHOST:{port}/x",
    "a@[::1]:{port}/x",
    "a@[::ffff:127.0.0.1]:{port}/x",
    "a@2130706433:{port}/x",
    "a@0x7f.1:{port}/x",
    "a@0x7f000001:{port}/x",
    "a@0177.0.0.1:{port}/x",
    "a@127.1:{port}/x",
    "a@0:{port}/x",
    "a@127.0.0.1/x",
    "a@169.254.169.254/x",
    "a@[fd00:ec2::254]/x",
    "a@evil.com/x",
    "a@evil.com#.conductor.one/x",
    "a@evil.com?.conductor.one/x",
    "a@evil.com\\.conductor.one/x",
    "a@evil.com%2f.conductor.one/x",
    "a@conductor.one/x",
    "a@conductor.one.evil.com/x",
    "a@evilconductor.one/x",
    "a@x-conductor.one/x",
    "a@x.conductor.one:22/x",
    "a@x.conductor.one:{port}/x",
    "a@x.conductor.one:0/x",
    "a@.conductor.one/x",
    "a@..conductor.one/x",
    "a@x..conductor.one/x",
    "a@-x.conductor.one/x",
    "a@x-.conductor.one/x",
    "a@x.conductor.one./x",
    "a@conductor.one./x",
    "a@127.0.0.1:{port}@x.conductor.one/x",
    "a@b@x.conductor.one/x",
    "a@x.conductor.one@127.0.0.1:{port}/x",
    "a@x.conductor.one:443:{port}/x",
    "a@\u0445.conductor.one/x",
    "a@x.conductor.\u043ene/x",
    "a@x\u3002conductor.one/x",
    "a@127\uff0e0.0.1:{port}/x",
    "a@xn--e1afmkfd.conductor.one.evil.com/x",
]


@pytest.mark.parametrize("allowed", ["*.conductor.one", "*.conductor.one, acme.example:8443, *.example:444"])
@pytest.mark.parametrize("client_id", ELSEWHERE, ids=ascii)
async def test_a_host_that_is_not_allowed_is_refused_and_neither_resolved_nor_connected_to(
    client_id: str, allowed: str
) -> None:
    async with listener() as (port, came):
        with watched_sockets() as used:
            failure = await outcome(client_id.format(port=port), allowed)
        await asyncio.sleep(0)

    assert failure is not None
    assert (failure.reason, failure.remedy) == (Reason.CLIENT_ID_INVALID, Remedy.CREDENTIALS)
    assert used == []
    assert came == []


@pytest.mark.parametrize("host", ["127.0.0.1:19443", "hunter2", f"{'b' * 60}.{'c' * 60}.{'d' * 60}.example"])
async def test_the_refusal_names_the_setting_and_no_part_of_the_client_id(host: str) -> None:
    failure = await outcome(f"some-dsn://user:pa55word@{host}/database", "*.conductor.one")

    assert failure is not None
    assert "BUILDKITE_CONNECTOR_C1_HOSTS allows *.conductor.one" in failure.message
    for part in (host, "some-dsn", "pa55word", "/database"):
        assert part not in failure.message
    assert len(failure.message) < 500


async def test_a_secret_in_the_place_of_the_host_is_not_repeated() -> None:
    failure = await outcome(f"a@{SECRET.rpartition(':')[2][:60]}/x", "*.conductor.one")

    assert failure is not None
    assert SECRET.rpartition(":")[2][:20] not in failure.message


async def test_a_host_that_is_allowed_with_its_port_is_connected_to(sim: C1Simulator) -> None:
    with watched_sockets() as used:
        async with connect(sim, allowed_hosts=f"*.conductor.one,LocalHost:{sim.port}") as connector:
            await connector.hello()

    assert len(sim.calls("Hello")) == 1
    assert {each.split()[0] for each in used} == {"getaddrinfo", "connect"}, "the token's request is seen"


async def test_the_operators_own_override_may_be_an_address_whatever_the_client_id_names(sim: C1Simulator) -> None:
    client = sim.register_client("acme.example:8443")
    own = f"127.0.0.1:{sim.port}"
    async with connect(sim, client=client, api_host=own, allowed_hosts="*.conductor.one") as connector:
        await connector.hello()

    assert len(sim.calls("Hello")) == 1


@pytest.mark.parametrize(
    ("pattern", "endpoint", "allowed"),
    [
        ("*.conductor.one", Endpoint("acme.conductor.one"), True),
        ("*.conductor.one", Endpoint("ACME.Conductor.ONE"), True),
        ("*.Conductor.One", Endpoint("a.b.conductor.one"), True),
        ("*.conductor.one", Endpoint("conductor.one"), False),
        ("*.conductor.one", Endpoint("acme.conductor.one", 8443), False),
        ("*.conductor.one:8443", Endpoint("acme.conductor.one", 8443), True),
        ("*.conductor.one:8443", Endpoint("acme.conductor.one"), False),
        ("acme.conductor.one", Endpoint("acme.conductor.one"), True),
        ("acme.conductor.one", Endpoint("x.acme.conductor.one"), False),
        ("acme.conductor.one", Endpoint("other.conductor.one"), False),
        ("acme.example , *.conductor.one,", Endpoint("acme.conductor.one"), True),
        ("*.conductor.one", Endpoint("xn--e1afmkfd.conductor.one"), True),
        ("*.one", Endpoint("fd00::1"), False),
        ("localhost", Endpoint("localhost"), True),
    ],
)
def test_a_pattern_is_a_name_or_what_is_below_it_on_one_port(pattern: str, endpoint: Endpoint, allowed: bool) -> None:
    assert any(each.admits(endpoint) for each in parse_patterns(pattern)) is allowed


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        (",", "names no host"),
        ("*", "has the entry '*', which is not a host name"),
        ("https://acme.conductor.one", "which is not a host name"),
        ("*.*.one", "which is not a host name"),
        ("acme.conductor.one:0", "port that is not between 1 and 65535"),
        ("10.0.0.1", "is an address and not a name; to send all calls to an address, set BATON_C1_API_HOST"),
        ("[::1]:8443", "is an address and not a name"),
        ("*.0x7f", "is an address and not a name"),
    ],
)
async def test_a_setting_that_cannot_work_is_refused_at_the_start(setting: str, says: str) -> None:
    with pytest.raises(Failure, match=r"^BUILDKITE_CONNECTOR_C1_HOSTS .*correct it") as caught:
        async with open_c1(C1Settings(allowed_hosts=setting), DIRECT):
            pytest.fail("must not open")
    assert says in caught.value.message


NO_NAMES = [
    *("xn--.conductor.one", "xn--0.conductor.one", "XN--0.conductor.one", "xn--ls8h.conductor.one", "xn--a-ecp.ru"),
    *(f"xn--{'a' * 59}.conductor.one", "xn--www-.conductor.one", "xn--a.xn--b:8443"),
    *("999.1.1.1", "1.2.3.256"),
]
NAMES = [
    *("acme.conductor.one", "ACME.conductor.one:8443", "xn--e1afmkfd.conductor.one", "XN--E1AFMKFD.conductor.one"),
    *(
        "ab--cd.conductor.one",
        "a.xn--a.conductor.one",
        "a_b.conductor.one",
        "a-.conductor.one",
        f"{'a' * 64}.conductor.one",
        "a..conductor.one",
    ),
    *(
        "a.xn--a.conductor.one",
        "127.0.0.1",
        "1.2.3",
        "0x7f.1",
        "2130706433",
        "[::1]",
        "[fe80::1]:443",
        "[::ffff:1.2.3.4]",
    ),
]
NOWHERE = Network(proxies=read_proxies({"HTTPS_PROXY": "http://127.0.0.1:1"}))


async def call(host: str) -> Failure:
    """The first call to it, through a proxy that is not there: nothing is looked up."""
    channel = Channel(parse_endpoint(host), C1Settings(), NOWHERE, NOWHERE.trust.ssl_context(), NOWHERE.trust.pem)
    try:
        credentials = parse_credentials(f"a@{host}/x", SECRET)
        with pytest.raises(Failure) as caught:
            await TokenSource(AssertingClient(credentials), channel, SystemClock(), 5.0, SILENT).current()
        return caught.value
    finally:
        await channel.aclose()


@pytest.mark.parametrize("host", NO_NAMES)
def test_a_host_that_is_no_name_is_refused_in_a_sentence(host: str) -> None:
    with pytest.raises(Failure, match=r"^The client ID has a host that is not the name of a host: .* must be Punycode"):
        parse_credentials(f"a@{host}/x", SECRET)


@pytest.mark.parametrize("host", NAMES)
async def test_a_call_to_any_other_is_made(host: str) -> None:
    assert (await call(host)).reason is Reason.C1_UNREACHABLE


_LABELS = st.text("xn-a0_.é", min_size=1, max_size=8) | st.text("an019-", max_size=12).map(lambda text: f"xn--{text}")


@settings(max_examples=examples(200))
@example("xn--0.one")
@given(st.lists(_LABELS, min_size=1, max_size=3).map(".".join))
async def test_nothing_else_comes_of_any_text(host: str) -> None:
    try:
        parse_endpoint(host)
    except ValueError:
        return
    assert (await call(host)).reason is Reason.C1_UNREACHABLE


def test_an_empty_environment_gives_the_defaults() -> None:
    assert C1Settings.from_environment({}) == C1Settings()
    blank = dict.fromkeys(("BATON_C1_API_HOST", "BUILDKITE_CONNECTOR_C1_HOSTS"), "")
    assert C1Settings.from_environment(blank) == C1Settings()


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("acme.conductor.one", True),
        ("acme.conductorone.com", True),
        ("conductorone.com", False),
        ("acme.conductorone.com.evil.example", False),
        ("acmeconductorone.com", False),
        ("acme.conductor.com", False),
    ],
)
def test_a_client_id_leads_to_c1s_own_hosts_where_none_are_listed(host: str, allowed: bool) -> None:
    patterns = parse_patterns(C1Settings().allowed_hosts)
    assert any(pattern.admits(Endpoint(host)) for pattern in patterns) is allowed


def test_the_variables_are_read_once_into_settings() -> None:
    settings = C1Settings.from_environment(
        {
            "BATON_C1_API_HOST": "gateway.example:8443",
            "BUILDKITE_CONNECTOR_C1_HOSTS": " acme.example:8443, *.conductor.one ",
        }
    )

    assert settings.api_host == "gateway.example:8443"
    assert settings.allowed_hosts == "acme.example:8443, *.conductor.one"


@pytest.mark.parametrize("text", ["https://gateway.example", "gateway.example/x", "gateway example", "a:70000"])
async def test_a_host_override_that_is_no_host_is_refused_at_the_start(text: str) -> None:
    with pytest.raises(Failure, match=r"^BATON_C1_API_HOST .*correct it"):
        async with open_c1(C1Settings(api_host=text), DIRECT):
            pytest.fail("must not open")
