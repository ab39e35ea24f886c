"""What a sync needs of Buildkite."""

from collections.abc import Callable
from typing import Protocol

from buildkite_connector.model.directory import Collection, Organization, ResourceKind, SyncScope, TeamID
from buildkite_connector.model.spec import OrganizationChoice
from buildkite_connector.sync.collect import Progress
from buildkite_connector.sync.preflight import Preflight


class Source(Protocol):
    """Buildkite, for one connector. Every method raises Failure."""

    async def preflight(self, choice: OrganizationChoice | None, kinds: frozenset[ResourceKind]) -> Preflight: ...

    async def collect(
        self, organization: Organization, scope: SyncScope, progress: Callable[[Progress], None] | None = None
    ) -> Collection: ...

    async def reread(self, collection: Collection, teams: frozenset[TeamID]) -> Collection:
        """The collection with the members of these teams as they are now."""
        ...
