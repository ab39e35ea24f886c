"""What a connector answers to the simulated C1's grant and revoke tasks, sound until it is altered."""

import sqlite3
from typing import Any as Whatever

from google.protobuf.any_pb2 import Any
from google.rpc.error_details_pb2 import ErrorInfo

from buildkite_connector.proto import baton_pb2 as pb
from buildkite_connector.proto import connector_pb2 as v2
from simulators.c1.readings import CANCELLED_DOMAIN, CANCELLED_REASON
from simulators.c1.tiny_snapshot import SYNC_ID, WHEN, entitlement

Finish = pb.BatonServiceFinishTaskRequest


def added_role(database: sqlite3.Connection) -> None:
    """Gives the tiny snapshot's team its other entitlement, and both their exclusion group."""
    database.execute("delete from v1_entitlements")
    for order, role in enumerate(("member", "maintainer"), 1):
        made = entitlement()
        made.id, made.slug = f"team:t1:{role}", role
        group = v2.EntitlementExclusionGroup(exclusion_group_id="team:t1:role", order=order)
        made.annotations.add().Pack(group)
        database.execute(
            "insert into v1_entitlements (resource_type_id, resource_id, external_id, data, sync_id, discovered_at)"
            " values ('team', 't1', ?, ?, ?, ?)",
            (made.id, made.SerializeToString(), SYNC_ID, WHEN),
        )


def grant_answer(host_id: str, task: pb.Task, *annotations: Whatever) -> Finish:
    asked = task.grant
    grant = v2.Grant(entitlement=asked.entitlement, principal=asked.principal)
    grant.id = f"{asked.entitlement.id}:user:{asked.principal.id.resource}"
    response = v2.GrantManagerServiceGrantResponse(grants=[grant], annotations=map(packed, annotations))
    return success(host_id, task, response)


def revoke_answer(host_id: str, task: pb.Task, *annotations: Whatever) -> Finish:
    return success(host_id, task, v2.GrantManagerServiceRevokeResponse(annotations=map(packed, annotations)))


def success(
    host_id: str,
    task: pb.Task,
    response: v2.GrantManagerServiceGrantResponse | v2.GrantManagerServiceRevokeResponse,
) -> Finish:
    done = Finish.Success(response=packed(response), annotations=response.annotations)
    return Finish(host_id=host_id, task_id=task.id, success=done)


def failure(host_id: str, task: pb.Task, *, reason: str, code: int = 9, domain: str = CANCELLED_DOMAIN) -> Finish:
    """A refusal that cancels the request."""
    finish = Finish(host_id=host_id, task_id=task.id, error=Finish.Error(non_retryable=True))
    finish.status.code, finish.status.message = code, "refused"
    metadata = {"reason": reason} if reason else {}
    finish.status.details.add().Pack(ErrorInfo(reason=CANCELLED_REASON, domain=domain, metadata=metadata))
    return finish


def packed(message: Whatever) -> Any:
    wrapped = Any()
    wrapped.Pack(message)
    return wrapped
