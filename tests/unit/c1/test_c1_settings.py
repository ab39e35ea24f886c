from pathlib import Path

import pytest

from buildkite_connector.c1 import C1Settings, open_c1
from buildkite_connector.c1.allowed_hosts import parse_patterns
from buildkite_connector.c1.endpoint import Endpoint
from buildkite_connector.c1.proxy import proxy_for
from buildkite_connector.model.failure import Failure, Reason

ACME = Endpoint("acme.conductor.one")


def test_an_empty_environment_gives_the_defaults() -> None:
    assert C1Settings.from_environment({}) == C1Settings()
    blank = dict.fromkeys(("SSL_CERT_FILE", "BATON_C1_API_HOST", "BUILDKITE_CONNECTOR_C1_HOSTS"), "")
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
            "SSL_CERT_FILE": "ca.pem",
            "HTTPS_PROXY": "http://upper:1",
            "https_proxy": "http://lower:1",
            "NO_PROXY": "internal.example",
        }
    )

    assert settings.api_host == "gateway.example:8443"
    assert settings.allowed_hosts == "acme.example:8443, *.conductor.one"
    assert settings.ca_file == Path("ca.pem")
    assert settings.https_proxy == "http://lower:1"
    assert settings.no_proxy == "internal.example"


def test_the_representation_of_settings_shows_no_proxy_password() -> None:
    assert "hunter2" not in repr(C1Settings(https_proxy="http://user:hunter2@proxy.example:3128"))


@pytest.mark.parametrize("text", ["https://gateway.example", "gateway.example/x", "gateway example", "a:70000"])
async def test_a_host_override_that_is_no_host_is_refused_at_the_start(text: str) -> None:
    with pytest.raises(Failure, match=r"^BATON_C1_API_HOST .*correct it"):
        async with open_c1(C1Settings(api_host=text)):
            pytest.fail("must not open")


@pytest.mark.parametrize("content", [None, b"", b"not a certificate"], ids=["missing", "empty", "not PEM"])
async def test_a_ca_file_that_cannot_be_used_is_refused_at_the_start(content: bytes | None, tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    if content is not None:
        ca_file.write_bytes(content)

    with pytest.raises(Failure, match=r"^SSL_CERT_FILE names .*ca.pem, which must be a readable PEM file") as caught:
        async with open_c1(C1Settings(ca_file=ca_file)):
            pytest.fail("must not open")
    assert caught.value.reason is Reason.C1_UNREACHABLE


def test_without_a_proxy_every_host_is_reached_directly() -> None:
    assert proxy_for(ACME, C1Settings()) is None


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("http://proxy.example:3128", "http://proxy.example:3128"),
        ("proxy.example:3128", "http://proxy.example:3128"),
        ("http://user:pw@[::1]:3128", "http://user:pw@[::1]:3128"),
    ],
)
def test_a_proxy_is_used_for_every_host_that_is_not_exempt(given: str, used: str) -> None:
    assert proxy_for(ACME, C1Settings(https_proxy=given, no_proxy="other.example")) == used


@pytest.mark.parametrize(
    ("host", "no_proxy", "direct"),
    [
        ("acme.conductor.one", "*", True),
        ("acme.conductor.one", "acme.conductor.one", True),
        ("acme.conductor.one", "other.example, Conductor.One", True),
        ("acme.conductor.one", ".conductor.one", True),
        ("acme.conductor.one", "*.conductor.one", True),
        ("acme.conductor.one", "conductor.one:443", True),
        ("acme.conductor.one", "conductor.one:8443", False),
        ("acme.conductor.one", "me.conductor.one", False),
        ("acme.conductor.one", "10.0.0.0/8", False),
        ("acme.conductor.one", ",", False),
        ("10.1.2.3", "10.0.0.0/8", True),
        ("10.1.2.3", "10.1.2.3", True),
        ("11.1.2.3", "10.0.0.0/8", False),
        ("fd00::1", "[fd00::1]", True),
        ("fd00::1", "fd00::/8", True),
    ],
)
def test_no_proxy_exempts_hosts_subdomains_ports_and_networks(host: str, no_proxy: str, direct: bool) -> None:
    settings = C1Settings(https_proxy="http://proxy.example:3128", no_proxy=no_proxy)

    assert (proxy_for(Endpoint(host), settings) is None) is direct


@pytest.mark.parametrize(
    "url", ["https://proxy.example:3128", "socks5://proxy.example:1080", "http://u:hunter2@proxy.example", "http://:1"]
)
def test_a_proxy_that_grpc_cannot_use_is_refused_rather_than_gone_around(url: str) -> None:
    with pytest.raises(Failure, match=r"^HTTPS_PROXY must be http://") as caught:
        proxy_for(ACME, C1Settings(https_proxy=url))
    assert "hunter2" not in caught.value.message
