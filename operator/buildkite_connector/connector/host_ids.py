"""Which connector of this process uses which host ID at C1: two with the same client and host ID are one to C1."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from buildkite_connector.connector.state import C1Identity
from buildkite_connector.model.spec import ConnectorKey

Listener = Callable[[], None]
"""Called in the event loop when the holder of the listener's identity may have changed."""
_Name = tuple[str, str]


@dataclass(frozen=True, slots=True, order=True)
class Age:
    """Sorts connectors: the oldest holds the identity. `created` is the resource's creation time (RFC 3339)."""

    created: str
    key: ConnectorKey


class HostIDs:
    """The claims of all connectors. The client secret does not count: one client may have several."""

    def __init__(self) -> None:
        self._claims: dict[_Name, dict[ConnectorKey, tuple[Age, Listener]]] = {}
        self._claimed: dict[ConnectorKey, _Name] = {}

    def claim(self, age: Age, identity: C1Identity | None, listener: Listener) -> None:
        """The connector uses this identity from now on, None: none. Others that used it are called."""
        name = (identity.client_id, identity.host_id) if identity is not None else None
        if name == self._claimed.get(age.key):
            return
        self.release(age.key)
        if name is not None:
            self._claims.setdefault(name, {})[age.key] = (age, listener)
            self._claimed[age.key] = name
            self._call_others(name, age.key)

    def release(self, key: ConnectorKey) -> None:
        """The connector uses no identity any more: the next oldest holds it."""
        name = self._claimed.pop(key, None)
        if name is None:
            return
        del self._claims[name][key]
        self._call_others(name, key)
        if not self._claims[name]:
            del self._claims[name]

    def holder(self, key: ConnectorKey) -> ConnectorKey | None:
        """The other connector that holds the identity this one uses; None when it is its own."""
        name = self._claimed.get(key)
        if name is None:
            return None
        oldest = min(age for age, _ in self._claims[name].values()).key
        return oldest if oldest != key else None

    def _call_others(self, name: _Name, key: ConnectorKey) -> None:
        loop = asyncio.get_running_loop()
        for other, (_, listener) in self._claims[name].items():
            if other != key:
                loop.call_soon(listener)
