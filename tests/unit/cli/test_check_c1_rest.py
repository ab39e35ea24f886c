"""`check` of C1's REST API: the client, its host, an access token, and the connector with its state."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm

from buildkite_connector.cli.findings import State
from buildkite_connector.cli.settings import Settings
from fakes.check_setup import Setup
from harness.command import run
from simulators.c1.apps import Connector, Paused, SyncState
from simulators.c1.token import RestClient, Role
from unit.cli.test_check import NAMES, environment

REST_NAMES = ["c1_rest.client", "c1_rest.host", "c1_rest.token", "c1_rest.connector"]
READER = {Role.READ_ONLY_ADMINISTRATOR}
WHEN = datetime(2026, 11, 30, 16, 5, tzinfo=UTC)
ISSUER = "https://issuer.example.com"
PAGE = (Path(__file__).parents[3] / "docs" / "check.md").read_text()


@pytest.fixture
def connector(sound: Setup) -> Connector:
    return sound.c1.register_connector(state=SyncState.DONE, started_at=WHEN, completed_at=WHEN)


@pytest.fixture
def client(sound: Setup, connector: Connector) -> RestClient:
    """That may read; the setup names it and the connector."""
    made = sound.c1.register_rest_client(roles=READER)
    use(sound, **{"c1-client-id": made.client_id, "c1-client-secret": made.client_secret}, **named(connector))
    return made


def named(connector: Connector) -> dict[str, str]:
    return {"c1-app-id": connector.app_id, "c1-connector-id": connector.id}


def use(setup: Setup, **given: str) -> None:
    setup.change(c1_rest=Settings(given))


def but(setup: Setup, **given: str) -> None:
    """The settings with these changed; empty ones are left out."""
    changed = {**setup.settings.c1_rest.given, **{name.replace("_", "-"): text for name, text in given.items()}}
    setup.change(c1_rest=Settings({name: text for name, text in changed.items() if text}))


async def test_a_sound_client_is_ok_and_c1_is_only_read(sound: Setup, client: RestClient, connector: Connector) -> None:
    checked = await sound.check()
    assert [finding.name for finding in checked.findings] == [*NAMES, *REST_NAMES]
    assert checked.exit_code == 0
    assert {finding.state for finding in checked.findings} == {State.OK}
    assert checked.named("c1_rest.connector").message == "C1 shows it: DONE, last sync ended 2026-11-30 16:05 UTC"
    assert client.client_secret not in checked.text
    assert len(sound.c1.calls("GetConnector")) == 1
    assert sound.c1.calls("ForceSync") == []
    assert sound.c1.violations == []


async def test_the_command_takes_it_from_variables_and_flags(
    sound: Setup, client: RestClient, connector: Connector
) -> None:
    variables = {"C1_CLIENT_ID": client.client_id, "C1_CLIENT_SECRET": client.client_secret}
    flags = ("--c1-app-id", connector.app_id, "--c1-connector-id", connector.id)
    ended = await run("check", "--output", "json", *flags, **environment(sound), **variables)
    document = json.loads(ended.out)
    assert (ended.code, document["ok"]) == (0, True)
    assert [each["name"] for each in document["checks"]][-4:] == REST_NAMES
    assert {each["state"] for each in document["checks"]} == {"ok"}
    assert client.client_secret.rpartition(":")[2] not in ended.out


async def test_it_needs_no_client_of_the_connector(sound: Setup, client: RestClient) -> None:
    sound.change(client_id="", client_secret="")
    checked = await sound.check()
    assert checked.named("c1").state is State.SKIPPED
    assert checked.named("c1_rest.connector").state is State.OK


async def test_without_ids_the_token_alone_is_tested(sound: Setup, client: RestClient) -> None:
    but(sound, c1_app_id="", c1_connector_id="")
    checked = await sound.check()
    assert checked.exit_code == 0
    assert checked.named("c1_rest.token").state is State.OK
    assert checked.named("c1_rest.connector").state is State.SKIPPED
    assert sound.c1.calls("GetConnector") == []


def paused(reason: str) -> Callable[[Connector], None]:
    def pause(connector: Connector) -> None:
        connector.paused = Paused(WHEN, "bad sync", reason)

    return pause


def failed(error: str) -> Callable[[Connector], None]:
    def fail(connector: Connector) -> None:
        connector.state, connector.last_error = SyncState.ERROR, error

    return fail


def never_synced(connector: Connector) -> None:
    connector.state, connector.completed_at = SyncState.UNSPECIFIED, None


@pytest.mark.parametrize(
    ("shown", "state", "says"),
    [
        (
            paused("half of the data is gone"),
            State.WARNING,
            "paused in C1 since 2026-11-30 16:05 UTC (bad sync: half of",
        ),
        (failed("no accounts"), State.WARNING, "C1's last sync of the connector failed: no accounts."),
        (failed(""), State.WARNING, "C1's last sync of the connector failed: C1 does not say why."),
        (never_synced, State.OK, "C1 shows it, and has not synced it yet"),
    ],
)
async def test_the_line_says_what_c1_does_with_the_connector(
    sound: Setup,
    client: RestClient,
    connector: Connector,
    shown: Callable[[Connector], None],
    state: State,
    says: str,
) -> None:
    shown(connector)
    checked = await sound.check()
    found = checked.named("c1_rest.connector")
    assert (found.state, checked.exit_code) == (state, 0)
    assert says in found.message


@pytest.mark.parametrize(
    ("given", "line", "code", "says"),
    [
        (
            {"c1_client_id": ""},
            "client",
            3,
            "--c1-client-id: the client ID and the client secret of C1's REST API must",
        ),
        ({"c1_client_secret": ""}, "client", 3, "set it, or C1_CLIENT_SECRET"),
        ({"c1_client_id": "", "c1_client_secret": ""}, "client", 3, "need a client of C1's REST API. Set C1_CLIENT_ID"),
        ({"c1_workload_client_id": "a@b.conductor.one/wfe"}, "client", 3, "set one kind of client only"),
        ({"c1_client_id": "no-host"}, "client", 3, "no '@'"),
        ({"c1_client_secret": "ostrich"}, "client", 3, "client secret"),
        ({"c1_client_id": "a@c1.example.com/spc"}, "host", 3, "BUILDKITE_CONNECTOR_C1_HOSTS"),
        (
            {"c1_connector_id": ""},
            "connector",
            3,
            "--c1-connector-id: C1's REST API needs the app ID, the connector ID and a client; set this one, or",
        ),
        ({"c1_app_id": ""}, "connector", 3, "--c1-app-id: C1's REST API needs the app ID, the connector ID and a"),
        ({"c1_connector_id": "2notThere"}, "connector", 9, "2notThere"),
        ({"c1_app_id": "2notThere"}, "connector", 9, "2notThere"),
    ],
)
async def test_what_is_wrong_is_the_first_line_that_fails(
    sound: Setup, client: RestClient, given: dict[str, str], line: str, code: int, says: str
) -> None:
    but(sound, **given)
    checked = await sound.check()
    first = checked.first_failed
    assert (first.name, checked.exit_code) == (f"c1_rest.{line}", code)
    assert says in first.message
    after = checked.findings[checked.findings.index(first) + 1 :]
    assert {finding.state for finding in after} <= {State.SKIPPED}
    assert "ostrich" not in checked.text


async def test_a_role_that_is_missing_is_named(sound: Setup, client: RestClient) -> None:
    client.roles.clear()
    first = (await sound.check()).first_failed
    assert (first.name, first.reason, first.code) == ("c1_rest.connector", "C1AccessDenied", 7)
    assert "Read-Only Administrator" in first.message


async def test_a_client_that_is_gone_is_rejected_at_its_token(sound: Setup, client: RestClient) -> None:
    sound.c1.authority.refuse(client.client_id)
    checked = await sound.check()
    first = checked.first_failed
    assert (first.name, first.reason, first.code) == ("c1_rest.token", "C1ClientRejected", 16)
    assert checked.named("c1_rest.connector").state is State.SKIPPED


async def test_its_secret_is_removed_from_what_another_server_says(sound: Setup, client: RestClient) -> None:
    part = client.client_secret.rpartition(":")[2][:60]
    sound.c1.fail("Hello", "UNAVAILABLE", message=f"who sent {part}?")
    checked = await sound.check()
    assert "who sent" in checked.named("c1.hello").message
    assert part not in checked.text


async def test_a_host_that_only_service_mode_connects_to_is_a_warning(sound: Setup, client: RestClient) -> None:
    sound.change(client_id="", client_secret="", hosts_listed=False)
    sound.change_c1(allowed_hosts="*.conductor.one")
    checked = await sound.check()
    assert checked.named("c1_rest.host").state is State.WARNING
    assert "Service mode connects to it" in checked.named("c1_rest.host").message
    assert checked.named("c1_rest.connector").state is State.OK


@pytest.fixture
def identity(sound: Setup, connector: Connector) -> Ed25519PrivateKey:
    """The key of an issuer that C1 trusts; the setup names the trust, and a file for the token."""
    key = Ed25519PrivateKey.generate()
    public = OKPAlgorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": "k", "use": "sig"}
    trust = sound.c1.register_trust(ISSUER, {"keys": [public]}, subject="system:serviceaccount:a:b", roles=READER)
    use(sound, **{"c1-workload-client-id": trust.client_id}, **named(connector))
    sound.change_c1(token_file=str(sound.directory / "token"))
    return key


def write_token(setup: Setup, key: Ed25519PrivateKey, issued: datetime) -> None:
    claims = {"iss": ISSUER, "sub": "system:serviceaccount:a:b", "aud": [setup.c1.address.partition(":")[0]]}
    times = {"iat": issued, "exp": datetime.now(UTC) + timedelta(minutes=5)}
    token = jwt.encode({**claims, **times}, key, algorithm="EdDSA", headers={"kid": "k"})
    (setup.directory / "token").write_text(token)


async def test_a_workload_identity_is_exchanged(sound: Setup, identity: Ed25519PrivateKey) -> None:
    write_token(sound, identity, datetime.now(UTC))
    checked = await sound.check()
    assert checked.exit_code == 0
    assert "BUILDKITE_CONNECTOR_C1_TOKEN_FILE" in checked.named("c1_rest.client").message
    assert checked.named("c1_rest.connector").state is State.OK
    assert (sound.directory / "token").read_text() not in checked.text


async def test_a_token_that_c1_does_not_accept_says_what_is_wrong_with_it(
    sound: Setup, identity: Ed25519PrivateKey
) -> None:
    write_token(sound, identity, datetime.now(UTC) - timedelta(minutes=20))
    first = (await sound.check()).first_failed
    assert (first.name, first.reason, first.code) == ("c1_rest.token", "WorkloadIdentityRejected", 16)
    assert re.search(r"issued 120\d s ago", first.message)


async def test_a_workload_identity_without_a_file_fails_before_any_request(
    sound: Setup, identity: Ed25519PrivateKey
) -> None:
    sound.change_c1(token_file="")
    first = (await sound.check()).first_failed
    assert (first.name, first.code) == ("c1_rest.client", 16)
    assert "BUILDKITE_CONNECTOR_C1_TOKEN_FILE is not set" in first.message


def test_the_page_explains_each_line() -> None:
    explained = PAGE.split("## Checks and remedies")[1].split("\n## ")[0]
    assert [name for name in REST_NAMES if f"`{name}`" not in explained] == []
