"""OAuth token exchange: tokens of Buildkite's that live minutes, for an assertion that an app's private key signs.

https://buildkite.com/docs/apis/oauth-token-exchange. `TokenExchanges` asks the endpoint and keeps each token until
shortly before it ends; all connectors of the process share it. `ExchangedTokens` are one client's.
"""

import asyncio
import re
import secrets
from collections import deque
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import sha256
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from buildkite_connector.buildkite.body import ERROR_LIMIT, BodiesUnderWay, BodyRefused, read_body
from buildkite_connector.buildkite.connections import Connections
from buildkite_connector.buildkite.errors import (
    APP_SETTINGS,
    Call,
    FailedAttempt,
    from_body,
    from_exception,
    from_status,
)
from buildkite_connector.buildkite.sender import FAILED, HEADERS, Access, timeout_of
from buildkite_connector.buildkite.settings import EXCHANGE_VARIABLE
from buildkite_connector.buildkite.signing_key import SigningKey
from buildkite_connector.model.directory import TokenFacts
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.observer import Work
from buildkite_connector.model.redactor import Redactor
from buildkite_connector.model.spec import ExchangeRequest
from buildkite_connector.sync.preflight import ScopesMissing
from buildkite_connector.timing.clock import clock_error, server_time, wrong_clock

AUDIENCE = "https://buildkite.com/oauth/token"
"""Of the assertion, wherever the request goes: Buildkite's documentation fixes it."""
ASSERTION_SECONDS = 300
"""The most that Buildkite allows: the more, the further this machine's clock may be behind."""
TOKEN_SECONDS = 900
"""How long a token is to live. The app may allow less."""
PROBE_SECONDS = 30
"""The same for a token that only shows whether a scope is granted: the least that Buildkite allows."""
RENEW_BEFORE, RENEW_SHARE = 60.0, 0.2
"""A token is renewed so many seconds before its end, or this share of its life if that is less."""
RENEWED_AGAIN = 10.0
"""Seconds after which a renewal that failed is tried again while the old token is still good, unless Buildkite says
later."""
EXCHANGES_AT_ONCE = 8
"""Requests to the endpoint that are out at once, however many connectors start together."""
LONGEST_TOKEN = 8 * 1024

