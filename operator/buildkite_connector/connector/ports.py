"""What a connector needs from the outside, in its own words; the adapters fit these."""

from collections.abc import Iterable
from datetime import datetime
from typing import Protocol

from buildkite_connector.model.directory import Directory
from buildkite_connector.model.snapshot import StagedSnapshot, SyncID
from buildkite_connector.model.spec import ConnectorKey, ConnectorSpec, Credentials
from buildkite_connector.model.status import ConnectorStatus
from buildkite_connector.sync.ports import Source
from buildkite_connector.tasks.ports import TaskService


class Clients(Protocol):
    """Makes the two for one connector's credentials. Raises Failure when they are malformed."""

    def source(self, credentials: Credentials, spec: ConnectorSpec) -> Source: ...

    def task_service(self, credentials: Credentials, spec: ConnectorSpec) -> TaskService: ...


class CredentialsSource(Protocol):
    """Where the credentials are, for one connector."""

    async def read(self) -> Credentials:
        """Raises Failure: what is missing (remedy: credentials), or that it cannot be asked (remedy: retry)."""
        ...


class SnapshotStore(Protocol):
    """Keeps the newest snapshot of each connector. Raises Failure."""

    async def stage(
        self, key: ConnectorKey, directory: Directory, *, sync_id: SyncID, started_at: datetime
    ) -> StagedSnapshot: ...

    async def restore(self, key: ConnectorKey, sha256: str) -> StagedSnapshot | None:
        """The snapshot that a former process staged, when its file is still there and is the one of this hash."""
        ...

    async def discard(self, key: ConnectorKey) -> None: ...

    async def prune(self, keys: Iterable[ConnectorKey]) -> int:
        """Discard what is kept for any other connector; gives how many that were."""
        ...


class StatusSink(Protocol):
    """Where the status goes."""

    async def report(self, before: ConnectorStatus | None, after: ConnectorStatus) -> None:
        """Raises Failure when it could not be written; the session tries again later."""
        ...
