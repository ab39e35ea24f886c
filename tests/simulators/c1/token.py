"""The simulated C1's clients and their tokens: RFC 7523 client assertions as C1 wants them.

Connectors (`/ccc`) and clients of the REST API: personal keys (`/pcc`), service principals (`/spc`), which may send
their secret itself too, and workload federation (`/wfe`), which exchanges another issuer's token (`federation`).
An assertion is checked to the letter: signature, nonce (once), issuer, subject, audience and times.
Descriptions of refusals say which check failed and never repeat what was sent.
"""

import base64
import binascii
import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from jwt.algorithms import OKPAlgorithm

from buildkite_connector.timing.clock import Clock
from simulators.c1.federation import ACCESS_TOKEN_TYPE, EXCHANGE, JWT_TYPE, KeySource, Mismatch, NotTrusted, Trust
from simulators.c1.policy import Policy

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
SECRET_KINDS = ("pcc", "spc")
"""Suffixes of the client IDs that may send their secret as it is."""
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


class Role(StrEnum):
    """What a user or service principal may do. Its spelling in answers is this simulator's own."""

    CONNECTOR_ADMINISTRATOR = "Connector Administrator"
    READ_ONLY_ADMINISTRATOR = "Read-Only Administrator"
    APPLICATION_ADMINISTRATOR = "Application Administrator"


@dataclass(slots=True)
class RestClient:
    """A client of the REST API. `client_secret` is empty for workload federation.

    `roles` may be changed at any time; an owner of an app or a connector is one by `user_id`.
    """

    client: Client
    user_id: str
    roles: set[Role]
    disabled: bool = False

    @property
    def client_id(self) -> str:
        return self.client.client_id

    @property
    def client_secret(self) -> str:
        return self.client.client_secret


