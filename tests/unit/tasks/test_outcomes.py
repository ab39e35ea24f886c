"""What C1 is told of a failed task."""

import pytest

from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.scope import SyncScope
from buildkite_connector.model.tasks import Code, SyncTask, TaskID, TaskOutcome
from buildkite_connector.tasks.outcomes import (
    SHUTTING_DOWN,
    UNEXPECTED,
    format_note,
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


def test_a_task_of_another_kind_is_refused_for_good_by_its_name() -> None:
    message = "The Buildkite connector syncs accounts and teams; it does not support grant tasks."
    assert unsupported("grant") == TaskOutcome(Code.UNIMPLEMENTED, message, non_retryable=True)


def test_options_that_cannot_be_met_are_refused_for_good() -> None:
    assert refused_options("no") == TaskOutcome(Code.INVALID_ARGUMENT, "no", non_retryable=True)


@pytest.mark.parametrize("engine", ["", "sqlite"])
def test_a_success_in_the_form_that_c1_asked_for_has_no_words(engine: str) -> None:
    assert format_note(SyncTask(TaskID("t"), SyncScope(), storage_engine=engine)) == ""


def test_a_success_in_another_form_says_so() -> None:
    task = SyncTask(TaskID("t"), SyncScope(), storage_engine="pebble")
    assert format_note(task) == "The snapshot is in sqlite form; this connector does not write pebble."


def test_what_ends_a_task_at_a_shutdown_or_by_an_error_of_ours_can_be_tried_again() -> None:
    assert (SHUTTING_DOWN.code, SHUTTING_DOWN.non_retryable) == (Code.ABORTED, False)
    assert (UNEXPECTED.code, UNEXPECTED.non_retryable) == (Code.INTERNAL, False)


def test_a_failure_also_tells_machines_its_reason_and_when_to_come_again() -> None:
    outcome = outcome_of(Failure(Reason.BUILDKITE_RATE_LIMITED, "Slow down.", retry_after=90.0))
    assert (outcome.reason, outcome.retry_after) == ("BuildkiteRateLimited", 90.0)
