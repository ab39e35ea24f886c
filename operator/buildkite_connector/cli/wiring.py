"""The connector's `Clients`, made of the Buildkite and C1 adapters."""

from collections.abc import Callable
from dataclasses import dataclass

from buildkite_connector.buildkite import Buildkite, BuildkiteClient, MembershipClient
from buildkite_connector.c1 import C1, C1Client
from buildkite_connector.model.directory import Collection, Organization, ResourceKind, SyncScope, TeamID
from buildkite_connector.model.spec import ConnectorSpec, Credentials, OrganizationChoice
from buildkite_connector.sync.collect import Progress, collect
from buildkite_connector.sync.preflight import Preflight, preflight
from buildkite_connector.sync.reread import reread
from buildkite_connector.timing.slots import Slot


@dataclass(frozen=True, slots=True)
class BuildkiteSource:
    """One connector's view of Buildkite. Each call counts its own requests and waits; all work while `slot` is held."""

    buildkite: Buildkite
    credentials: Credentials
    quota_percent: int
    slot: Slot

    async def preflight(self, choice: OrganizationChoice | None, kinds: frozenset[ResourceKind]) -> Preflight:
        """For a check, whose result the status shows, and which is repeated: in silence it would last for minutes."""
        return await preflight(self._client(waits=False), choice, kinds)

    async def collect(
        self, organization: Organization, scope: SyncScope, progress: Callable[[Progress], None] | None = None
    ) -> Collection:
        return await collect(self._client(organization.slug), organization, scope, progress=progress)

    async def reread(self, collection: Collection, teams: frozenset[TeamID]) -> Collection:
        return await reread(self._client(collection.directory.organization.slug), collection, teams)

    def _client(self, confirmed: str = "", *, waits: bool = True) -> BuildkiteClient:
        """`confirmed`: the slug that is public by now. `waits`: see `Buildkite.client`."""
        redactor = self.credentials.redactor.without(confirmed)
        return self.buildkite.client(self.credentials.api_token, self.quota_percent, redactor, self.slot, waits=waits)


@dataclass(frozen=True, slots=True)
class Connections:
    """This process's access to Buildkite and to C1."""

    buildkite: Buildkite
    c1: C1

    def source(self, credentials: Credentials, spec: ConnectorSpec, slot: Slot) -> BuildkiteSource:
        return BuildkiteSource(self.buildkite, credentials, spec.quota_percent, slot)

    def memberships(self, credentials: Credentials, slot: Slot | None = None) -> MembershipClient:
        token = credentials.write_api_token or credentials.api_token
        return self.buildkite.memberships(token, credentials.redactor, slot)

    def task_service(self, credentials: Credentials, spec: ConnectorSpec) -> C1Client:
        return self.c1.connect(credentials, spec)
