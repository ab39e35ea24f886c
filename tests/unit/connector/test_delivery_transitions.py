"""The state after deliveries: pure transitions."""

from dataclasses import replace

import pytest

from buildkite_connector.connector import transitions
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.snapshot import SyncID
from buildkite_connector.model.tasks import TaskID
from fakes.connector_states import (
    after,
    asked,
    ready,
)

TASK = TaskID("task1")


def test_a_request_that_ends_leaves_the_others() -> None:
    state = asked(asked(ready(), after(10)), after(10), task="task2")
    assert [each.task for each in transitions.request_ended(state, TASK).requests] == ["task2"]


def test_a_delivery_clears_the_failure_and_is_recorded() -> None:
    state = ready()
    assert state.staged is not None
    state = transitions.delivery_failed(state, state.staged, Failure(Reason.UPLOAD_FAILED, "C1 refused it."))
    assert state.delivery_failure is not None
    assert state.staged is not None
    state = transitions.delivered(state, TASK, state.staged, after(20))
    assert state.delivery_failure is None
    record = state.records.last_delivery
    assert record is not None
    assert (record.task_id, record.sync_id, record.time) == (TASK, "sync1", after(20).wall)


@pytest.mark.parametrize("reason", [Reason.SNAPSHOT_INVALID, Reason.STORAGE_FAILED, Reason.UPLOAD_FAILED])
@pytest.mark.parametrize("same", [True, False])
def test_a_damaged_file_is_dropped_while_it_is_the_staged_one(reason: Reason, same: bool) -> None:
    state = ready()
    staged = state.staged
    assert staged is not None
    sent = staged if same else replace(staged, sync_id=SyncID("older"))
    state = transitions.delivery_failed(state, sent, Failure(reason, "It is damaged."))
    dropped = same and reason is not Reason.UPLOAD_FAILED
    assert state.staged == (None if dropped else staged)


def test_the_end_of_the_same_delivery_once_more_changes_no_record() -> None:
    state = ready()
    assert state.staged is not None
    once = transitions.delivered(state, TASK, state.staged, after(20))
    failed = transitions.delivery_failed(once, state.staged, Failure(Reason.UPLOAD_FAILED, "C1 refused it."))
    assert transitions.delivered(failed, TASK, state.staged, after(90)) == once
