"""One task of C1: heartbeats, the work, FinishTask, and what a stop does to each."""

import asyncio
import itertools
import logging
from dataclasses import dataclass, field

import pytest

from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.tasks import Code, TaskID, TaskOutcome
from buildkite_connector.tasks.outcomes import SHUTTING_DOWN, UNEXPECTED
from buildkite_connector.tasks.runner import TaskRunner
from fakes.connector_ports import C1
from fakes.log_lines import lines
from fakes.task_ports import Records, SilentC1
from fakes.virtual_time import NoJitter, VirtualClock, virtual_time

TASK = TaskID("task1")
DONE = TaskOutcome(message="all of it")
AWAY = Failure(Reason.C1_UNAVAILABLE, "C1 is down")
FIELDS = {"connector": "default.acme", "task_id": "task1"}


@dataclass
class Work:
    """Work that takes `seconds` and gives `ends`, or raises it. `times`: when it began and was accepted."""

    seconds: float = 0.0
    ends: TaskOutcome | Exception = DONE
    heartbeats: bool = True
    awaits_answer: bool = False
    uploads: bool = False
    kind: str = "sync_full"
    began: list[float] = field(default_factory=list)
    ended: bool = False
    taken: int = 0
    another_way: bool = False

    async def run(self) -> TaskOutcome:
        self.began.append(now())
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.ended = True
        if isinstance(self.ends, Exception):
            raise self.ends
        return self.ends

    def accepted(self) -> None:
        self.taken += 1

    def refused(self) -> bool:
        again, self.another_way = self.another_way, False
        return again


def now() -> float:
    return asyncio.get_running_loop().time()


def runner(c1: C1, work: Work, observer: Records | None = None) -> TaskRunner:
    return TaskRunner("default.acme", TASK, work, c1, VirtualClock(), NoJitter(), observer or Records())


def fields(record: logging.LogRecord) -> dict[str, object]:
    return {
        name: getattr(record, name) for name in ("connector", "task_id", "reason", "error") if hasattr(record, name)
    }


@virtual_time
async def test_work_that_succeeds_is_finished_and_then_accepted() -> None:
    c1, work, observer = C1(), Work(3.0), Records()
    await runner(c1, work, observer).run()
    assert (c1.finished, work.taken, now()) == ({TASK: DONE}, 1, 3.0)
    assert observer.facts == [("task", {**FIELDS, "kind": "sync_full", "result": "success"})]


@virtual_time
async def test_nothing_is_begun_before_the_first_heartbeat_had_its_answer() -> None:
    c1, work = SilentC1(silent_heartbeat=True), Work()
    task = runner(c1, work)
    running = asyncio.create_task(task.run())
    await asyncio.sleep(100)
    assert (work.began, c1.heartbeats) == ([], [(TASK, 0.0)])
    task.stop()
    await running
    assert c1.finished == {TASK: SHUTTING_DOWN}


@virtual_time
async def test_a_heartbeat_follows_when_the_answer_to_the_last_says() -> None:
    c1 = C1()
    await runner(c1, Work(35.0)).run()
    assert c1.heartbeats == [(TASK, 0.0), (TASK, 10.0), (TASK, 20.0), (TASK, 30.0)]


@virtual_time
async def test_a_task_of_a_kind_without_heartbeats_has_none() -> None:
    c1, work = C1(), Work(100.0, heartbeats=False)
    await runner(c1, work).run()
    assert (c1.heartbeats, work.began, c1.finished) == ([], [0.0], {TASK: DONE})


@virtual_time
async def test_a_failed_first_heartbeat_is_sent_again_after_a_second_and_the_work_begins() -> None:
    c1, work = C1(heartbeat_failures=2), Work(5.0)
    await runner(c1, work).run()
    assert [at for _, at in c1.heartbeats] == [0.0, 1.0, 2.0]
    assert (work.began, c1.finished) == ([0.0], {TASK: DONE})


@virtual_time
async def test_a_heartbeat_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    await runner(C1(heartbeat_failures=1), Work(5.0)).run()
    told = {**FIELDS, "reason": "C1Unavailable", "error": "C1 is down"}
    assert lines(caplog.records) == [(logging.WARNING, "a heartbeat failed", told)]


@virtual_time
async def test_a_later_heartbeat_that_fails_is_sent_again_after_the_wait_that_c1_gave() -> None:
    c1, work = C1(), Work(25.0)
    running = asyncio.create_task(runner(c1, work).run())
    await asyncio.sleep(5)
    c1.heartbeat_failures = 1
    await running
    assert [at for _, at in c1.heartbeats] == [0.0, 10.0, 20.0]
    assert c1.finished == {TASK: DONE}


