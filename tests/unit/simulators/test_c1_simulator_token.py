"""The simulated C1's token endpoint: which assertions it takes, and how it refuses."""

import asyncio
import base64
import dataclasses
import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest

from simulators.c1.policy import Policy
from simulators.c1.probe import assertion, http, probe, token_form
from simulators.c1.server import C1Simulator


@pytest.fixture
async def sim() -> AsyncIterator[C1Simulator]:
    async with C1Simulator(Policy(token_lifetime=77)) as simulator:
        yield simulator


async def ask(sim: C1Simulator, form: dict[str, str]) -> httpx.Response:
    async with http(sim) as session:
        return await session.post("/auth/v1/token", data=form)


@pytest.mark.parametrize(
    ("header", "claims", "says"),
    [
        ({}, {"iss": "someone@else/ccc"}, "iss and sub"),
        ({}, {"sub": None}, "iss and sub"),
        ({}, {"aud": "localhost"}, "aud"),
        ({}, {"aud": ["localhost:443"]}, "aud"),
        ({}, {"aud": ["localhost", "elsewhere.test"]}, "aud"),
        ({}, {"exp": None}, "exp: expected seconds"),
        ({}, {"iat": "now"}, "iat: expected seconds"),
        ({"nonce": None}, {}, "nonce"),
        ({"nonce": "abcd"}, {}, "nonce: expected 16 bytes"),
        ({"nonce": "z" * 32}, {}, "nonce: expected 16 bytes"),
    ],
)
async def test_an_assertion_that_differs_in_one_point_is_refused_with_the_point(
    sim: C1Simulator, header: dict[str, Any], claims: dict[str, Any], says: str
) -> None:
    client = sim.register_client()
    answer = await ask(sim, token_form(client, client_assertion=assertion(client, header=header, claims=claims)))
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    assert says in answer.json()["error_description"]
    assert says in sim.violations[0]


@pytest.mark.parametrize(
    ("issued", "begins", "ends", "says"),
    [(0, -120, 3600, "exp"), (0, 0, 120, "nbf"), (-600, -720, -480, "iat: not now"), (600, 480, 720, "iat: not now")],
    ids=["valid too long", "valid too late", "issued long ago", "issued in the future"],
)
async def test_an_assertion_with_other_times_is_refused(
    sim: C1Simulator, issued: int, begins: int, ends: int, says: str
) -> None:
    client = sim.register_client()
    now = int(time.time())
    claims = {"iat": now + issued, "nbf": now + begins, "exp": now + ends}
    answer = await ask(sim, token_form(client, client_assertion=assertion(client, claims=claims)))
    assert (answer.status_code, says in answer.json()["error_description"]) == (401, True)


async def test_an_assertion_signed_with_another_clients_key_is_refused(sim: C1Simulator) -> None:
    client, other = sim.register_client(), sim.register_client()
    answer = await ask(sim, token_form(client, client_assertion=assertion(client, signed_by=other)))
    assert (answer.status_code, "signature" in answer.json()["error_description"]) == (401, True)


async def test_an_assertion_that_is_no_jwt_is_refused(sim: C1Simulator) -> None:
    answer = await ask(sim, token_form(sim.register_client(), client_assertion="not.a.jwt"))
    assert (answer.status_code, "not an EdDSA JWT" in answer.json()["error_description"]) == (401, True)


async def test_a_nonce_serves_once(sim: C1Simulator) -> None:
    form = token_form(sim.register_client())
    assert (await ask(sim, form)).status_code == 200
    again = await ask(sim, form)
    assert (again.status_code, again.json()["error_description"]) == (401, "nonce: used before")


async def test_a_client_that_was_never_registered_is_refused(sim: C1Simulator) -> None:
    async with C1Simulator() as other:
        answer = await ask(sim, token_form(other.register_client()))
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": ""}, "invalid_request"),
        ({"client_assertion_type": "jwt"}, "invalid_request"),
        ({"client_id": ""}, "invalid_request"),
        ({"client_assertion": ""}, "invalid_request"),
    ],
)
async def test_a_form_that_lacks_a_part_is_a_bad_request(sim: C1Simulator, changes: dict[str, str], error: str) -> None:
    answer = await ask(sim, token_form(sim.register_client(), **changes))
    assert (answer.status_code, answer.json()["error"]) == (400, error)


async def test_a_parameter_that_comes_twice_is_a_bad_request(sim: C1Simulator) -> None:
    form = token_form(sim.register_client())
    async with http(sim) as session:
        answer = await session.post("/auth/v1/token", data=form | {"client_id": [form["client_id"]] * 2})
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


