"""The session's `Clients`, made of the Buildkite and C1 adapters."""

from collections.abc import Callable
from dataclasses import dataclass, field

from buildkite_connector.buildkite import Buildkite, BuildkiteClient, MembershipClient
from buildkite_connector.c1 import C1, C1Client, parse_credentials
from buildkite_connector.model.directory import Collection, Organization, OrganizationSlug, TeamID
from buildkite_connector.model.scope import ResourceKind, SyncScope
from buildkite_connector.model.spec import ConnectorSpec, Credentials
from buildkite_connector.sync.collect import Progress, collect
from buildkite_connector.sync.preflight import Preflight, preflight
from buildkite_connector.sync.reread import reread
from buildkite_connector.timing.slots import Slot


@dataclass(frozen=True, slots=True)
class BuildkiteSource:
    """One connector's view of Buildkite. Each call counts its own requests and waits; all work while `slot` is held."""

    buildkite: Buildkite
    token: str = field(repr=False)
    quota_percent: int
    slot: Slot

    async def preflight(self, slug: OrganizationSlug | None, kinds: frozenset[ResourceKind]) -> Preflight:
        return await preflight(self._client(), slug, kinds)

    async def collect(
        self, organization: Organization, scope: SyncScope, progress: Callable[[Progress], None] | None = None
    ) -> Collection:
        return await collect(self._client(), organization, scope, progress=progress)

    async def reread(self, collection: Collection, teams: frozenset[TeamID]) -> Collection:
        return await reread(self._client(), collection, teams)

    def _client(self) -> BuildkiteClient:
        return self.buildkite.client(self.token, self.quota_percent, self.slot)


@dataclass(frozen=True, slots=True)
class Connections:
    """This process's access to Buildkite and to C1."""

    buildkite: Buildkite
    c1: C1

    def source(self, credentials: Credentials, spec: ConnectorSpec, slot: Slot) -> BuildkiteSource:
        return BuildkiteSource(self.buildkite, credentials.api_token, spec.quota_percent, slot)

    def memberships(self, credentials: Credentials, slot: Slot | None = None) -> MembershipClient:
        return self.buildkite.memberships(credentials.write_api_token or credentials.api_token, slot)

    def task_service(self, credentials: Credentials, spec: ConnectorSpec) -> C1Client:
        parsed = parse_credentials(credentials.client_id, credentials.client_secret)
        return self.c1.client(parsed, spec.host_id, provisions=spec.provisioning.enabled)
