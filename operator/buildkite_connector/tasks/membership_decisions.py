"""What to do about one membership, and what C1 is told of it. Pure: the table of outcomes of grants and revokes."""

import re
from dataclasses import replace
from enum import Enum, auto

from buildkite_connector.model.directory import Membership, Role
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.provisioning import WRITE_SCOPE, ChangeResult, Provisioning
from buildkite_connector.model.tasks import Code, GrantAnswer, MembershipTask, RevokeAnswer, TaskOutcome
from buildkite_connector.tasks.outcomes import outcome_of

OFF = TaskOutcome(
    Code.FAILED_PRECONDITION,
    "Provisioning is not enabled: this connector only reads. To let C1 grant and revoke memberships of Buildkite teams,"
    f" set spec.provisioning.enabled: true (in service mode --provisioning), with an API token that has {WRITE_SCOPE}.",
    non_retryable=True,
    reason=Reason.PROVISIONING_OFF.value,
)


_ADDRESS = re.compile(r"\S+@\S+")
"""E-mail addresses, which must not come into events."""


class Step(Enum):
    """What a membership needs next. DONE: it is as the task wants it."""

    CREATE = auto()
    CHANGE_ROLE = auto()
    REMOVE = auto()
    DONE = auto()


def next_step(task: MembershipTask, wanted: Membership, role: Role | None) -> Step:
    """`role`: what the person has in the team now, None for no membership.

    A revoke of one role leaves a membership of the other alone: that one was granted in its place.
    """
    if task.grants:
        if role is None:
            return Step.CREATE
        return Step.DONE if role is wanted.role else Step.CHANGE_ROLE
    return Step.REMOVE if role is wanted.role else Step.DONE


def result_of(task: MembershipTask, wanted: Membership, before: Role | None, *, wrote: bool) -> ChangeResult:
    """What came of a task that is done. `before`: the role at first; `wrote`: a write of ours was sent."""
    if not wrote or (task.grants and before is wanted.role):
        return ChangeResult.ALREADY
    if not task.grants:
        return ChangeResult.REVOKED
    return ChangeResult.GRANTED if before is None else ChangeResult.ROLE_CHANGED


def success(task: MembershipTask, wanted: Membership, before: Role | None, result: ChangeResult) -> TaskOutcome:
    already = result is ChangeResult.ALREADY
    if not task.grants:
        return TaskOutcome(answer=RevokeAnswer(already))
    replaced = None
    if result is ChangeResult.ROLE_CHANGED and before is not None:
        replaced = replace(wanted, role=before)
    return TaskOutcome(answer=GrantAnswer(wanted, already, replaced))


def refusal_by_role(task: MembershipTask, wanted: Membership, policy: Provisioning) -> str:
    """Why the policy does not allow the role, or empty. What was granted before the policy changed can be revoked."""
    if not task.grants or wanted.role in policy.roles:
        return ""
    allowed = " and ".join(policy.roles) or "none"
    return (
        f"The role {wanted.role.value} is not granted by this connector; spec.provisioning.roles allows {allowed}"
        " (in service mode --provisioning-roles)."
    )


def refusal_by_team(slug: str) -> str:
    """Why a protected team is left alone."""
    return (
        f"The team {slug} is protected: spec.provisioning.protectedTeams (in service mode --protected-teams) names it,"
        " and this connector does not change who is in it."
    )


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


def failed(failure: Failure) -> TaskOutcome:
    """C1 hands a task out again where time can help; what needs other credentials or an edit is final."""
    outcome = outcome_of(failure)
    return replace(outcome, non_retryable=failure.remedy is not Remedy.RETRY)


def team_gone(task: MembershipTask) -> Failure:
    name = f" {task.team_name!r}" if task.team_name else ""
    return Failure(
        Reason.TEAM_NOT_FOUND,
        f"Buildkite has no such team{name} any more, or the API token cannot see it. The next sync takes it out of C1.",
        remedy=Remedy.EDIT,
    )


def refused_by_buildkite(task: MembershipTask, said: str) -> Failure:
    """Buildkite answered 422, and the membership is as it was."""
    said = _ADDRESS.sub("…", said)
    why = (
        "The person may have left the organization"
        if task.grants
        else "It may be the team's last maintainer, or a team that Buildkite keeps everybody in"
    )
    return Failure(
        Reason.CHANGE_REFUSED,
        f"Buildkite does not take the change{f' ({said})' if said else ''}. {why}: look at the team in Buildkite.",
        remedy=Remedy.EDIT,
    )


def took_too_long(seconds: float) -> Failure:
    return Failure(
        Reason.CHANGE_TIMEOUT,
        f"The change was not done within {seconds:.0f} s. When C1 hands the task out again, the membership is read"
        " first, so that nothing is done twice.",
    )