_KNOWN = 12
"""Assertions, and tokens, that are taken out of Buildkite's texts: the newest."""


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
        f"The app's JWKS lacks the public key that belongs to this private key. Add it in Buildkite ({APP_SETTINGS}); a"
        " JWKS that Buildkite loads from a URL counts after up to an hour.",
    ),
    _Advice(
        "invalid_client",
        "",
        Remedy.CREDENTIALS,
        f"Check that the app still exists in Buildkite ({APP_SETTINGS}), and that client ID and private key are its"
        " own.",
    ),
    _Advice(
        "invalid_request",
        "subject|member",
        Remedy.CREDENTIALS,
        "Name a person who is an active member of the organization; an e-mail address must be verified in Buildkite.",
    ),
    _Advice(
        "invalid_target",
        "",
        Remedy.EDIT,
        "Correct the organization's slug (spec.organization, or in the Secret): it must be that of the app's"
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


@dataclass(frozen=True, slots=True)
class _Minted:
    """Times in monotonic seconds."""

    value: str = field(repr=False)
    scopes: frozenset[str]
    renew_at: float
    ends_at: float


class _SharedToken:
    """One token after another, for all clients that exchange for the same with the same key.

    Callers at the same time share one exchange, and its failure.
    """

    def __init__(self, request: ExchangeRequest) -> None:
        self.request = request
        self.assertions: deque[str] = deque(maxlen=2 * _KNOWN)
        """With their IDs. Apart from the tokens: a renewal that fails sends many, and the old token stays in use."""
        self.tokens: deque[str] = deque(maxlen=_KNOWN)
        self.token: _Minted | None = None
        self.lock = asyncio.Lock()
        self._key: SigningKey | None = None
        self._attempts = 0
        self._failure: Failure | None = None
        self.asked_at = 0.0

    async def key(self) -> SigningKey:
        """Read once, and in a thread: that takes milliseconds."""
        if self._key is None:
            self._key = await asyncio.to_thread(SigningKey.parse, self.request.exchange.private_key)
        return self._key

    async def current(self, exchanges: "TokenExchanges", redactor: Redactor) -> _Minted:
        """Raises Failure."""
        self.asked_at = exchanges.monotonic()
        if (good := self._good(exchanges)) is not None:
            return good
        seen = self._attempts
        async with self.lock:
            if (good := self._good(exchanges)) is not None:
                return good
            if self._failure is not None and self._attempts != seen:
                raise self._failure.with_traceback(None)
            self._failure = None  # who comes after one that is cancelled is not told what failed before
            try:
                self.token = await exchanges.exchange(self, redactor)
            except Failure as failure:
                self._failure = failure
                now = exchanges.monotonic()
                if self.token is None or failure.remedy is not Remedy.RETRY or now >= self.token.ends_at:
                    raise
                self.token = replace(self.token, renew_at=now + max(RENEWED_AGAIN, failure.retry_after or 0.0))
            finally:
                self._attempts += 1
            return self.token

    def _good(self, exchanges: "TokenExchanges") -> _Minted | None:
        token, now = self.token, exchanges.monotonic()
        return token if token is not None and now < min(token.renew_at, token.ends_at) else None


class ExchangedTokens:
    """`tokens.TokenSource` of one client. `redactor` knows the connector's credentials."""

    exchanged = True
    hint = ""

    def __init__(self, exchanges: "TokenExchanges", shared: _SharedToken, redactor: Redactor) -> None:
        self._exchanges = exchanges
        self._shared = shared
        self._redactor = redactor

    @property
    def redactor(self) -> Redactor:
        return _knowing(self._shared, self._redactor)

    async def current(self) -> str:
        return (await self._shared.current(self._exchanges, self._redactor)).value

    def drop(self, refused: str) -> None:
        if self._shared.token is not None and self._shared.token.value == refused:
            self._shared.token = None

    async def facts(self) -> TokenFacts:
        """By the answer of the exchange alone: how Buildkite's API describes such a token is not documented."""
        token = await self._shared.current(self._exchanges, self._redactor)
        subject = self._shared.request.exchange.subject
        return TokenFacts("", token.scopes, owner_email=subject if "@" in subject else "")


class TokenExchanges:
    """The endpoint, for all connectors of the process. It connects at the first exchange."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._settings = access.settings
        self._connections: Connections | None = None
        self._opening = asyncio.Lock()
        self._at_once = asyncio.Semaphore(EXCHANGES_AT_ONCE)
        self._tokens: dict[bytes, _SharedToken] = {}
        self._name = f"POST {urlsplit(access.settings.exchange_url).path or '/'}"

    def monotonic(self) -> float:
        return self._access.clock.monotonic()

    def tokens(self, request: ExchangeRequest, redactor: Redactor) -> ExchangedTokens:
        """The private key is part of what tokens are kept by: who does not have it gets none of them."""
        exchange = request.exchange
        facts = (exchange.client_id, exchange.private_key, exchange.subject, request.organization)
        key = sha256(repr((facts, sorted(request.scopes))).encode()).digest()
        shared = self._tokens.get(key)
        if shared is None:
            self._forget()
            shared = self._tokens[key] = _SharedToken(request)
        shared.asked_at = self.monotonic()
        return ExchangedTokens(self, shared, redactor)

    async def close(self) -> None:
        if self._connections is not None:
            await self._connections.close()

    def _forget(self) -> None:
        """Drop what nobody has asked for in the life of a token: each holds a private key."""
        oldest = self.monotonic() - TOKEN_SECONDS
        self._tokens = {key: each for key, each in self._tokens.items() if each.asked_at > oldest}

    # One exchange

    async def exchange(self, shared: _SharedToken, redactor: Redactor) -> _Minted:
        """A new token. Raises Failure: TOKEN_EXCHANGE_REJECTED, ScopesMissing, CLOCK_WRONG or what kept Buildkite from
        answering."""
        wanted = shared.request.scopes
        got = await self._until_answered(shared, redactor, wanted, TOKEN_SECONDS)
        if isinstance(got, _ScopesRefused):
            raise _scopes_missing(wanted, await self._refused_of(shared, redactor, wanted))
        if lacking := wanted - got.scopes:
            raise _scopes_missing(wanted, lacking)
        return got

    async def _refused_of(self, shared: _SharedToken, redactor: Redactor, scopes: frozenset[str]) -> frozenset[str]:
        """Which of the scopes the app does not grant. Buildkite refuses them together, so each is asked for alone; all
        of them where that does not tell."""
        refused = set[str]()
        if len(scopes) == 1:
            return scopes
        for scope in sorted(scopes):
            try:
                got = await self._until_answered(shared, redactor, frozenset({scope}), PROBE_SECONDS)
            except Failure:
                return scopes
            if isinstance(got, _ScopesRefused) or scope not in got.scopes:
                refused.add(scope)
        return frozenset(refused) or scopes

    async def _until_answered(
        self, shared: _SharedToken, redactor: Redactor, scopes: frozenset[str], seconds: int
    ) -> "_Minted | _ScopesRefused":
        """Ask again where that can help, soon and a few times: those who ask report what is wrong, and come back."""
        patience = self._settings.patience
        key = await shared.key()
        connections = await self._connected()
        for tries in range(1, patience.tries + 1):
            async with self._at_once:
                got = await self._attempt(shared, redactor, key, connections, scopes, seconds)
            if not isinstance(got, FailedAttempt):
                return got
            wait = (patience.blind_pause if got.refused else 0.0) if got.wait is None else got.wait
            if not got.again or got.timed_out or tries == patience.tries or wait > patience.longest:
                raise got.error
            pause = min(patience.longest, patience.first * 2 ** (tries - 1))
            await self._access.clock.sleep(wait + self._access.jitter.uniform(0.5, 1.0) * pause)
        raise RuntimeError("there is at least one try")

    async def _connected(self) -> Connections:
        async with self._opening:
            if self._connections is None:
                self._connections = await self._access.connections.elsewhere(self._settings.exchange_url)
            return self._connections

    async def _attempt(
        self,
        shared: _SharedToken,
        redactor: Redactor,
        key: SigningKey,
        connections: Connections,
        scopes: frozenset[str],
        seconds: int,
    ) -> "_Minted | _ScopesRefused | FailedAttempt":
        url, clock = self._settings.exchange_url, self._access.clock
        asked_at, before = clock.monotonic(), clock.now()
        claims = _claims(shared, before)
        assertion = await asyncio.to_thread(key.sign, claims)
        shared.assertions += (claims["jti"], assertion)
        form = _form(shared, assertion, scopes, seconds)
        gone = Failure(
            Reason.BUILDKITE_RESPONSE_INVALID,
            f"{self._name}: expected 200, but the response is 404. {EXCHANGE_VARIABLE} does not lead to Buildkite's"
            " token endpoint.",
        )
        call = Call(self._name, "", gone, _knowing(shared, redactor), method="POST", variable=EXCHANGE_VARIABLE)
        extensions = {"timeout": timeout_of(self._settings.timeouts), "trace": connections.trace}
        headers = {**HEADERS, "Accept-Encoding": "identity"}
        request = httpx.Request("POST", url, headers=headers, data=form, extensions=extensions)
        try:
            with self._access.observer.operation(
                Work.BUILDKITE_REQUEST, method="POST", path=urlsplit(url).path
            ) as operation:
                async with asyncio.timeout(self._settings.timeouts.total), connections.one() as http:
                    response = await http.send(request, stream=True)
                    operation.tell(status=response.status_code)
                    body = await read_body(response, ERROR_LIMIT, BodiesUnderWay())
        except FAILED as error:
            return from_exception(error, call, url, connections.proxy)
        return self._read(shared, response, body, call, scopes, asked_at, before)

    def _read(  # noqa: PLR0911  (one answer each)
        self,
        shared: _SharedToken,
        response: httpx.Response,
        body: bytes | BodyRefused,
        call: Call,
        scopes: frozenset[str],
        asked_at: float,
        before: datetime,
    ) -> "_Minted | _ScopesRefused | FailedAttempt":
        status, now = response.status_code, self._access.clock.now()
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
            shared.tokens.append(answer.access_token)
            granted = scopes if answer.scope is None else scopes.intersection(answer.scope.split())
            life = min(answer.expires_in, TOKEN_SECONDS)
            renew_at = asked_at + life - min(RENEW_BEFORE, life * RENEW_SHARE)
            return _Minted(answer.access_token, granted, renew_at, asked_at + life)
        try:
            refusal = _Refusal.model_validate_json(body)
        except ValidationError:
            if status == httpx.codes.FORBIDDEN and not _is_html(response):
                return FailedAttempt(_rejected(call, "with 403", Remedy.CREDENTIALS, _ADDRESS))
            return FailedAttempt(_no_oauth(call, status, response))
        if refusal.error == "invalid_scope":
            return _SCOPES_REFUSED
        said = call.quote(": ".join(filter(None, (refusal.error, refusal.error_description))))
        told = server_time(response.headers)
        wrong = None if told is None else wrong_clock(clock_error(told, before, now), "Buildkite's", now)
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
        if advice is None and status == httpx.codes.FORBIDDEN:
            text = _ADDRESS
        return FailedAttempt(_rejected(call, f"({said})", remedy, text), again="already been used" in said)


_ADDRESS = f"Check the app's allowed IP addresses for token exchange in Buildkite ({APP_SETTINGS})."


@dataclass(frozen=True, slots=True)
class _ScopesRefused:
    """The app does not grant all of the scopes; the answer does not say which."""


_SCOPES_REFUSED = _ScopesRefused()


def _claims(shared: _SharedToken, now: datetime) -> dict[str, Any]:
    """Of an assertion for one request."""
    client_id, issued = shared.request.exchange.client_id, int(now.timestamp())
    return {
        "iss": client_id,
        "sub": client_id,
        "aud": AUDIENCE,
        "iat": issued,
        "exp": issued + ASSERTION_SECONDS,
        "jti": secrets.token_hex(16),
    }


def _form(shared: _SharedToken, assertion: str, scopes: frozenset[str], seconds: int) -> dict[str, str]:
    """What to send."""
    subject = shared.request.exchange.subject
    kind: Literal["user-email", "user-uuid"] = "user-email" if "@" in subject else "user-uuid"
    return {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": assertion,
        "subject_token": subject,
        "subject_token_type": f"urn:buildkite:params:oauth:token-type:{kind}",
        "audience": shared.request.organization,
        "scope": " ".join(sorted(scopes)),
        "expires_in": str(seconds),
    }


def _knowing(shared: _SharedToken, redactor: Redactor) -> Redactor:
    """A redactor that knows what was sent and received of late. Of an assertion, each part is taken out by itself."""
    known = (*shared.assertions, *shared.tokens)
    return redactor.with_secrets(*known, *(part for text in known for part in text.split(".")[1:]))


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


def _scopes_missing(wanted: frozenset[str], missing: frozenset[str]) -> ScopesMissing:
    names = tuple(sorted(missing))
    told = f"lacks {', '.join(names)}" if missing < wanted else "does not grant all of them"
    return ScopesMissing(
        f"Token exchange needs the scopes {', '.join(sorted(wanted))}, but the app in Buildkite {told}. Add what is"
        f" missing to its grantable scopes ({APP_SETTINGS}).",
        names,
    )
