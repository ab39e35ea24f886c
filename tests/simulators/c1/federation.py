"""The simulated C1's workload federation: which tokens of other issuers it exchanges, and why not the rest.

A caller learns that its token was not accepted, and no more; the reason is in the journal's system log.
"""

import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import httpx
import jwt

from buildkite_connector.timing.clock import Clock

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT_TYPE = "urn:ietf:params:oauth:token-type:jwt"
ACCESS_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:access_token"
OLDEST = 600.0
"""Seconds since a subject token was issued."""
CLOCK_TOLERANCE = 60.0
ALGORITHMS = ("RS256", "ES256", "EdDSA")

Keys = Mapping[str, Any]
"""A JWKS."""
KeySource = Keys | Callable[[], Awaitable[Keys]]


class Mismatch(StrEnum):
    """Why a subject token is not accepted. Those that the vendor's pages name are spelled as there."""

    TRUST_NOT_FOUND = "trust_not_found"
    SP_DISABLED = "sp_disabled"
    INVALID_JWT_FORMAT = "invalid_jwt_format"
    ISSUER_MISMATCH = "issuer_mismatch"
    KEYS_NOT_FOUND = "keys_not_found"
    INVALID_SIGNATURE = "invalid_signature"
    AUDIENCE_MISMATCH = "audience_mismatch"
    TOKEN_EXPIRED = "token_expired"
    TOKEN_TOO_OLD = "token_too_old"
    CEL_CONDITION_NOT_MET = "cel_condition_not_met"


class NotTrusted(Exception):  # noqa: N818
    """The subject token is not accepted."""

    def __init__(self, why: Mismatch) -> None:
        super().__init__(why)
        self.why = why


@dataclass(slots=True)
class Trust:
    """Whose tokens a client ID may bring. `audience`: the tenant's domain. `subject`: what `sub` must be, if anything.

    `keys`: the issuer's JWKS, or what fetches it; each exchange fetches it again.
    """

    client_id: str
    audience: str
    issuer: str
    keys: KeySource = field(repr=False)
    subject: str | None = None
    fetched: Keys | None = field(default=None, repr=False)

    async def fetch(self) -> None:
        """The issuer's keys as they are now; without them no token is accepted."""
        try:
            self.fetched = await self.keys() if callable(self.keys) else self.keys
        except (httpx.HTTPError, OSError, ValueError):
            self.fetched = None

    def check(self, subject_token: str, clock: Clock) -> None:
        """Raises NotTrusted, for the first of C1's checks that fails."""
        claims = self._signed(subject_token)
        audience = claims.get("aud")
        if self.audience not in (audience if isinstance(audience, list) else [audience]):
            raise NotTrusted(Mismatch.AUDIENCE_MISMATCH)
        now, issued, ends = clock.now().timestamp(), claims.get("iat"), claims.get("exp")
        if not isinstance(ends, int | float) or ends <= now:
            raise NotTrusted(Mismatch.TOKEN_EXPIRED)
        if not isinstance(issued, int | float) or not -CLOCK_TOLERANCE <= now - issued <= OLDEST:
            raise NotTrusted(Mismatch.TOKEN_TOO_OLD)
        if self.subject is not None and claims.get("sub") != self.subject:
            raise NotTrusted(Mismatch.CEL_CONDITION_NOT_MET)

    def _signed(self, subject_token: str) -> dict[str, Any]:
        """The claims, once issuer and signature are right. Raises NotTrusted."""
        try:
            header = jwt.get_unverified_header(subject_token)
            claims = jwt.decode(subject_token, options={"verify_signature": False})
        except jwt.PyJWTError:
            raise NotTrusted(Mismatch.INVALID_JWT_FORMAT) from None
        if claims.get("iss") != self.issuer:
            raise NotTrusted(Mismatch.ISSUER_MISMATCH)
        if self.fetched is None:
            raise NotTrusted(Mismatch.KEYS_NOT_FOUND)
        try:
            key = jwt.PyJWKSet.from_dict(dict(self.fetched))[header.get("kid", "")]
            jwt.PyJWS().decode(subject_token, key.key, algorithms=[each for each in ALGORITHMS if _fits(key, each)])
        except (jwt.PyJWTError, KeyError):
            raise NotTrusted(Mismatch.INVALID_SIGNATURE) from None
        return claims


def _fits(key: jwt.PyJWK, algorithm: str) -> bool:
    return {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}[key.key_type or ""] == algorithm


def jwks_at(url: str, *, ca_file: str | None = None, bearer: str | None = None) -> Callable[[], Awaitable[Keys]]:
    """Fetches a JWKS, of a kube-apiserver's `/openid/v1/jwks` for example."""
    headers = {"authorization": f"Bearer {bearer}"} if bearer else {}

    async def fetch() -> Keys:
        trust = ssl.create_default_context(cafile=ca_file)
        async with httpx.AsyncClient(verify=trust, trust_env=False, timeout=10.0) as client:
            answer = await client.get(url, headers=headers)
        answer.raise_for_status()
        keys: Keys = answer.json()
        return keys

    return fetch
