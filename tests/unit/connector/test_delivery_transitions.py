"""The state after deliveries, and after files that are removed: pure transitions."""

from dataclasses import replace

import pytest

from buildkite_connector.connector import transitions
from buildkite_connector.connector.state import Delivery, uploaded_under
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.snapshot import SyncID
from buildkite_connector.model.tasks import TaskID
from fakes.connector_states import (
    after,
    asked,
    desired,
    ready,
)

TASK = TaskID("task1")


def test_a_delivery_keeps_its_file_until_its_task_ends() -> None:
    state = asked(asked(ready(), after(10)), after(10), task="task2")
    assert state.staged is not None
    state = transitions.delivery_started(transitions.request_ended(state, TASK), TASK, state.staged)
    assert [each.task for each in state.requests] == ["task2"]
    assert state.staged is not None
    assert state.deliveries == (Delivery(TASK, state.staged),)
    assert transitions.delivery_ended(state, TaskID("task2")).requests == ()
    assert transitions.delivery_ended(state, TASK).deliveries == ()


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
    assert (state.staged, state.retired) == ((None, (staged,)) if dropped else (staged, ()))


def test_a_removed_file_is_forgotten_and_no_other() -> None:
    one = ready().staged
    assert one is not None
    other = replace(one, sync_id=SyncID("other"))
    state = replace(ready(), retired=(one, other))
    state = transitions.discard_started(transitions.discard_started(state, one), other)
    assert state.discarding == (one, other)
    state = transitions.discarded(state, one)
    assert (state.retired, state.discarding) == ((other,), (other,))


def test_what_c1_took_is_remembered_for_its_task_alone_and_until_something_changes() -> None:
    state = ready()
    assert state.staged is not None
    assert uploaded_under(state, TASK) is None
    state = transitions.uploaded(state, TASK, state.staged)
    assert uploaded_under(state, TASK) == state.staged
    assert uploaded_under(state, TaskID("task2")) is None
    assert uploaded_under(transitions.desired_changed(state, desired(2), after(10)), TASK) is None
    assert state.records.last_delivery is None


def test_the_end_of_the_same_delivery_once_more_changes_no_record() -> None:
    state = ready()
    assert state.staged is not None
    once = transitions.delivered(state, TASK, state.staged, after(20))
    failed = transitions.delivery_failed(once, state.staged, Failure(Reason.UPLOAD_FAILED, "C1 refused it."))
    assert transitions.delivered(failed, TASK, state.staged, after(90)) == once
