"""Buildkite's OAuth token exchange, decided without I/O: apps, their public keys, and the tokens minted for them.

The rules are those of facts/buildkite-credentials.md, section 2. It states no status codes: 401 for `invalid_client`
and 400 for the rest are RFC 6749's, and the form of a refused source address (403) is this simulator's own.
"""

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

import jwt

from simulators.buildkite.api import ALL_SCOPES, JSON_TYPE, Api, Reply, Token, User

EXCHANGE_PATH = "/oauth/token"
AUDIENCE = "https://buildkite.com/oauth/token"
GRANT_TYPE = "urn:ietf:params:oauth:grant-type:token-exchange"
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
SUBJECT_TYPES = {
    "urn:buildkite:params:oauth:token-type:user-email": "email",
    "urn:buildkite:params:oauth:token-type:user-uuid": "id",
}
ALGORITHMS = ("RS256", "ES256")
LONGEST_ASSERTION = 300
SHORTEST_LIFE, LONGEST_LIFE = 30, 86_400


@dataclass
class App:
    """A token exchange app, as an administrator sets it up; open to edits. `jwks`: public JWKs, each with `kid`.

    `life`: the most seconds of a token. `addresses`: from where tokens are exchanged, None for anywhere.
    """

    client_id: str
    organization: str
    jwks: list[Mapping[str, str]]
    grantable: Sequence[str] = ALL_SCOPES
    default: Sequence[str] = ()
    life: int = 3600
    addresses: frozenset[str] | None = None
    requires_jti: bool = False
    unverified: frozenset[str] = frozenset()
    """E-mail addresses of members that are not verified."""


class Refused(Exception):  # noqa: N818
    """An OAuth error (RFC 6749, 5.2)."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        super().__init__(description)
        self.error = error
        self.status = status


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request that got a token."""

    client_id: str
    scopes: tuple[str, ...]
    kid: str
    token: str = field(repr=False)
    assertion: str = field(repr=False)


