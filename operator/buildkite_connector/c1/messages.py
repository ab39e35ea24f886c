"""BatonService's messages to and from this project's words; every limit of the contract is kept here.

Team, role and person of a grant or revoke task come from entitlement and principal, never from the grant's id: C1 may
send a placeholder there. UUIDs may come in any of their forms; from here on they are as Buildkite writes them, so that
one team has one lock.
"""

import re
from itertools import islice

from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from buildkite_connector.model.canonical_id import canonical_id
from buildkite_connector.model.directory import (
    ALL_KINDS,
    AccountID,
    Membership,
    ResourceKind,
    Role,
    SyncScope,
    TeamID,
)
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.redactor import Redactor
from buildkite_connector.model.status import LONGEST_NAME
from buildkite_connector.model.tasks import (
    Code,
    GrantAnswer,
    Heartbeat,
    HelloTask,
    MembershipTask,
    Poll,
    RevokeAnswer,
    SyncTask,
    Task,
    TaskID,
    TaskOutcome,
    UnsupportedTask,
    entitlement_id,
    grant_id,
)
from buildkite_connector.model.words import listed
from buildkite_connector.proto import baton_pb2
from buildkite_connector.proto.connector_pb2 import (
    Entitlement,
    Grant,
    GrantAlreadyExists,
    GrantAlreadyRevoked,
    GrantManagerServiceGrantResponse,
    GrantManagerServiceRevokeResponse,
    GrantReplaced,
    Resource,
    ResourceId,
)

ERROR_DOMAIN = "connectors.c1.ai"
"""Whose reasons a failed task's ErrorInfo names."""
LONGEST_POLL = 300.0
SHORTEST_HEARTBEAT, LONGEST_HEARTBEAT, DEFAULT_HEARTBEAT = 1.0, 300.0, 30.0
UNKNOWN_KIND = "unknown"
MOST_RESOURCE_TYPES = 100
"""A task that names more types than this is refused without a look at them all; this connector has five."""
_ALL_TYPES = listed(sorted(ALL_KINDS))

_LONGEST_TASK_ID = 60
_LONGEST_ENGINE = 40
"""Characters of C1's texts that are shown."""

_TASK_ID = re.compile(r"[A-Za-z0-9]{27}")
CANCELLED_REASON, CANCELLED_DOMAIN = "grant_cancelled", "github.com/conductorone/baton-sdk"
"""The ErrorInfo by which C1 tells a deliberate refusal from a failure."""

_ID = re.compile(r"[0-9A-Za-z_][0-9A-Za-z_.=~+-]{0,199}")
"""What may become part of a path; Buildkite's ids are UUIDs."""
_LONGEST_ID = 80
"""Characters of C1's ids that are shown."""


def poll_from(response: baton_pb2.BatonServiceGetTaskResponse, redactor: Redactor) -> Poll:
    """GetTask's answer. Raises Failure C1_UNAVAILABLE for a task that breaks the contract.

    `redactor` knows the credentials that C1 has seen: what the task says may come to stand in a message.
    """
    return Poll(
        task=_task_from(response.task, redactor),
        next_poll=min(max(_seconds(response.next_poll), 0.0), LONGEST_POLL),
    )


def heartbeat_from(response: baton_pb2.BatonServiceHeartbeatResponse, task_id: TaskID) -> Heartbeat:
    """Heartbeat's answer; C1 names a cancelled task in either of two fields."""
    return Heartbeat(
        next_heartbeat=_heartbeat_interval(response.next_heartbeat),
        cancelled=response.cancelled or task_id in response.cancelled_task_ids,
    )


def finish_request(host_id: str, task_id: TaskID, outcome: TaskOutcome) -> baton_pb2.BatonServiceFinishTaskRequest:
    """FinishTask's request. A success without a message carries no status, an error never goes without one."""
    request = baton_pb2.BatonServiceFinishTaskRequest(host_id=host_id, task_id=task_id)
    if outcome.code is Code.OK:
        request.success.SetInParent()
        if outcome.answer is not None:
            response = _response_of(outcome.answer)
            request.success.response.Pack(response)
            request.success.annotations.extend(response.annotations)
        if outcome.message:
            request.status.CopyFrom(Status(message=outcome.message))
    else:
        request.error.CopyFrom(baton_pb2.BatonServiceFinishTaskRequest.Error(non_retryable=outcome.non_retryable))
        request.status.CopyFrom(Status(code=outcome.code, message=outcome.message or outcome.code.name))
        _add_details(request.status, outcome)
    return request


