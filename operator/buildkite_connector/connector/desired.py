"""What a session is given: a person's wish for one connector, and the tools that all sessions of a process share."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from buildkite_connector.connector.ports import Clients, CredentialsSource, SnapshotStore
from buildkite_connector.model.failure import Failure
from buildkite_connector.model.jitter import Jitter
from buildkite_connector.model.snapshot import SyncID
from buildkite_connector.model.spec import ConnectorSpec
from buildkite_connector.timing.clock import Clock
from buildkite_connector.timing.scheduler import Scheduler


@dataclass(frozen=True, slots=True)
class Order:
    """What a person wants of a connector now. `problem` says why `spec` could not be read, when it could not."""

    generation: int
    spec: ConnectorSpec
    vault: CredentialsSource
    sync_request: str | None = None
    accept_shrink: str | None = None
    problem: Failure | None = None

    def same_wish(self, other: "Order") -> bool:
        return (self.generation, self.sync_request, self.accept_shrink) == (
            other.generation,
            other.sync_request,
            other.accept_shrink,
        )


@dataclass(frozen=True, slots=True)
class Tools:
    """What the sessions of a process share. `slots` bounds how many sync at once, `check_slots` how many check."""

    services: Clients
    store: SnapshotStore
    scheduler: Scheduler
    clock: Clock
    jitter: Jitter
    slots: asyncio.Semaphore
    check_slots: asyncio.Semaphore
    new_sync_id: Callable[[datetime], SyncID]
