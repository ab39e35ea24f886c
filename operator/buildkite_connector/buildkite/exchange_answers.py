"""What Buildkite's token endpoint answered: a token, that the app does not grant the scopes, or a failure with advice.

OAuth's errors (RFC 6749, 5.2) leave most to a description in English, which says what a person is to do.
"""

import re
from dataclasses import dataclass, field
from datetime import datetime

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from buildkite_connector.buildkite.body import BodyRefused
from buildkite_connector.buildkite.errors import APP_SETTINGS, Call, FailedAttempt, from_body, from_status
from buildkite_connector.buildkite.settings import EXCHANGE_VARIABLE
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.timing.clock import clock_error, server_time, wrong_clock

AUDIENCE = "https://buildkite.com/oauth/token"
"""Of the assertion, wherever the request goes: Buildkite's documentation fixes it."""
TOKEN_SECONDS = 900
"""How long a token is to live. The app may allow less."""
PROBE_SECONDS = 30
"""The same for a token that only shows whether a scope is granted: the least that Buildkite allows."""
RENEW_BEFORE, RENEW_SHARE = 60.0, 0.2
"""A token is renewed so many seconds before its end, or this share of its life if that is less."""
LAST_BEFORE, LAST_SHARE = 5.0, 0.05
"""So long before its end no request gets it any more: the request takes its time to arrive."""
LONGEST_TOKEN = 8 * 1024


@dataclass(frozen=True, slots=True)
class Minted:
    """A token, to be renewed from `renew_at` on and not sent after `ends_at`, both in monotonic seconds."""

    value: str = field(repr=False)
    scopes: frozenset[str]
    renew_at: float
    ends_at: float


@dataclass(frozen=True, slots=True)
class ScopesRefused:
    """The app does not grant all of the scopes; the answer does not say which."""


@dataclass(frozen=True, slots=True)
class Asked:
    """For which scopes, and when: in monotonic seconds, and by this machine's clock."""

    scopes: frozenset[str]
    at: float
    wall: datetime


class _Answer(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True)

    access_token: str = Field(pattern=r"^[\x21-\x7e]+$", max_length=LONGEST_TOKEN)
    token_type: str = Field(default="Bearer", pattern=r"^(?i:bearer)$")
    expires_in: float = Field(default=float(PROBE_SECONDS), ge=1, le=1_000_000, strict=True)
    scope: str | None = None
    """None: all that were asked for (RFC 6749, 5.1)."""


class _Refusal(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True)

    error: str = Field(pattern=r"^[a-z_]{1,40}$")
    error_description: str | None = None


@dataclass(frozen=True, slots=True)
class _Advice:
    """What to do about an error, where the description has `words` (a regular expression)."""

    error: str
    words: str
    remedy: Remedy
    text: str


_ADVICE = (
    _Advice(
        "invalid_client",
        r"\baud\b",
        Remedy.RETRY,
        f"The assertion is meant for {AUDIENCE}: check {EXCHANGE_VARIABLE} and the proxies in between; otherwise,"
        " upgrade the connector.",
    ),
    _Advice(
        "invalid_client",
        "already been used",
        Remedy.RETRY,
        "Each assertion has an ID of its own, so the request arrived twice: check the proxies in between.",
    ),
    _Advice(
        "invalid_client",
        r"\bjti\b",
        Remedy.RETRY,
        "Each assertion has such an ID: check the proxies in between; otherwise, upgrade the connector.",
    ),
    _Advice(
        "invalid_client",
        r"\b(exp|iat|nbf)\b",
        Remedy.RETRY,
        "Synchronize this machine's clock by NTP.",
    ),
    _Advice(
        "invalid_client",
        "signature",
        Remedy.CREDENTIALS,
        f"The app's JWKS lacks the public key that belongs to this private key. Add it in Buildkite ({APP_SETTINGS})."
        " If Buildkite loads the JWKS from a URL, wait an hour: Buildkite caches it.",
    ),
    _Advice(
        "invalid_client",
        "",
        Remedy.CREDENTIALS,
        f"Check that the app still exists in Buildkite ({APP_SETTINGS}), and that the client ID and the private"
        " key belong to it.",
    ),
    _Advice(
        "invalid_request",
        "subject|member",
        Remedy.CREDENTIALS,
        "The subject must be an active member of the organization. An e-mail address must be verified in Buildkite.",
    ),
    _Advice(
        "invalid_target",
        "",
        Remedy.EDIT,
        "Correct the organization's slug (spec.organization, BATON_ORGANIZATION): it must be that of the app's"
        " organization.",
    ),
    _Advice(
        "unsupported_grant_type",
        "",
        Remedy.CREDENTIALS,
        f"An administrator of the organization must create an app for token exchange there ({APP_SETTINGS}).",
    ),
)
_OTHER_ADVICE = f"Check the app in Buildkite ({APP_SETTINGS})."
_ADDRESS = f"Check the app's allowed IP addresses for token exchange in Buildkite ({APP_SETTINGS})."


