"""Where clients come from: shared connections, and one queue for each token that is in use."""

from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from hashlib import sha256
from weakref import WeakValueDictionary

from buildkite_connector.buildkite.client import BuildkiteClient
from buildkite_connector.buildkite.connection_pool import Connections
from buildkite_connector.buildkite.http import RequestSender
from buildkite_connector.buildkite.memberships import MembershipClient
from buildkite_connector.buildkite.rate_limit.limiter import RateLimiter
from buildkite_connector.buildkite.rate_limit.queue import RequestQueue
from buildkite_connector.buildkite.reachability import reach
from buildkite_connector.buildkite.settings import BuildkiteSettings
from buildkite_connector.model.jitter import Jitter
from buildkite_connector.model.observer import SILENT, Observer
from buildkite_connector.model.redactor import Redactor
from buildkite_connector.network import Network
from buildkite_connector.timing.clock import Clock, SystemClock, system_jitter
from buildkite_connector.timing.slots import Slot

NOTHING = Redactor()
RECENT = 1000
"""How many clients ago a token's queue is still remembered, and with it what is left of its quota."""


class Buildkite:
    """One Buildkite API, for all connectors of the process."""

    def __init__(
        self, settings: BuildkiteSettings, connections: Connections, clock: Clock, jitter: Jitter, observer: Observer
    ) -> None:
        self._settings = settings
        self._connections = connections
        self._clock = clock
        self._jitter = jitter
        self._observer = observer
        self._gates: WeakValueDictionary[bytes, RequestQueue] = WeakValueDictionary()
        self._recent: deque[RequestQueue] = deque(maxlen=RECENT)

    def client(
        self,
        token: str,
        quota_percent: int = 80,
        redactor: Redactor = NOTHING,
        slot: Slot | None = None,
        *,
        waits: bool = True,
    ) -> BuildkiteClient:
        """A client for one connector and one sync, its preflight included.

        Clients with the same token share its quota. `quota_percent`: 10–100, of each window's limit. `redactor` knows
        the connector's other credentials. `slot`: what the client's owner holds; it is given back while all its
        requests wait. `waits`: whether a request that timed out is sent again; those who ask again
        themselves, and tell why, need not wait.

        Raises Failure TOKEN_INVALID for what cannot be a token.
        """
        sender = self._sender(token, quota_percent, slot=slot, waits=waits)
        return BuildkiteClient(self._settings, sender, redactor.with_secrets(token))

    def memberships(self, token: str, redactor: Redactor = NOTHING, slot: Slot | None = None) -> MembershipClient:
        """A client that changes memberships: its requests go before others', and may use the whole quota.

        Raises Failure TOKEN_INVALID for what cannot be a token.
        """
        sender = self._sender(token, 100, urgent=True, slot=slot)
        return MembershipClient(self._settings, sender, redactor.with_secrets(token))

    def _sender(
        self, token: str, quota_percent: int, *, urgent: bool = False, slot: Slot | None = None, waits: bool = True
    ) -> RequestSender:
        key = sha256(token.encode(errors="surrogatepass")).digest()
        queue = self._gates.get(key)
        if queue is None:
            queue = self._gates[key] = RequestQueue(RateLimiter(self._settings.most_at_once), self._clock)
        self._recent.append(queue)
        return RequestSender(
            self._settings,
            self._connections,
            queue,
            self._clock,
            self._jitter,
            self._observer,
            token=token,
            quota_percent=quota_percent,
            urgent=urgent,
            waits=waits,
            slot=slot,
        )

    async def reach(self, redactor: Redactor = NOTHING) -> datetime | None:
        """Ask once without a token whether Buildkite answers; see `reachability`."""
        return await reach(self._settings, self._connections, self._clock, redactor)


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
    try:
        yield Buildkite(settings, connections, clock or SystemClock(), jitter or system_jitter(), observer)
    finally:
        await connections.close()
