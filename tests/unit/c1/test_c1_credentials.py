import base64
import json
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buildkite_connector.c1 import parse_credentials
from buildkite_connector.c1.hosts import Endpoint
from buildkite_connector.model.failure import Failure, Reason, Remedy

CLIENT_ID = "brave-otter-12345@acme.conductor.one/ccc"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


JWK = {
    "kty": "OKP",
    "crv": "Ed25519",
    "x": b64(KEY.public_key().public_bytes_raw()),
    "d": b64(KEY.private_bytes_raw()),
}


def secret(**changes: object) -> str:
    """A client secret whose JWK has these members changed, or left out where None."""
    jwk = {name: value for name, value in (JWK | changes).items() if value is not None}
    return f"secret-token:conductorone.com:v1:{b64(json.dumps(jwk).encode())}"


def refusal(client_id: str, client_secret: str) -> Failure:
    with pytest.raises(Failure) as caught:
        parse_credentials(client_id, client_secret)
    return caught.value


def test_a_client_id_and_secret_as_c1_gives_them_out_are_accepted() -> None:
    credentials = parse_credentials(CLIENT_ID, secret(kid="key-1"))

    assert credentials.client_id == CLIENT_ID
    assert credentials.endpoint == Endpoint("acme.conductor.one", 443)
    assert credentials.key.private_bytes_raw() == KEY.private_bytes_raw()
    assert credentials.key_id == "key-1"


@pytest.mark.parametrize("wrap", ["{}\n", " {}", "{}\r\n", "\t{} \n"])
def test_white_space_that_a_shell_left_around_a_value_is_dropped(wrap: str) -> None:
    credentials = parse_credentials(wrap.format(CLIENT_ID), wrap.format(secret()))

    assert credentials.client_id == CLIENT_ID
    assert credentials.key.private_bytes_raw() == KEY.private_bytes_raw()


def test_a_secret_that_was_wrapped_into_lines_is_accepted_as_by_the_reference_client() -> None:
    whole = secret()

    assert parse_credentials(CLIENT_ID, f"{whole[:76]}\n{whole[76:]}\n").key_id == ""


@pytest.mark.parametrize(
    ("client_id", "endpoint"),
    [
        ("a@tenant.example:8443/ccc", Endpoint("tenant.example", 8443)),
        ("a@127.0.0.1:9/x", Endpoint("127.0.0.1", 9)),
        ("a@[::1]:8443/ccc", Endpoint("::1", 8443)),
        ("a@[fd00::1]/ccc", Endpoint("fd00::1", 443)),
        ("a@tenant.example/ccc/with@more/", Endpoint("tenant.example", 443)),
        ("a@tenant.example/", Endpoint("tenant.example", 443)),
    ],
)
def test_the_host_is_what_stands_between_the_first_at_and_the_next_slash(client_id: str, endpoint: Endpoint) -> None:
    assert parse_credentials(client_id, secret()).endpoint == endpoint


@pytest.mark.parametrize(
    ("client_id", "says"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ("acme.conductor.one/ccc", "has no '@'"),
        ("@acme.conductor.one/ccc", "has no name before its '@'"),
        ("brave-otter@acme.conductor.one", "has no '/' after its host"),
        ("brave-otter@/ccc", "has no host between"),
        ("brave-otter@https://acme.conductor.one/ccc", "is not a host name such as"),
        ("brave-otter@acme_.conductor.one:x/ccc", "is not a host name such as"),
        ("brave-otter@user@acme.conductor.one/ccc", "is not a host name such as"),
        ("brave-otter@-acme/ccc", "is not a host name such as"),
        ("brave-otter@acme.conductor.one:0/ccc", "port that is not between 1 and 65535"),
        ("brave-otter@acme.conductor.one:65536/ccc", "port that is not between 1 and 65535"),
        ("brave-otter@[1:2]/ccc", "is not an IPv6 address"),
        ("brave otter@acme.conductor.one/ccc", "a space, line break or other character"),
        ("brave-otter@acme.conductor.one/ccc\nx", "a space, line break or other character"),
        (secret(), "holds C1's client secret: the two values are probably swapped"),
    ],
)
def test_each_way_for_a_client_id_to_be_wrong_has_its_own_sentence(client_id: str, says: str) -> None:
    failure = refusal(client_id, secret())

    assert failure.reason is Reason.CLIENT_ID_INVALID
    assert failure.remedy is Remedy.CREDENTIALS
    assert failure.message.startswith("The client ID ")
    assert says in failure.message
    assert "NAME@HOST/REST" in failure.message


