"""The access token: asked for by a client that proves who it is, reused until shortly before it expires."""

import asyncio
import re
import secrets
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import ClassVar, Protocol

import httpx
import jwt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from buildkite_connector.c1.answer import ASKED_AGAIN, HttpAnswer, ask
from buildkite_connector.c1.channel import Channel
from buildkite_connector.c1.credentials import ClientCredentials
from buildkite_connector.c1.errors import ROTATE, clock_failure
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.observer import Observer, Work
from buildkite_connector.model.redactor import SHORTEST_PIECE, Redactor
from buildkite_connector.timing.clock import Clock, clock_error, server_time, wrong_clock

TOKEN_PATH = "/auth/v1/token"  # noqa: S105
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_LEEWAY = timedelta(minutes=2)
"""How long before now the assertion is valid, and how long after."""

LONGEST_ANSWER = 32 * 1024
"""Bytes of the token endpoint's answer, whatever its status. Its headers are bounded by the HTTP client."""
LONGEST_TOKEN = 8 * 1024
"""Characters of an access token: it must fit into the metadata of each call, for which servers allow little more."""

_SHOWN = 8
"""Proofs and tokens that are taken out of C1's texts: those of the calls under way, of which a long one (an upload)
may have an older token, and those that the token endpoint has just seen."""
_RENEW_BEFORE = 60.0
_RENEW_SHARE = 0.1
_LONGEST_USE = 86_400.0


class TokenClient(Protocol):
    """Who asks for a token."""

    proof: ClassVar[str]
    """The field of the form that proves who it is, and is secret."""
    shown_as: ClassVar[str]
    """What a refusal calls the proof."""
    rejected: ClassVar[Reason]
    needs_clock: ClassVar[bool]
    """Whether the proof holds what time it is here, so that a wrong clock explains a refusal."""

    @property
    def redactor(self) -> Redactor: ...

    @property
    def remedy(self) -> str:
        """What to do when C1 no longer accepts the client."""
        ...

    def form(self, now: datetime) -> dict[str, str]:
        """What to send, made for this request. Raises Failure."""
        ...

    def advice(self, form: dict[str, str], now: datetime) -> str:
        """What to do when C1 did not accept the form. `now`: by C1's clock."""
        ...


