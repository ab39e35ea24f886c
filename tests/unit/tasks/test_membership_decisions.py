"""What C1 is told of changes of memberships, whole sentences; what a membership needs next, and what came of it."""

from dataclasses import replace

import pytest

from buildkite_connector.model.directory import AccountID, Membership, Role, TeamID
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.provisioning import ChangeResult, Provisioning
from buildkite_connector.model.tasks import Code, GrantAnswer, MembershipTask, RevokeAnswer, TaskID, TaskOutcome
from buildkite_connector.tasks import membership_decisions as decisions
from buildkite_connector.tasks.membership_decisions import Step

M, A = Role.MEMBER, Role.MAINTAINER
MEMBER = Membership(TeamID("t-1"), AccountID("u-1"), M)
GRANT = MembershipTask(TaskID("task"), True, MEMBER, "Platform", "Ada")
REVOKE = replace(GRANT, grants=False)


def told(failure: Failure) -> tuple[Reason, Remedy, str]:
    return failure.reason, failure.remedy, failure.message


@pytest.mark.parametrize(
    ("task", "role", "step"),
    [
        (GRANT, None, Step.CREATE),
        (GRANT, M, Step.DONE),
        (GRANT, A, Step.CHANGE_ROLE),
        (REVOKE, None, Step.DONE),
        (REVOKE, M, Step.REMOVE),
        (REVOKE, A, Step.DONE),
    ],
)
def test_what_a_membership_needs_next(task: MembershipTask, role: Role | None, step: Step) -> None:
    assert decisions.next_step(task, MEMBER, role) is step


@pytest.mark.parametrize(
    ("task", "before", "wrote", "result"),
    [
        (GRANT, None, True, ChangeResult.GRANTED),
        (GRANT, None, False, ChangeResult.ALREADY),
        (GRANT, A, True, ChangeResult.ROLE_CHANGED),
        (GRANT, M, True, ChangeResult.ALREADY),
        (REVOKE, M, True, ChangeResult.REVOKED),
        (REVOKE, None, False, ChangeResult.ALREADY),
    ],
)
def test_what_came_of_it(task: MembershipTask, before: Role | None, wrote: bool, result: ChangeResult) -> None:
    assert decisions.result_of(task, MEMBER, before, wrote=wrote) is result


@pytest.mark.parametrize(
    ("task", "before", "result", "answer"),
    [
        (GRANT, None, ChangeResult.GRANTED, GrantAnswer(MEMBER)),
        (GRANT, M, ChangeResult.ALREADY, GrantAnswer(MEMBER, already=True)),
        (GRANT, A, ChangeResult.ALREADY, GrantAnswer(MEMBER, already=True)),
        (GRANT, A, ChangeResult.ROLE_CHANGED, GrantAnswer(MEMBER, replaced=replace(MEMBER, role=A))),
        (REVOKE, M, ChangeResult.REVOKED, RevokeAnswer()),
        (REVOKE, None, ChangeResult.ALREADY, RevokeAnswer(already=True)),
    ],
)
def test_c1_hears_of_a_success_what_was_there_before(
    task: MembershipTask, before: Role | None, result: ChangeResult, answer: GrantAnswer | RevokeAnswer
) -> None:
    assert decisions.success(task, MEMBER, before, result) == TaskOutcome(answer=answer)


@pytest.mark.parametrize(("roles", "allowed"), [((A,), "maintainer"), ((), "none")])
def test_a_role_that_is_not_granted_is_named_with_those_that_are(roles: tuple[Role, ...], allowed: str) -> None:
    sentence = (
        f"The role member is not granted by this connector; spec.provisioning.roles allows {allowed} (in service mode"
        " --provisioning-roles)."
    )
    policy = Provisioning(enabled=True, roles=roles)
    assert decisions.refusal_by_role(GRANT, MEMBER, policy) == sentence
    assert decisions.refusal_by_role(REVOKE, MEMBER, policy) == ""
    assert decisions.refusal_by_role(GRANT, MEMBER, Provisioning()) == ""


def test_a_refusal_by_the_policy_is_final_and_cancels_the_request() -> None:
    sentence = decisions.refusal_by_team("platform")
    assert sentence == (
        "The team platform is protected: spec.provisioning.protectedTeams (in service mode --protected-teams) names it,"
        " and this connector does not change who is in it."
    )
    outcome = decisions.refused_by_policy(sentence)
    assert outcome == TaskOutcome(Code.FAILED_PRECONDITION, sentence, non_retryable=True, cancels=True)
    assert outcome.reason == "ChangeNotAllowed"


def test_a_task_that_cannot_be_read_is_final() -> None:
    assert decisions.unreadable("no id") == TaskOutcome(Code.INVALID_ARGUMENT, "no id", non_retryable=True)


@pytest.mark.parametrize(("remedy", "final"), [(Remedy.RETRY, False), (Remedy.CREDENTIALS, True), (Remedy.EDIT, True)])
def test_a_failure_is_final_where_time_does_not_help(remedy: Remedy, final: bool) -> None:
    outcome = decisions.failed(Failure(Reason.BUILDKITE_UNAVAILABLE, "503.", remedy=remedy, retry_after=7.0))
    assert (outcome.message, outcome.non_retryable) == ("BuildkiteUnavailable: 503.", final)
    assert (outcome.reason, outcome.retry_after) == ("BuildkiteUnavailable", 7.0)


@pytest.mark.parametrize(("name", "shown"), [("Platform", " 'Platform'"), ("", "")])
def test_a_team_that_is_gone_is_named_where_c1_named_it(name: str, shown: str) -> None:
    assert told(decisions.team_gone(replace(GRANT, team_name=name))) == (
        Reason.TEAM_NOT_FOUND,
        Remedy.EDIT,
        (
            f"Buildkite has no such team{shown} any more, or the API token cannot see it. The next sync takes it out of"
            " C1."
        ),
    )


LEFT = "The person may have left the organization"
LAST = "It may be the team's last maintainer, or a team that Buildkite keeps everybody in"


@pytest.mark.parametrize(
    ("task", "said", "shown", "why"),
    [
        (GRANT, "", "", LEFT),
        (REVOKE, "No.", " (No.)", LAST),
        (REVOKE, "ada@example.com stays, a@b too", " (… stays, … too)", LAST),
    ],
)
def test_a_refusal_of_buildkites_is_told_with_its_likely_cause(
    task: MembershipTask, said: str, shown: str, why: str
) -> None:
    assert told(decisions.refused_by_buildkite(task, said)) == (
        Reason.CHANGE_REFUSED,
        Remedy.EDIT,
        f"Buildkite does not take the change{shown}. {why}: look at the team in Buildkite.",
    )


def test_a_change_that_took_too_long_is_tried_again() -> None:
    assert told(decisions.took_too_long(120.0)) == (
        Reason.CHANGE_TIMEOUT,
        Remedy.RETRY,
        (
            "The change was not done within 120 s. When C1 hands the task out again, the membership is read first, so"
            " that nothing is done twice."
        ),
    )