@virtual_time
async def test_ten_failed_heartbeats_in_a_row_give_the_work_up() -> None:
    c1, work = C1(heartbeat_failures=10), Work(1000.0)
    await runner(c1, work).run()
    assert (len(c1.heartbeats), now(), work.ended, work.taken) == (10, 9.0, True, 0)
    assert c1.finished == {TASK: TaskOutcome(Code.UNAVAILABLE, "C1Unavailable: C1 is down")}


@virtual_time
async def test_nine_failures_an_answer_and_nine_failures_give_nothing_up() -> None:
    c1, work = C1(heartbeat_failures=9), Work(150.0)
    running = asyncio.create_task(runner(c1, work).run())
    await asyncio.sleep(12)
    assert len(c1.heartbeats) == 10
    c1.heartbeat_failures = 9
    await running
    assert c1.finished == {TASK: DONE}


@virtual_time
async def test_a_task_that_c1_cancels_ends_its_work() -> None:
    c1, work, observer = C1(), Work(1000.0), Records()
    running = asyncio.create_task(runner(c1, work, observer).run())
    await asyncio.sleep(5)
    c1.cancelled.add(TASK)
    await running
    assert (now(), work.ended) == (10.0, True)
    assert c1.finished == {TASK: TaskOutcome(Code.CANCELLED, "TaskCancelled: C1 cancelled the task.")}
    assert observer.facts[0][1]["result"] == "cancelled"


@virtual_time
async def test_a_task_that_comes_cancelled_is_never_begun() -> None:
    c1, work = C1(cancelled={TASK}), Work()
    await runner(c1, work).run()
    assert (work.began, c1.finished[TASK].code) == ([], Code.CANCELLED)


def test_a_failure_of_the_work_is_finished_with_its_code_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    failure = Failure(Reason.SPEC_INVALID, "no such kind", remedy=Remedy.EDIT)
    c1, work, observer = C1(), Work(ends=failure), Records()
    virtual_time(runner(c1, work, observer).run)()
    assert c1.finished == {TASK: TaskOutcome(Code.FAILED_PRECONDITION, "SpecInvalid: no such kind", True)}
    assert (work.taken, observer.facts[0][1]["result"]) == (0, "failed")
    [record] = caplog.records
    assert (record.levelno, record.message) == (logging.WARNING, "a task failed")
    assert fields(record) == {**FIELDS, "reason": "SpecInvalid", "error": "no such kind"}


def test_an_unexpected_error_repeats_no_text_to_c1(caplog: pytest.LogCaptureFixture) -> None:
    c1, work = C1(), Work(ends=ZeroDivisionError("token-123"))
    virtual_time(runner(c1, work).run)()
    assert (c1.finished, work.taken) == ({TASK: UNEXPECTED}, 0)
    [record] = caplog.records
    assert (record.levelno, record.message) == (logging.ERROR, "a task failed unexpectedly")
    assert fields(record) == FIELDS


# The stop


@virtual_time
async def test_a_stop_hands_the_task_back_at_once_so_that_c1_may_hand_it_out_again() -> None:
    c1, work, observer = C1(), Work(1000.0), Records()
    task = runner(c1, work, observer)
    running = asyncio.create_task(task.run())
    await asyncio.sleep(5)
    task.stop()
    await running
    assert (now(), work.ended, work.taken, c1.finished) == (5.0, True, 0, {TASK: SHUTTING_DOWN})
    assert (c1.finished[TASK].code, c1.finished[TASK].non_retryable) == (Code.ABORTED, False)
    assert observer.facts[0][1]["result"] == "handed_back"


@pytest.mark.parametrize(("seconds", "ends", "at"), [(9.9, DONE, 9.9), (10.1, SHUTTING_DOWN, 10.0)])
def test_an_upload_that_is_whole_has_its_answer_awaited_for_five_seconds(
    seconds: float, ends: TaskOutcome, at: float
) -> None:
    @virtual_time
    async def test() -> None:
        c1, work = C1(), Work(seconds, awaits_answer=True)
        task = runner(c1, work)
        running = asyncio.create_task(task.run())
        await asyncio.sleep(5)
        task.stop()
        await running
        assert (c1.finished, now(), work.taken) == ({TASK: ends}, at, int(ends is DONE))

    test()


@virtual_time
async def test_a_runner_that_is_cancelled_hands_its_task_back() -> None:
    c1, work = C1(), Work(1000.0)
    running = asyncio.create_task(runner(c1, work).run())
    await asyncio.sleep(5)
    running.cancel()
    await asyncio.wait({running})
    assert (running.cancelled(), work.ended, c1.finished) == (True, True, {TASK: SHUTTING_DOWN})


@virtual_time
async def test_nothing_of_a_task_goes_on_after_its_end() -> None:
    c1 = C1()
    await runner(c1, Work(5.0)).run()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert [later - earlier for earlier, later in itertools.pairwise(at for _, at in c1.heartbeats)] == []
