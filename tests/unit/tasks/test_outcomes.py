"""What C1 is told of tasks: codes, whole sentences, and whether it may hand the task out again."""

from dataclasses import replace

import pytest

from buildkite_connector.model.directory import AccountID, Membership, Role, TeamID
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.tasks import Code, MembershipTask, TaskID, TaskOutcome
from buildkite_connector.tasks import outcomes
from buildkite_connector.tasks.membership import refusal_by_team
from buildkite_connector.tasks.outcomes import (
    SHUTTING_DOWN,
    UNEXPECTED,
    outcome_of,
    refused_options,
    unsupported,
)


@pytest.mark.parametrize(
    ("remedy", "code", "final"),
    [
        (Remedy.RETRY, Code.UNAVAILABLE, False),
        (Remedy.CREDENTIALS, Code.UNAUTHENTICATED, False),
        (Remedy.EDIT, Code.FAILED_PRECONDITION, True),
    ],
)
def test_a_failure_has_the_code_of_its_remedy_and_is_final_where_an_edit_is_needed(
    remedy: Remedy, code: Code, final: bool
) -> None:
    failure = Failure(Reason.BUILDKITE_UNREACHABLE, "Buildkite did not answer.", remedy=remedy)
    assert outcome_of(failure) == TaskOutcome(code, "BuildkiteUnreachable: Buildkite did not answer.", final)


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (Reason.SYNC_TIMEOUT, Code.DEADLINE_EXCEEDED),
        (Reason.SHRINK_HELD, Code.FAILED_PRECONDITION),
        (Reason.TASK_CANCELLED, Code.CANCELLED),
        (Reason.TOKEN_SCOPE_MISSING, Code.PERMISSION_DENIED),
        (Reason.ACCESS_DENIED, Code.PERMISSION_DENIED),
        (Reason.SNAPSHOT_INVALID, Code.INTERNAL),
        (Reason.INTERNAL_ERROR, Code.INTERNAL),
    ],
)
def test_a_reason_with_a_code_of_its_own_has_it(reason: Reason, code: Code) -> None:
    assert outcome_of(Failure(reason, "…")).code is code


def test_a_portals_old_document_is_no_matter_of_credentials_and_c1_may_ask_again() -> None:
    failure = Failure(Reason.PORTAL_DOCUMENT_INVALID, "Store it.", remedy=Remedy.CREDENTIALS)
    outcome = outcome_of(failure)
    assert (outcome.code, outcome.non_retryable) == (Code.FAILED_PRECONDITION, False)


def test_a_task_of_another_kind_is_refused_for_good_by_its_name() -> None:
    message = "The Buildkite connector does not support event_feed tasks."
    assert unsupported("event_feed") == TaskOutcome(Code.UNIMPLEMENTED, message, non_retryable=True)


def test_options_that_cannot_be_met_are_refused_for_good() -> None:
    assert refused_options("no") == TaskOutcome(Code.INVALID_ARGUMENT, "no", non_retryable=True)


def test_what_ends_a_task_at_a_shutdown_or_by_an_error_of_ours_can_be_tried_again() -> None:
    assert (SHUTTING_DOWN.code, SHUTTING_DOWN.non_retryable) == (Code.ABORTED, False)
    assert (UNEXPECTED.code, UNEXPECTED.non_retryable) == (Code.INTERNAL, False)


def test_a_failure_also_tells_machines_its_reason_and_when_to_come_again() -> None:
    outcome = outcome_of(Failure(Reason.BUILDKITE_RATE_LIMITED, "Slow down.", retry_after=90.0))
    assert (outcome.reason, outcome.retry_after) == ("BuildkiteRateLimited", 90.0)


# Changes of memberships

MEMBER = Membership(TeamID("t-1"), AccountID("u-1"), Role.MEMBER)
GRANT = MembershipTask(TaskID("task"), True, MEMBER, "Platform", "Ada")
REVOKE = replace(GRANT, grants=False)


def told(failure: Failure) -> tuple[Reason, Remedy, str]:
    return failure.reason, failure.remedy, failure.message


def test_a_refusal_by_the_policy_is_final_and_cancels_the_request() -> None:
    sentence = refusal_by_team("platform")
    assert sentence == (
        "The team platform is protected: spec.provisioning.protectedTeams (in service mode --protected-teams) names it,"
        " and this connector does not change who is in it."
    )
    outcome = outcomes.refused_by_policy(sentence)
    assert outcome == TaskOutcome(Code.FAILED_PRECONDITION, sentence, non_retryable=True, cancels=True)
    assert outcome.reason == "ChangeNotAllowed"


def test_a_task_that_cannot_be_read_is_final() -> None:
    assert outcomes.unreadable("no id") == TaskOutcome(Code.INVALID_ARGUMENT, "no id", non_retryable=True)


@pytest.mark.parametrize(("remedy", "final"), [(Remedy.RETRY, False), (Remedy.CREDENTIALS, True), (Remedy.EDIT, True)])
def test_a_failure_is_final_where_time_does_not_help(remedy: Remedy, final: bool) -> None:
    outcome = outcomes.change_failed(Failure(Reason.BUILDKITE_UNAVAILABLE, "503.", remedy=remedy, retry_after=7.0))
    assert (outcome.message, outcome.non_retryable) == ("BuildkiteUnavailable: 503.", final)
    assert (outcome.reason, outcome.retry_after) == ("BuildkiteUnavailable", 7.0)


@pytest.mark.parametrize(("name", "shown"), [("Platform", " 'Platform'"), ("", "")])
def test_a_team_that_is_gone_is_named_where_c1_named_it(name: str, shown: str) -> None:
    assert told(outcomes.team_gone(replace(GRANT, team_name=name))) == (
        Reason.TEAM_NOT_FOUND,
        Remedy.EDIT,
        (f"Buildkite no longer has the team{shown}, or the API token cannot see it. The next sync removes it from C1."),
    )


LEFT = "The person may have left the organization"
LAST = "It may be the team's last maintainer, or a team that Buildkite keeps everyone in"


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
    assert told(outcomes.refused_by_buildkite(task, said)) == (
        Reason.CHANGE_REFUSED,
        Remedy.EDIT,
        f"Buildkite refuses the change{shown}. {why}: check the team in Buildkite.",
    )


def test_a_change_that_took_too_long_is_tried_again() -> None:
    assert told(outcomes.took_too_long(120.0)) == (
        Reason.CHANGE_TIMEOUT,
        Remedy.RETRY,
        (
            "The change did not finish within 120 s. When C1 hands the task out again, the membership is read first, so"
            " that nothing is done twice."
        ),
    )