@dataclass(frozen=True, slots=True)
class AssertingClient:
    """A client with a secret, which signs an assertion: a connector's, or one of C1's REST API."""

    proof: ClassVar[str] = "client_assertion"
    shown_as: ClassVar[str] = "client ID and secret"
    rejected: ClassVar[Reason] = Reason.C1_CLIENT_REJECTED
    needs_clock: ClassVar[bool] = True

    credentials: ClientCredentials
    remedy: str = ROTATE

    @property
    def redactor(self) -> Redactor:
        return self.credentials.redactor

    def form(self, now: datetime) -> dict[str, str]:
        return {
            "client_id": self.credentials.client_id,
            "grant_type": "client_credentials",
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": sign_assertion(self.credentials, now, secrets.token_hex(16)),
        }

    def advice(self, form: dict[str, str], now: datetime) -> str:  # noqa: ARG002
        return self.remedy


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
    """One client's token. Concurrent callers share one request for it.

    `deadline`: seconds for one whole request.
    """

    def __init__(
        self, client: TokenClient, channel: Channel, clock: Clock, deadline: float, observer: Observer
    ) -> None:
        self._client = client
        self._channel = channel
        self._clock = clock
        self._deadline = deadline
        self._observer = observer
        self._lock = asyncio.Lock()
        self._token: AccessToken | None = None
        self._shown: deque[str] = deque(maxlen=_SHOWN)
        self._clock_error = timedelta()

    @property
    def redactor(self) -> Redactor:
        """Knows the credentials that C1 has of this client, and so may send back."""
        parts = [part for each in self._shown for part in _parts_of_jwt(each)]
        return self._client.redactor.with_secrets(*self._shown, *parts)

    @property
    def wrong_clock(self) -> str | None:
        """A sentence when this machine's clock was wrong by the token endpoint's last answer, and that matters."""
        if not self._client.needs_clock:
            return None
        return wrong_clock(self._clock_error, "C1's", self._clock.now())

    @property
    def remedy(self) -> str:
        """What to do when C1 no longer accepts the client."""
        return self._client.remedy

    async def current(self) -> AccessToken:
        """A token that is good for a call now, fetched if need be.

        Raises Failure C1_CLIENT_REJECTED, WORKLOAD_IDENTITY_REJECTED, C1_UNAVAILABLE or C1_UNREACHABLE.
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
        asked_at, before = self._clock.monotonic(), self._clock.now()
        form = self._client.form(before)
        self._shown.append(form[self._client.proof])
        with self._observer.operation(Work.C1_TOKEN, method="POST") as operation:
            got = await ask(
                self._channel,
                "POST",
                TOKEN_PATH,
                subject=self._subject,
                redactor=self.redactor,
                limit=LONGEST_ANSWER,
                deadline=self._deadline,
                data=form,
            )
            operation.tell(status=got.status)
        if said := server_time(got.headers):
            self._clock_error = clock_error(said, before, self._clock.now())
        if got.status != httpx.codes.OK:
            raise self._refusal(got, form)
        try:
            answer = _TokenAnswer.model_validate_json(got.body)
        except ValidationError:
            answer = None
        if answer is None:
            raise self._failure(
                Reason.C1_UNAVAILABLE,
                "answered 200 with something other than a token; check that the client ID's host is your "
                "C1 tenant's and that no proxy answers in its place.",
            )
        if not answer.access_token:
            raise self._rejected("answered with an empty token", form)
        if len(answer.access_token) > LONGEST_TOKEN:
            raise self._failure(
                Reason.C1_UNAVAILABLE,
                f"answered with a token of {len(answer.access_token)} characters; the limit is {LONGEST_TOKEN}. "
                f"{ASKED_AGAIN}",
            )
        self._shown.append(answer.access_token)
        lifetime = min(answer.expires_in, _LONGEST_USE) if answer.expires_in > 0 else 0.0  # also where it is NaN
        renew_at = asked_at + lifetime - min(_RENEW_BEFORE, lifetime * _RENEW_SHARE)
        return AccessToken(f"{_scheme(answer.token_type)} {answer.access_token}", renew_at)

    def _refusal(self, got: HttpAnswer, form: dict[str, str]) -> Failure:
        if got.status in {httpx.codes.BAD_REQUEST, httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
            code = re.search(rb'"error"\s*:\s*"([a-z_]{1,40})"', got.body)
            said = f"{got.status} ({self.redactor.quote(code[1].decode())})" if code else str(got.status)
            if (wrong := self.wrong_clock) is not None:
                return clock_failure(f"{self._subject} refused the client with {said}", wrong)
            return self._rejected(f"refused the {self._client.shown_as} with {said}", form)
        return self._failure(
            Reason.C1_UNAVAILABLE,
            f"answered {got.status} where 200 was expected. {ASKED_AGAIN}",
            retry_after=_seconds(got.headers.get("retry-after")),
        )

    def _rejected(self, what: str, form: dict[str, str]) -> Failure:
        advice = self._client.advice(form, self._clock.now() + self._clock_error)
        return self._failure(self._client.rejected, f"{what}. {advice}", remedy=Remedy.CREDENTIALS)

    def _failure(
        self,
        reason: Reason,
        what: str,
        *,
        remedy: Remedy = Remedy.RETRY,
        retry_after: float | None = None,
    ) -> Failure:
        return Failure(reason, f"{self._subject} {what}", remedy=remedy, retry_after=retry_after)

    @property
    def _subject(self) -> str:
        return f"C1's token endpoint {self._channel.http.base_url.join(TOKEN_PATH)}"


def _parts_of_jwt(token: str) -> list[str]:
    """The parts of `token` that may be secret on their own. Only a JWT has any, so that C1 cannot make them many."""
    parts = token.split(".", 3)
    return [part for part in parts if len(part) >= SHORTEST_PIECE] if len(parts) == 3 else []


def _scheme(token_type: str) -> str:
    """`Bearer` for `bearer` in any case, and if the endpoint names no type."""
    return "Bearer" if token_type.lower() in {"", "bearer"} else token_type


def _seconds(header: str | None) -> float | None:
    return float(header) if header and re.fullmatch(r"[0-9]{1,5}", header) else None
