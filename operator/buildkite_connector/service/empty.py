"""What `--skip-full-sync` syncs: the credentials are checked as ever, and the snapshot is empty.

The vendor's connector delivers such a snapshot; C1 reads it as an organization without accounts. After a delivery that
was not empty the shrink guard holds it.
"""

from collections.abc import Callable
from dataclasses import dataclass

from buildkite_connector.connector.ports import Clients
from buildkite_connector.model.directory import Collection, Directory, Organization, ResourceKind, SyncScope, TeamID
from buildkite_connector.model.spec import ConnectorSpec, Credentials, OrganizationChoice
from buildkite_connector.sync.collect import Progress
from buildkite_connector.sync.ports import Source
from buildkite_connector.sync.preflight import Preflight
from buildkite_connector.tasks.ports import MembershipAPI, TaskService
from buildkite_connector.timing.slots import Slot


def empty_collection(organization: Organization, scope: SyncScope) -> Collection:
    """A directory without anybody in it."""
    return Collection(Directory(organization, (), (), (), scope))


@dataclass(frozen=True, slots=True)
class EmptySource:
    source: Source

    async def preflight(self, choice: OrganizationChoice | None, kinds: frozenset[ResourceKind]) -> Preflight:
        return await self.source.preflight(choice, kinds)

    async def collect(
        self, organization: Organization, scope: SyncScope, progress: Callable[[Progress], None] | None = None
    ) -> Collection:
        del progress  # there is nothing to tell of
        return empty_collection(organization, scope)

    async def reread(self, collection: Collection, teams: frozenset[TeamID]) -> Collection:
        del teams  # there are none
        return collection


@dataclass(frozen=True, slots=True)
class EmptyClients:
    """The clients of a connector that reads nobody."""

    clients: Clients

    def source(self, credentials: Credentials, spec: ConnectorSpec, slot: Slot) -> EmptySource:
        return EmptySource(self.clients.source(credentials, spec, slot))

    def memberships(self, credentials: Credentials, slot: Slot | None = None) -> MembershipAPI:
        return self.clients.memberships(credentials, slot)

    def task_service(self, credentials: Credentials, spec: ConnectorSpec) -> TaskService:
        return self.clients.task_service(credentials, spec)