X25519 = b64(bytes(32))
SECRETS_GONE_WRONG = {
    "empty": ("", "is empty"),
    "three parts": (secret().rpartition(":")[0], "has 3 of the four parts"),
    "the key alone": (secret().rpartition(":")[2], "has 1 of the four parts"),
    "a later version": (secret().replace(":v1:", ":v2:"), "is not of version v1"),
    "no key": ("secret-token:conductorone.com:v1:", "not unpadded base64url"),
    "padded": (secret() + "==", "not unpadded base64url"),
    "plain base64": (secret()[:-1] + "+", "not unpadded base64url"),
    "cut by one character": (f"secret-token:conductorone.com:v1:{'A' * 5}", "not unpadded base64url"),
    "cut short": (secret()[:-8], "is not a JSON object"),
    "a JSON list": (f"secret-token:conductorone.com:v1:{b64(b'[1]')}", "is not a JSON object"),
    "deeply nested": (f"secret-token:conductorone.com:v1:{b64(b'[' * 100_000)}", "is not a JSON object"),
    "not text": (f"secret-token:conductorone.com:v1:{b64(bytes([255, 254]))}", "is not a JSON object"),
    "an RSA key": (secret(kty="RSA"), "type (kty) is not OKP"),
    "no type": (secret(kty=None), "type (kty) is not OKP"),
    "an X25519 key": (secret(crv="X25519", d=X25519), "curve (crv) is not Ed25519"),
    "a public key": (secret(d=None), "holds a public key only"),
    "an empty private key": (secret(d=""), "holds a public key only"),
    "no public half": (secret(x=None), "without its public half (x)"),
    "a short private key": (secret(d=b64(bytes(31))), "private key (d) that is not 32 bytes"),
    "a private key of another type": (secret(d=7), "private key (d) that is not 32 bytes"),
    "a padded private key": (secret(d=JWK["d"] + "="), "private key (d) that is not 32 bytes"),
    "a long public key": (secret(x=b64(bytes(33))), "public key (x) that is not 32 bytes"),
    "another key's public half": (
        secret(x=b64(OTHER_KEY.public_key().public_bytes_raw())),
        "does not belong to its private key (d)",
    ),
}


@pytest.mark.parametrize(("client_secret", "says"), SECRETS_GONE_WRONG.values(), ids=SECRETS_GONE_WRONG.keys())
def test_each_way_for_a_client_secret_to_be_wrong_has_its_own_sentence(client_secret: str, says: str) -> None:
    failure = refusal(CLIENT_ID, client_secret)

    assert failure.reason is Reason.CLIENT_SECRET_INVALID
    assert failure.remedy is Remedy.CREDENTIALS
    assert failure.message.startswith("The client secret ")
    assert says in failure.message
    assert "begins with secret-token" in failure.message


@pytest.mark.parametrize("swap", [lambda i, s: (i, s), lambda i, s: (s, i)], ids=["in place", "keys swapped"])
@pytest.mark.parametrize("client_secret", [s for s, _ in SECRETS_GONE_WRONG.values()], ids=SECRETS_GONE_WRONG.keys())
def test_no_refusal_repeats_any_part_of_what_the_secret_holds(
    client_secret: str, swap: Callable[[str, str], tuple[str, str]]
) -> None:
    failure = refusal(*swap(CLIENT_ID, client_secret))
    key = client_secret.rpartition(":")[2]

    for part in (key, key[:12], key[-12:], JWK["d"], JWK["d"][:12]):
        assert len(part) < 8 or part not in repr(failure)
    assert failure.__cause__ is None


def test_the_representation_of_credentials_shows_nothing_of_the_secret() -> None:
    credentials = parse_credentials(CLIENT_ID, secret(kid="key-1"))

    for hidden in (CLIENT_ID, "acme.conductor.one", "key", JWK["d"], JWK["x"], repr(KEY.private_bytes_raw())):
        assert hidden not in repr(credentials)
