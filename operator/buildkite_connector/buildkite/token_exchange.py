"""OAuth token exchange: tokens of Buildkite's that live minutes, for an assertion that an app's private key signs.

https://buildkite.com/docs/apis/oauth-token-exchange. `TokenExchanges` keeps each token until it ends, and renews it
shortly before; all connectors of the process share it. `ExchangedTokens` are one client's. `exchange_endpoint` asks
for a token, `exchange_answers` reads what comes back.
"""

import asyncio
import logging
from dataclasses import replace
from hashlib import sha256

from buildkite_connector.buildkite.exchange_answers import TOKEN_SECONDS, Minted
from buildkite_connector.buildkite.exchange_endpoint import App, ExchangeEndpoint
from buildkite_connector.buildkite.sender import Access
from buildkite_connector.model.directory import TokenFacts
from buildkite_connector.model.failure import Failure
from buildkite_connector.model.redactor import Redactor
from buildkite_connector.model.spec import ExchangeRequest
from buildkite_connector.model.words import EXCHANGED
from buildkite_connector.timing.clock import Clock

logger = logging.getLogger(__name__)

RENEWED_AGAIN = 10.0
"""Seconds after which a renewal that failed is tried again while the old token is still good, unless Buildkite says
later."""


class _SharedToken:
    """One token after another, for all clients that exchange for the same with the same key.

    One exchange at a time, in a task of its own: who has no good token waits for it and shares its failure. While the
    old token is good nobody waits, however long its renewal takes.
    """

    def __init__(self, request: ExchangeRequest, endpoint: ExchangeEndpoint, clock: Clock) -> None:
        self.app = App(request)
        self.token: Minted | None = None
        self.asked_at = clock.monotonic()
        self.exchanging: asyncio.Task[Minted | Failure] | None = None
        self._endpoint = endpoint
        self._clock = clock

    async def current(self, redactor: Redactor) -> Minted:
        """Raises Failure."""
        now = self.asked_at = self._clock.monotonic()
        token = self.token
        if token is not None and now < token.renew_at:
            return token
        if self.exchanging is None:
            self.exchanging = asyncio.create_task(self._exchange(redactor), name="token exchange")
        if token is not None and now < token.ends_at:
            return token
        await asyncio.wait({exchanging := self.exchanging})  # who is cancelled here leaves it to the others
        got = exchanging.result()
        if isinstance(got, Failure):
            raise got.with_traceback(None)  # each who waits raises the same one
        return got

    async def close(self) -> None:
        if self.exchanging is not None:
            self.exchanging.cancel()
            await asyncio.wait({self.exchanging})

    async def _exchange(self, redactor: Redactor) -> Minted | Failure:
        try:
            self.token = await self._endpoint.exchange(self.app, redactor)
        except Failure as failure:
            now = self._clock.monotonic()
            if self.token is not None and now < self.token.ends_at:
                logger.warning("a token was not renewed; the old one is still valid", extra={"error": failure.message})
                again_at = now + max(RENEWED_AGAIN, failure.retry_after or 0.0)
                self.token = replace(self.token, renew_at=min(again_at, self.token.ends_at))
            return failure
        finally:
            self.exchanging = None
        return self.token


class ExchangedTokens:
    """`tokens.TokenSource` of one client. `redactor` knows the connector's credentials."""

    exchanged = True
    hint = ""

    def __init__(self, shared: _SharedToken, redactor: Redactor) -> None:
        self._shared = shared
        self._redactor = redactor

    @property
    def redactor(self) -> Redactor:
        return self._shared.app.knowing(self._redactor)

    async def current(self) -> str:
        return (await self._shared.current(self._redactor)).value

    def drop(self, refused: str) -> None:
        if self._shared.token is not None and self._shared.token.value == refused:
            self._shared.token = None

    async def facts(self) -> TokenFacts:
        """By the answer of the exchange alone: how Buildkite's API describes such a token is not documented."""
        token = await self._shared.current(self._redactor)
        subject = self._shared.app.request.exchange.subject
        return TokenFacts("", token.scopes, owner_email=subject if "@" in subject else "", words=EXCHANGED)


class TokenExchanges:
    """The tokens of all connectors of the process."""

    def __init__(self, access: Access) -> None:
        self._clock = access.clock
        self._endpoint = ExchangeEndpoint(access)
        self._tokens: dict[bytes, _SharedToken] = {}
        self._forgetting: asyncio.TimerHandle | None = None

    def tokens(self, request: ExchangeRequest, redactor: Redactor) -> ExchangedTokens:
        """The private key is part of what tokens are kept by: who does not have it gets none of them."""
        exchange = request.exchange
        facts = (exchange.client_id, exchange.private_key, exchange.subject, request.organization)
        key = sha256(repr((facts, sorted(request.scopes))).encode()).digest()
        shared = self._tokens.get(key)
        if shared is None:
            shared = self._tokens[key] = _SharedToken(request, self._endpoint, self._clock)
            self._forget_later()
        shared.asked_at = self._clock.monotonic()
        return ExchangedTokens(shared, redactor)

    async def close(self) -> None:
        if self._forgetting is not None:
            self._forgetting.cancel()
        for shared in list(self._tokens.values()):
            await shared.close()
        await self._endpoint.close()

    def _forget_later(self) -> None:
        """Each holds a private key, which a connector that was deleted must not leave behind."""
        if self._forgetting is None and self._tokens:
            self._forgetting = asyncio.get_running_loop().call_later(TOKEN_SECONDS, self._forget)

    def _forget(self) -> None:
        """Drop what nobody has asked for in the life of a token."""
        oldest = self._clock.monotonic() - TOKEN_SECONDS
        self._tokens = {
            key: each for key, each in self._tokens.items() if each.asked_at > oldest or each.exchanging is not None
        }
        self._forgetting = None
        self._forget_later()
