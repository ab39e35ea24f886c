"""What is known of changes of memberships after each: the record, whether writing works, which teams were changed."""

from dataclasses import replace

import pytest

from buildkite_connector.connector.credential_transitions import RECHECK_SECONDS
from buildkite_connector.connector.membership_transitions import blocked_writing, change_failed, change_recorded
from buildkite_connector.connector.state import ConnectorState
from buildkite_connector.connector.team_changes import TeamChanges
from buildkite_connector.model.directory import Role, TeamID
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.provisioning import (
    RECENT_CHANGES,
    ChangeAction,
    ChangeRecord,
    ChangeResult,
    Provisioning,
)
from buildkite_connector.model.tasks import TaskID
from fakes.connector_states import DOWN, REJECTED, START, after, checked, new, ready

ON = Provisioning(enabled=True)
GRANT, TASK = ChangeAction.GRANT, TaskID("task1")
CHANGE = ChangeRecord(0, START.wall, GRANT, "Platform", Role.MEMBER, "Ada", TASK, ChangeResult.GRANTED)
SCOPE = Failure(Reason.TOKEN_SCOPE_MISSING, "It lacks write_teams.", remedy=Remedy.CREDENTIALS)
ONE, OTHER = TeamID("t-1"), TeamID("t-2")


def recorded(*results: ChangeResult) -> ConnectorState:
    state = ready(provisioning=ON)
    for result in results:
        state = change_recorded(state, replace(CHANGE, result=result))
    return state


def test_each_result_is_counted_for_what_it_is() -> None:
    result = ChangeResult
    record = recorded(
        result.GRANTED,
        result.ROLE_CHANGED,
        result.ROLE_CHANGED,
        *[result.REVOKED] * 4,
        *[result.REFUSED] * 5,
        result.ALREADY,
    ).records.provisioning
    assert record is not None
    assert (record.granted, record.revoked, record.refused) == (3, 4, 5)
    assert [each.number for each in record.recent] == list(range(1, 14))
    assert record.last_change == replace(CHANGE, number=13, result=result.ALREADY)


def test_the_newest_changes_are_kept_and_their_numbers_go_on() -> None:
    record = recorded(*[ChangeResult.GRANTED] * (RECENT_CHANGES + 2)).records.provisioning
    assert record is not None
    assert record.granted == RECENT_CHANGES + 2
    assert [each.number for each in record.recent] == list(range(3, RECENT_CHANGES + 3))


@pytest.mark.parametrize("failure", [SCOPE, REJECTED])
def test_a_token_that_cannot_write_stops_changes_until_it_is_checked_again(failure: Failure) -> None:
    before = ready(provisioning=ON)
    state = change_failed(before, failure, after(7))
    kept = state.check.write_failure
    assert (kept and kept.message, state.check.full_due) == (failure.message, after(7).monotonic + RECHECK_SECONDS)
    assert kept is not failure, "without the frames that it went through"
    assert blocked_writing(state) is kept
    assert replace(state, check=before.check) == before


@pytest.mark.parametrize(("state", "failure"), [(ready(provisioning=ON), DOWN), (ready(), SCOPE), (ready(), DOWN)])
def test_any_other_failure_is_of_one_change(state: ConnectorState, failure: Failure) -> None:
    assert change_failed(state, failure, after(7)) is state


@pytest.mark.parametrize(
    ("state", "reason", "message"),
    [
        (
            checked(new(provisioning=ON, suspend=True)),
            Reason.SUSPENDED,
            "spec.suspend is true: nothing is changed until it is false.",
        ),
        (checked(new(provisioning=ON), failure=REJECTED), REJECTED.reason, REJECTED.message),
        (
            new(provisioning=ON),
            Reason.PENDING,
            "The credentials are being checked; the change can be made afterwards.",
        ),
    ],
    ids=["suspended", "token rejected", "unchecked"],
)
def test_what_keeps_memberships_from_being_changed(state: ConnectorState, reason: Reason, message: str) -> None:
    failure = blocked_writing(state)
    assert failure is not None
    assert (failure.reason, failure.message) == (reason, message)


def test_a_check_under_way_asks_c1_to_come_again_soon() -> None:
    failure = blocked_writing(new(provisioning=ON))
    assert failure is not None
    assert (failure.remedy, failure.retry_after) == (Remedy.RETRY, 10.0)
    state = ready(provisioning=ON)
    assert blocked_writing(state) is None
    unknown = blocked_writing(replace(state, check=replace(state.check, credentials=None)))
    assert unknown is not None
    assert unknown.reason is Reason.PENDING


# Which teams were changed


def test_each_write_that_ended_has_a_number_and_a_team_has_its_newest() -> None:
    changes = TeamChanges().begun().begun()
    assert (changes.writing, changes.number) == (2, 0)
    changes = changes.ended(ONE)
    assert changes == TeamChanges(1, ((ONE, 1),), 1)
    changes = changes.begun().ended(OTHER).ended(ONE)
    assert changes == TeamChanges(3, ((OTHER, 2), (ONE, 3)), 0)
    assert [changes.since(number) for number in range(4)] == [{ONE, OTHER}, {ONE, OTHER}, {ONE}, set()]
    assert changes.forgotten() == TeamChanges(3)
