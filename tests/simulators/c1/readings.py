"""What C1 makes of the end of a grant or a revoke: a pure reading; what C1 could not read is refused.

The rules are those of facts/provisioning.md. An answer that breaks them is a violation, refused with INVALID_ARGUMENT.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError, Message
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import ErrorInfo

from buildkite_connector.proto import baton_pb2 as pb
from buildkite_connector.proto import connector_pb2
from simulators.c1.limits import invalid

TYPE_URL = "type.googleapis.com/"
V2 = "c1.connector.v2."
CANCELLED_REASON, CANCELLED_DOMAIN = "grant_cancelled", "github.com/conductorone/baton-sdk"
FINAL_CODES = frozenset({Code.UNAUTHENTICATED, Code.PERMISSION_DENIED, Code.NOT_FOUND})
"""C1 does not try again after a 401, 403 or 404, whatever the connector says of it."""

M = TypeVar("M", bound=Message)

ANNOTATIONS: Mapping[str, frozenset[str]] = {
    "grant": frozenset({"GrantAlreadyExists", "GrantReplaced", "RateLimitDescription", "ResourceDeleted"}),
    "revoke": frozenset({"GrantAlreadyRevoked", "RateLimitDescription", "ResourceDeleted"}),
}
"""What an answer of each kind may carry."""


class Effect(StrEnum):
    """What a change came to. RETRY: it may come again. FAILED: a person must see to it."""

    DONE = "done"
    ALREADY = "already"
    CANCELLED = "cancelled"
    RETRY = "retry"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Reading:
    """`reason`: what a person is told of anything but success. `replaced`: ids of grants that the new one took over."""

    effect: Effect
    reason: str = ""
    grants: tuple[connector_pb2.Grant, ...] = ()
    replaced: tuple[str, ...] = ()

    @property
    def success(self) -> bool:
        return self.effect in (Effect.DONE, Effect.ALREADY)


def read_answer(task: pb.Task, request: pb.BatonServiceFinishTaskRequest, siblings: Iterable[str] = ()) -> Reading:
    """`siblings`: the entitlements that exclude the task's own. Raises Refused for an answer that makes no sense."""
    if request.WhichOneof("final_state") == "error":
        return _error(request)
    if task.WhichOneof("task_type") == "grant":
        return _grant(task.grant, request.success, frozenset(siblings))
    return _revoke(request.success)


def _error(request: pb.BatonServiceFinishTaskRequest) -> Reading:
    status = request.status
    infos = [_unpacked(each, ErrorInfo()) for each in status.details if each.Is(ErrorInfo.DESCRIPTOR)]
    if any(info.reason == CANCELLED_REASON for info in infos):
        if len(infos) > 1:
            raise invalid(f"status.details: expected one ErrorInfo, got {len(infos)}")
        if infos[0].domain != CANCELLED_DOMAIN:
            raise invalid(f"status.details: {CANCELLED_REASON}: expected domain {CANCELLED_DOMAIN}")
        if status.code != Code.FAILED_PRECONDITION:
            raise invalid(f"status.code: {CANCELLED_REASON}: expected {Code.FAILED_PRECONDITION}, got {status.code}")
        if not infos[0].metadata.get("reason"):
            raise invalid(f"status.details: {CANCELLED_REASON}: expected a reason in metadata")
        return Reading(Effect.CANCELLED, infos[0].metadata["reason"])
    final = request.error.non_retryable or status.code in FINAL_CODES
    return Reading(Effect.FAILED if final else Effect.RETRY, status.message)


def _grant(
    asked: pb.Task.GrantTask, success: pb.BatonServiceFinishTaskRequest.Success, siblings: frozenset[str]
) -> Reading:
    response = _unpacked(_response(success), connector_pb2.GrantManagerServiceGrantResponse())
    _check_annotations("grant", response.annotations, success)
    wanted = f"{asked.entitlement.id}:{asked.principal.id.resource_type}:{asked.principal.id.resource}"
    for index, grant in enumerate(response.grants):
        _check_grant(f"grants[{index}]", grant, asked, wanted)
    if len(response.grants) > 1:
        raise invalid(f"grants: expected the one that was asked for, got {len(response.grants)}")
    already = _has(response.annotations, "GrantAlreadyExists")
    principal = wanted.removeprefix(asked.entitlement.id)
    replaceable = {sibling + principal for sibling in siblings}
    replaced = []
    for each in response.annotations:
        if each.TypeName() == V2 + "GrantReplaced":
            replaced.append(_unpacked(each, connector_pb2.GrantReplaced()).replaced_grant_id)
            if replaced[-1] not in replaceable:
                told = " or ".join(sorted(replaceable)) or "none, as nothing excludes it"
                raise invalid(f"GrantReplaced.replaced_grant_id: expected {told}, got {replaced[-1]!r}")
    if already and replaced:
        raise invalid("annotations: GrantAlreadyExists and GrantReplaced contradict one another")
    effect = Effect.ALREADY if already else Effect.DONE
    return Reading(effect, grants=tuple(response.grants), replaced=tuple(replaced))


def _check_grant(field: str, grant: connector_pb2.Grant, asked: pb.Task.GrantTask, wanted: str) -> None:
    for name, expected, told in (
        ("id", wanted, grant.id),
        ("entitlement.id", asked.entitlement.id, grant.entitlement.id),
        ("entitlement.resource.id", asked.entitlement.resource.id, grant.entitlement.resource.id),
        ("principal.id", asked.principal.id, grant.principal.id),
    ):
        if expected != told:
            raise invalid(f"{field}.{name}: expected {str(expected).strip()!r}, got {str(told).strip()!r}")


def _revoke(success: pb.BatonServiceFinishTaskRequest.Success) -> Reading:
    response = _unpacked(_response(success), connector_pb2.GrantManagerServiceRevokeResponse())
    _check_annotations("revoke", response.annotations, success)
    return Reading(Effect.ALREADY if _has(response.annotations, "GrantAlreadyRevoked") else Effect.DONE)


def _response(success: pb.BatonServiceFinishTaskRequest.Success) -> Any:
    if not success.HasField("response"):
        raise invalid("success.response: expected the answer to the change, got none")
    return success.response


def _unpacked(wrapped: Any, message: M) -> M:
    expected = TYPE_URL + message.DESCRIPTOR.full_name
    if wrapped.type_url != expected:
        raise invalid(f"type_url: expected {expected}, got {wrapped.type_url!r}")
    try:
        message.ParseFromString(wrapped.value)
    except DecodeError:
        raise invalid(f"value: is no {message.DESCRIPTOR.full_name}") from None
    return message


def _check_annotations(
    kind: str, annotations: Sequence[Any], success: pb.BatonServiceFinishTaskRequest.Success
) -> None:
    names = [each.type_url for each in annotations]
    for name in names:
        if name.removeprefix(TYPE_URL + V2) not in ANNOTATIONS[kind]:
            raise invalid(f"annotations: {name!r} has no place in the answer to a {kind}")
    if list(success.annotations) != list(annotations):
        told = [each.type_url for each in success.annotations]
        raise invalid(f"success.annotations: expected those of the response, {names}, got {told}")


def _has(annotations: Iterable[Any], name: str) -> bool:
    return any(each.TypeName() == V2 + name for each in annotations)
