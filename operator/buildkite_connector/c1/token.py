"""The access token: asked for with a signed assertion, reused until shortly before it expires."""

import asyncio
import re
import secrets
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NoReturn

import httpx
import jwt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from buildkite_connector.c1.channel import Channel
from buildkite_connector.c1.credentials import ClientCredentials
from buildkite_connector.c1.errors import ROTATE, clock_failure, unreached
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.observer import Observer, Work
from buildkite_connector.model.redactor import SHORTEST_PIECE, Redactor
from buildkite_connector.network.connection_errors import by_way_of
from buildkite_connector.timing.clock import Clock, clock_error, server_time, wrong_clock

TOKEN_PATH = "/auth/v1/token"  # noqa: S105
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_LEEWAY = timedelta(minutes=2)
"""How long before now the assertion is valid, and how long after."""

LONGEST_ANSWER = 32 * 1024
"""Bytes of the token endpoint's answer, whatever its status. Its headers are bounded by the HTTP client."""
LONGEST_TOKEN = 8 * 1024
"""Characters of an access token: it must fit into the metadata of each call, for which servers allow little more."""

_ASKED_AGAIN = "The connector retries. If this persists, check that the client ID's host is your C1 tenant's."
_SHOWN = 8
"""Assertions and tokens that are taken out of C1's texts: those of the calls under way, of which a long one (an upload)
may have an older token, and those that the token endpoint has just seen."""
_RENEW_BEFORE = 60.0
_RENEW_SHARE = 0.1
_LONGEST_USE = 86_400.0


def sign_assertion(credentials: ClientCredentials, now: datetime, nonce: str) -> str:
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


class _TokenAnswer(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True)

    access_token: str = Field(default="", pattern=r"^[\x21-\x7e]*$")
    token_type: str = Field(default="", pattern=r"^[A-Za-z0-9_-]*$", max_length=40)
    expires_in: float = 0.0
    """Seconds, as a number or, from some servers, in a string; a token without it serves the call at hand only."""

    @field_validator("expires_in", mode="before")
    @classmethod
    def _is_no_truth_value(cls, value: object) -> object:
        if isinstance(value, bool):
            raise ValueError("not seconds")  # noqa: TRY004  (what pydantic turns into its own error)
        return value


