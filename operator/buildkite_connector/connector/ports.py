"""What a connector needs from the outside, in its own words; the adapters fit these."""

from collections.abc import Iterable
from datetime import datetime
from typing import Protocol

from buildkite_connector.model.directory import Directory, SyncScope
from buildkite_connector.model.snapshot import OpenSnapshot, StagedSnapshot, SyncID
from buildkite_connector.model.spec import ConnectorKey, ConnectorSpec, Credentials
from buildkite_connector.model.status import ConnectorStatus
from buildkite_connector.sync.ports import Source
from buildkite_connector.tasks.ports import MembershipAPI, TaskService
from buildkite_connector.timing.slots import Slot


class Clients(Protocol):
    """Makes the clients of one connector's credentials. Raises Failure when the credentials are malformed.

    `slot`: what the caller holds; it is given back while all requests wait.
    """

    def source(self, credentials: Credentials, spec: ConnectorSpec, slot: Slot) -> Source: ...

    def memberships(self, credentials: Credentials, slot: Slot | None = None) -> MembershipAPI:
        """Writes with the writing token, where there is one."""
        ...

    def task_service(self, credentials: Credentials, spec: ConnectorSpec) -> TaskService: ...


class CredentialsSource(Protocol):
    """Where one connector's credentials are."""

    async def read(self) -> Credentials:
        """Raises Failure: what is missing (remedy: credentials), or that it cannot be asked (remedy: retry)."""
        ...


class SnapshotStore(Protocol):
    """Keeps the snapshots of each connector, one file a sync. Raises Failure."""

    async def stage(
        self, key: ConnectorKey, directory: Directory, *, sync_id: SyncID, started_at: datetime
    ) -> StagedSnapshot:
        """Write a new file; older ones of the key stay until they are removed."""
        ...

    async def open(self, snapshot: StagedSnapshot, scope: SyncScope) -> OpenSnapshot:
        """Open a staged snapshot, verified, or a file of a narrower scope that is made from it."""
        ...

    async def restore(self, key: ConnectorKey, sha256: str) -> StagedSnapshot | None:
        """The snapshot that a former process staged, when its file is still there and is the one of this hash."""
        ...

    def remove(self, snapshot: StagedSnapshot) -> None:
        """Remove one file. Whoever has it open reads it to the end."""
        ...

    async def discard(self, key: ConnectorKey) -> None:
        """Remove all files of the key."""
        ...

    async def prune(self, keys: Iterable[ConnectorKey]) -> int:
        """Discard the files of all other connectors; gives how many there were."""
        ...


class StatusSink(Protocol):
    """Where the status goes."""

    async def report(self, before: ConnectorStatus | None, after: ConnectorStatus) -> None:
        """Raises Failure when it could not be written; the connector tries again later."""
        ...