async def test_a_body_that_is_no_form_is_a_bad_request(sim: C1Simulator) -> None:
    async with http(sim) as session:
        answer = await session.post("/auth/v1/token", json=token_form(sim.register_client()))
    assert (answer.status_code, "content-type" in answer.json()["error_description"]) == (400, True)


async def test_only_post_gets_a_token(sim: C1Simulator) -> None:
    async with http(sim) as session:
        answer = await session.get("/auth/v1/token", params=token_form(sim.register_client()))
    assert answer.status_code == 405


async def test_a_client_id_names_the_simulator_and_its_secret_has_four_parts(sim: C1Simulator) -> None:
    client = sim.register_client()
    assert client.client_id.partition("@")[2] == f"localhost:{sim.port}/ccc"
    scheme, issuer, version, key = client.client_secret.split(":")
    assert (scheme, issuer, version) == ("secret-token", "conductorone.com", "v1")
    jwk = json.loads(base64.urlsafe_b64decode(key + "=" * (-len(key) % 4)))
    assert (jwk["kty"], jwk["crv"], {"x", "d"} <= set(jwk)) == ("OKP", "Ed25519", True)


async def test_a_refused_client_gets_no_token_and_its_old_one_is_void(sim: C1Simulator) -> None:
    client = sim.register_client()
    async with probe(sim, client) as host:
        sim.authority.refuse(client.client_id)
        assert (await ask(sim, token_form(client))).json()["error"] == "invalid_client"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await host.hello()
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    sim.authority.accept(client.client_id)
    assert (await ask(sim, token_form(client))).status_code == 200
    assert not sim.violations


@dataclasses.dataclass
class HandClock:
    """A clock that a test moves."""

    seconds: float = 0.0
    started: datetime = dataclasses.field(default_factory=lambda: datetime.now(UTC))

    def now(self) -> datetime:
        return self.started + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)
        self.seconds += seconds


async def test_a_token_is_good_for_its_lifetime_and_no_longer() -> None:
    clock = HandClock()
    async with C1Simulator(Policy(token_lifetime=30), clock=clock) as sim, probe(sim) as host:
        clock.seconds = 29.9
        await host.hello()
        clock.seconds = 30.0
        with pytest.raises(grpc.aio.AioRpcError, match="expired"):
            await host.hello()


@pytest.mark.parametrize(
    ("status", "body", "content_type"),
    [
        (500, '{"error":"server_error"}', "application/json"),
        (502, "<html>Bad gateway</html>", "text/html"),
        (200, '{"access_token":"","token_type":"Bearer","expires_in":60}', "application/json"),
    ],
)
async def test_a_scripted_answer_comes_once(sim: C1Simulator, status: int, body: str, content_type: str) -> None:
    sim.answer_token(status, body, content_type)
    answer = await ask(sim, token_form(sim.register_client()))
    assert (answer.status_code, answer.text) == (status, body)
    assert answer.headers["content-type"].startswith(content_type)
    assert (await ask(sim, token_form(sim.register_client()))).json()["access_token"]
    assert [call.code for call in sim.calls("Token")] == [str(status), "200"]


async def test_a_stalled_token_request_ends_when_the_caller_gives_up(sim: C1Simulator) -> None:
    sim.stall("Token")
    async with http(sim) as session:
        with pytest.raises(httpx.ReadTimeout):
            await session.post("/auth/v1/token", data=token_form(sim.register_client()), timeout=0.2)
    await sim.wait_for(lambda: sim.calls("Token"))
    assert sim.calls("Token")[0].code == "stall"


async def test_a_token_requests_connection_can_be_dropped(sim: C1Simulator) -> None:
    sim.drop("Token")
    with pytest.raises(httpx.TransportError):
        await ask(sim, token_form(sim.register_client()))


async def test_no_secret_is_in_the_transcript_the_violations_or_a_repr(sim: C1Simulator) -> None:
    client = sim.register_client()
    form = token_form(client)
    async with probe(sim, client) as host:
        await host.hello()
        secret_part = client.client_secret.rpartition(":")[2]
        values = (secret_part, host.access_token, form["client_assertion"])
    await ask(sim, form)
    await ask(sim, form)
    told = f"{list(sim.transcript)} {sim.violations} {client!r} {sim.authority.clients!r}"
    assert "nonce: used before" in told
    assert not [value for value in values if value in told]