class TokenSource:
    """One connector's token. Concurrent callers share one request for it.

    `deadline`: seconds for one whole request.
    """

    def __init__(
        self, credentials: ClientCredentials, channel: Channel, clock: Clock, deadline: float, observer: Observer
    ) -> None:
        self._credentials = credentials
        self._channel = channel
        self._http = channel.http
        self._clock = clock
        self._deadline = deadline
        self._observer = observer
        self._lock = asyncio.Lock()
        self._token: AccessToken | None = None
        self._shown: deque[str] = deque(maxlen=_SHOWN)
        self._clock_error = timedelta()

    @property
    def redactor(self) -> Redactor:
        """Knows the credentials that C1 has of this connector, and so may send back."""
        parts = [part for each in self._shown for part in _parts_of_jwt(each)]
        return self._credentials.redactor.with_secrets(*self._shown, *parts)

    @property
    def wrong_clock(self) -> str | None:
        """A sentence when this machine's clock was wrong by the token endpoint's last answer."""
        return wrong_clock(self._clock_error, "C1's", self._clock.now())

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
        assertion = sign_assertion(self._credentials, self._clock.now(), secrets.token_hex(16))
        self._shown.append(assertion)
        form = {
            "client_id": self._credentials.client_id,
            "grant_type": "client_credentials",
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": assertion,
        }
        with self._observer.operation(Work.C1_TOKEN, method="POST") as operation:
            status, retry_after, body = await self._post(form)
            operation.tell(status=status)
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
                "C1 tenant's and that no proxy answers in its place.",
            )
        if not answer.access_token:
            raise self._failure(
                Reason.C1_CLIENT_REJECTED,
                f"answered with an empty token. {ROTATE}",
                remedy=Remedy.CREDENTIALS,
            )
        if len(answer.access_token) > LONGEST_TOKEN:
            raise self._failure(
                Reason.C1_UNAVAILABLE,
                f"answered with a token of {len(answer.access_token)} characters; the limit is {LONGEST_TOKEN}. "
                f"{_ASKED_AGAIN}",
            )
        self._shown.append(answer.access_token)
        lifetime = min(answer.expires_in, _LONGEST_USE) if answer.expires_in > 0 else 0.0  # also where it is NaN
        renew_at = asked_at + lifetime - min(_RENEW_BEFORE, lifetime * _RENEW_SHARE)
        return AccessToken(f"{_scheme(answer.token_type)} {answer.access_token}", renew_at)

    async def _post(self, form: dict[str, str]) -> tuple[int, float | None, bytes]:
        """Status, Retry-After in seconds, and the body, which is bounded while it comes."""
        before = self._clock.now()
        try:
            async with (
                asyncio.timeout(self._deadline),
                self._http.stream("POST", TOKEN_PATH, data=form) as response,
            ):
                if said := server_time(response.headers):
                    self._clock_error = clock_error(said, before, self._clock.now())
                # Leaving this block before the body's end closes the connection.
                coding = response.headers.get("content-encoding", "identity")
                if coding.lower() != "identity":
                    self._refuse_coding(coding)
                return response.status_code, _seconds(response.headers.get("retry-after")), await self._read(response)
        except TimeoutError:
            reason = Reason.C1_UNAVAILABLE
            what = f"did not answer within {self._deadline:g} s{by_way_of(self._channel.proxy)}. The connector retries."
        except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, OSError, ValueError) as error:
            reason, what = (
                Reason.C1_UNREACHABLE,
                f"could not be reached: {unreached(error, self._channel, self.redactor)}",
            )
        raise self._failure(reason, what)

    async def _read(self, response: httpx.Response) -> bytes:
        body = bytearray()
        async for piece in response.aiter_raw():
            body += piece
            if len(body) > LONGEST_ANSWER:
                raise self._failure(
                    Reason.C1_UNAVAILABLE,
                    f"answered {response.status_code} with more than {LONGEST_ANSWER} bytes, which is the limit. "
                    f"{_ASKED_AGAIN}",
                )
            await asyncio.sleep(0)  # pieces of one byte each would keep the event loop from everybody else
        return bytes(body)

    def _refuse_coding(self, coding: str) -> NoReturn:
        raise self._failure(
            Reason.C1_UNAVAILABLE,
            f"answered in the content coding {self.redactor.quote(coding, 40)}, although the request asked for none. "
            f"{_ASKED_AGAIN}",
        )

    def _refusal(self, status: int, retry_after: float | None, body: bytes) -> Failure:
        if status in {httpx.codes.BAD_REQUEST, httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
            code = re.search(rb'"error"\s*:\s*"([a-z_]{1,40})"', body)
            said = f"{status} ({self.redactor.quote(code[1].decode())})" if code else str(status)
            if (wrong := self.wrong_clock) is not None:
                return clock_failure(f"C1's token endpoint {self._url} refused the client with {said}", wrong)
            return self._failure(
                Reason.C1_CLIENT_REJECTED,
                f"refused the client ID and secret with {said}. {ROTATE}",
                remedy=Remedy.CREDENTIALS,
            )
        return self._failure(
            Reason.C1_UNAVAILABLE,
            f"answered {status} where 200 was expected. {_ASKED_AGAIN}",
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
        return Failure(reason, f"C1's token endpoint {self._url} {what}", remedy=remedy, retry_after=retry_after)

    @property
    def _url(self) -> httpx.URL:
        return self._http.base_url.join(TOKEN_PATH)


def _parts_of_jwt(token: str) -> list[str]:
    """The parts of `token` that may be secret on their own. Only a JWT has any, so that C1 cannot make them many."""
    parts = token.split(".", 3)
    return [part for part in parts if len(part) >= SHORTEST_PIECE] if len(parts) == 3 else []


def _scheme(token_type: str) -> str:
    """`Bearer` for `bearer` in any case, and if the endpoint names no type."""
    return "Bearer" if token_type.lower() in {"", "bearer"} else token_type


def _seconds(header: str | None) -> float | None:
    return float(header) if header and re.fullmatch(r"[0-9]{1,5}", header) else None
