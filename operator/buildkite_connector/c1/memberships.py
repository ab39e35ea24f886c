"""Grant and revoke tasks read from C1's messages, and what answers them.

Team, role and person come from entitlement and principal, never from the grant's id: C1 may send a placeholder there.
UUIDs may come in any of their forms; from here on they are as Buildkite writes them, so that one team has one lock.
"""

import re

from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import ErrorInfo

from buildkite_connector.model.directory import AccountID, Membership, ResourceKind, Role, TeamID, canonical_id
from buildkite_connector.model.redactor import Redactor
from buildkite_connector.model.status import LONGEST_NAME
from buildkite_connector.model.tasks import GrantAnswer, MembershipTask, RevokeAnswer, TaskID, entitlement_id, grant_id
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

CANCELLED_REASON, CANCELLED_DOMAIN = "grant_cancelled", "github.com/conductorone/baton-sdk"
"""The ErrorInfo by which C1 tells a deliberate refusal from a failure."""

_ID = re.compile(r"[0-9A-Za-z_][0-9A-Za-z_.=~+-]{0,199}")
"""What may become part of a path; Buildkite's ids are UUIDs."""
_LONGEST_ID = 80
"""Characters of C1's ids that are shown."""


class _Unreadable(Exception):  # noqa: N818
    """What is wrong with a task, as a sentence."""


def grant_task(task_id: TaskID, task: baton_pb2.Task.GrantTask, redactor: Redactor) -> MembershipTask:
    return _task(task_id, task.entitlement, task.principal, redactor, grants=True)


def revoke_task(task_id: TaskID, task: baton_pb2.Task.RevokeTask, redactor: Redactor) -> MembershipTask:
    return _task(task_id, task.grant.entitlement, task.grant.principal, redactor, grants=False)


def response_of(
    answer: GrantAnswer | RevokeAnswer,
) -> GrantManagerServiceGrantResponse | GrantManagerServiceRevokeResponse:
    """The response of the grant manager's service, whose annotations C1 reads in the task's end too."""
    if isinstance(answer, RevokeAnswer):
        return GrantManagerServiceRevokeResponse(annotations=[packed(GrantAlreadyRevoked())] if answer.already else [])
    annotations: list[Message] = [GrantAlreadyExists()] if answer.already else []
    if answer.replaced is not None:
        annotations.append(GrantReplaced(replaced_grant_id=grant_id(answer.replaced)))
    return GrantManagerServiceGrantResponse(
        annotations=[packed(each) for each in annotations], grants=[_grant(answer.membership)]
    )


def cancellation(reason: str) -> ErrorInfo:
    """The detail of a refusal on which C1 cancels the request."""
    return ErrorInfo(reason=CANCELLED_REASON, domain=CANCELLED_DOMAIN, metadata={"reason": reason})


def packed(message: Message) -> Any:
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


def _task(
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
