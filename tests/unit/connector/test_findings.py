"""What a connector's state means for people: from the state to findings and records."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from buildkite_connector.connector import transitions
from buildkite_connector.connector.conditions import CHANGE_SYNCS, CHANGE_WAITS, CHECKING, Findings, derive_status, find
from buildkite_connector.connector.state import ConnectorState, host_id_taken
from buildkite_connector.model.directory import Counts, TokenFacts
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.provisioning import Provisioning
from buildkite_connector.model.status import ConditionType, ConnectorStatus, Phase
from buildkite_connector.model.tasks import TaskID
from fakes.connector_states import (
    DOWN,
    PREFLIGHT,
    REJECTED,
    START,
    after,
    asked,
    checked,
    desired,
    greeted,
    new,
    ready,
    running,
    synced,
)

HOUR = 3600.0
HOLDER = "BuildkiteConnector default/older"
EXPIRES = datetime(2027, 1, 1, tzinfo=UTC)
UNREACHABLE = Failure(Reason.C1_UNREACHABLE, "No connection to C1.")
REFUSED = Failure(Reason.C1_CLIENT_REJECTED, "C1 refused the client.", remedy=Remedy.CREDENTIALS)
WELL = Findings(1, token_accepted=True, client_accepted=True, awaiting_task=True)
"""What is found of `ready()`."""


def delivered(state: ConnectorState) -> ConnectorState:
    assert state.staged is not None
    return transitions.delivered(state, TaskID("task0"), state.staged, after(20))


def test_a_new_connector_is_checked_first() -> None:
    assert find(new(), START) == Findings(1, progressing=CHECKING)


def test_a_ready_connector_awaits_a_task_until_its_snapshot_went_out() -> None:
    assert find(ready(), after(10)) == WELL
    assert find(delivered(ready()), after(30)) == replace(WELL, awaiting_task=False)


def test_each_failure_is_found_under_its_own_name() -> None:
    assert find(replace(ready(), sync_failure=DOWN), after(10)) == replace(WELL, sync_failure=DOWN)
    assert find(replace(ready(), delivery_failure=DOWN), after(10)) == replace(WELL, delivery_failure=DOWN)
    for failure in (UNREACHABLE, REFUSED):
        state = replace(ready(), c1=replace(ready().c1, failure=failure))
        assert find(state, after(10)) == replace(WELL, c1_failure=failure)
    state = replace(state, check=replace(state.check, failure=REJECTED))
    assert find(state, after(10)) == replace(WELL, c1_failure=REFUSED, preflight_failure=REJECTED)


def test_a_taken_host_id_is_found_as_a_failure_of_the_check() -> None:
    failure = find(replace(ready(), host_id_holder=HOLDER), after(10)).preflight_failure
    assert failure is not None
    assert failure.message == host_id_taken(HOLDER, "default.acme").message


def test_a_suspended_connector_is_found_suspended() -> None:
    assert find(replace(ready(), desired=desired(1, suspend=True)), after(10)) == replace(WELL, suspended=True)


def test_whether_memberships_can_be_changed_is_found_while_that_is_enabled() -> None:
    on = Provisioning(enabled=True)
    state = ready(provisioning=on)
    assert find(state, after(10)) == replace(WELL, provisions=True)
    broken = replace(state, check=replace(state.check, write_failure=REJECTED))
    assert find(broken, after(10)) == replace(WELL, provisions=True, write_failure=REJECTED)
    off = replace(ready(), check=broken.check)
    assert find(off, after(10)) == WELL
    unreadable = replace(broken, desired=replace(broken.desired, spec_error=DOWN))
    assert find(unreadable, after(10)) == WELL


def test_a_late_secret_is_found_late_for_three_minutes() -> None:
    missing = Failure(Reason.SECRET_NOT_FOUND, "There is no Secret.", remedy=Remedy.CREDENTIALS)
    state = checked(new(), START, missing)
    assert find(state, after(179)).secret_is_late
    assert not find(state, after(180)).secret_is_late
    assert [derive_status(state, after(seconds)).phase for seconds in (179, 180)] == [Phase.PENDING, Phase.ERROR]


def test_a_held_snapshot_is_found_with_its_sentence_until_a_person_lets_it_go() -> None:
    state = synced(delivered(ready()), after(HOUR), "sync2", Counts(10, 10, 300))
    held = find(state, after(HOUR + 10)).held
    assert held is not None
    assert held.startswith("Snapshot sync2 has 10 accounts, the last delivered one had 100 (90 % fewer")
    accepting = replace(state, desired=replace(state.desired, accept_shrink="sync2"))
    lenient = replace(state, desired=desired(1, max_drop_percent=90))
    for allowed in (accepting, lenient, replace(state, staged=None)):
        assert find(allowed, after(HOUR + 10)).held is None


# What goes on


def edited() -> ConnectorState:
    return transitions.desired_changed(ready(), desired(2), after(60))


@pytest.mark.parametrize(
    ("state", "now", "syncing", "progressing"),
    [
        pytest.param(edited(), 60, False, CHECKING, id="an edit"),
        pytest.param(checked(edited(), after(60)), 60, False, CHANGE_WAITS, id="checked"),
        pytest.param(checked(edited(), after(60), DOWN), 60, False, CHANGE_WAITS, id="failed check"),
        pytest.param(
            transitions.sync_queued(checked(edited(), after(60)), after(60)), 60, False, CHANGE_WAITS, id="queued"
        ),
        pytest.param(running(checked(edited(), after(60)), after(60)), 60, True, CHANGE_SYNCS, id="syncs"),
        pytest.param(
            transitions.sync_cancelling(running(checked(edited(), after(60)), after(60))),
            60,
            True,
            CHANGE_SYNCS,
            id="is cancelled",
        ),
        pytest.param(running(ready(), after(HOUR)), HOUR, True, None, id="scheduled sync"),
        pytest.param(running(asked(ready(), after(1000)), after(1000)), 1000, True, None, id="a task's sync"),
        pytest.param(greeted(checked(new())), 0, False, CHANGE_WAITS, id="before the first sync"),
    ],
)
def test_what_goes_on_is_told(state: ConnectorState, now: float, syncing: bool, progressing: str | None) -> None:
    found = find(state, after(now))
    assert (found.syncing, found.progressing) == (syncing, progressing)


# The records beside the findings


def test_the_status_names_the_organization_and_the_token_s_end_that_the_check_found() -> None:
    facts = replace(PREFLIGHT, token=TokenFacts("uuid", frozenset(), EXPIRES))
    state = replace(ready(), check=replace(ready().check, preflight=facts, missing_scopes=("read_teams",)))
    status = derive_status(state, after(10))
    assert status.organization == PREFLIGHT.organization
    assert status.token_expires_at == EXPIRES
    assert status.missing_scopes == ("read_teams",)
    assert (status.phase, status.observed_generation) == (Phase.CONNECTED, 1)
    condition = status.condition(ConditionType.READY)
    assert condition is not None
    assert condition.last_transition_time == after(10).wall


def test_what_a_former_process_knew_of_the_organization_is_told_until_a_check_finds_it_anew() -> None:
    known = ConnectorStatus(organization=PREFLIGHT.organization, token_expires_at=EXPIRES)
    status = derive_status(replace(new(), records=known), START)
    assert (status.organization, status.token_expires_at) == (known.organization, known.token_expires_at)
