"""How a failure is reported to C1: the google.rpc code, and whether C1 may hand the task out again. Pure."""

from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.tasks import Code, SyncTask, TaskOutcome

SHUTTING_DOWN = TaskOutcome(Code.ABORTED, "The connector is shutting down; the task can be handed out again.")
UNEXPECTED = TaskOutcome(Code.INTERNAL, "Internal error of the connector; its log has the details.")


def outcome_of(failure: Failure) -> TaskOutcome:
    """A code of the failure's meaning; final only where an edit is needed."""
    code = _CODES.get(failure.reason) or _CODES_BY_REMEDY[failure.remedy]
    return TaskOutcome(
        code,
        f"{failure.reason}: {failure.message}",
        non_retryable=failure.remedy is Remedy.EDIT,
        reason=failure.reason.value,
        retry_after=failure.retry_after,
    )


def unsupported(kind: str) -> TaskOutcome:
    """The answer to a task that this connector cannot carry out; final, as C1 would hand it out for ever."""
    return TaskOutcome(
        Code.UNIMPLEMENTED,
        f"The Buildkite connector syncs accounts and teams; it does not support {kind} tasks.",
        non_retryable=True,
    )


def refused_options(refusal: str) -> TaskOutcome:
    """The answer to a sync task whose options cannot be met."""
    return TaskOutcome(Code.INVALID_ARGUMENT, refusal, non_retryable=True)


def format_note(task: SyncTask) -> str:
    """What C1 is told beside success: the file's form, where it asked for another."""
    if not task.other_engine:
        return ""
    return f"The snapshot is in sqlite form; this connector does not write {task.other_engine}."


_CODES_BY_REMEDY = {
    Remedy.RETRY: Code.UNAVAILABLE,
    Remedy.CREDENTIALS: Code.UNAUTHENTICATED,
    Remedy.EDIT: Code.FAILED_PRECONDITION,
}
_CODES = {
    Reason.SYNC_TIMEOUT: Code.DEADLINE_EXCEEDED,
    Reason.SHRINK_HELD: Code.FAILED_PRECONDITION,
    Reason.TASK_CANCELLED: Code.CANCELLED,
    Reason.TOKEN_SCOPE_MISSING: Code.PERMISSION_DENIED,
    Reason.ACCESS_DENIED: Code.PERMISSION_DENIED,
    Reason.TEAM_NOT_FOUND: Code.NOT_FOUND,
    Reason.SNAPSHOT_INVALID: Code.INTERNAL,
    Reason.INTERNAL_ERROR: Code.INTERNAL,
}
