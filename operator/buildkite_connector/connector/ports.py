"""What a connector needs from the outside, in its own words; the adapters fit these."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from buildkite_connector.model.directory import Directory, OrganizationSlug, SyncScope
from buildkite_connector.model.redactor import Redactor
from buildkite_connector.model.snapshot import OpenSnapshot, StagedSnapshot, SyncID
from buildkite_connector.model.spec import BuildkiteCredential, C1Access, ConnectorKey, ConnectorSpec, Credentials
from buildkite_connector.model.status import C1State, ConnectorStatus
from buildkite_connector.sync.ports import BuildkiteAPI, PortalAPI
from buildkite_connector.tasks.ports import TaskService
from buildkite_connector.timing.slots import Slot


class BuildkiteClients(Protocol):
    """Makes a client of Buildkite's API: for one sync or check, or for the changes of memberships."""

    def __call__(
        self,
        credential: BuildkiteCredential,
        redactor: Redactor,
        /,
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


class PortalClients(Protocol):
    """Makes a client of an organization's portal: for one sync or check."""

    def __call__(
        self,
        organization: OrganizationSlug,
        portal: str,
        token: str,
        redactor: Redactor,
        /,
        *,
        slot: Slot | None = None,
        urgent: bool = False,
        waits: bool = True,
    ) -> PortalAPI:
        """`portal`: its slug. The others are as for `BuildkiteClients`. Raises Failure for what cannot be a token."""
        ...


class C1Clients(Protocol):
    """Makes the client of C1 for one connector. Raises Failure when the credentials are malformed."""

    def __call__(self, credentials: Credentials, spec: ConnectorSpec) -> TaskService: ...


@dataclass(frozen=True, slots=True)
class NewCredential:
    """A credential of a connector, as C1 shows it once."""

    id: str
    client_id: str = field(repr=False)
    client_secret: str = field(repr=False)
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class CredentialUse:
    """What C1 says of a credential later."""

    expires_at: datetime | None = None
    last_used_at: datetime | None = None


class C1Rest(Protocol):
    """C1's REST API, for one client. Every method but `aclose` raises Failure.

    Its reasons are C1_CLIENT_REJECTED (401, or no token), WORKLOAD_IDENTITY_REJECTED (no token for that), CLOCK_WRONG
    (either, while the clock is wrong), C1_ACCESS_DENIED (403), C1_NOT_FOUND (404), C1_CONFLICT (409),
    C1_REQUEST_REJECTED (400), C1_UNAVAILABLE (429, 5xx, late or unusable), C1_UNREACHABLE, and SPEC_INVALID for an ID
    that is not sent.
    """

    async def connector(self, app_id: str, connector_id: str) -> C1State:
        """What C1 shows of the connector. C1_NOT_FOUND also for one that was deleted."""
        ...

    async def force_sync(self, app_id: str, connector_id: str) -> None:
        """C1 accepts to sync; it hands out the task later."""
        ...

    async def find_apps(self, marker: str) -> tuple[str, ...]:
        """IDs of the apps that were created with this marker, the oldest first; `x/` stands for all below it."""
        ...

    async def create_app(self, name: str, owners: tuple[str, ...], marker: str) -> str:
        """The new app's ID. Not idempotent: after a failure that may hide success, look with `find_apps`."""
        ...

    async def find_connectors(self, app_id: str, marker: str) -> tuple[str, ...]:
        """IDs of the app's connectors that were created with this marker, the oldest first.

        A marker that ends with `/` stands for all below it, and "" for every connector that runs outside of C1.
        """
        ...

    async def create_connector(self, app_id: str, name: str, owners: tuple[str, ...], marker: str) -> str:
        """The new connector's ID; it awaits its credentials. Not idempotent either."""
        ...

    async def create_credential(self, app_id: str, connector_id: str) -> NewCredential:
        """One more credential; others stay valid. One whose answer is lost cannot be found again."""
        ...

    async def credential(self, app_id: str, connector_id: str, credential_id: str) -> CredentialUse | None:
        """None: it is gone."""
        ...

    async def revoke_credential(self, app_id: str, connector_id: str, credential_id: str) -> None:
        """One that is gone already is no failure."""
        ...

    async def aclose(self) -> None: ...


class C1RestClients(Protocol):
    """Makes a client of C1's REST API. Raises Failure when the access is malformed or its host is not allowed."""

    def __call__(self, access: C1Access) -> C1Rest: ...


class C1AccessSource(Protocol):
    """Where one connector's access to C1's REST API is."""

    async def read(self) -> C1Access:
        """Raises Failure: what is missing (remedy: credentials), or that it cannot be asked (remedy: retry)."""
        ...


@dataclass(frozen=True, slots=True)
class Kept:
    """What the operator's own Secret holds. `version` is the Secret's resource version, "" before it is written.

    The client ID and secret are "" where somebody removed them.
    """

    app_id: str
    connector_id: str
    credential_id: str
    client_id: str = field(repr=False)
    client_secret: str = field(repr=False)
    version: str = field(default="", compare=False)


class OwnSecret(Protocol):
    """The Secret that the operator writes for one connector. One that somebody else created is never changed.

    Every method raises Failure: SECRET_NOT_OWN, SECRET_FORBIDDEN, KUBERNETES_REFUSED and KUBERNETES_UNAVAILABLE.
    """

    async def read(self) -> Kept | None:
        """None: there is no Secret of this name."""
        ...

    async def check_writable(self, there: Kept | None) -> None:
        """Find out whether `write` would be allowed, without a change."""
        ...

    async def write(self, content: Kept, there: Kept | None) -> None:
        """Write all values at once, in place of `there` or (None) as a new Secret; nothing else is ever replaced.

        A Secret that changed meanwhile is KUBERNETES_UNAVAILABLE: read it again.
        """
        ...


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
