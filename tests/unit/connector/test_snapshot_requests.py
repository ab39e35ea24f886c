"""The deliveries of one connector by themselves: what a task's request becomes in the state, and what the task gets."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace

import pytest

from buildkite_connector.connector import transitions
from buildkite_connector.connector.decisions import Answer
from buildkite_connector.connector.deliveries import Deliveries
from buildkite_connector.connector.state import ConnectorState, SnapshotRequest
from buildkite_connector.model.directory import Counts, SyncScope
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.snapshot import OpenSnapshot
from buildkite_connector.model.tasks import SyncTask, TaskID
from buildkite_connector.timing.clock import Instant, instant
from fakes.connector_ports import HOUR, KEY, USERS, Store, down
from fakes.connector_states import after, ready, synced
from fakes.log_lines import lines
from fakes.virtual_time import VirtualClock, virtual_time

TASK = SyncTask(TaskID("task1"), SyncScope())


class Bench:
    """Deliveries on the state of a connector that is ready and has the snapshot `whole`."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.state = ready()
        assert self.state.staged is not None
        self.whole = self.state.staged
        self.shelf = Store({(KEY, self.whole.sync_id): self.whole})
        self.deliveries = Deliveries("default.acme", self.shelf, self.clock, self.apply, lambda: self.state)
        self.got: OpenSnapshot | None = None
        self.leave = asyncio.Event()

    def apply(self, transition: Callable[[ConnectorState, Instant], ConnectorState]) -> None:
        self.state = transition(self.state, instant(self.clock))

    def syncs(self, accounts: int) -> None:
        """A newer snapshot takes the place of `whole`."""
        self.shelf.remove(self.whole)
        self.state = synced(self.state, after(HOUR), "sync2", Counts(accounts, 10, 300))
        assert self.state.staged is not None
        self.whole = self.state.staged
        self.shelf.files[KEY, self.whole.sync_id] = self.whole

    async def begin(self, task: SyncTask = TASK) -> asyncio.Task[None]:
        """The task asks; it keeps what it gets until `leave` is set."""

        async def carry_out() -> None:
            async with self.deliveries.snapshot_for(task) as self.got:
                await self.leave.wait()

        running = asyncio.create_task(carry_out())
        await asyncio.sleep(1)
        return running

    async def answer(self, scope: SyncScope) -> None:
        """As a connector does it."""
        self.state = transitions.request_ended(self.state, TASK.id)
        self.deliveries.settle(TASK.id, Answer(self.whole, scope))
        await asyncio.sleep(1)


@virtual_time
async def test_a_request_is_in_the_state_until_it_is_answered() -> None:
    bench = Bench()
    await asyncio.sleep(7)
    running = await bench.begin(SyncTask(TaskID("task1"), USERS))
    [request] = bench.state.requests
    assert request == SnapshotRequest(TaskID("task1"), USERS, request.asked_at)
    assert request.asked_at == pytest.approx(7.0, abs=1e-3)
    assert bench.got is None
    running.cancel()
    await asyncio.wait({running})
    assert bench.state.requests == ()


@pytest.mark.parametrize(("scope", "derivations"), [(SyncScope(), []), (USERS, [USERS])], ids=["whole", "part"])
@virtual_time
async def test_an_answer_gives_an_open_file_of_its_scope_until_the_task_leaves_it(
    scope: SyncScope, derivations: list[SyncScope]
) -> None:
    bench = Bench()
    running = await bench.begin()
    await bench.answer(scope)
    assert bench.got is not None
    assert (bench.got.snapshot.scope, bench.got.snapshot.sync_id) == (scope, "sync1")
    assert (bench.shelf.derivations, bench.got.file.closed, bench.state.requests) == (derivations, False, ())
    bench.leave.set()
    await running
    assert bench.got.file.closed


@virtual_time
async def test_a_file_that_cannot_be_opened_fails_the_task_and_is_a_failed_delivery() -> None:
    bench = Bench()
    failure = Failure(Reason.STORAGE_FAILED, "the disk is full")
    bench.shelf.open_failures.append(failure)
    running = await bench.begin()
    await bench.answer(USERS)
    assert running.exception() is failure
    assert repr(bench.state.delivery_failure) == "Failure(StorageFailed: the disk is full)"
    assert (bench.state.staged, bench.state.requests) == (None, ())


@virtual_time
async def test_a_task_whose_file_was_replaced_before_it_was_opened_asks_again() -> None:
    bench = Bench()
    running = await bench.begin()
    older = bench.whole
    bench.syncs(100)
    bench.deliveries.settle(TASK.id, Answer(older, SyncScope()))
    await asyncio.sleep(1)
    assert (bench.got, bench.state.delivery_failure) == (None, None)
    assert [each.task for each in bench.state.requests] == ["task1"]
    await bench.answer(SyncScope())
    assert bench.got is not None
    assert bench.got.snapshot is bench.whole
    bench.leave.set()
    await running


