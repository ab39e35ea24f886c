"""The simulated C1's tokens for REST: kinds of clients, credentials that it made, and workload federation."""

import time
from dataclasses import dataclass
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from grpc import StatusCode
from jwt.algorithms import ECAlgorithm

from simulators.c1.federation import EXCHANGE, JWT_TYPE, Keys, KeySource, jwks_at
from simulators.c1.probe import http, probe, rejected, rest, token_form
from simulators.c1.server import C1Simulator
from simulators.c1.token import RestClient, Role

ISSUER = "https://issuer.test"


async def ask(sim: C1Simulator, form: dict[str, str]) -> httpx.Response:
    async with http(sim) as session:
        return await session.post("/auth/v1/token", data=form)


@pytest.mark.parametrize(("kind", "lifetime"), [("pcc", 600), ("spc", 3600)])
async def test_a_rest_client_proves_itself_by_assertion_or_secret(sim: C1Simulator, kind: str, lifetime: int) -> None:
    client = sim.register_rest_client(kind)
    secret = {"grant_type": "client_credentials", "client_id": client.client_id, "client_secret": client.client_secret}
    for form in (token_form(client.client), secret):
        assert (await ask(sim, form)).json()["expires_in"] == lifetime
    assert (await ask(sim, secret | {"client_secret": "another"})).status_code == 401
    assert (await ask(sim, secret | token_form(client.client))).status_code == 400


async def test_a_connector_cannot_send_its_secret(sim: C1Simulator) -> None:
    client = sim.register_client()
    form = {"grant_type": "client_credentials", "client_id": client.client_id, "client_secret": client.client_secret}
    answer = await ask(sim, form)
    assert (answer.status_code, "client_secret" in answer.json()["error_description"]) == (400, True)


async def test_a_rest_client_is_no_connector(sim: C1Simulator) -> None:
    async with probe(sim, sim.register_rest_client().client) as host:
        await rejected(host.hello(), StatusCode.PERMISSION_DENIED)


async def test_a_created_credential_works_until_it_is_revoked(sim: C1Simulator) -> None:
    connector = sim.register_connector()
    made_for = {"appId": connector.app_id, "connectorId": connector.id}
    async with rest(sim, sim.register_rest_client(roles=[Role.CONNECTOR_ADMINISTRATOR])) as session:
        made = (await session.post("/apps/connectors/credentials", json=made_for)).json()["credential"]
        path = f"/apps/{connector.app_id}/connectors/{connector.id}/credentials/{made['id']}"
        read = (await session.get(path)).json()["credential"]
        assert (read["clientSecret"], read["lastUsedAt"], read["expiresTime"]) == ("", None, None)
        client = next(each for each in sim.authority.clients if each.client_id == made["clientId"])
        assert client.client_secret == made["clientSecret"]
        async with probe(sim, client) as host:
            assert (await session.get(path)).json()["credential"]["lastUsedAt"]
            assert (await session.post(path, json={})).json() == {}
            await rejected(host.hello(), StatusCode.UNAUTHENTICATED)
        assert (await session.get(path)).status_code == 404
        assert (await session.post(path, json={})).status_code == 404
    assert (await ask(sim, token_form(client))).status_code == 401
    assert not sim.violations


async def test_an_expired_credential_gets_no_token(sim: C1Simulator) -> None:
    sim.policy.credential_lifetime = 0
    client = sim.register_client()
    sim.register_connector(client)
    assert "expired" in (await ask(sim, token_form(client))).json()["error_description"]


@dataclass
class Issuer:
    """An issuer of subject tokens, with one key."""

    key: ec.EllipticCurvePrivateKey
    kid: str = "a-key"

    @property
    def keys(self) -> Keys:
        return {"keys": [ECAlgorithm.to_jwk(self.key.public_key(), as_dict=True) | {"kid": self.kid}]}

    def token(self, **claims: Any) -> str:
        """A sound one; claims override, None leaves out. Times are from now."""
        usual: dict[str, Any] = {"iss": ISSUER, "aud": ["localhost"], "sub": "operator", "iat": 0, "exp": 600}
        said = {name: value for name, value in (usual | claims).items() if value is not None}
        said |= {name: int(time.time()) + said[name] for name in ("iat", "exp") if name in said}
        return jwt.encode(said, self.key, algorithm="ES256", headers={"kid": self.kid})


