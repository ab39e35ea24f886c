import pytest

from buildkite_connector.c1 import C1Settings, open_c1
from buildkite_connector.c1.allowed_hosts import parse_patterns
from buildkite_connector.c1.endpoint import Endpoint
from buildkite_connector.model.failure import Failure
from harness.trust import DIRECT


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
