"""The client assertion, verified as C1 does: by an independent JWT reader with the public key."""

from datetime import UTC, datetime, timedelta

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buildkite_connector.c1 import ClientCredentials
from buildkite_connector.c1.hosts import Endpoint
from buildkite_connector.c1.token import sign_assertion

CLIENT_ID = "brave-otter-12345@acme.conductor.one:8443/ccc"
NONCE = "00112233445566778899aabbccddeeff"


@pytest.fixture
def credentials() -> ClientCredentials:
    return ClientCredentials(CLIENT_ID, Endpoint("acme.conductor.one", 8443), Ed25519PrivateKey.generate())


def test_the_claims_name_the_client_and_the_host_without_its_port(credentials: ClientCredentials) -> None:
    now = datetime.now(UTC)
    claims = jwt.decode(
        sign_assertion(credentials, now, NONCE),
        credentials.key.public_key(),
        algorithms=["EdDSA"],
        audience="acme.conductor.one",
        issuer=CLIENT_ID,
    )

    assert claims == {
        "iss": CLIENT_ID,
        "sub": CLIENT_ID,
        "aud": ["acme.conductor.one"],
        "iat": int(now.timestamp()),
        "nbf": int((now - timedelta(minutes=2)).timestamp()),
        "exp": int((now + timedelta(minutes=2)).timestamp()),
    }


def test_the_nonce_stands_in_the_protected_header(credentials: ClientCredentials) -> None:
    header = jwt.get_unverified_header(sign_assertion(credentials, datetime.now(UTC), NONCE))

    assert header["alg"] == "EdDSA"
    assert header["nonce"] == NONCE
    assert "kid" not in header


def test_a_key_id_is_passed_on_so_that_c1_finds_the_key() -> None:
    credentials = ClientCredentials(
        CLIENT_ID, Endpoint("acme.conductor.one"), Ed25519PrivateKey.generate(), key_id="key-1"
    )

    assert jwt.get_unverified_header(sign_assertion(credentials, datetime.now(UTC), NONCE))["kid"] == "key-1"


def test_the_signature_is_the_connectors_own(credentials: ClientCredentials) -> None:
    stranger = Ed25519PrivateKey.generate().public_key()

    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(
            sign_assertion(credentials, datetime.now(UTC), NONCE),
            stranger,
            algorithms=["EdDSA"],
            audience="acme.conductor.one",
        )
