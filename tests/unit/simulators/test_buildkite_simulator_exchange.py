"""What the Buildkite simulator's token endpoint checks, by assertions that this test signs itself."""

import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from fakes.exchange_setup import CLIENT_ID, ec_pem, jwk_of, register, rsa_pem
from harness.trust import plain_client
from simulators.buildkite.exchange import AUDIENCE, App
from simulators.buildkite.made_organization import make_organization
from simulators.buildkite.server import BuildkiteSimulator, Config

SCOPES = "read_organizations read_teams"
INVALID = "invalid_client"


class Bench:
    """A simulator with an app, and one request to it that may be changed."""

    def __init__(self, sim: BuildkiteSimulator, client: httpx.AsyncClient) -> None:
        self.sim = sim
        self.client = client
        registered = register(sim)
        self.app: App = registered.app
        now = int(time.time())
        self.claims: dict[str, Any] = {
            "iss": CLIENT_ID,
            "sub": CLIENT_ID,
            "aud": AUDIENCE,
            "iat": now,
            "exp": now + 300,
            "jti": "one",
        }
        self.headers: dict[str, Any] = {"kid": jwk_of(ec_pem())["kid"]}
        self.form = {
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "subject_token": registered.exchange.subject,
            "subject_token_type": "urn:buildkite:params:oauth:token-type:user-email",
            "audience": self.app.organization,
            "scope": SCOPES,
        }

    async def ask(self, pem: str = "", algorithm: str = "ES256", **form: str) -> tuple[int, dict[str, Any]]:
        key = load_pem_private_key((pem or ec_pem()).encode(), None)
        assertion = jwt.encode(self.claims, key, algorithm, headers=self.headers)  # type: ignore[arg-type]
        answer = await self.client.post(
            self.sim.exchange_url, data={**self.form, "client_assertion": assertion, **form}
        )
        return answer.status_code, answer.json()

    async def refused(self, **form: str) -> tuple[str, str]:
        status, answer = await self.ask(**form)
        assert status == (401 if answer["error"] == INVALID else 403 if answer["error"] == "access_denied" else 400)
        return answer["error"], answer["error_description"]


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    config = Config([make_organization(4, 2, 3, slug="acme"), make_organization(2, 1, 1, slug="globex")])
    async with BuildkiteSimulator(config) as sim, plain_client() as client:
        yield Bench(sim, client)


async def get(bench: Bench, token: str, path: str = "/organizations/acme") -> int:
    answer = await bench.client.get(bench.sim.url + path, headers={"Authorization": f"Bearer {token}"})
    return answer.status_code


async def test_a_token_is_good_for_its_scopes_its_organization_and_its_life(bench: Bench) -> None:
    status, answer = await bench.ask(expires_in="60")
    token = answer.pop("access_token")
    assert (status, token[:5]) == (200, "bktx_")
    assert answer == {
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "token_type": "Bearer",
        "expires_in": 60,
        "scope": SCOPES,
    }
    assert await get(bench, token) == 200
    assert await get(bench, token, "/organizations/acme/pipelines") == 403
    assert await get(bench, token, "/organizations/globex") == 404
    now = bench.sim.api.now
    bench.sim.api.now = lambda: now() + timedelta(seconds=61)
    assert await get(bench, token) == 401


async def test_a_deleted_app_takes_its_tokens_with_it(bench: Bench) -> None:
    _, answer = await bench.ask()
    bench.sim.exchanges.revoke(CLIENT_ID)
    assert await get(bench, answer["access_token"]) == 401
    bench.claims["jti"] = "two"
    assert (await bench.refused())[0] == INVALID


async def test_two_keys_work_at_once_with_and_without_kid(bench: Bench) -> None:
    bench.app.jwks.append(jwk_of(rsa_pem()))
    assert (await bench.ask())[0] == 200
    bench.claims["jti"], bench.headers = "two", {}
    assert (await bench.ask(rsa_pem(), "RS256"))[0] == 200


@pytest.mark.parametrize(
    ("claims", "says"),
    [
        ({"iss": "other"}, "Client is unknown"),
        ({"sub": "other"}, "Client is unknown"),
        ({"aud": "https://api.buildkite.com"}, "`aud`"),
        ({"exp": 400}, "at most 5 minutes"),
        ({"exp": -1, "iat": -200}, "must be in the future"),
        ({"nbf": 60}, "`nbf`"),
        ({"jti": ""}, "`jti`"),
        ({"jti": "j" * 256}, "`jti`"),
    ],
)
async def test_each_claim_is_checked(bench: Bench, claims: dict[str, Any], says: str) -> None:
    """Times are seconds from now."""
    now = int(time.time())
    bench.claims |= {name: now + claim if isinstance(claim, int) else claim for name, claim in claims.items()}
    error, description = await bench.refused()
    assert (error, says in description) == (INVALID, True)


async def test_a_jti_is_used_up_by_success_only_and_may_be_demanded(bench: Bench) -> None:
    await bench.refused(scope="write_teams")
    assert (await bench.ask())[0] == 200
    assert "already been used" in (await bench.refused())[1]
    del bench.claims["jti"]
    assert (await bench.ask())[0] == 200
    bench.app.requires_jti = True
    assert "must contain" in (await bench.refused())[1]


async def test_a_signature_by_another_key_or_algorithm_is_refused(bench: Bench) -> None:
    for pem, algorithm in ((ec_pem(1), "ES256"), (rsa_pem(), "RS256"), (rsa_pem(), "RS512")):
        status, answer = await bench.ask(pem, algorithm)
        assert (status, answer["error_description"]) == (401, "Invalid client assertion signature")
    bench.headers = {"kid": "another"}
    assert await bench.refused() == (INVALID, "Invalid client assertion signature")


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"grant_type": "client_credentials"}, "unsupported_grant_type"),
        ({"client_assertion_type": "x"}, "invalid_request"),
        ({"audience": "globex"}, "invalid_target"),
        ({"subject_token": "nobody@example.com"}, "invalid_request"),
        ({"subject_token_type": "urn:buildkite:params:oauth:token-type:user-uuid"}, "invalid_request"),
        ({"scope": "read_teams write_teams"}, "invalid_scope"),
        ({"scope": ""}, "invalid_scope"),
        ({"expires_in": "29"}, "invalid_request"),
    ],
)
async def test_each_parameter_is_checked(bench: Bench, form: dict[str, str], error: str) -> None:
    assert (await bench.refused(**form))[0] == error


async def test_the_settings_of_the_app_hold(bench: Bench) -> None:
    bench.app.default, bench.app.life = ("read_teams",), 45
    _, answer = await bench.ask(scope="", expires_in="600")
    assert (answer["scope"], answer["expires_in"]) == ("read_teams", 45)
    bench.claims["jti"] = "two"
    bench.app.unverified = frozenset({bench.form["subject_token"]})
    assert (await bench.refused())[0] == "invalid_request"
    bench.app.addresses = frozenset({"192.0.2.1"})
    assert (await bench.refused())[0] == "access_denied"
    bench.sim.exchanges.enabled = False
    assert (await bench.refused())[0] == "unsupported_grant_type"
