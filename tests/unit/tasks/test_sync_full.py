"""The handler of `sync_full`: a snapshot, its upload, and what is recorded of it."""

import asyncio
import logging

import pytest

from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.scope import SyncScope
from buildkite_connector.model.tasks import SyncTask, TaskID, TaskOutcome
from buildkite_connector.tasks.outcomes import format_note
from buildkite_connector.tasks.sync_full import MOST_SNAPSHOTS, SyncFullHandler
from fakes.connector_ports import C1
from fakes.log_lines import lines
from fakes.task_ports import SNAPSHOT, Snapshots
from fakes.virtual_time import virtual_time

TASK = SyncTask(TaskID("task1"), SyncScope(), storage_engine="pebble")
FAILED = Failure(Reason.UPLOAD_FAILED, "The stream broke.")


def handler(snapshots: Snapshots, c1: C1) -> SyncFullHandler:
    return SyncFullHandler("default.acme", TASK, snapshots, c1, asyncio.Semaphore(1))


def awaits_answer(work: SyncFullHandler) -> bool:
    """Asked anew each time: the type checker takes the attribute for unchanged."""
    return work.awaits_answer


@virtual_time
async def test_a_delivery_is_recorded_when_c1_has_taken_its_end() -> None:
    snapshots, c1 = Snapshots(), C1()
    work = handler(snapshots, c1)
    assert await work.run() == TaskOutcome(message=format_note(TASK))
    assert (c1.uploads, c1.files) == ([("task1", "sha-sync1")], [SNAPSHOT.path])
    assert (snapshots.open, snapshots.deliveries) == (set(), [])
    work.accepted()
    assert snapshots.deliveries == [("task1", SNAPSHOT)]


@virtual_time
async def test_an_answer_is_awaited_from_the_last_byte_to_the_answer() -> None:
    c1 = C1(upload_seconds=10.0, answer_seconds=10.0)
    work = handler(Snapshots(), c1)
    assert not awaits_answer(work)
    running = asyncio.create_task(work.run())
    await asyncio.sleep(9)
    assert not awaits_answer(work)
    await asyncio.sleep(2)
    assert awaits_answer(work)
    await running
    assert not awaits_answer(work)


@virtual_time
async def test_a_failed_upload_is_recorded_and_fails_the_task() -> None:
    snapshots, c1 = Snapshots(), C1()
    c1.upload_failures.append(FAILED)
    work = handler(snapshots, c1)
    with pytest.raises(Failure, match="The stream broke"):
        await work.run()
    work.accepted()
    assert (snapshots.failed, snapshots.deliveries, snapshots.open) == ([(SNAPSHOT, FAILED)], [], set())


@virtual_time
async def test_an_unexpected_error_of_an_upload_is_no_failed_delivery() -> None:
    snapshots, c1 = Snapshots(), C1()
    c1.upload_failures.append(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await handler(snapshots, c1).run()
    assert snapshots.failed == []


# A task that comes again after its upload


@virtual_time
async def test_a_task_that_comes_again_after_its_upload_is_ended_without_another(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    snapshots, c1 = Snapshots(), C1()
    await handler(snapshots, c1).run()
    again = handler(snapshots, c1)
    assert await again.run() == TaskOutcome(message=format_note(TASK))
    assert len(c1.uploads) == 1
    again.accepted()
    assert snapshots.deliveries == [("task1", SNAPSHOT)]
    said = "C1 hands out again a task whose snapshot it has; its end is sent again"
    told = {"connector": "default.acme", "task_id": "task1", "sync_id": "sync1"}
    assert lines(caplog.records) == [(logging.INFO, said, told)]


@virtual_time
async def test_an_upload_that_c1_does_not_count_is_made_once_more_and_no_oftener() -> None:
    snapshots, c1 = Snapshots(), C1()
    await handler(snapshots, c1).run()
    again = handler(snapshots, c1)
    await again.run()
    assert again.refused()
    await again.run()
    assert len(c1.uploads) == 2
    assert not again.refused()


@virtual_time
async def test_a_snapshot_that_a_change_made_untrue_stays_here_and_another_is_asked_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    snapshots, c1 = Snapshots(seconds=1.0, untrue={SNAPSHOT.sync_id}), C1()
    running = asyncio.create_task(handler(snapshots, c1).run())
    await asyncio.sleep((MOST_SNAPSHOTS - 1) + 0.5)
    assert not running.done()
    assert c1.uploads == []
    snapshots.untrue.clear()
    await running
    assert c1.uploads == [("task1", "sha-sync1")]
    told = {"connector": "default.acme", "task_id": "task1"}
    line = (logging.INFO, "a change made the snapshot untrue", told)
    assert lines(caplog.records) == [line] * (MOST_SNAPSHOTS - 1)


@virtual_time
async def test_a_task_whose_snapshots_are_always_untrue_goes_back_to_c1() -> None:
    snapshots, c1 = Snapshots(untrue={SNAPSHOT.sync_id}), C1()
    with pytest.raises(Failure) as caught:
        await handler(snapshots, c1).run()
    assert caught.value.message == (
        "10 snapshots in a row were untrue before they could leave: C1 changes memberships faster than they can be"
        " read."
    )
    assert (caught.value.reason, caught.value.remedy) == (Reason.ROSTER_UNSTABLE, Remedy.RETRY)
    assert c1.uploads == []
