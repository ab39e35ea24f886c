"""What a sync needs of Buildkite."""

from collections.abc import Callable
from typing import Protocol

from buildkite_connector.model.directory import Collection, Organization, OrganizationSlug, ResourceKind, Scope
from buildkite_connector.sync.collect import Progress
from buildkite_connector.sync.preflight import Preflight


class Source(Protocol):
    """Buildkite, for one connector. Every method raises Failure."""

    async def preflight(self, slug: OrganizationSlug | None, kinds: frozenset[ResourceKind]) -> Preflight: ...

    async def collect(
        self, organization: Organization, scope: Scope, progress: Callable[[Progress], None] | None = None
    ) -> Collection: ...
