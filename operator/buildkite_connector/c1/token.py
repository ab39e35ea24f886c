"""The access token: asked for with a signed assertion, reused until shortly before it expires."""

import asyncio
import re
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import httpx
import jwt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from buildkite_connector.c1.credentials import Credentials
from buildkite_connector.c1.errors import ROTATE, tls_hint
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.timing.clock import Clock

TOKEN_PATH = "/auth/v1/token"  # noqa: S105
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_LEEWAY = timedelta(minutes=2)
"""How long before now the assertion is valid, and how long after."""

_ANSWER_LIMIT = 64 * 1024
_RENEW_BEFORE = 60.0
_RENEW_SHARE = 0.1
_LONGEST_USE = 86_400


def sign_assertion(credentials: Credentials, now: datetime, nonce: str) -> str:
    """The JWT that proves who the connector is; `nonce` goes into the protected header."""
    claims = {
        "iss": credentials.client_id,
        "sub": credentials.client_id,
        "aud": [credentials.endpoint.host],
        "iat": int(now.timestamp()),
        "nbf": int((now - ASSERTION_LEEWAY).timestamp()),
        "exp": int((now + ASSERTION_LEEWAY).timestamp()),
    }
    headers = {"nonce": nonce} | ({"kid": credentials.key_id} if credentials.key_id else {})
    return jwt.encode(claims, credentials.key, algorithm="EdDSA", headers=headers)


@dataclass(frozen=True, slots=True)
class AccessToken:
    """`authorization` is the metadata value of each call, `renew_at` monotonic seconds."""

    authorization: str = field(repr=False)
    renew_at: float

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", self.authorization),)

    def redact(self, text: str) -> str:
        """`text` without the token, for what the other side says of a call that carried it."""
        return text.replace(self.authorization.partition(" ")[2], "[token]")


class _TokenAnswer(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True)

    access_token: str = Field(default="", pattern=r"^[\x21-\x7e]*$")
    token_type: str = Field(default="", pattern=r"^[A-Za-z0-9_-]*$")
    expires_in: int = 0
    """Seconds; a token without it serves the call at hand only."""


class TokenSource:
    """One connector's token. Concurrent callers share one request for it."""

    def __init__(self, credentials: Credentials, http: httpx.AsyncClient, clock: Clock) -> None:
        self._credentials = credentials
        self._http = http
        self._clock = clock
        self._lock = asyncio.Lock()
        self._token: AccessToken | None = None

    async def current(self) -> AccessToken:
        """A token that is good for a call now, fetched if need be.

        Raises Failure C1_CLIENT_REJECTED, C1_UNAVAILABLE or C1_UNREACHABLE.
        """
        async with self._lock:
            if self._token is None or self._clock.monotonic() >= self._token.renew_at:
                self._token = await self._fetch()
            return self._token

    async def replace(self, refused: AccessToken) -> AccessToken:
        """A token other than `refused`, which C1 did not accept; fetched by the first who asks."""
        async with self._lock:
            if self._token is refused:
                self._token = None
        return await self.current()

    async def _fetch(self) -> AccessToken:
        asked_at = self._clock.monotonic()
        form = {
            "client_id": self._credentials.client_id,
            "grant_type": "client_credentials",
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": sign_assertion(self._credentials, self._clock.now(), secrets.token_hex(16)),
        }
        status, retry_after, body = await self._post(form)
        if status != httpx.codes.OK:
            raise self._refusal(status, retry_after, body)
        try:
            answer = _TokenAnswer.model_validate_json(body)
        except ValidationError:
            answer = None
        if answer is None:
            raise self._failure(
                Reason.C1_UNAVAILABLE,
                "answered 200 with something other than a token; check that the client ID's host is your "
                "C1 tenant's and that nothing between here and there answers in its place.",
            )
        if not answer.access_token:
            raise self._failure(
                Reason.C1_CLIENT_REJECTED,
                f"answered with an empty token. {ROTATE}",
                remedy=Remedy.CREDENTIALS,
            )
        lifetime = min(answer.expires_in, _LONGEST_USE)
        renew_at = asked_at + lifetime - min(_RENEW_BEFORE, lifetime * _RENEW_SHARE)
        return AccessToken(f"{_scheme(answer.token_type)} {answer.access_token}", renew_at)

    async def _post(self, form: dict[str, str]) -> tuple[int, float | None, bytes]:
        try:
            async with self._http.stream("POST", TOKEN_PATH, data=form) as response:
                body = bytearray()
                async for piece in response.aiter_raw():
                    body += piece
                    if len(body) > _ANSWER_LIMIT:
                        break
                return response.status_code, _seconds(response.headers.get("retry-after")), bytes(body)
        except httpx.TransportError as error:
            what = str(error) or type(error).__name__
        raise self._failure(Reason.C1_UNREACHABLE, f"could not be reached: {what}.{tls_hint(what)}")

    def _refusal(self, status: int, retry_after: float | None, body: bytes) -> Failure:
        if status in {httpx.codes.BAD_REQUEST, httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
            code = re.search(rb'"error"\s*:\s*"([a-z_]{1,40})"', body)
            said = f"{status} ({code[1].decode()})" if code else str(status)
            return self._failure(
                Reason.C1_CLIENT_REJECTED,
                f"refused the client ID and secret with {said}. {ROTATE}",
                remedy=Remedy.CREDENTIALS,
            )
        return self._failure(
            Reason.C1_UNAVAILABLE,
            f"answered {status} where 200 was expected. It is asked again; should this last, check that the "
            "client ID's host is your C1 tenant's.",
            retry_after=retry_after,
        )

    def _failure(
        self,
        reason: Reason,
        what: str,
        *,
        remedy: Remedy = Remedy.RETRY,
        retry_after: float | None = None,
    ) -> Failure:
        url = self._http.base_url.join(TOKEN_PATH)
        return Failure(reason, f"C1's token endpoint {url} {what}", remedy=remedy, retry_after=retry_after)


def _scheme(token_type: str) -> str:
    """`Bearer` for the `bearer` that the endpoint may say, and where it says nothing."""
    return "Bearer" if token_type.lower() in {"", "bearer"} else token_type


def _seconds(header: str | None) -> float | None:
    return float(header) if header and re.fullmatch(r"[0-9]{1,5}", header) else None
