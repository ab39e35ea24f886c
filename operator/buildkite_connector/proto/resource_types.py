"""C1's ResourceType of each kind: a snapshot holds them, and Hello announces them.

An opt-in kind is marked as such and names the scopes of the API token that it needs, if any.
"""

from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message

from buildkite_connector.model.directory import ResourceKind
from buildkite_connector.model.token_scopes import REQUIRED_SCOPES
from buildkite_connector.proto.connector_pb2 import (
    CapabilityPermission,
    CapabilityPermissions,
    OptInRequired,
    ResourceType,
    SkipEntitlementsAndGrants,
)

TYPE_URL = "type.googleapis.com/c1.connector.v2."


def packed(message: Message) -> Any:
    """An annotation, as C1's messages carry it."""
    return Any(type_url=TYPE_URL + message.DESCRIPTOR.name, value=message.SerializeToString(deterministic=True))


def permissions(kind: ResourceKind) -> CapabilityPermissions:
    """The token scopes that an opt-in kind needs, with those of the teams that it is granted to."""
    of_teams = REQUIRED_SCOPES[ResourceKind.TEAM] if kind in {ResourceKind.PIPELINE, ResourceKind.CLUSTER} else ()
    needed = [*REQUIRED_SCOPES[kind], *of_teams]
    return CapabilityPermissions(permissions=[CapabilityPermission(permission=scope) for scope in needed])


def _opt_in(kind: ResourceKind, description: str) -> ResourceType:
    return ResourceType(
        id=kind.value,
        display_name=kind.value.capitalize(),
        annotations=[packed(OptInRequired()), packed(permissions(kind))],
        description=description,
    )


RESOURCE_TYPES = {
    ResourceKind.USER: ResourceType(id="user", display_name="User", traits=[ResourceType.TRAIT_USER]),
    ResourceKind.TEAM: ResourceType(id="team", display_name="Team", traits=[ResourceType.TRAIT_GROUP]),
    ResourceKind.ORGANIZATION: _opt_in(
        ResourceKind.ORGANIZATION, "The Buildkite organization: who is an administrator and who a member."
    ),
    ResourceKind.PIPELINE: _opt_in(ResourceKind.PIPELINE, "Pipelines, and what each team can do with them."),
    ResourceKind.CLUSTER: _opt_in(ResourceKind.CLUSTER, "Clusters of agents, and who maintains them."),
    ResourceKind.API_TOKEN: ResourceType(
        id=ResourceKind.API_TOKEN.value,
        display_name="API Token",
        traits=[ResourceType.TRAIT_SECRET],
        annotations=[packed(OptInRequired()), packed(SkipEntitlementsAndGrants())],
        description="People's API access tokens: whose they are, their scopes, when they expire and were last used.",
    ),
}