@dataclass
class Exchanges:
    """The endpoint: `apps` by client ID; the tokens that it mints are good for `api`. `enabled`: at all."""

    api: Api
    now: Callable[[], datetime]
    apps: dict[str, App] = field(default_factory=dict)
    minted: list[Exchange] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    """The error and description of each request that got none."""
    enabled: bool = True
    _used: set[tuple[str, str]] = field(default_factory=set)

    def register(self, app: App) -> App:
        self.apps[app.client_id] = app
        return app

    def revoke(self, client_id: str) -> App:
        """Delete an app, and with it the tokens that were minted for it."""
        self.revoke_tokens(client_id)
        return self.apps.pop(client_id)

    def revoke_tokens(self, client_id: str) -> None:
        for each in self.minted:
            if each.client_id == client_id:
                self.api.revoke(each.token)

    def answer(self, body: bytes, address: str) -> Reply:
        form = dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
        try:
            return _reply(200, self._exchange(form, address))
        except Refused as refused:
            self.refusals.append(f"{refused.error}: {refused}")
            return _reply(refused.status, {"error": refused.error, "error_description": str(refused)})

    def _exchange(self, form: Mapping[str, str], address: str) -> dict[str, object]:
        if form.get("grant_type") != GRANT_TYPE or not self.enabled:
            raise Refused("unsupported_grant_type", "Token exchange is not enabled for this organization")
        if form.get("client_assertion_type") != ASSERTION_TYPE:
            raise Refused("invalid_request", "client_assertion_type is invalid")
        assertion = form.get("client_assertion", "")
        app, claims, kid = self._client(assertion)
        if app.addresses is not None and address not in app.addresses:
            raise Refused("access_denied", "Your IP address is not allowed", 403)
        if form.get("audience") != app.organization or app.organization not in self.api.organizations:
            raise Refused("invalid_target", "Invalid audience organization")
        user = self._subject(app, form)
        scopes = tuple(form["scope"].split()) if form.get("scope") else tuple(app.default)
        if not scopes or not set(scopes) <= set(app.grantable):
            raise Refused("invalid_scope", "Requested scopes exceed grantable scopes")
        asked = form.get("expires_in", str(app.life))
        if not asked.isdigit() or not SHORTEST_LIFE <= int(asked) <= LONGEST_LIFE:
            raise Refused("invalid_request", "expires_in is invalid")
        life = min(int(asked), app.life)
        self._used.add((app.client_id, claims.get("jti", "")))
        token = Token(
            "bktx_" + secrets.token_hex(20),
            scopes,
            frozenset({app.organization}),
            user,
            self.now() + timedelta(seconds=life),
            f"token exchange {app.client_id}",
        )
        self.api.tokens[token.value] = token
        self.minted.append(Exchange(app.client_id, scopes, kid, token.value, assertion))
        return {
            "access_token": token.value,
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "token_type": "Bearer",
            "expires_in": life,
            "scope": " ".join(scopes),
        }

    def _client(self, assertion: str) -> tuple[App, Mapping[str, Any], str]:
        """The app that signed the assertion, its claims, and the `kid` of its header."""
        try:
            header = jwt.get_unverified_header(assertion)
            unverified = jwt.decode(assertion, options={"verify_signature": False})
        except jwt.PyJWTError:
            raise _invalid_client("Invalid client assertion signature") from None
        app = self.apps.get(str(unverified.get("iss")))
        if app is None or unverified.get("sub") != app.client_id:
            raise _invalid_client("Client is unknown")
        claims = _verified(assertion, header, app)
        now = self.now().timestamp()
        if claims.get("aud") != AUDIENCE:
            raise _invalid_client("JWT `aud` claim is invalid")
        issued, ends = claims.get("iat"), claims.get("exp")
        if not isinstance(issued, int) or not isinstance(ends, int) or ends - issued > LONGEST_ASSERTION:
            raise _invalid_client("JWT `exp` claim must be at most 5 minutes after `iat`")
        if ends <= now:
            raise _invalid_client("JWT `exp` claim must be in the future")
        if claims.get("nbf", 0) > now:
            raise _invalid_client("JWT `nbf` claim must not be in the future")
        unique = claims.get("jti")
        if unique is None and app.requires_jti:
            raise _invalid_client("JWT must contain a `jti` claim")
        if unique is not None and not (isinstance(unique, str) and 0 < len(unique.encode()) <= 255):
            raise _invalid_client("JWT `jti` claim is invalid")
        if (app.client_id, unique) in self._used:
            raise _invalid_client("JWT has already been used")
        return app, claims, str(header.get("kid", ""))

    def _subject(self, app: App, form: Mapping[str, str]) -> User:
        kind, subject = SUBJECT_TYPES.get(form.get("subject_token_type", "")), form.get("subject_token", "")
        members = self.api.organizations[app.organization].members.records
        member = next((each for each in members if kind is not None and each[kind] == subject), None)
        if member is None or subject in app.unverified:
            raise Refused("invalid_request", "Subject user must be an active member of the organization")
        return User(member["id"], member["name"], member["email"], member.get("role", "admin") == "admin")


def _verified(assertion: str, header: Mapping[str, Any], app: App) -> Mapping[str, Any]:
    """By the key that `kid` names, or by any if it names none."""
    kid = header.get("kid")
    for key in app.jwks:
        if header.get("alg") not in ALGORITHMS or key["alg"] != header["alg"] or kid not in (None, key["kid"]):
            continue
        try:
            return jwt.decode(
                assertion,
                jwt.PyJWK(dict(key)).key,
                [header["alg"]],
                options={"verify_aud": False, "verify_exp": False, "verify_iat": False, "verify_nbf": False},
            )
        except jwt.PyJWTError:
            continue
    raise _invalid_client("Invalid client assertion signature")


def _invalid_client(description: str) -> Refused:
    return Refused("invalid_client", description, 401)


def _reply(status: int, payload: Mapping[str, object]) -> Reply:
    return Reply(status, json.dumps(payload).encode(), JSON_TYPE)
