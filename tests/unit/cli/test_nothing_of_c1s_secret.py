"""`check` shows nothing of the client of C1's REST API: whatever its two values are, and whatever C1 says of them.

The kinds of values, and what a leak is, are those of `test_nothing_of_a_secret`.
"""

import io
import json
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from rich.console import Console

from buildkite_connector.c1 import C1Settings
from buildkite_connector.cli.check import CheckSettings, run_checks
from buildkite_connector.cli.findings import Finding, State, print_finding, to_document
from buildkite_connector.cli.settings import Settings
from harness.trust import NOBODY
from simulators.c1.server import C1Simulator
from simulators.c1.token import RestClient, Role
from unit.cli.secret_cases import KINDS, Shown, pieces_of
from unit.cli.test_nothing_of_a_secret import log

__all__ = ["log"]
IDS = {"c1-app-id": "2abc", "c1-connector-id": "2def"}


@pytest.fixture
async def c1() -> AsyncIterator[C1Simulator]:
    async with C1Simulator() as opened:
        yield opened


@pytest.fixture
def client(c1: C1Simulator) -> RestClient:
    return c1.register_rest_client(roles={Role.CONNECTOR_ADMINISTRATOR})


async def check(c1: C1Simulator, client_id: str, client_secret: str) -> tuple[list[Finding], list[str]]:
    """The findings of C1's REST API, and all that is shown by them."""
    settings = CheckSettings(
        "https://localhost:1/v2",
        "",
        "host",
        C1Settings(allowed_hosts=c1.address, call_timeout=5.0),
        environment={"SSL_CERT_FILE": str(c1.ca_file), "SSL_CERT_DIR": str(NOBODY.parent)},
        hosts_listed=True,
        c1_rest=Settings({**IDS, "c1-client-id": client_id, "c1-client-secret": client_secret}),
    )
    console = Console(file=io.StringIO(), width=400)
    findings = await run_checks(settings, lambda finding: print_finding(finding, console))
    assert isinstance(console.file, io.StringIO)
    shown = [console.file.getvalue(), f"{settings!r} {findings!r}", json.dumps(to_document(findings))]
    return [each for each in findings if each.name.startswith("c1_rest.")], shown


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("named", ["client ID", "client secret"])
async def test_a_value_of_any_kind_is_not_shown(
    c1: C1Simulator, client: RestClient, log: Path, named: str, kind: str
) -> None:
    value = KINDS[kind](secrets.token_hex(20))
    text = value.decode("latin-1")
    pair = (text, client.client_secret) if named == "client ID" else (client.client_id, text)
    found, shown = await check(c1, *pair)
    assert State.FAILED in {each.state for each in found}
    known = frozenset(piece for secret in (value, _key(client)) for piece in pieces_of(secret))
    assert Shown([*shown, log.read_text()]).pieces(known) == []


def _key(client: RestClient) -> bytes:
    """What of the secret is none of C1's own words."""
    return client.client_secret.rpartition(":")[2].encode()


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 409, 429, 500])
@pytest.mark.parametrize("rpc", ["Token", "GetConnector"])
async def test_c1_may_repeat_the_secret_and_it_is_not_shown(
    c1: C1Simulator, client: RestClient, log: Path, rpc: str, status: int
) -> None:
    key = _key(client).decode()
    said = f"{key[:150]} {key[:60].encode().hex()}"
    connector = {"id": "2def", "appId": "2abc", "status": {"status": "SYNC_STATUS_ERROR", "lastError": said}}
    body = {"message": said, "error": key, "error_description": said, "connectorView": {"connector": connector}}
    if rpc == "Token":
        c1.answer_token(status, json.dumps(body), times=None)
    else:
        c1.answer_rest(rpc, status, json.dumps(body), times=None)
    found, shown = await check(c1, client.client_id, client.client_secret)
    assert {each.state for each in found} & {State.FAILED, State.WARNING}
    assert Shown([*shown, log.read_text()]).pieces(frozenset(pieces_of(_key(client)))) == []
