"""What is known of changes of memberships after each: the record, whether writing works, which teams were changed."""

from dataclasses import replace

import pytest

from buildkite_connector.connector.decisions import next_look, why_sync
from buildkite_connector.connector.state import ConnectorState, TeamChanges, blocked_writing
from buildkite_connector.connector.transitions import (
    RECHECK_SECONDS,
    CheckResult,
    SyncResult,
    change_failed,
    change_recorded,
    check_finished,
    forced_check_begun,
    sync_succeeded,
)
from buildkite_connector.model.directory import Role, TeamID
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.spec import Provisioning
from buildkite_connector.model.status import RECENT_CHANGES, ChangeAction, ChangeRecord, ChangeResult, Trigger
from buildkite_connector.model.tasks import TaskID
from buildkite_connector.timing.clock import Instant
from fakes.connector_states import (
    CREDENTIALS,
    DOWN,
    PREFLIGHT,
    REJECTED,
    SHARE,
    START,
    after,
    asked,
    checked,
    due,
    new,
    ready,
    running,
    synced,
)

HOUR = 3600.0

ON = Provisioning(enabled=True)
GRANT, TASK = ChangeAction.GRANT, TaskID("task1")
CHANGE = ChangeRecord(START.wall, GRANT, "Platform", Role.MEMBER, "Ada", TASK, ChangeResult.GRANTED)
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
    assert (kept and kept.message, state.check.forced_due) == (failure.message, after(7).monotonic + RECHECK_SECONDS)
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


@pytest.mark.parametrize(
    ("changes", "sent", "contradict"),
    [
        (TeamChanges(), False, False),
        (TeamChanges(writing=1), True, True),
        (TeamChanges(1), True, True),
        (TeamChanges(1, covered=1), True, False),
        (TeamChanges(1, writing=1, covered=1), True, True),
    ],
)
def test_a_write_that_no_snapshot_shows_contradicts_it(changes: TeamChanges, sent: bool, contradict: bool) -> None:
    assert (changes.sent, changes.contradict) == (sent, contradict)


# What a sync shows of them


def test_a_sync_begins_with_no_team_changed_and_its_end_says_what_it_shows() -> None:
    changes = TeamChanges(3, ((ONE, 3),), 1, 2)
    state = running(replace(ready(provisioning=ON), changes=changes), after(HOUR), "sync2")
    assert state.changes == replace(changes, teams=())
    assert state.sync is not None
    assert state.staged is not None
    assert state.records.last_sync is not None
    result = SyncResult(state.records.last_sync, state.staged, covered=3)
    done = sync_succeeded(state, state.sync, result, after(HOUR + 5), SHARE)
    assert done.changes == replace(state.changes, covered=3)
    assert synced(ready(provisioning=ON), after(HOUR)).changes.covered == 0


@pytest.mark.parametrize(
    ("changes", "fresh"),
    [(TeamChanges(), True), (TeamChanges(2, covered=2), True), (TeamChanges(2, covered=1), False)],
)
def test_a_snapshot_that_lacks_a_change_answers_no_task(changes: TeamChanges, fresh: bool) -> None:
    state = asked(replace(ready(provisioning=ON), changes=changes), after(10))
    assert (why_sync(state, after(10)) is None) == fresh
    writing = replace(state, changes=replace(changes, writing=1))
    assert why_sync(writing, after(10)) is Trigger.TASK


# When it is checked again


def unwritable(now: Instant = START) -> ConnectorState:
    """The token may read and may not write, as a check at that moment found."""
    state = forced_check_begun(ready(provisioning=ON), now)
    found = CheckResult(1, None, CREDENTIALS, PREFLIGHT, asked_buildkite=True, write_failure=SCOPE)
    return check_finished(state, found, now, SHARE)


def test_a_token_that_cannot_write_is_checked_again_after_five_minutes() -> None:
    state = unwritable()
    at = START.monotonic + RECHECK_SECONDS
    assert (state.check.write_failure, state.check.forced_due) == (SCOPE, at)
    assert next_look(state, after(10)) == at
    assert due(state, after(RECHECK_SECONDS - 0.1)) == []
    assert due(state, after(RECHECK_SECONDS)) == ["check"]


def test_a_check_that_fails_leaves_nothing_known_of_writing_and_a_good_one_ends_it() -> None:
    assert checked(unwritable(), after(5), REJECTED).check.write_failure is None
    good = checked(unwritable(), after(5)).check
    assert (good.write_failure, good.forced_due) == (None, unwritable().check.forced_due)