@pytest.fixture
def issuer() -> Issuer:
    return Issuer(ec.generate_private_key(ec.SECP256R1()))


async def exchange(sim: C1Simulator, client: RestClient, token: str, **changes: str) -> httpx.Response:
    form = {"grant_type": EXCHANGE, "client_id": client.client_id, "subject_token_type": JWT_TYPE}
    return await ask(sim, form | {"subject_token": token} | changes)


async def test_a_subject_token_is_exchanged_and_has_the_trusts_roles(sim: C1Simulator, issuer: Issuer) -> None:
    client = sim.register_trust(ISSUER, issuer.keys, subject="operator", roles=[Role.READ_ONLY_ADMINISTRATOR])
    answer = (await exchange(sim, client, issuer.token())).json()
    assert (answer["expires_in"], answer["issued_token_type"].rpartition(":")[2]) == (1800, "access_token")
    async with http(sim) as session:
        bearer = {"authorization": f"Bearer {answer['access_token']}"}
        roles = (await session.get("/api/v1/auth/introspect", headers=bearer)).json()["roles"]
    assert (roles, sim.journal.system_log) == (["Read-Only Administrator"], [])


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"iss": f"{ISSUER}/"}, "issuer_mismatch"),
        ({"aud": "elsewhere.test"}, "audience_mismatch"),
        ({"aud": ["localhost:443"]}, "audience_mismatch"),
        ({"aud": None}, "audience_mismatch"),
        ({"exp": -1}, "token_expired"),
        ({"exp": None}, "token_expired"),
        ({"iat": -700}, "token_too_old"),
        ({"iat": None}, "token_too_old"),
        ({"sub": "someone"}, "cel_condition_not_met"),
    ],
    ids=["issuer", "audience", "port", "no audience", "expired", "no exp", "old", "no iat", "subject"],
)
async def test_a_subject_token_that_differs_in_one_point_is_refused_and_only_the_log_says_why(
    sim: C1Simulator, issuer: Issuer, claims: dict[str, Any], reason: str
) -> None:
    client = sim.register_trust(ISSUER, issuer.keys, subject="operator")
    answer = await exchange(sim, client, issuer.token(**claims))
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_grant")
    assert reason not in answer.text
    assert sim.journal.system_log == [(client.client_id, reason)]
    assert not sim.violations


async def test_a_subject_token_is_checked_by_the_issuers_keys(sim: C1Simulator, issuer: Issuer) -> None:
    other = Issuer(ec.generate_private_key(ec.SECP256R1()))

    async def no_keys() -> Keys:
        raise httpx.ConnectError("refused")

    sources: list[KeySource] = [other.keys, {"keys": []}, no_keys, jwks_at("https://localhost:1/jwks")]
    for keys in sources:
        assert (await exchange(sim, sim.register_trust(ISSUER, keys), issuer.token())).status_code == 401
    reasons = [reason for _, reason in sim.journal.system_log]
    assert reasons == ["invalid_signature", "invalid_signature", "keys_not_found", "keys_not_found"]


async def test_a_trust_that_is_unknown_or_whose_principal_is_disabled_is_refused(
    sim: C1Simulator, issuer: Issuer
) -> None:
    client = sim.register_trust(ISSUER, issuer.keys)
    await exchange(sim, client, issuer.token(), client_id=f"other@{sim.address}/wfe")
    await exchange(sim, client, "no.jwt")
    sim.authority.disable(client.client_id)
    assert (await exchange(sim, client, issuer.token())).status_code == 401
    assert [reason for _, reason in sim.journal.system_log] == ["trust_not_found", "invalid_jwt_format", "sp_disabled"]


@pytest.mark.parametrize(
    "changes", [{"subject_token": ""}, {"subject_token_type": "jwt"}, {"subject_token_type": ""}, {"client_id": ""}]
)
async def test_an_exchange_that_lacks_a_part_is_a_bad_request(
    sim: C1Simulator, issuer: Issuer, changes: dict[str, str]
) -> None:
    answer = await exchange(sim, sim.register_trust(ISSUER, issuer.keys), issuer.token(), **changes)
    assert (answer.status_code, answer.json()["error"], len(sim.violations)) == (400, "invalid_request", 1)
