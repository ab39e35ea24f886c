"""A connector's client ID and client secret, parsed with errors that a person can act on.

The forms are C1's: `NAME@HOST/REST` and `secret-token:conductorone.com:v1:KEY`, KEY being unpadded
base64url of a JSON JWK with an Ed25519 private key. No error quotes its input: either value may hold
what belongs in the other.
"""

import json
import re
from base64 import urlsafe_b64decode
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buildkite_connector.c1.hosts import Endpoint, parse_endpoint
from buildkite_connector.model.credential_forms import Credential, mistake
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.redactor import Redactor

NOTHING = Redactor()
SECRET_VERSION = "v1"  # noqa: S105
_KEY_BYTES = 32
_BASE64URL = re.compile(r"[A-Za-z0-9_-]+")

_ID_REMEDY = "Copy the client ID whole, as C1 showed it: NAME@HOST/REST."
_KEY_REMEDY = (
    "Copy the client secret whole, as C1 showed it once: it begins with secret-token. "
    "If it is lost, create new credentials in C1 and replace both values."
)


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """Who the connector is to C1. `endpoint` is the client ID's HOST; `key_id` the JWK's `kid` or empty.

    `redactor` knows the client secret: its KEY, the JWK and its private `d`; and the connector's other credentials.
    """

    client_id: str = field(repr=False)
    endpoint: Endpoint = field(repr=False)
    key: Ed25519PrivateKey = field(repr=False, compare=False)
    key_id: str = field(default="", repr=False)
    redactor: Redactor = field(default_factory=Redactor, repr=False, compare=False)


def parse_credentials(client_id: str, client_secret: str, redactor: Redactor = NOTHING) -> ClientCredentials:
    """Check both values and keep what is needed of them; white space around them is dropped.

    `redactor` knows the connector's other credentials.

    Raises Failure CLIENT_ID_INVALID or CLIENT_SECRET_INVALID (remedy CREDENTIALS).
    """
    name, endpoint = parse_client_id(client_id)
    secret = "".join(client_secret.split())
    if (wrong := mistake(secret, Credential.CLIENT_SECRET)) is not None:
        raise _bad_secret(wrong, "")
    encoded = _encoded_key(secret)
    jwk = _jwk(encoded)
    key_id = jwk.get("kid")
    return ClientCredentials(
        client_id=name,
        endpoint=endpoint,
        key=_private_key(jwk),
        key_id=key_id if isinstance(key_id, str) else "",
        redactor=redactor.with_secrets(encoded, str(jwk["d"])),
    )


def parse_client_id(client_id: str) -> tuple[str, Endpoint]:
    """The client ID without white space around it, and its HOST. Raises Failure CLIENT_ID_INVALID."""
    name = client_id.strip()
    if (wrong := mistake(name, Credential.CLIENT_ID)) is not None:
        raise _bad_id(wrong)
    return name, _endpoint_of(name)


def _endpoint_of(client_id: str) -> Endpoint:
    if not client_id:
        raise _bad_id("is empty")
    name, at, rest = client_id.partition("@")
    if not at:
        raise _bad_id("has no '@' between its name and its host")
    if not name:
        raise _bad_id("has no name before its '@'")
    host, slash, _ = rest.partition("/")
    if not slash:
        raise _bad_id("has no '/' after its host")
    if not host:
        raise _bad_id("has no host between its '@' and its '/'")
    try:
        return parse_endpoint(host)
    except ValueError as error:
        raise _bad_id(f"has a host that {error}") from None


def _encoded_key(secret: str) -> str:
    """The secret's fourth part."""
    if not secret:
        raise _bad_secret("is empty")
    parts = secret.split(":", 3)
    if len(parts) != 4:
        raise _bad_secret(f"has {len(parts)} of the four parts that ':' separates")
    if parts[2] != SECRET_VERSION:
        raise _bad_secret(f"is not of version {SECRET_VERSION}, the only one this connector knows")
    return parts[3]


def _jwk(encoded: str) -> dict[str, object]:
    """The key that `encoded` holds, with a private half."""
    decoded = _decode(encoded)
    if decoded is None:
        raise _bad_secret("has a fourth part that is not unpadded base64url, perhaps cut short or edited")
    jwk = _json_object(decoded)
    if jwk is None:
        raise _bad_secret("has a key that is not a JSON object, perhaps cut short or edited")
    if jwk.get("kty") != "OKP":
        raise _bad_secret("has a key whose type (kty) is not OKP")
    if jwk.get("crv") != "Ed25519":
        raise _bad_secret("has a key whose curve (crv) is not Ed25519")
    if not jwk.get("d"):
        raise _bad_secret("holds a public key only: its private half (d) is missing")
    if not jwk.get("x"):
        raise _bad_secret("has a key without its public half (x)")
    return jwk


def _private_key(jwk: dict[str, object]) -> Ed25519PrivateKey:
    private, public = _decode(jwk["d"]), _decode(jwk["x"])
    if private is None or len(private) != _KEY_BYTES:
        raise _bad_secret(f"has a private key (d) that is not {_KEY_BYTES} bytes in unpadded base64url")
    if public is None or len(public) != _KEY_BYTES:
        raise _bad_secret(f"has a public key (x) that is not {_KEY_BYTES} bytes in unpadded base64url")
    key = Ed25519PrivateKey.from_private_bytes(private)
    if key.public_key().public_bytes_raw() != public:
        raise _bad_secret("has a public key (x) that does not belong to its private key (d)")
    return key


def _json_object(encoded: bytes) -> dict[str, object] | None:
    try:
        value = json.loads(encoded)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _decode(text: object) -> bytes | None:
    """Decode unpadded base64url strictly: the standard library skips what is not in the alphabet."""
    if not isinstance(text, str) or not _BASE64URL.fullmatch(text) or len(text) % 4 == 1:
        return None
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _bad_id(what: str) -> Failure:
    return Failure(Reason.CLIENT_ID_INVALID, f"The client ID {what}. {_ID_REMEDY}", remedy=Remedy.CREDENTIALS)


def _bad_secret(what: str, remedy: str = _KEY_REMEDY) -> Failure:
    message = f"The client secret {what}. {remedy}".strip()
    return Failure(Reason.CLIENT_SECRET_INVALID, message, remedy=Remedy.CREDENTIALS)
