"""BatonService's messages to and from this project's words; every limit of the contract is kept here."""

import re
from itertools import islice

from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from buildkite_connector.c1.memberships import cancellation, grant_task, response_of, revoke_task
from buildkite_connector.model.directory import ALL_KINDS, ResourceKind, SyncScope
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.redactor import Redactor
from buildkite_connector.model.tasks import (
    Code,
    Heartbeat,
    HelloTask,
    Poll,
    SyncTask,
    Task,
    TaskID,
    TaskOutcome,
    UnsupportedTask,
)
from buildkite_connector.proto import baton_pb2

ERROR_DOMAIN = "connectors.c1.ai"
"""Whose reasons a failed task's ErrorInfo names."""
LONGEST_POLL = 300.0
SHORTEST_HEARTBEAT, LONGEST_HEARTBEAT, DEFAULT_HEARTBEAT = 1.0, 300.0, 30.0
UNKNOWN_KIND = "unknown"
MOST_RESOURCE_TYPES = 100
"""A task that names more types than this is refused without a look at them all; this connector has two."""

_LONGEST_TASK_ID = 60
_LONGEST_ENGINE = 40
"""Characters of C1's texts that are shown."""

_TASK_ID = re.compile(r"[A-Za-z0-9]{27}")


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
            response = response_of(outcome.answer)
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
    """The reason and the wait as google.rpc's own messages, for whoever does not read sentences.

    A refusal on which C1 cancels the request has the one detail that C1 knows it by.
    """
    if outcome.cancels:
        status.details.add().Pack(cancellation(outcome.message))
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
        return grant_task(task_id, task.grant, redactor)
    if kind == "revoke":
        return revoke_task(task_id, task.revoke, redactor)
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
            f"The task asks for {asked} resource types; this connector has {' and '.join(sorted(ALL_KINDS))}. Correct "
            "the resource types chosen in C1."
        )
    unknown = sorted(types - ALL_KINDS)
    if unknown:
        named = redactor.quote(", ".join(unknown))
        return (
            f"The task asks for resource types that this connector lacks ({named}); it has "
            f"{' and '.join(sorted(ALL_KINDS))}. Correct the resource types chosen in C1."
        )
    return ""


def _heartbeat_interval(duration: Duration) -> float:
    seconds = _seconds(duration)
    if seconds == 0:
        return DEFAULT_HEARTBEAT
    return min(max(seconds, SHORTEST_HEARTBEAT), LONGEST_HEARTBEAT)


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9
