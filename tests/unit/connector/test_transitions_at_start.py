"""The state that a process begins with, made of the status that the one before it wrote: pure transitions."""

from dataclasses import replace

import pytest

from buildkite_connector.connector import transitions
from buildkite_connector.connector.state import Check, ConnectorState, Inputs
from buildkite_connector.model.spec import Interval, Provisioning
from buildkite_connector.model.status import Condition, ConditionStatus, ConditionType, ConnectorStatus, Phase
from fakes.connector_states import (
    DOWN,
    START,
    after,
    desired,
    new,
    ready,
    restored,
)

HOUR = 3600.0
ON = Provisioning(enabled=True)


def written(**changes: object) -> ConnectorStatus:
    """What a process that staged `sync1` has written."""
    return replace(replace(ready().records, observed_generation=1), **changes)  # type: ignore[arg-type]  # checked by the dataclass


def test_a_new_connector_is_due_at_once() -> None:
    state = new()
    assert state.records.next_sync_time == START.wall
    assert (state.collected_for, state.desired_since) == (None, START.monotonic)


def test_a_known_generation_keeps_its_time_its_inputs_and_its_age() -> None:
    state = restored(written(), after(60))
    assert state.records.next_sync_time == after(HOUR).wall
    assert state.collected_for == Inputs(1, None)
    assert state.desired_since == float("-inf")


@pytest.mark.parametrize("changes", [{"observed_generation": 7}, {"phase": Phase.SYNCING}])
def test_a_changed_resource_and_an_interrupted_sync_are_due_at_once(changes: dict[str, object]) -> None:
    assert restored(written(**changes), after(60)).records.next_sync_time == after(60).wall


@pytest.mark.parametrize(
    ("changes", "serves"),
    [
        ({}, True),
        ({"next_sync_time": after(60).wall}, False),
        ({"next_sync_time": None}, False),
        ({"observed_generation": 7}, False),
        ({"phase": Phase.SYNCING}, False),
        ({"consecutive_failures": 1}, False),
    ],
)
def test_a_restored_file_serves_only_where_nothing_says_that_it_is_outdated(
    changes: dict[str, object], serves: bool
) -> None:
    assert transitions.still_serves(desired(), written(**changes), after(60)) is serves
    assert not transitions.still_serves(desired(provisioning=ON), written(**changes), after(60))


@pytest.mark.parametrize(("status", "kept"), [(ConditionStatus.FALSE, True), (ConditionStatus.TRUE, False)])
def test_a_failure_that_was_reported_is_kept(status: ConditionStatus, kept: bool) -> None:
    condition = Condition(ConditionType.SYNCED, status, DOWN.reason, DOWN.message, 1, last_transition_time=START.wall)
    failure = restored(written(conditions=(condition,)), after(60)).sync_failure
    assert (failure is not None and (failure.reason, failure.message) == (DOWN.reason, DOWN.message)) is kept


@pytest.mark.parametrize(
    ("ended", "at", "failures", "blocked"),
    [
        (0.0, 1000.0, 1, 1000.0),  # Buildkite said so: our own backoff is 30 s at most
        (0.0, 30.0, 1, 0.0),
        (0.0, 1000.0, 0, 0.0),
        (0.0, 1e6, 1, 6 * HOUR + 10.0),
    ],
)
def test_what_buildkite_said_outlives_a_restart(ended: float, at: float, failures: int, blocked: float) -> None:
    status = written(last_sync_time=after(ended).wall, next_sync_time=after(at).wall, consecutive_failures=failures)
    state = restored(status, after(10), schedule=Interval(1e6))
    assert state.sync_blocked_until == pytest.approx(after(blocked).monotonic if blocked else 0.0)


def test_a_new_connector_begins_with_an_empty_status_and_knows_nothing() -> None:
    state = new()
    assert state == ConnectorState(
        desired=state.desired, desired_since=START.monotonic, records=ConnectorStatus(next_sync_time=START.wall)
    )
    assert state.check == Check()


def test_a_next_sync_time_is_no_further_ahead_than_the_schedule_reaches() -> None:
    state = restored(written(next_sync_time=after(9 * HOUR).wall), after(60))
    assert state.records == written(next_sync_time=after(60 + 1.05 * HOUR).wall)


def test_a_known_generation_without_a_time_keeps_none() -> None:
    assert restored(written(next_sync_time=None), after(60)).records == written(next_sync_time=None)


def test_an_unknown_generation_has_no_known_inputs_and_counts_from_now() -> None:
    state = restored(written(observed_generation=7), after(60))
    assert (state.desired_since, state.collected_for) == (after(60).monotonic, None)


@pytest.mark.parametrize("missing", ["last_sync_time", "next_sync_time"])
def test_a_status_without_its_times_puts_nothing_off(missing: str) -> None:
    times: dict[str, object] = {"last_sync_time": START.wall, "next_sync_time": after(1000).wall, missing: None}
    assert restored(written(consecutive_failures=1, **times), after(10)).sync_blocked_until == 0.0
