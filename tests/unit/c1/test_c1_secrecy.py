"""Nothing that a session with C1 logs or raises holds a secret, whatever goes wrong and whoever logs at DEBUG."""

import base64
import json
import logging
import re
import traceback
from collections.abc import Awaitable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from buildkite_connector.c1 import C1Client, open_c1, parse_credentials
from buildkite_connector.c1.token import ASSERTION_TYPE, AccessToken, sign_assertion
from buildkite_connector.model.failure import Failure
from buildkite_connector.model.redactor import Redactor
from buildkite_connector.model.tasks import Code, TaskID, TaskOutcome
from fakes.c1_setup import HOST_ID, connect, open_snapshot, settings_for
from harness.trust import reaching
from simulators.c1.faults import TOKEN
from simulators.c1.front import Certificate
from simulators.c1.server import C1Simulator
from simulators.c1.token import Client

JWT = re.compile(r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.?[A-Za-z0-9_-]*")
CONTENT = b"a snapshot" * 100_000


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Turns every logger there is up to DEBUG; gives a list for what else is said."""
    caplog.set_level(logging.DEBUG)
    for name in list(logging.root.manager.loggerDict):
        caplog.set_level(logging.DEBUG, logger=name)
    return []


async def token_of(sim: C1Simulator, client: Client) -> str:
    """A token that C1 takes from this client, known to the test."""
    form = {
        "client_id": client.client_id,
        "grant_type": "client_credentials",
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": sign_assertion(
            parse_credentials(client.client_id, client.client_secret), datetime.now(UTC), "0" * 32
        ),
    }
    return str(sim.authority.exchange(form)["access_token"])


async def raised(call: Awaitable[object]) -> str:
    """What a failed call says with all its chain, as a log would show it."""
    with pytest.raises(Failure) as caught:
        await call
    shown = "".join(traceback.format_exception(caught.value))
    return "\n".join([shown, repr(caught.value), repr(caught.value.__cause__), repr(caught.value.__context__)])


def always_give(sim: C1Simulator, token: str) -> None:
    sim.answer_token(200, json.dumps({"access_token": token, "token_type": "Bearer", "expires_in": 3600}), times=None)


async def good_session(sim: C1Simulator, connector: C1Client, folder: Path) -> None:
    snapshot = folder / "acme.c1z"
    snapshot.write_bytes(CONTENT)
    task_id = TaskID(sim.add_task())
    await connector.hello()
    await connector.next_task()
    await connector.heartbeat(task_id)
    await connector.upload(task_id, open_snapshot(snapshot))
    await connector.finish(task_id, TaskOutcome())


async def bad_session(sim: C1Simulator, connector: C1Client, token: str) -> list[str]:
    said = []
    for code in ("UNAVAILABLE", "UNAUTHENTICATED", "PERMISSION_DENIED", "INVALID_ARGUMENT"):
        sim.fail("GetTask", code, times=None, message=f"Bearer {token} is not welcome: {token}")
        said.append(await raised(connector.next_task()))
        sim.faults.clear()
        always_give(sim, token)
    sim.drop("GetTask")
    said.append(await raised(connector.next_task()))
    said.append(await raised(connector.finish(TaskID("0" * 27), TaskOutcome(Code.INTERNAL, "it failed"))))
    return said


async def fruitless_session(sim: C1Simulator, client: Client, token: str) -> list[str]:
    said = []
    async with connect(sim, client=client, call_timeout=0.5) as connector:
        for status, body in [
            (200, f'{{"access_token": "{token}", "token_type": "not a scheme", "expires_in": 60}}'),
            (200, f'{{"access_token": ["{token}"]}}'),
            (401, f'{{"error": "invalid_client", "error_description": "{token}"}}'),
            (500, token),
        ]:
            sim.answer_token(status, body)
            said.append(await raised(connector.hello()))
        sim.stall(TOKEN)
        said.append(await raised(connector.hello()))
        sim.drop(TOKEN)
        said.append(await raised(connector.hello()))
        sim.show_certificate(Certificate.UNTRUSTED)
        said.append(await raised(connector.hello()))
        sim.close_port()
        said.append(await raised(connector.hello()))
        said.append(f"{connector!r} {vars(connector)!r}")
    return said


async def test_no_log_record_and_no_exception_holds_a_secret(
    sim: C1Simulator,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    told: list[str],
) -> None:
    client = sim.register_client()
    token = await token_of(sim, client)
    always_give(sim, token)
    async with connect(sim, client=client) as connector:
        await good_session(sim, connector, tmp_path)
        told += await bad_session(sim, connector, token)
        told.append(f"{connector!r} {vars(connector)!r}")
    sim.faults.clear()
    told += await fruitless_session(sim, client, token)
    told += [f"{record.getMessage()} {record.args!r} {record.exc_text} {record.exc_info}" for record in caplog.records]
    told += capfd.readouterr()

    key = client.client_secret.rpartition(":")[2]
    private = json.loads(base64.urlsafe_b64decode(key + "=" * (-len(key) % 4)))["d"]
    assert any("auth/v1/token" in text for text in told), "the HTTP client's own log must be among what is searched"
    for text in told:
        for secret in (client.client_secret, key, private, token):
            assert secret not in text
        assert not JWT.search(text)


@pytest.mark.parametrize("piece", ["the_password_of_another_connector", "password_of_another"])
async def test_the_error_of_the_token_endpoint_is_quoted_without_credentials(sim: C1Simulator, piece: str) -> None:
    client = sim.register_client()
    redactor = Redactor(["the_password_of_another_connector"])
    credentials = parse_credentials(client.client_id, client.client_secret, redactor)
    sim.answer_token(401, json.dumps({"error": piece}))
    async with open_c1(settings_for(sim), reaching(sim.ca_file)) as c1, c1.client(credentials, HOST_ID) as connector:
        assert piece not in await raised(connector.hello())


@pytest.mark.parametrize("overridden", [False, True], ids=["allowed", "BATON_C1_API_HOST"])
async def test_the_client_ids_host_is_quoted_only_where_calls_go_to_it(sim: C1Simulator, overridden: bool) -> None:
    host = "vault.internal.example" if overridden else sim.address
    client = sim.register_client(host)
    redactor = Redactor(private=[client.client_id])
    credentials = parse_credentials(client.client_id, client.client_secret, redactor)
    sim.fail("Hello", "UNAVAILABLE", message=f"no route to {host}")
    settings = settings_for(sim, **({"api_host": sim.address} if overridden else {}))
    async with open_c1(settings, reaching(sim.ca_file)) as c1, c1.client(credentials, HOST_ID) as connector:
        assert (f"no route to {host}" in await raised(connector.hello())) is not overridden


def test_a_tokens_representation_does_not_show_it() -> None:
    assert "t0ps3cret" not in repr(AccessToken("Bearer t0ps3cret", 0.0))