def _add_details(status: Status, outcome: TaskOutcome) -> None:
    """The reason and the wait as google.rpc's own messages, for programs.

    A refusal on which C1 cancels the request has the one detail that C1 knows it by.
    """
    if outcome.cancels:
        status.details.add().Pack(_cancellation(outcome.message))
        return
    if outcome.reason:
        status.details.add().Pack(ErrorInfo(reason=outcome.reason, domain=ERROR_DOMAIN))
    if outcome.retry_after:
        status.details.add().Pack(RetryInfo(retry_delay=Duration(seconds=round(outcome.retry_after))))


def _task_from(task: baton_pb2.Task, redactor: Redactor) -> Task | None:
    kind = task.WhichOneof("task_type")
    if kind == "none" or (kind is None and not task.id):
        return None
    shown = redactor.quote(task.id, _LONGEST_TASK_ID)
    if not _TASK_ID.fullmatch(task.id) or shown != task.id:  # an id that repeats a credential would stand in the status
        raise Failure(
            Reason.C1_UNAVAILABLE,
            f"C1 handed out a task ({kind or UNKNOWN_KIND}) whose id is not 27 letters and digits but "
            f"{shown!r}; it was left alone, and C1 is asked again.",
        )
    task_id = TaskID(task.id)
    if kind == "hello":
        return HelloTask(task_id)
    if kind == "sync_full":
        return _sync_task(task_id, task.sync_full, redactor)
    if kind == "grant":
        return _membership_task(task_id, task.grant.entitlement, task.grant.principal, redactor, grants=True)
    if kind == "revoke":
        found = task.revoke.grant
        return _membership_task(task_id, found.entitlement, found.principal, redactor, grants=False)
    return UnsupportedTask(task_id, kind or UNKNOWN_KIND)


def _sync_task(task_id: TaskID, options: baton_pb2.Task.SyncFullTask, redactor: Redactor) -> SyncTask:
    entitlements = not options.skip_entitlements_and_grants
    types = frozenset(islice(options.sync_resource_type_ids, MOST_RESOURCE_TYPES))
    known = frozenset(kind for kind in ResourceKind if kind in types)
    return SyncTask(
        id=task_id,
        scope=SyncScope(
            kinds=known or ALL_KINDS,
            entitlements=entitlements,
            grants=entitlements and not options.skip_grants,
            expanded=not options.skip_expand_grants,
        ),
        storage_engine=redactor.quote(options.storage_engine, _LONGEST_ENGINE),
        refusal=_refusal(options, types, redactor),
    )


def _refusal(options: baton_pb2.Task.SyncFullTask, types: frozenset[str], redactor: Redactor) -> str:
    """Why the options cannot be met. An unknown resource type is refused as by the reference connector."""
    if options.targeted_sync_resources:
        return (
            "The task asks for single resources (targeted_sync_resources); this connector syncs whole "
            "organizations only."
        )
    if (asked := len(options.sync_resource_type_ids)) > MOST_RESOURCE_TYPES:
        return (
            f"The task asks for {asked} resource types; this connector has {_ALL_TYPES}. Correct the resource types "
            "chosen in C1."
        )
    unknown = sorted(types - ALL_KINDS)
    if unknown:
        named = redactor.quote(", ".join(unknown))
        return (
            f"The task asks for resource types that this connector lacks ({named}); it has "
            f"{_ALL_TYPES}. Correct the resource types in C1."
        )
    return ""


def _heartbeat_interval(duration: Duration) -> float:
    seconds = _seconds(duration)
    if seconds == 0:
        return DEFAULT_HEARTBEAT
    return min(max(seconds, SHORTEST_HEARTBEAT), LONGEST_HEARTBEAT)


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9


# Grants and revokes


class _Unreadable(Exception):  # noqa: N818
    """What is wrong with a task, as a sentence."""