@virtual_time
async def test_a_failure_of_the_work_on_a_part_is_not_taken_for_one_of_the_part() -> None:
    bench = Bench()

    async def carry_out() -> None:
        async with bench.deliveries.snapshot_for(TASK):
            raise down()

    running = asyncio.create_task(carry_out())
    await asyncio.sleep(1)
    await bench.answer(USERS)
    assert isinstance(running.exception(), Failure)
    assert bench.state.delivery_failure is None
    assert [each.file.closed for each in bench.shelf.opened] == [True]


@virtual_time
async def test_a_refusal_fails_the_task_and_keeps_no_frames() -> None:
    bench = Bench()
    running = await bench.begin()
    failure = down()
    bench.deliveries.settle(TASK.id, failure)
    await asyncio.sleep(1)
    raised = running.exception()
    assert raised is not failure
    assert repr(raised) == repr(failure)
    assert (bench.got, bench.state.requests) == (None, ())


@virtual_time
async def test_an_answer_or_refusal_for_a_task_that_was_just_cancelled_changes_nothing() -> None:
    bench = Bench()
    running = await bench.begin()
    running.cancel()
    bench.deliveries.settle(TASK.id, Answer(bench.whole, SyncScope()))
    bench.deliveries.settle(TASK.id, down())
    await asyncio.wait({running})
    assert (running.cancelled(), bench.got) == (True, None)


@virtual_time
async def test_the_first_of_two_answers_counts() -> None:
    bench = Bench()
    await bench.begin()
    bench.deliveries.settle(TASK.id, Answer(bench.whole, SyncScope()))
    bench.deliveries.settle(TASK.id, down())
    await asyncio.sleep(1)
    assert bench.got is not None
    assert bench.got.snapshot is bench.whole


@virtual_time
async def test_each_task_gets_the_answer_to_its_own_request() -> None:
    bench = Bench()
    other = SyncTask(TaskID("task2"), USERS)
    first, second = await bench.begin(), await bench.begin(other)
    bench.deliveries.settle(other.id, down())
    await asyncio.sleep(1)
    assert (first.done(), second.done()) == (False, True)
    assert [each.task for each in bench.state.requests] == ["task1"]
    first.cancel()
    await asyncio.wait({first})


@virtual_time
async def test_a_delivery_is_recorded_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    bench = Bench()
    await asyncio.sleep(7)
    bench.deliveries.delivered(TASK, bench.whole)
    record = bench.state.records.last_delivery
    assert record is not None
    assert (record.task_id, record.sync_id, record.sha256) == ("task1", "sync1", bench.whole.sha256)
    assert abs((bench.clock.now() - record.time).total_seconds()) < 1e-3
    told = {"connector": "default.acme", "task_id": "task1", "sync_id": "sync1", "bytes": 1000}
    assert lines(caplog.records) == [(logging.INFO, "snapshot delivered", told)]


@virtual_time
async def test_a_delivery_that_failed_is_in_the_state() -> None:
    bench = Bench()
    bench.deliveries.delivery_failed(bench.whole, Failure(Reason.UPLOAD_FAILED, "The stream broke."))
    assert repr(bench.state.delivery_failure) == "Failure(UploadFailed: The stream broke.)"
    assert bench.state.staged is bench.whole


def test_a_snapshot_that_shrank_and_a_form_that_c1_does_not_get_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    @virtual_time
    async def test() -> None:
        bench = Bench()
        bench.deliveries.delivered(TASK, bench.whole)
        bench.syncs(60)
        task = replace(TASK, storage_engine="pebble")
        running = await bench.begin(task)
        await bench.answer(SyncScope())
        bench.leave.set()
        await running
        bench.deliveries.delivered(task, bench.whole)

    with caplog.at_level(logging.WARNING):
        test()
    shrank, engine = lines(caplog.records)
    assert shrank[:2] == (logging.WARNING, "the snapshot shrank")
    assert shrank[2] == {"connector": "default.acme", "error": shrank[2]["error"]}
    assert "60 accounts, the last delivered one had 100 (40 % fewer)" in str(shrank[2]["error"])
    asked = {"connector": "default.acme", "task_id": "task1", "asked": "pebble"}
    assert engine == (logging.WARNING, "C1 asked for another form of the file and got sqlite", asked)


@virtual_time
async def test_a_snapshot_that_shrank_and_that_a_person_accepted_is_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench()
    bench.deliveries.delivered(TASK, bench.whole)
    bench.syncs(60)
    bench.state = replace(bench.state, desired=replace(bench.state.desired, accept_shrink="sync2"))
    running = await bench.begin()
    await bench.answer(SyncScope())
    bench.leave.set()
    await running
    assert bench.got is not None
    assert (bench.got.snapshot, lines(caplog.records)) == (bench.whole, [])
