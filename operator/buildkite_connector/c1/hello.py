"""What Hello tells C1: who this connector is, what it can sync and what it runs on."""

import functools
import platform
import socket
import sys

from google.protobuf.any_pb2 import Any
from google.protobuf.json_format import MessageToJson

from buildkite_connector import __version__
from buildkite_connector.model.directory import DEFAULT_KINDS, ResourceKind
from buildkite_connector.proto import baton_pb2, connector_pb2
from buildkite_connector.proto.resource_types import RESOURCE_TYPES, permissions

PACKAGE = "buildkite-connector"
HELP_URL = "https://www.c1.ai/docs/baton/buildkite"
DESCRIPTION = (
    "Syncs a Buildkite organization's accounts and teams, and optionally its roles, pipelines, clusters and people's "
    "API tokens."
)

_TEXT_LIMIT = 256
_UNKNOWN = "unknown"


def hello_request(host_id: str, task_id: str = "", *, provisions: bool = False) -> baton_pb2.BatonServiceHelloRequest:
    """The request of Hello; `task_id` is set when it answers a Hello task.

    `provisions`: the connector grants and revokes memberships of teams.
    """
    return baton_pb2.BatonServiceHelloRequest(
        host_id=host_id,
        task_id=task_id,
        build_info=baton_pb2.BatonServiceHelloRequest.BuildInfo(
            lang_version=_text(f"python{platform.python_version()}"),
            package=PACKAGE,
            package_version=_text(__version__),
        ),
        os_info=_os_info(),
        connector_metadata=_connector_metadata(provisions),
    )


def capabilities_json(*, provisions: bool = False) -> str:
    """What Hello announces as this connector's capabilities, as the JSON form of an Any, indented."""
    wrapped = Any()
    wrapped.Pack(_capabilities(provisions))
    return MessageToJson(wrapped, indent=2)


@functools.cache
def _os_info() -> baton_pb2.BatonServiceHelloRequest.OSInfo:
    """The machine, which does not change while the process lives. C1 wants every field non-empty."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    kernel = platform.release()
    distribution = release.get("ID") or sys.platform
    return baton_pb2.BatonServiceHelloRequest.OSInfo(
        hostname=_text(socket.gethostname()),
        os=_text(sys.platform),
        platform=_text(distribution),
        platform_version=_text(release.get("VERSION_ID") or kernel),
        platform_family=_text(release.get("ID_LIKE") or distribution),
        kernel_version=_text(kernel),
        kernel_arch=_text(platform.machine()),
        virtualization_system=_UNKNOWN,
    )


@functools.cache
def _connector_metadata(provisions: bool) -> connector_pb2.ConnectorMetadata:
    return connector_pb2.ConnectorMetadata(
        display_name="Buildkite",
        help_url=HELP_URL,
        description=DESCRIPTION,
        capabilities=_capabilities(provisions),
    )


@functools.cache
def _capabilities(provisions: bool) -> connector_pb2.ConnectorCapabilities:
    """All types, whatever the spec has: C1 may treat the resources of a type that is no longer announced as deleted."""
    sync = [connector_pb2.CAPABILITY_SYNC]
    all_of_them = [connector_pb2.CAPABILITY_PROVISION, *sync] if provisions else sync
    return connector_pb2.ConnectorCapabilities(
        resource_type_capabilities=[
            connector_pb2.ResourceTypeCapability(
                resource_type=resource_type,
                capabilities=all_of_them if kind is ResourceKind.TEAM else sync,
                permissions=permissions(kind) if kind not in DEFAULT_KINDS else None,
                opt_in_required=kind not in DEFAULT_KINDS,
            )
            for kind, resource_type in RESOURCE_TYPES.items()
        ],
        connector_capabilities=all_of_them,
    )


def _text(value: str) -> str:
    """Text within C1's limit, valid UTF-8 whatever the machine calls itself, and never empty."""
    return value.encode("utf-8", "replace").decode()[:_TEXT_LIMIT] or _UNKNOWN
