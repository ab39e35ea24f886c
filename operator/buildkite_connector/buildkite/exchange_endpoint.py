"""Asks Buildkite's token endpoint for a token, by an assertion that an app's private key signs.

`ExchangeEndpoint` is the endpoint, for all connectors of the process. An `App` is who asks there, and for whom.
"""

import asyncio
import secrets
from collections import deque
from datetime import datetime
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx

from buildkite_connector.buildkite.body import ERROR_LIMIT, BodiesUnderWay, read_body
from buildkite_connector.buildkite.errors import APP_SETTINGS, Call, FailedAttempt, from_exception
from buildkite_connector.buildkite.exchange_answers import (
    AUDIENCE,
    PROBE_SECONDS,
    TOKEN_SECONDS,
    Asked,
    Minted,
    ScopesRefused,
    read_answer,
)
from buildkite_connector.buildkite.sender import FAILED, HEADERS, Access, timeout_of
from buildkite_connector.buildkite.settings import EXCHANGE_VARIABLE
from buildkite_connector.buildkite.signing_key import SigningKey
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.observer import Work
from buildkite_connector.model.redactor import Redactor
from buildkite_connector.model.spec import ExchangeRequest
from buildkite_connector.sync.preflight import ScopesMissing

ASSERTION_SECONDS = 300
"""The most that Buildkite allows: the more, the further this machine's clock may be behind."""
EXCHANGES_AT_ONCE = 8
"""Requests to the endpoint that are out at once, however many connectors start together."""

_KNOWN = 12
"""Assertions, and tokens, that are taken out of Buildkite's texts: the newest."""


class App:
    """A token exchange app, as one kind of token is exchanged with it; with what was sent and received of late."""

    def __init__(self, request: ExchangeRequest) -> None:
        self.request = request
        self._assertions: deque[str] = deque(maxlen=2 * _KNOWN)
        """With their IDs. Apart from the tokens: a renewal that fails sends many, and the old token stays in use."""
        self._tokens: deque[str] = deque(maxlen=_KNOWN)
        self._key: SigningKey | None = None

    async def assertion(self, now: datetime) -> str:
        """For one request. The key is read once, and in a thread as it signs: both take milliseconds."""
        client_id, issued, unique = self.request.exchange.client_id, int(now.timestamp()), secrets.token_hex(16)
        claims: dict[str, Any] = {
            "iss": client_id,
            "sub": client_id,
            "aud": AUDIENCE,
            "iat": issued,
            "exp": issued + ASSERTION_SECONDS,
            "jti": unique,
        }
        if self._key is None:
            self._key = await asyncio.to_thread(SigningKey.parse, self.request.exchange.private_key)
        signed = await asyncio.to_thread(self._key.sign, claims)
        self._assertions += (unique, signed)
        return signed

    def form(self, assertion: str, scopes: frozenset[str], seconds: int) -> dict[str, str]:
        """What to send."""
        subject = self.request.exchange.subject
        kind: Literal["user-email", "user-uuid"] = "user-email" if "@" in subject else "user-uuid"
        return {
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": assertion,
            "subject_token": subject,
            "subject_token_type": f"urn:buildkite:params:oauth:token-type:{kind}",
            "audience": self.request.organization,
            "scope": " ".join(sorted(scopes)),
            "expires_in": str(seconds),
        }

    def received(self, token: str) -> None:
        self._tokens.append(token)

    def knowing(self, redactor: Redactor) -> Redactor:
        """`redactor`, which also knows what was sent and received of late."""
        return redactor.with_secrets(*self._assertions, *self._tokens)