class TokenError(Exception):
    """An OAuth error answer (RFC 6749, 5.2). `violation`: the connector broke the contract.

    `logged`: the reason, where the system log says more than the answer.
    """

    def __init__(self, status: int, error: str, description: str, *, violation: bool = True, logged: str = "") -> None:
        super().__init__(description)
        self.violation = violation
        self.logged = logged
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
    """Registers clients, exchanges assertions for tokens, and knows whose a token is.

    By client ID: `expires`, when its credential ends, and `last_used`, when it got its last token.
    """

    def __init__(self, policy: Policy, clock: Clock) -> None:
        self._policy = policy
        self._clock = clock
        self._clients: dict[str, Client] = {}
        self._refused: set[str] = set()
        self._grants: dict[str, _Grant] = {}
        self._nonces: set[bytes] = set()
        self.rest_clients: dict[str, RestClient] = {}
        self.trusts: dict[str, Trust] = {}
        self.expires: dict[str, datetime] = {}
        self.last_used: dict[str, datetime] = {}

    @property
    def clients(self) -> Sequence[Client]:
        return tuple(self._clients.values())

    def register(self, address: str, kind: str = "ccc") -> Client:
        """A new client whose ID names `address` (`host` or `host:port`), with a new key pair."""
        key = Ed25519PrivateKey.generate()
        jwk = json.dumps(OKPAlgorithm.to_jwk(key, as_dict=True)).encode()
        part = base64.urlsafe_b64encode(jwk).rstrip(b"=").decode()
        client = Client(
            client_id=_client_id(address, kind),
            client_secret=f"secret-token:conductorone.com:v1:{part}",
            audience=address.partition(":")[0],
            public_key=key.public_key(),
        )
        self._clients[client.client_id] = client
        return client

    def register_rest_client(self, address: str, kind: str, user_id: str, roles: Iterable[Role]) -> RestClient:
        """A personal key (`pcc`) or a service principal's credential (`spc`)."""
        if kind not in SECRET_KINDS:
            raise ValueError(f"kind: expected one of {', '.join(SECRET_KINDS)}, got {kind!r}")
        rest_client = RestClient(self.register(address, kind), user_id, set(roles))
        self.rest_clients[rest_client.client_id] = rest_client
        return rest_client

    def register_trust(
        self, address: str, user_id: str, roles: Iterable[Role], *, issuer: str, keys: KeySource, subject: str | None
    ) -> RestClient:
        """What exchanges the tokens that `issuer` signs for `subject`, or for anyone."""
        trust = Trust(_client_id(address, "wfe"), address.partition(":")[0], issuer, keys, subject)
        client = Client(trust.client_id, "", trust.audience, Ed25519PrivateKey.generate().public_key())
        rest_client = RestClient(client, user_id, set(roles))
        self.trusts[trust.client_id], self.rest_clients[trust.client_id] = trust, rest_client
        return rest_client

    async def fetch_keys(self, form: Mapping[str, str]) -> None:
        """What an exchange of this form needs of the issuer's."""
        if (trust := self.trusts.get(form.get("client_id", ""))) is not None:
            await trust.fetch()

    def refuse(self, client_id: str) -> None:
        """From now on the client gets no token, and those that it has are void."""
        self._refused.add(client_id)
        self._expire({client_id})

    def accept(self, client_id: str) -> None:
        """Undo `refuse`."""
        self._refused.discard(client_id)

    def disable(self, client_id: str) -> None:
        """The user or service principal behind this client of the REST API gets nothing any more."""
        self.rest_clients[client_id].disabled = True
        self._expire({client_id})

    def expire_tokens(self) -> None:
        """Every token given out so far has expired."""
        self._expire({grant.client_id for grant in self._grants.values()})

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
        _required(form, "grant_type", "client_id")
        match form["grant_type"]:
            case "client_credentials":
                client_id = self._client_credentials(form)
                return self._grant(client_id)
            case grant_type if grant_type == EXCHANGE:
                client_id = self._federated(form)
                return self._grant(client_id) | {"issued_token_type": ACCESS_TOKEN_TYPE}
        raise TokenError(400, "unsupported_grant_type", f"grant_type: expected client_credentials or {EXCHANGE}")

    def _grant(self, client_id: str) -> dict[str, object]:
        token = secrets.token_urlsafe(32)
        lifetime = self._policy.token_lifetimes.get(client_id.rpartition("/")[2], self._policy.token_lifetime)
        self._grants[token] = _Grant(client_id, self._clock.monotonic() + lifetime)
        self.last_used[client_id] = self._clock.now()
        return {"access_token": token, "token_type": "Bearer", "expires_in": lifetime}

    def _client_credentials(self, form: Mapping[str, str]) -> str:
        """The client that the form proves to be."""
        kind = form["client_id"].rpartition("/")[2]
        by_secret = "client_secret" in form
        if by_secret and "client_assertion" in form:
            raise TokenError(400, "invalid_request", "client_secret and client_assertion: expected one of them")
        if by_secret and kind not in SECRET_KINDS:
            raise TokenError(400, "invalid_request", f"client_secret: not for a client of /{kind}")
        if not by_secret:
            _required(form, "client_assertion_type", "client_assertion")
            if form["client_assertion_type"] != ASSERTION_TYPE:
                raise TokenError(400, "invalid_request", f"client_assertion_type: expected {ASSERTION_TYPE}")
        client = self._clients.get(form["client_id"])
        if client is None:
            raise _invalid_client("the client is not known")
        rest_client, expires = self.rest_clients.get(client.client_id), self.expires.get(client.client_id)
        if client.client_id in self._refused or (rest_client is not None and rest_client.disabled):
            raise TokenError(401, "invalid_client", "the client is not known any more", violation=False)
        if expires is not None and expires <= self._clock.now():
            raise TokenError(401, "invalid_client", "the client's credential has expired", violation=False)
        if not by_secret:
            self._verify(client, form["client_assertion"])
        elif not secrets.compare_digest(form["client_secret"].encode(), client.client_secret.encode()):
            raise TokenError(401, "invalid_client", "the client's secret is another", violation=False)
        return client.client_id

    def _federated(self, form: Mapping[str, str]) -> str:
        """The trust's client, when the form's subject token is one that it trusts."""
        _required(form, "subject_token", "subject_token_type")
        if form["subject_token_type"] != JWT_TYPE:
            raise TokenError(400, "invalid_request", f"subject_token_type: expected {JWT_TYPE}")
        client_id = form["client_id"]
        try:
            self._trust(client_id).check(form["subject_token"], self._clock)
        except NotTrusted as refusal:
            told = "the subject token is not accepted"
            raise TokenError(401, "invalid_grant", told, violation=False, logged=refusal.why) from None
        return client_id

    def _trust(self, client_id: str) -> Trust:
        """Raises NotTrusted."""
        trust = self.trusts.get(client_id)
        if trust is None or client_id in self._refused:
            raise NotTrusted(Mismatch.TRUST_NOT_FOUND)
        if self.rest_clients[client_id].disabled:
            raise NotTrusted(Mismatch.SP_DISABLED)
        return trust

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


def _client_id(address: str, kind: str) -> str:
    return f"{secrets.choice(ADJECTIVES)}-{secrets.choice(ANIMALS)}-{secrets.randbelow(100_000):05}@{address}/{kind}"


def _required(form: Mapping[str, str], *names: str) -> None:
    for name in names:
        if not form.get(name):
            raise TokenError(400, "invalid_request", f"{name}: required")


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
