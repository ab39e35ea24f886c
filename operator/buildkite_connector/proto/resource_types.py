"""C1's ResourceType of each kind: a snapshot holds them, and Hello announces them.

An opt-in kind is marked as such and names the scopes of the API token that it needs.
"""

from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message

from buildkite_connector.model.directory import REQUIRED_SCOPES, ResourceKind
from buildkite_connector.proto.connector_pb2 import (
    CapabilityPermission,
    CapabilityPermissions,
    OptInRequired,
    ResourceType,
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
}
