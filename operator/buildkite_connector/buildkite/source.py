"""Where clients come from: shared connections, and one gate for each token that is in use."""

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from weakref import WeakValueDictionary

from buildkite_connector.buildkite.client import BuildkiteClient
from buildkite_connector.buildkite.connections import Connections
from buildkite_connector.buildkite.gate import Gate
from buildkite_connector.buildkite.pacer import Pacer
from buildkite_connector.buildkite.settings import BuildkiteSettings
from buildkite_connector.clock import Chance, Clock, SystemClock, system_chance

RECENT = 1000
"""How many clients ago a token's gate is still remembered, and with it what is left of its quota."""


class Buildkite:
    """One Buildkite API, for all connectors of the process."""

    def __init__(self, settings: BuildkiteSettings, connections: Connections, clock: Clock, chance: Chance) -> None:
        self._settings = settings
        self._connections = connections
        self._clock = clock
        self._chance = chance
        self._gates: WeakValueDictionary[bytes, Gate] = WeakValueDictionary()
        self._recent: deque[Gate] = deque(maxlen=RECENT)

    def client(self, token: str, quota_percent: int = 80) -> BuildkiteClient:
        """A client for one connector and one sync, its preflight included.

        Clients with the same token share its quota. `quota_percent`: 10–100, of each window's limit.

        Raises Failure TOKEN_REJECTED for a token that HTTP cannot carry.
        """
        key = sha256(token.encode(errors="surrogatepass")).digest()
        gate = self._gates.get(key)
        if gate is None:
            gate = self._gates[key] = Gate(Pacer(self._settings.most_at_once), self._clock)
        self._recent.append(gate)
        return BuildkiteClient(
            self._settings,
            self._connections,
            gate,
            self._clock,
            self._chance,
            token=token,
            quota_percent=quota_percent,
        )


@asynccontextmanager
async def open_buildkite(
    settings: BuildkiteSettings,
    *,
    clock: Clock | None = None,
    chance: Chance | None = None,
) -> AsyncIterator[Buildkite]:
    """The API for as long as the context lasts; then its connections are closed."""
    connections = await Connections.open(settings.api_url)
    try:
        yield Buildkite(settings, connections, clock or SystemClock(), chance or system_chance())
    finally:
        await connections.close()