class ExchangeEndpoint:
    """It connects at the first exchange."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._settings = access.settings
        self._connections = access.connections.elsewhere(access.settings.exchange_url)
        self._at_once = asyncio.Semaphore(EXCHANGES_AT_ONCE)
        self._held_until = 0.0
        """In monotonic seconds: Buildkite asked for no exchanges before then."""
        self._path = urlsplit(access.settings.exchange_url).path or "/"
        self._name = f"POST {self._path}"

    async def close(self) -> None:
        await self._connections.close()

    async def exchange(self, app: App, redactor: Redactor) -> Minted:
        """A new token. Raises Failure: TOKEN_EXCHANGE_REJECTED, ScopesMissing, CLOCK_WRONG or what kept Buildkite from
        answering."""
        wanted = app.request.scopes
        got = await self._until_answered(app, redactor, wanted, TOKEN_SECONDS)
        if isinstance(got, ScopesRefused):
            raise _scopes_missing(wanted, await self._refused_of(app, redactor, wanted))
        if lacking := wanted - got.scopes:
            raise _scopes_missing(wanted, lacking)
        return got

    async def _refused_of(self, app: App, redactor: Redactor, scopes: frozenset[str]) -> frozenset[str]:
        """Which of the scopes the app does not grant. Buildkite refuses them together, so each is asked for alone; all
        of them where that does not tell."""
        refused = set[str]()
        if len(scopes) == 1:
            return scopes
        for scope in sorted(scopes):
            try:
                got = await self._until_answered(app, redactor, frozenset({scope}), PROBE_SECONDS)
            except Failure:
                return scopes
            if isinstance(got, ScopesRefused) or scope not in got.scopes:
                refused.add(scope)
        return frozenset(refused) or scopes

    async def _until_answered(
        self, app: App, redactor: Redactor, scopes: frozenset[str], seconds: int
    ) -> Minted | ScopesRefused:
        """Ask again where that can help, soon and a few times: those who ask report what is wrong, and come back."""
        patience, clock = self._settings.patience, self._access.clock
        for tries in range(1, patience.tries + 1):
            async with self._at_once:
                await self._admitted()
                got = await self._attempt(app, redactor, scopes, seconds)
            if not isinstance(got, FailedAttempt):
                return got
            wait = (patience.blind_pause if got.refused else 0.0) if got.wait is None else got.wait
            if got.refused:
                self._held_until = max(self._held_until, clock.monotonic() + wait)
            if not got.again or got.timed_out or tries == patience.tries or wait > patience.longest:
                raise got.error
            pause = min(patience.longest, patience.first * 2 ** (tries - 1))
            await clock.sleep(wait + self._access.jitter.uniform(0.5, 1.0) * pause)
        raise RuntimeError("there is at least one try")

    async def _admitted(self) -> None:
        """Wait until the endpoint, whose limit is for all who ask here, is to be asked again. Raises Failure where that
        takes long."""
        clock, longest = self._access.clock, self._settings.patience.longest
        while (wait := self._held_until - clock.monotonic()) > 0:
            if wait > longest:
                raise Failure(
                    Reason.BUILDKITE_RATE_LIMITED,
                    f"{self._name}: Buildkite rejects token exchanges because its rate limit is used up. Nothing is"
                    " sent before the time that Buildkite names; the next sync after it tries again.",
                    retry_after=wait,
                )
            await clock.sleep(wait)

    async def _attempt(
        self, app: App, redactor: Redactor, scopes: frozenset[str], seconds: int
    ) -> Minted | ScopesRefused | FailedAttempt:
        url, clock = self._settings.exchange_url, self._access.clock
        asked = Asked(scopes, clock.monotonic(), clock.now())
        form = app.form(await app.assertion(asked.wall), scopes, seconds)
        gone = Failure(
            Reason.BUILDKITE_RESPONSE_INVALID,
            f"{self._name}: expected 200, but the response is 404. {EXCHANGE_VARIABLE} does not lead to Buildkite's"
            " token endpoint.",
        )
        call = Call(self._name, "", gone, app.knowing(redactor), method="POST", variable=EXCHANGE_VARIABLE)
        extensions = {"timeout": timeout_of(self._settings.timeouts), "trace": self._connections.trace}
        headers = {**HEADERS, "Accept-Encoding": "identity"}
        request = httpx.Request("POST", url, headers=headers, data=form, extensions=extensions)
        try:
            with self._access.observer.operation(Work.BUILDKITE_REQUEST, method="POST", path=self._path) as operation:
                async with asyncio.timeout(self._settings.timeouts.total), self._connections.one() as http:
                    response = await http.send(request, stream=True)
                    operation.tell(status=response.status_code)
                    body = await read_body(response, ERROR_LIMIT, BodiesUnderWay())
        except FAILED as error:
            return from_exception(error, call, url, self._connections.proxy)
        got = read_answer(response, body, call, asked, clock.now())
        if isinstance(got, Minted):
            app.received(got.value)
        return got


def _scopes_missing(wanted: frozenset[str], missing: frozenset[str]) -> ScopesMissing:
    names = tuple(sorted(missing))
    told = f"lacks {', '.join(names)}" if missing < wanted else "does not grant all of them"
    return ScopesMissing(
        f"Token exchange needs the scopes {', '.join(sorted(wanted))}, but the app in Buildkite {told}. Add what is"
        f" missing to its grantable scopes ({APP_SETTINGS}).",
        names,
    )
