"""FinishTask: sent again while it may have been lost, within the time that a stop leaves."""

import asyncio
import logging

import pytest

from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.tasks import TaskID, TaskOutcome
from buildkite_connector.tasks.outcomes import unsupported
from buildkite_connector.tasks.runner import TaskRunner
from buildkite_connector.tasks.sync_full import RefusalHandler
from fakes.connector_ports import C1
from fakes.task_ports import SilentC1
from fakes.virtual_time import NoJitter, VirtualClock, virtual_time

TASK = TaskID("task1")
AWAY = Failure(Reason.C1_UNAVAILABLE, "C1 is down")
UNREACHABLE = Failure(Reason.C1_UNREACHABLE, "No connection to C1.")
REFUSED = Failure(Reason.C1_REQUEST_REJECTED, "C1 has ended the task.")


class Accepted(RefusalHandler):
    """A success at once; `taken` is how often C1 took it."""

    taken = 0

    def __init__(self) -> None:
        super().__init__("grant", TaskOutcome())

    def accepted(self) -> None:
        self.taken += 1


def runner(c1: C1, handler: RefusalHandler) -> TaskRunner:
    return TaskRunner("default.acme", TASK, handler, c1, VirtualClock(), NoJitter())


@pytest.mark.parametrize(
    ("failures", "attempts", "taken", "seconds"),
    [
        ([], 1, 1, 0.0),
        ([AWAY], 2, 1, 0.75),
        ([UNREACHABLE, AWAY], 3, 1, 2.25),
        ([AWAY, AWAY, AWAY], 3, 0, 2.25),
        ([REFUSED], 1, 0, 0.0),
        ([AWAY, REFUSED], 2, 1, 0.75),
        ([Failure(Reason.INTERNAL_ERROR, "…")], 1, 0, 0.0),
        ([Failure(Reason.C1_UNAVAILABLE, "C1 is down", retry_after=20.0)], 2, 1, 20.0),
    ],
)
def test_an_end_that_may_have_been_lost_is_sent_up_to_three_times(
    failures: list[Failure], attempts: int, taken: int, seconds: float
) -> None:
    """A refusal of a later attempt says that C1 has the end: the answer to an earlier one was lost."""

    @virtual_time
    async def test() -> None:
        c1, handler = C1(), Accepted()
        c1.finish_failures.extend(failures)
        await runner(c1, handler).run()
        assert (c1.finish_attempts, handler.taken) == (attempts, taken)
        assert asyncio.get_running_loop().time() == seconds

    test()


def test_an_end_that_c1_does_not_take_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    c1 = C1()
    c1.finish_failures.append(REFUSED)
    virtual_time(runner(c1, Accepted()).run)()
    [record] = caplog.records
    assert (record.levelno, record.message) == (logging.WARNING, "C1 did not take a task's end")
    assert (record.__dict__["task_id"], record.__dict__["reason"]) == ("task1", "C1RequestRejected")


@virtual_time
async def test_a_refusal_that_c1_takes_is_not_accepted_as_a_success() -> None:
    c1, handler = C1(), RefusalHandler("grant", unsupported("grant"))
    await runner(c1, handler).run()
    assert c1.finished == {TASK: unsupported("grant")}
    assert c1.heartbeats == []


@pytest.mark.parametrize(("answers_at", "taken", "ended_at"), [(100.0, 0, 8.0), (7.9, 1, 7.9)])
def test_a_stop_leaves_an_end_under_way_three_seconds(answers_at: float, taken: int, ended_at: float) -> None:
    @virtual_time
    async def test() -> None:
        c1, handler = SilentC1(finish_seconds=answers_at), Accepted()
        task = runner(c1, handler)
        running = asyncio.create_task(task.run())
        await asyncio.sleep(5)
        assert not running.done()
        task.stop()
        await running
        assert (handler.taken, asyncio.get_running_loop().time()) == (taken, ended_at)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    test()


def test_an_end_that_stays_without_answer_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    @virtual_time
    async def test() -> None:
        task = runner(SilentC1(finish_seconds=100.0), Accepted())
        task.stop()
        await task.run()

    test()
    [record] = caplog.records
    assert (record.levelno, record.message) == (logging.WARNING, "C1 did not answer a task's end in time")
    assert (record.__dict__["connector"], record.__dict__["task_id"]) == ("default.acme", "task1")


@pytest.mark.parametrize(("answers_at", "finished", "ended_at"), [(7.0, True, 7.0), (100.0, False, 8.0)])
def test_an_end_is_sent_whole_although_the_runner_is_cancelled(
    answers_at: float, finished: bool, ended_at: float
) -> None:
    @virtual_time
    async def test() -> None:
        c1 = SilentC1(finish_seconds=answers_at)
        running = asyncio.create_task(runner(c1, Accepted()).run())
        await asyncio.sleep(5)
        running.cancel()
        await asyncio.wait({running})
        assert (TASK in c1.finished, asyncio.get_running_loop().time()) == (finished, ended_at)

    test()


@pytest.mark.parametrize(("failure", "runs", "taken"), [(REFUSED, 2, 1), (AWAY, 1, 1)])
def test_a_success_that_c1_refuses_is_come_to_another_way_where_there_is_one(
    failure: Failure, runs: int, taken: int
) -> None:
    class TwoWays(Accepted):
        runs = 0

        async def run(self) -> TaskOutcome:
            self.runs += 1
            return await super().run()

        def refused(self) -> bool:
            return self.runs < 2

    @virtual_time
    async def test() -> None:
        c1, handler = C1(), TwoWays()
        c1.finish_failures.append(failure)
        await runner(c1, handler).run()
        assert (handler.runs, handler.taken, c1.finished) == (runs, taken, {TASK: TaskOutcome()})

    test()
