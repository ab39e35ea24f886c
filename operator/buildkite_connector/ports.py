"""What a session needs from the outside, in its own words; the adapters fit these.

`session` and `conversation` know Buildkite, C1, the snapshot store and the resource only through these Protocols.
"""

from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Protocol

from buildkite_connector.collect import Progress
from buildkite_connector.directory import (
    Collection,
    Directory,
    Organization,
    OrganizationSlug,
    ResourceKind,
    Scope,
)
from buildkite_connector.preflight import Preflight
from buildkite_connector.spec import ConnectorKey, ConnectorSpec, Credentials
from buildkite_connector.staged import StagedSnapshot, SyncID
from buildkite_connector.status import ConnectorStatus
from buildkite_connector.task import Heartbeat, Poll, TaskID, TaskOutcome


class Source(Protocol):
    """Buildkite, for one connector. Every method raises Failure."""

    async def preflight(self, slug: OrganizationSlug | None, kinds: frozenset[ResourceKind]) -> Preflight: ...

    async def collect(
        self, organization: Organization, scope: Scope, progress: Callable[[Progress], None] | None = None
    ) -> Collection: ...


class TaskService(Protocol):
    """C1's BatonService, for one connector. Every method but `aclose` raises Failure."""

    async def hello(self, task_id: TaskID | None = None) -> None: ...

    async def next_task(self) -> Poll: ...

    async def heartbeat(self, task_id: TaskID) -> Heartbeat: ...

    async def upload(self, task_id: TaskID, path: Path, sha256: str) -> None: ...

    async def finish(self, task_id: TaskID, outcome: TaskOutcome) -> None: ...

    async def aclose(self) -> None: ...


class Services(Protocol):
    """Makes the two for one connector's credentials. Raises Failure when they are malformed."""

    def source(self, credentials: Credentials, spec: ConnectorSpec) -> Source: ...

    def task_service(self, credentials: Credentials, spec: ConnectorSpec) -> TaskService: ...


class Vault(Protocol):
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

    async def keep_only(self, keys: Iterable[ConnectorKey]) -> int:
        """Discard what is kept for any other connector; gives how many that were."""
        ...


class Reporter(Protocol):
    """Where the status goes."""

    async def report(self, before: ConnectorStatus | None, after: ConnectorStatus) -> None:
        """Raises Failure when it could not be written; the session tries again later."""
        ...
