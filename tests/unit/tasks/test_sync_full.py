"""The handler of `sync_full`: a snapshot, its upload, and what is recorded of it."""

import asyncio
import logging
from dataclasses import replace

import pytest

from buildkite_connector.model.directory import SyncScope
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.tasks import Heartbeat, SyncTask, TaskID, TaskOutcome
from buildkite_connector.tasks.ports import TaskProgress
from buildkite_connector.tasks.sync_full import MOST_SNAPSHOTS, sync_full
from fakes.connector_ports import C1
from fakes.log_lines import lines
from fakes.task_ports import SNAPSHOT, Snapshots, session_ports
from fakes.virtual_time import virtual_time

TASK = SyncTask(TaskID("task1"), SyncScope(), storage_engine="pebble")
FAILED = Failure(Reason.UPLOAD_FAILED, "The stream broke.")


async def carry_out(snapshots: Snapshots, c1: C1, progress: TaskProgress | None = None) -> TaskOutcome:
    return await sync_full(TASK, session_ports(c1, snapshots), asyncio.Lock(), progress or TaskProgress())


NOTE = "The snapshot is in sqlite format; this connector does not write pebble."


@pytest.mark.parametrize(("engine", "note"), [("pebble", NOTE), ("sqlite", ""), ("", "")])
@virtual_time
async def test_the_outcome_names_the_snapshot_that_c1_has_and_another_form_than_it_asked_for(
    engine: str, note: str
) -> None:
    snapshots, c1 = Snapshots(), C1()
    ports = session_ports(c1, snapshots)
    outcome = await sync_full(replace(TASK, storage_engine=engine), ports, asyncio.Lock(), TaskProgress())
    assert (outcome, outcome.delivered) == (TaskOutcome(message=note), SNAPSHOT)
    assert (c1.uploads, c1.files) == ([("task1", "sha-sync1")], [SNAPSHOT.path])
    assert (snapshots.open, snapshots.deliveries) == (set(), [])


@virtual_time
async def test_an_answer_is_awaited_from_the_last_byte_to_the_answer() -> None:
    progress = TaskProgress()
    running = asyncio.create_task(carry_out(Snapshots(), C1(upload_seconds=10.0, answer_seconds=10.0), progress))
    awaited = []
    for _ in range(3):
        await asyncio.sleep(9)
        awaited.append(progress.awaits_answer)
    await running
    assert awaited == [False, True, False]


@pytest.mark.parametrize(("error", "recorded"), [(FAILED, [(SNAPSHOT, FAILED)]), (ZeroDivisionError(), [])])
@virtual_time
async def test_a_failed_upload_fails_the_task_and_is_recorded_unless_the_error_is_our_own(
    error: Exception, recorded: list[tuple[object, Failure]]
) -> None:
    snapshots, c1, progress = Snapshots(), C1(), TaskProgress()
    c1.upload_failures.append(error)
    with pytest.raises(type(error)):
        await carry_out(snapshots, c1, progress)
    assert (snapshots.failed, snapshots.open, progress.awaits_answer) == (recorded, set(), False)


class BreaksAtItsEnd(C1):
    """The second heartbeat is out when the snapshot is delivered, and its end breaks."""

    async def heartbeat(self, task_id: TaskID) -> Heartbeat:
        beat = await super().heartbeat(task_id)
        if len(self.heartbeats) > 1:
            try:
                await asyncio.Event().wait()
            finally:
                raise ZeroDivisionError
        return beat


@virtual_time
async def test_a_heartbeat_that_breaks_beside_the_end_is_logged_and_changes_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    outcome = await carry_out(Snapshots(), BreaksAtItsEnd(upload_seconds=60.0))
    assert outcome.delivered == SNAPSHOT
    assert [each.getMessage() for each in caplog.records if each.exc_info] == ["a heartbeat failed unexpectedly"]


@virtual_time
async def test_a_snapshot_that_a_change_made_untrue_stays_here_and_another_is_asked_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    snapshots, c1 = Snapshots(seconds=1.0, untrue={SNAPSHOT.sync_id}), C1()
    running = asyncio.create_task(carry_out(snapshots, c1))
    await asyncio.sleep((MOST_SNAPSHOTS - 1) + 0.5)
    assert not running.done()
    assert c1.uploads == []
    snapshots.untrue.clear()
    await running
    assert c1.uploads == [("task1", "sha-sync1")]
    told = {"connector": "default.acme", "task_id": "task1"}
    line = (logging.INFO, "a membership change made the snapshot outdated", told)
    assert lines(caplog.records) == [line] * (MOST_SNAPSHOTS - 1)


@virtual_time
async def test_a_task_whose_snapshots_are_always_untrue_goes_back_to_c1() -> None:
    snapshots, c1 = Snapshots(untrue={SNAPSHOT.sync_id}), C1()
    with pytest.raises(Failure) as caught:
        await carry_out(snapshots, c1)
    assert caught.value.message == (
        "10 snapshots in a row were outdated before they could be delivered: C1 changes memberships faster than"
        " they can be read."
    )
    assert (caught.value.reason, caught.value.remedy) == (Reason.ROSTER_UNSTABLE, Remedy.RETRY)
    assert c1.uploads == []
