"""What a connector needs from the outside, in its own words; the adapters fit these."""

from collections.abc import Iterable
from datetime import datetime
from typing import Protocol

from buildkite_connector.model.directory import Directory, SyncScope
from buildkite_connector.model.redactor import Redactor
from buildkite_connector.model.snapshot import OpenSnapshot, StagedSnapshot, SyncID
from buildkite_connector.model.spec import ConnectorKey, ConnectorSpec, Credentials
from buildkite_connector.model.status import ConnectorStatus
from buildkite_connector.sync.ports import BuildkiteAPI
from buildkite_connector.tasks.ports import TaskService
from buildkite_connector.timing.slots import Slot


class BuildkiteClients(Protocol):
    """Makes a client of Buildkite's API: for one sync or check, or for the changes of memberships."""

    def __call__(
        self,
        token: str,
        redactor: Redactor,
        *,
        quota_percent: int = 100,
        slot: Slot | None = None,
        urgent: bool = False,
        waits: bool = True,
    ) -> BuildkiteAPI:
        """`slot`: what the caller holds; it is given back while all requests wait. `urgent`: a person waits.

        `waits`: whether a request that timed out is sent again. Raises Failure for what cannot be a token.
        """
        ...


class C1Clients(Protocol):
    """Makes the client of C1 for one connector. Raises Failure when the credentials are malformed."""

    def __call__(self, credentials: Credentials, spec: ConnectorSpec) -> TaskService: ...


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
        """Open a staged snapshot, verified, or the file that a task asks for, made from it.

        That one has fewer types or parts, or the grants of teams expanded.
        """
        ...

    async def restore(self, key: ConnectorKey, sha256: str) -> StagedSnapshot | None:
        """The snapshot that a former process staged, when its file is still there and is the one of this hash."""
        ...

    def remove(self, snapshot: StagedSnapshot) -> None:
        """Remove one file. A reader that has it open reads it to the end."""
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
