"""What the connectors of one process share: its ports and slots, and which of them uses which host ID at C1."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from buildkite_connector.connector.ports import (
    BuildkiteClients,
    C1Clients,
    C1RestClients,
    PortalClients,
    SnapshotStore,
)
from buildkite_connector.connector.state import C1Identity
from buildkite_connector.model.jitter import Jitter
from buildkite_connector.model.observer import SILENT, Observer
from buildkite_connector.model.snapshot import SyncID
from buildkite_connector.model.spec import ConnectorKey, namespace_of
from buildkite_connector.tasks.session import MOST_TASKS
from buildkite_connector.timing.clock import Clock
from buildkite_connector.timing.slots import Slots

Listener = Callable[[], None]
"""Called in the event loop when the holder of the listener's identity may have changed."""
_Name = tuple[str, str]
C1_RESTS_AT_ONCE = 16
"""How many connectors ask C1's REST API at once: a thousand that start together must not wait for its connections."""


@dataclass(frozen=True, slots=True, order=True)
class Age:
    """Sorts connectors: the oldest holds the identity. `created` is the resource's creation time (RFC 3339)."""

    created: str
    key: ConnectorKey


@dataclass(slots=True)
class _Claim:
    """`accepted`: C1 greeted the client when it was last asked."""

    age: Age
    listener: Listener
    accepted: bool = False


class HostIDs:
    """Which connector uses which host ID: two with the same client and host ID are one to C1.

    A claim counts once C1 has accepted the client: without its secret, no connector can keep another one from C1. Of
    those that C1 accepts, the oldest holds the identity. The client secret does not count: one client may have several.
    """

    def __init__(self) -> None:
        self._claims: dict[_Name, dict[ConnectorKey, _Claim]] = {}
        self._claimed: dict[ConnectorKey, _Name] = {}

    def claim(self, age: Age, identity: C1Identity | None, listener: Listener, accepted: bool | None = None) -> None:
        """The connector uses this identity from now on, None: none.

        `accepted`: whether C1 accepts it; None: C1 has not answered, and what it said before holds. Others that use
        the identity are called when the holder may be another.
        """
        name = identity.name if identity is not None else None
        if name != self._claimed.get(age.key):
            self.release(age.key)
            if name is not None:
                self._claims.setdefault(name, {})[age.key] = _Claim(age, listener)
                self._claimed[age.key] = name
        if name is None or accepted is None:
            return
        claim = self._claims[name][age.key]
        if claim.accepted is not accepted:
            claim.accepted = accepted
            self._call_others(name, age.key)

    def release(self, key: ConnectorKey) -> None:
        """The connector uses no identity any more: the next oldest holds it."""
        name = self._claimed.pop(key, None)
        if name is None:
            return
        claim = self._claims[name].pop(key)
        if claim.accepted:
            self._call_others(name, key)
        if not self._claims[name]:
            del self._claims[name]

    def holder(self, key: ConnectorKey) -> str | None:
        """What to call the older connector that holds the identity this one uses; None when it may use it.

        Another namespace's connector is not named: who reads this one's status may know nothing of that.
        """
        name = self._claimed.get(key)
        if name is None:
            return None
        own = self._claims[name][key]
        older = [claim.age for claim in self._claims[name].values() if claim.accepted and claim.age < own.age]
        if not older:
            return None
        holder = min(older).key
        if namespace_of(holder) != namespace_of(key):
            return "Another connector, in another namespace,"
        return f"BuildkiteConnector {holder.replace('.', '/', 1)}"

    def _call_others(self, name: _Name, key: ConnectorKey) -> None:
        loop = asyncio.get_running_loop()
        for other, claim in self._claims[name].items():
            if other != key:
                loop.call_soon(claim.listener)


@dataclass(frozen=True, slots=True)
class Environment:
    """`sync_slots`, `check_slots` and `hello_slots` bound how many syncs, checks and Hellos run at once.

    `most_tasks`: of C1, that one connector works on at once. `c1_rest`: None where no connector has `spec.c1`;
    `c1_rest_slots` bound how many of them ask C1's REST API at once, and `creation_slots` how many are created there,
    which may wait for the status or for C1 for long.
    """

    buildkite: BuildkiteClients
    portals: PortalClients
    c1: C1Clients
    store: SnapshotStore
    clock: Clock
    jitter: Jitter
    sync_slots: Slots
    check_slots: Slots
    hello_slots: Slots
    new_sync_id: Callable[[datetime], SyncID]
    host_ids: HostIDs = field(default_factory=HostIDs)
    observer: Observer = SILENT
    most_tasks: int = MOST_TASKS
    c1_rest: C1RestClients | None = None
    c1_rest_slots: Slots = field(default_factory=lambda: Slots(C1_RESTS_AT_ONCE, shared=True))
    creation_slots: Slots = field(default_factory=lambda: Slots(C1_RESTS_AT_ONCE, shared=True))
