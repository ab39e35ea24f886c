"""The results of C1's tasks: the google.rpc code, the message, and whether C1 may hand the task out again. Pure."""

import re
from dataclasses import replace

from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.tasks import Code, MembershipTask, TaskOutcome
from buildkite_connector.model.token_scopes import WRITE_SCOPE

SHUTTING_DOWN = TaskOutcome(Code.ABORTED, "The connector is shutting down; the task can be handed out again.")
UNEXPECTED = TaskOutcome(Code.INTERNAL, "Internal error in the connector; its log has the details.")
OFF = TaskOutcome(
    Code.FAILED_PRECONDITION,
    "Provisioning is not enabled: this connector is read-only. To let C1 grant and revoke memberships of Buildkite"
    f" teams, set spec.provisioning.enabled: true (in service mode --provisioning), with an API token that"
    f" has {WRITE_SCOPE}.",
    non_retryable=True,
    reason=Reason.PROVISIONING_OFF.value,
)

_ADDRESS = re.compile(r"\S+@\S+")
"""E-mail addresses, which must not come into events."""


def outcome_of(failure: Failure) -> TaskOutcome:
    """The result of a failed sync, final only if an edit is needed: new credentials may come, so C1 may ask again.

    For a failed grant or revoke see `change_failed`.
    """
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
        f"The Buildkite connector does not support {kind} tasks.",
        non_retryable=True,
    )


def refused_options(refusal: str) -> TaskOutcome:
    """The answer to a sync task whose options cannot be met."""
    return TaskOutcome(Code.INVALID_ARGUMENT, refusal, non_retryable=True)


def refused_by_policy(sentence: str) -> TaskOutcome:
    """C1 cancels the request, with the sentence as its reason."""
    return TaskOutcome(
        Code.FAILED_PRECONDITION,
        sentence,
        non_retryable=True,
        reason=Reason.CHANGE_NOT_ALLOWED.value,
        cancels=True,
    )


def unreadable(sentence: str) -> TaskOutcome:
    return TaskOutcome(Code.INVALID_ARGUMENT, sentence, non_retryable=True)


def change_failed(failure: Failure) -> TaskOutcome:
    """The result of a failed grant or revoke. C1 hands it out again only if time alone can help.

    Unlike in `outcome_of`, rejected credentials are final: a person waits for the request and should see why it failed.
    """
    outcome = outcome_of(failure)
    return replace(outcome, non_retryable=failure.remedy is not Remedy.RETRY)


def team_gone(task: MembershipTask) -> Failure:
    name = f" {task.team_name!r}" if task.team_name else ""
    return Failure(
        Reason.TEAM_NOT_FOUND,
        f"Buildkite no longer has the team{name}, or the API token cannot see it. The next sync removes it from C1.",
        remedy=Remedy.EDIT,
    )


def refused_by_buildkite(task: MembershipTask, said: str) -> Failure:
    """Buildkite answered 422, and the membership is as it was."""
    said = _ADDRESS.sub("…", said)
    why = (
        "The person may have left the organization"
        if task.grants
        else "It may be the team's last maintainer, or a team that Buildkite keeps everyone in"
    )
    return Failure(
        Reason.CHANGE_REFUSED,
        f"Buildkite refuses the change{f' ({said})' if said else ''}. {why}: check the team in Buildkite.",
        remedy=Remedy.EDIT,
    )


def took_too_long(seconds: float) -> Failure:
    return Failure(
        Reason.CHANGE_TIMEOUT,
        f"The change did not finish within {seconds:.0f} s. When C1 hands the task out again, the membership is read"
        " first, so that nothing is done twice.",
    )


_CODES_BY_REMEDY = {
    Remedy.RETRY: Code.UNAVAILABLE,
    Remedy.CREDENTIALS: Code.UNAUTHENTICATED,
    Remedy.EDIT: Code.FAILED_PRECONDITION,
}
_CODES = {
    Reason.SYNC_TIMEOUT: Code.DEADLINE_EXCEEDED,
    Reason.SHRINK_HELD: Code.FAILED_PRECONDITION,
    Reason.PORTAL_DOCUMENT_INVALID: Code.FAILED_PRECONDITION,  # no credential is wrong
    Reason.TASK_CANCELLED: Code.CANCELLED,
    Reason.TOKEN_SCOPE_MISSING: Code.PERMISSION_DENIED,
    Reason.ACCESS_DENIED: Code.PERMISSION_DENIED,
    Reason.TEAM_NOT_FOUND: Code.NOT_FOUND,
    Reason.SNAPSHOT_INVALID: Code.INTERNAL,
    Reason.INTERNAL_ERROR: Code.INTERNAL,
}