def _response_of(
    answer: GrantAnswer | RevokeAnswer,
) -> GrantManagerServiceGrantResponse | GrantManagerServiceRevokeResponse:
    """The response of the grant manager's service, whose annotations C1 reads in the task's end too."""
    if isinstance(answer, RevokeAnswer):
        return GrantManagerServiceRevokeResponse(annotations=[_packed(GrantAlreadyRevoked())] if answer.already else [])
    annotations: list[Message] = [GrantAlreadyExists()] if answer.already else []
    if answer.replaced is not None:
        annotations.append(GrantReplaced(replaced_grant_id=grant_id(answer.replaced)))
    return GrantManagerServiceGrantResponse(
        annotations=[_packed(each) for each in annotations], grants=[_grant(answer.membership)]
    )


def _cancellation(reason: str) -> ErrorInfo:
    """The detail of a refusal on which C1 cancels the request."""
    return ErrorInfo(reason=CANCELLED_REASON, domain=CANCELLED_DOMAIN, metadata={"reason": reason})


def _packed(message: Message) -> Any:
    wrapped = Any()
    wrapped.Pack(message)
    return wrapped


def _grant(membership: Membership) -> Grant:
    """As a snapshot has it, without names: ids are what C1 matches by."""
    team = Resource(id=ResourceId(resource_type=ResourceKind.TEAM.value, resource=membership.team))
    return Grant(
        id=grant_id(membership),
        entitlement=Entitlement(id=entitlement_id(membership.team, membership.role), resource=team),
        principal=Resource(id=ResourceId(resource_type=ResourceKind.USER.value, resource=membership.account)),
    )


def _membership_task(
    task_id: TaskID, entitlement: Entitlement, principal: Resource, redactor: Redactor, *, grants: bool
) -> MembershipTask:
    team_name = redactor.quote(entitlement.resource.display_name, LONGEST_NAME)
    user_name = redactor.quote(principal.display_name, LONGEST_NAME)
    try:
        team = _resource(entitlement.resource.id, ResourceKind.TEAM, "entitlement's resource", redactor)
        account = _resource(principal.id, ResourceKind.USER, "principal", redactor)
        role = _role(entitlement, TeamID(team), redactor)
        membership = Membership(TeamID(canonical_id(team)), AccountID(canonical_id(account)), role)
    except _Unreadable as error:
        return MembershipTask(task_id, grants, None, team_name, user_name, str(error))
    return MembershipTask(task_id, grants, membership, team_name, user_name)


def _resource(found: ResourceId, kind: ResourceKind, what: str, redactor: Redactor) -> str:
    if found.resource_type != kind.value:
        raise _Unreadable(
            f"The task's {what} must be a {kind.value} of Buildkite, but its resource type is"
            f" {redactor.quote(found.resource_type, _LONGEST_ID)!r}. This connector changes who is in a team."
        )
    if not _ID.fullmatch(canonical_id(found.resource)):
        raise _Unreadable(
            f"The task's {what} must have the id of a {kind.value} of Buildkite, but it is"
            f" {redactor.quote(found.resource, _LONGEST_ID)!r}. Sync the connector in C1 and ask again."
        )
    return found.resource


def _is_role_of(id_: str, team: TeamID, role: Role) -> bool:
    """Whether it is the entitlement's id, in whatever form the team's UUID stands in it."""
    before, after = entitlement_id(TeamID("|"), role).split("|")
    found = id_.removeprefix(before).removesuffix(after)
    return id_ == f"{before}{found}{after}" and canonical_id(found) == canonical_id(team)


def _role(entitlement: Entitlement, team: TeamID, redactor: Redactor) -> Role:
    """By the entitlement's id, or by its slug where there is no id. One that names another team is refused."""
    for role in Role:
        if _is_role_of(entitlement.id, team, role) and entitlement.slug in ("", role.value):
            return role
        if not entitlement.id and entitlement.slug == role.value:
            return role
    found, slug = (redactor.quote(text, _LONGEST_ID) for text in (entitlement.id, entitlement.slug))
    raise _Unreadable(
        f"The task's entitlement must be {' or '.join(entitlement_id(team, role) for role in Role)}, but its id is"
        f" {found!r} and its slug {slug!r}."
        " Sync the connector in C1 and ask again."
    )
