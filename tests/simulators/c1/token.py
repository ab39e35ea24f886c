"""The simulated C1's clients and their tokens: RFC 7523 client assertions as C1 wants them.

An assertion is checked to the letter: signature, nonce (once), issuer, subject, audience and times.
Descriptions of refusals say which check failed and never repeat what was sent.
"""

import base64
import binascii
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from jwt.algorithms import OKPAlgorithm

from buildkite_connector.timing.clock import Clock
from simulators.c1.policy import Policy

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
CLOCK_TOLERANCE = 60.0
"""Seconds by which a client's clock may differ."""
ADJECTIVES = ("brave", "calm", "eager", "gentle", "keen", "lucky", "quiet", "swift")
ANIMALS = ("badger", "falcon", "heron", "lynx", "marten", "otter", "raven", "stoat")


@dataclass(frozen=True, slots=True)
class Client:
    """A connector's credentials as C1 gives them out once. `audience`: the client ID's host without its port."""

    client_id: str
    client_secret: str = field(repr=False)
    audience: str
    public_key: Ed25519PublicKey = field(repr=False)


class TokenError(Exception):
    """An OAuth error answer (RFC 6749, 5.2). `violation`: the connector broke the contract."""

    def __init__(self, status: int, error: str, description: str, *, violation: bool = True) -> None:
        super().__init__(description)
        self.violation = violation
        self.status = status
        self.error = error
        self.description = description


class TokenRejected(Exception):  # noqa: N818
    """A call's `authorization` is not good. `expired`: it once was, so the client need only refresh."""

    def __init__(self, message: str, *, expired: bool = False) -> None:
        super().__init__(message)
        self.expired = expired


@dataclass(frozen=True, slots=True)
class _Grant:
    client_id: str
    until: float


class Authority:
    """Registers clients, exchanges assertions for tokens, and knows whose a token is."""

    def __init__(self, policy: Policy, clock: Clock) -> None:
        self._policy = policy
        self._clock = clock
        self._clients: dict[str, Client] = {}
        self._refused: set[str] = set()
        self._grants: dict[str, _Grant] = {}
        self._nonces: set[bytes] = set()

    @property
    def clients(self) -> Sequence[Client]:
        return tuple(self._clients.values())

    def register(self, address: str) -> Client:
        """A new client whose ID names `address` (`host` or `host:port`), with a new key pair."""
        key = Ed25519PrivateKey.generate()
        jwk = json.dumps(OKPAlgorithm.to_jwk(key, as_dict=True)).encode()
        part = base64.urlsafe_b64encode(jwk).rstrip(b"=").decode()
        name = f"{secrets.choice(ADJECTIVES)}-{secrets.choice(ANIMALS)}-{secrets.randbelow(100_000):05}"
        client = Client(
            client_id=f"{name}@{address}/ccc",
            client_secret=f"secret-token:conductorone.com:v1:{part}",
            audience=address.partition(":")[0],
            public_key=key.public_key(),
        )
        self._clients[client.client_id] = client
        return client

    def refuse(self, client_id: str) -> None:
        """From now on the client gets no token, and those that it has are void."""
        self._refused.add(client_id)
        self._expire({client_id})

    def accept(self, client_id: str) -> None:
        """Undo `refuse`."""
        self._refused.discard(client_id)

    def expire_tokens(self) -> None:
        """Every token given out so far has expired."""
        self._expire(set(self._clients))

    def _expire(self, client_ids: set[str]) -> None:
        now = self._clock.monotonic()
        for token, grant in self._grants.items():
            if grant.client_id in client_ids:
                self._grants[token] = _Grant(grant.client_id, now)

    def identify(self, authorization: str) -> str:
        """The client ID whose token this is. Raises TokenRejected."""
        scheme, _, token = authorization.partition(" ")
        if scheme != "Bearer" or not token:
            raise TokenRejected("authorization: expected 'Bearer <access token>'")
        grant = self._grants.get(token)
        if grant is None:
            raise TokenRejected("authorization: the access token is unknown")
        if self._clock.monotonic() >= grant.until:
            raise TokenRejected("authorization: the access token has expired", expired=True)
        return grant.client_id

    def exchange(self, form: Mapping[str, str]) -> dict[str, object]:
        """The answer to a token request. Raises TokenError."""
        for name in ("grant_type", "client_assertion_type", "client_id", "client_assertion"):
            if not form.get(name):
                raise TokenError(400, "invalid_request", f"{name}: required")
        if form["grant_type"] != "client_credentials":
            raise TokenError(400, "unsupported_grant_type", "grant_type: expected client_credentials")
        if form["client_assertion_type"] != ASSERTION_TYPE:
            raise TokenError(400, "invalid_request", f"client_assertion_type: expected {ASSERTION_TYPE}")
        client = self._clients.get(form["client_id"])
        if client is None:
            raise _invalid_client("the client is not known")
        if client.client_id in self._refused:
            raise TokenError(401, "invalid_client", "the client is not known any more", violation=False)
        self._verify(client, form["client_assertion"])
        token = secrets.token_urlsafe(32)
        lifetime = self._policy.token_lifetime
        self._grants[token] = _Grant(client.client_id, self._clock.monotonic() + lifetime)
        return {"access_token": token, "token_type": "Bearer", "expires_in": lifetime}

    def _verify(self, client: Client, assertion: str) -> None:
        try:
            signed = jwt.PyJWS().decode_complete(assertion, client.public_key, algorithms=["EdDSA"])
            claims = json.loads(signed["payload"])
        except jwt.InvalidSignatureError:
            # Whose secret it is, a connector cannot know.
            told = "the assertion's signature is not this client's"
            raise TokenError(401, "invalid_client", told, violation=False) from None
        except (jwt.PyJWTError, ValueError) as error:
            raise _invalid_client(f"the assertion is not an EdDSA JWT: {type(error).__name__}") from None
        if not isinstance(claims, dict):
            raise _invalid_client("the assertion's payload is not a JSON object")
        if claims.get("iss") != client.client_id or claims.get("sub") != client.client_id:
            raise _invalid_client("iss and sub: expected the client ID")
        if claims.get("aud") != [client.audience]:
            raise _invalid_client(f"aud: expected exactly [{client.audience}]")
        self._check_times(_seconds(claims, "iat"), _seconds(claims, "nbf"), _seconds(claims, "exp"))
        nonce = _nonce(signed["header"].get("nonce"))
        if nonce in self._nonces:
            raise _invalid_client("nonce: used before")
        self._nonces.add(nonce)

    def _check_times(self, issued: float, begins: float, ends: float) -> None:
        if abs(self._clock.now().timestamp() - issued) > CLOCK_TOLERANCE:
            raise _invalid_client("iat: not now; is the client's clock right?")
        if abs(issued - begins - 120) > 1:
            raise _invalid_client("nbf: expected 2 minutes before iat")
        if abs(ends - issued - 120) > 1:
            raise _invalid_client("exp: expected 2 minutes after iat")


def _invalid_client(description: str) -> TokenError:
    return TokenError(401, "invalid_client", description)


def _seconds(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _invalid_client(f"{name}: expected seconds since 1970")
    return value


def _nonce(value: object) -> bytes:
    """The 16 bytes, from hexadecimal (as the Go SDK writes them) or base64url."""
    if isinstance(value, str):
        try:
            raw = (
                bytes.fromhex(value) if len(value) == 32 else base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
            )
        except (ValueError, binascii.Error):
            raw = b""
        if len(raw) == 16:
            return raw
    raise _invalid_client("nonce: expected 16 bytes, in hexadecimal or base64url, in the protected header")