def read_answer(  # noqa: PLR0911  (one answer each)
    response: httpx.Response, body: bytes | BodyRefused, call: Call, asked: Asked, now: datetime
) -> Minted | ScopesRefused | FailedAttempt:
    """`now`: when it came, by this machine's clock."""
    status = response.status_code
    if status in (408, 425, 429) or status >= 500 or 300 <= status < 400:
        return from_status(status, response.headers, body, call, now=now)
    if status == httpx.codes.NOT_FOUND:
        return FailedAttempt(call.gone)
    if isinstance(body, BodyRefused):
        return from_body(body, call)
    if status == httpx.codes.OK:
        try:
            answer = _Answer.model_validate_json(body)
        except ValidationError:
            return FailedAttempt(_no_oauth(call, status, response))
        return _minted(answer, asked)
    try:
        refusal = _Refusal.model_validate_json(body)
    except ValidationError:
        if status == httpx.codes.FORBIDDEN and not _is_html(response):
            return FailedAttempt(_rejected(call, "with 403", Remedy.CREDENTIALS, _ADDRESS))
        return FailedAttempt(_no_oauth(call, status, response))
    if refusal.error == "invalid_scope":
        return ScopesRefused()
    return _refused(refusal, response, call, asked, now)


def _minted(answer: _Answer, asked: Asked) -> Minted:
    granted = asked.scopes if answer.scope is None else asked.scopes.intersection(answer.scope.split())
    life = min(answer.expires_in, TOKEN_SECONDS)
    ends_at = asked.at + life
    return Minted(
        answer.access_token,
        granted,
        renew_at=ends_at - min(RENEW_BEFORE, life * RENEW_SHARE),
        ends_at=ends_at - min(LAST_BEFORE, life * LAST_SHARE),
    )


def _refused(refusal: _Refusal, response: httpx.Response, call: Call, asked: Asked, now: datetime) -> FailedAttempt:
    said = call.quote(": ".join(filter(None, (refusal.error, refusal.error_description))))
    told = server_time(response.headers)
    wrong = None if told is None else wrong_clock(clock_error(told, asked.wall, now), "Buildkite's", now)
    if refusal.error == "invalid_client" and wrong is not None:
        why = f"{call.name}: Buildkite refuses the token exchange ({said}). {wrong}"
        return FailedAttempt(Failure(Reason.CLOCK_WRONG, why))
    advice = next(
        (
            each
            for each in _ADVICE
            if each.error == refusal.error and re.search(each.words, refusal.error_description or "", re.IGNORECASE)
        ),
        None,
    )
    remedy, text = (advice.remedy, advice.text) if advice else (Remedy.CREDENTIALS, _OTHER_ADVICE)
    if advice is None and response.status_code == httpx.codes.FORBIDDEN:
        text = _ADDRESS
    return FailedAttempt(_rejected(call, f"({said})", remedy, text), again="already been used" in said)


def _is_html(response: httpx.Response) -> bool:
    return "html" in response.headers.get("content-type", "").lower()


def _rejected(call: Call, how: str, remedy: Remedy, advice: str) -> Failure:
    return Failure(
        Reason.TOKEN_EXCHANGE_REJECTED,
        f"{call.name}: Buildkite refuses the token exchange {how}. {advice}",
        remedy=remedy,
    )


def _no_oauth(call: Call, status: int, response: httpx.Response) -> Failure:
    kind = call.quote(response.headers.get("content-type", "").partition(";")[0]) or "no content type"
    return Failure(
        Reason.BUILDKITE_RESPONSE_INVALID,
        f"{call.name}: expected a token or an OAuth error, but the response is {status} in {kind}. Something other than"
        f" Buildkite answers, a proxy's or gateway's own page perhaps: check {EXCHANGE_VARIABLE} and the proxies in"
        " between.",
    )
