"""The Buildkite adapter: `open_buildkite` gives the `Buildkite` that makes a client for each connector and sync.

Start at `client` (the calls), then `sender` (retries), `rate_limit` (when a request may go), `payload` and `errors`
(what came back). Only the names in `__all__` are for others to import.
"""

import sys
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from weakref import WeakValueDictionary

# httpx loads its own command line, and click, pygments and rich with it, wherever those are installed.
# An entry of None makes that import fail, which is the case httpx provides for: it goes on without.
_without_command_line = "httpx" not in sys.modules
if _without_command_line:
    sys.modules["httpx._main"] = None  # type: ignore[assignment]

from buildkite_connector.buildkite.client import BuildkiteClient  # noqa: E402
from buildkite_connector.buildkite.connections import Connections  # noqa: E402
from buildkite_connector.buildkite.portal import PortalClient  # noqa: E402
from buildkite_connector.buildkite.rate_limit import Lane, RateLimiter, RequestQueue  # noqa: E402
from buildkite_connector.buildkite.sender import Access, RequestSender, reach  # noqa: E402
from buildkite_connector.buildkite.settings import BuildkiteSettings, Patience, Timeouts  # noqa: E402
from buildkite_connector.buildkite.signing_key import SigningKey  # noqa: E402
from buildkite_connector.buildkite.token_exchange import TokenExchanges  # noqa: E402
from buildkite_connector.buildkite.tokens import GivenToken, TokenSource  # noqa: E402
from buildkite_connector.model.credential_forms import Credential  # noqa: E402
from buildkite_connector.model.directory import OrganizationSlug  # noqa: E402
from buildkite_connector.model.jitter import Jitter  # noqa: E402
from buildkite_connector.model.observer import SILENT, Observer  # noqa: E402
from buildkite_connector.model.redactor import Redactor  # noqa: E402
from buildkite_connector.model.spec import BuildkiteCredential, ExchangeRequest  # noqa: E402
from buildkite_connector.network import Network  # noqa: E402
from buildkite_connector.timing.clock import Clock, SystemClock, system_jitter  # noqa: E402
from buildkite_connector.timing.slots import Slot  # noqa: E402

if _without_command_line:
    del sys.modules["httpx._main"]

__all__ = [
    "Buildkite",
    "BuildkiteClient",
    "BuildkiteSettings",
    "Patience",
    "PortalClient",
    "SigningKey",
    "Timeouts",
    "open_buildkite",
]

NOTHING = Redactor()
RECENT = 2000
"""How many clients ago a queue is still remembered, and with it what is left of its quota: of a token or a portal."""


class Buildkite:
    """One Buildkite API, for all connectors of the process.

    Clients with the same token share its quota, and so do those whose tokens are exchanged for the same person, and all
    clients of one organization's portals.
    """

    def __init__(self, access: Access) -> None:
        self._access = access
        self._exchanges = TokenExchanges(access)
        url = access.settings.portal_url
        self._portals = replace(
            access, settings=replace(access.settings, api_url=url), connections=access.connections.elsewhere(url)
        )
        self._queues: WeakValueDictionary[bytes, RequestQueue] = WeakValueDictionary()
        self._recent: deque[RequestQueue] = deque(maxlen=RECENT)

    def client(
        self,
        credential: BuildkiteCredential,
        redactor: Redactor = NOTHING,
        *,
        quota_percent: int = 100,
        slot: Slot | None = None,
        urgent: bool = False,
        waits: bool = True,
    ) -> BuildkiteClient:
        """A client for one connector and one sync, its preflight included, or for its changes of memberships.

        `redactor` knows the connector's other credentials. `quota_percent`: 10–100, of each window's limit. `slot`:
        what the client's owner holds; it is given back while all requests wait. `urgent`: a person waits, and its
        requests go before those of others. `waits`: whether a request that timed out is sent again; those who ask again
        themselves, and report why, need not wait.

        Raises Failure TOKEN_INVALID for what cannot be a token.
        """
        tokens: TokenSource
        if isinstance(credential, ExchangeRequest):
            tokens = self._exchanges.tokens(credential, redactor)
            identity = f"subject {credential.exchange.subject.casefold()}"
        else:
            tokens, identity = GivenToken(credential, redactor), credential
        queue = self._queue(identity)
        sender = RequestSender(self._access, queue, Lane(quota_percent, urgent, slot), tokens, waits=waits)
        return BuildkiteClient(self._access.settings, sender)

    def portal(
        self,
        organization: OrganizationSlug,
        portal: str,
        token: str,
        redactor: Redactor = NOTHING,
        *,
        slot: Slot | None = None,
        urgent: bool = False,
        waits: bool = True,
    ) -> PortalClient:
        """A client of the organization's portal with the slug `portal`, else as `client`."""
        tokens = GivenToken(token, redactor, Credential.PORTAL_TOKEN)
        queue = self._queue(f"portals of {organization}", of_user=False)
        sender = RequestSender(self._portals, queue, Lane(100, urgent, slot), tokens, waits=waits)
        return PortalClient(sender, organization, portal)

    def _queue(self, identity: str, *, of_user: bool = True) -> RequestQueue:
        """Shared by all that use the same quota. No token is like the identity of others: those have blanks."""
        key = sha256(identity.encode(errors="surrogatepass")).digest()
        queue = self._queues.get(key)
        if queue is None:
            limiter = RateLimiter(self._access.settings.most_at_once, of_user=of_user)
            queue = self._queues[key] = RequestQueue(limiter, self._access.clock)
        self._recent.append(queue)
        return queue

    async def close(self) -> None:
        await self._exchanges.close()
        await self._portals.connections.close()
        await self._access.connections.close()

    async def reach(self, redactor: Redactor = NOTHING) -> datetime | None:
        """Ask once without a token whether Buildkite answers; see `sender.reach`."""
        return await reach(self._access, redactor)


@asynccontextmanager
async def open_buildkite(
    settings: BuildkiteSettings,
    network: Network,
    *,
    clock: Clock | None = None,
    jitter: Jitter | None = None,
    observer: Observer = SILENT,
    may_send: Callable[[], None] = lambda: None,
) -> AsyncIterator[Buildkite]:
    """The API for as long as the context lasts; then its connections are closed. For `may_send` see `Connections`."""
    connections = await Connections.open(settings.api_url, network, may_send)
    buildkite = Buildkite(Access(settings, connections, clock or SystemClock(), jitter or system_jitter(), observer))
    try:
        yield buildkite
    finally:
        await buildkite.close()
