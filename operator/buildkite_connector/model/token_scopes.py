"""The scopes of an API token that the connector needs."""

from collections.abc import Mapping

from buildkite_connector.model.directory import ResourceKind

REQUIRED_SCOPES: Mapping[ResourceKind, tuple[str, ...]] = {
    ResourceKind.USER: ("read_organizations",),
    ResourceKind.TEAM: ("read_teams",),
    ResourceKind.ORGANIZATION: ("read_organizations",),
    ResourceKind.PIPELINE: ("read_pipelines",),
    ResourceKind.CLUSTER: ("read_clusters",),
    ResourceKind.API_TOKEN: (),
}
"""The token scopes that collecting each kind needs; `read_organizations` is always needed. API tokens are read through
a portal, whose token has no scopes."""

WRITE_SCOPE = "write_teams"
"""The token scope that changing memberships needs."""
