"""The tasks that a session serves: heartbeats, the work, FinishTask; and what the end of the session does to them."""

import asyncio
import logging

import pytest

from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.snapshot import StagedSnapshot
from buildkite_connector.model.tasks import Code, HelloTask, SyncTask, TaskID, TaskOutcome, UnsupportedTask
from buildkite_connector.tasks.outcomes import SHUTTING_DOWN, UNEXPECTED, refused_options, unsupported
from fakes.log_lines import lines
from fakes.task_ports import SNAPSHOT, Listener, Session, SilentC1, Snapshots, seconds
from fakes.virtual_time import virtual_time

DONE = TaskOutcome()
AWAY = Failure(Reason.C1_UNAVAILABLE, "C1 is down")
UNREACHABLE = Failure(Reason.C1_UNREACHABLE, "No connection to C1.")
REFUSED = Failure(Reason.C1_REQUEST_REJECTED, "C1 has ended the task.")
FIELDS = {"connector": "default.acme", "task_id": "t1"}
LONG = 1000.0


def busy(snapshot_seconds: float = LONG) -> Session:
    """A session whose C1 is asked each second, and whose snapshots take so long."""
    session = Session()
    session.c1.next_poll = 1.0
    session.snapshots.seconds = snapshot_seconds
    return session


def with_task(snapshot_seconds: float = 0.0, **c1: object) -> tuple[Session, TaskID]:
    """A session that has begun, with one sync task; C1 is not asked again. `c1` changes the fake."""
    session = busy(snapshot_seconds)
    session.c1.next_poll = 300.0
    for name, value in c1.items():
        setattr(session.c1, name, value)
    task = session.sync_task("t1")
    session.begin()
    return session, task


def result(session: Session) -> object:
    """How the first task ended, as metrics have it."""
    return next(facts["result"] for kind, facts in session.records.facts if kind == "task")


# Several at once


@virtual_time
async def test_a_sync_task_is_carried_out_while_c1_is_asked_on() -> None:
    session = busy(snapshot_seconds=3.5)
    task = session.sync_task("t1")
    session.begin()
    await asyncio.sleep(5.5)
    assert session.c1.polled == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert (session.c1.uploads, session.c1.finished) == ([(task, "sha-sync1")], {task: DONE})
    assert session.snapshots.deliveries == [(task, SNAPSHOT)]
    assert session.records.facts == [
        ("task", {**FIELDS, "kind": "sync_full", "result": "success"}),
        ("delivery", {**FIELDS, "bytes": 1000}),
    ]
    await session.end()
    assert asyncio.all_tasks() == {asyncio.current_task()}


@virtual_time
async def test_a_fourth_task_is_asked_for_as_soon_as_one_of_three_has_ended() -> None:
    session = busy()
    tasks = [session.sync_task(f"t{n}") for n in range(4)]
    session.begin()
    await asyncio.sleep(15.5)
    assert session.c1.polled == [0.0, 1.0, 2.0]
    session.c1.cancelled.add(tasks[1])
    await asyncio.sleep(10)
    assert session.c1.finished[tasks[1]].code is Code.CANCELLED
    assert session.c1.polled == [0.0, 1.0, 2.0, 21.0]
    assert {beaten for beaten, _ in session.c1.heartbeats} == set(tasks)
    await session.end()


@virtual_time
async def test_as_many_tasks_run_at_once_as_are_allowed() -> None:
    session = busy()
    tasks = [session.sync_task(f"t{n}") for n in range(5)]
    session.begin(most_tasks=4)
    await asyncio.sleep(15.5)
    assert session.c1.polled == [0.0, 1.0, 2.0, 3.0]
    assert {beaten for beaten, _ in session.c1.heartbeats} == set(tasks[:4])
    await session.end()


@virtual_time
async def test_a_task_that_is_handed_out_twice_runs_once() -> None:
    session = busy()
    task = session.sync_task("t1")
    session.sync_task("t1")
    session.begin()
    await asyncio.sleep(5)
    assert session.c1.heartbeats == [(task, 0.0)]
    await session.end()
    assert session.c1.finish_attempts == 1


@virtual_time
async def test_a_task_that_is_handed_out_again_after_its_end_is_answered_again() -> None:
    session = busy(snapshot_seconds=0.0)
    session.c1.finish_failures.extend([AWAY] * 3)
    task = session.sync_task("t1")
    session.begin()
    await asyncio.sleep(5)
    assert (session.c1.finished, session.snapshots.deliveries) == ({}, [])
    session.sync_task("t1")
    await asyncio.sleep(5)
    assert (session.c1.finished, len(session.c1.uploads)) == ({task: DONE}, 2)
    assert session.snapshots.deliveries == [(task, SNAPSHOT)]
    await session.end()


@virtual_time
async def test_one_snapshot_at_a_time_is_uploaded() -> None:
    session = busy(snapshot_seconds=0.0)
    session.c1.upload_seconds = 10.0
    tasks = [session.sync_task(f"t{n}") for n in range(3)]
    session.begin()
    await asyncio.sleep(10.5)
    assert session.snapshots.open == set(tasks[1:])
    assert [task for task, _ in session.c1.uploads] == tasks[:1]
    await asyncio.sleep(9)
    assert [task for task, _ in session.c1.uploads] == tasks[:1]
    await asyncio.sleep(11)
    assert [task for task, _ in session.c1.uploads] == tasks
    await session.end()


@virtual_time
async def test_what_cannot_be_carried_out_is_refused_for_good_without_a_heartbeat() -> None:
    session = busy()
    refused = session.sync_task("t1", refusal="no such option")
    session.c1.tasks.append(UnsupportedTask(TaskID("t2"), "grant"))
    session.begin()
    await asyncio.sleep(5)
    assert session.c1.finished == {refused: refused_options("no such option"), "t2": unsupported("grant")}
    assert [facts["kind"] for _, facts in session.records.facts] == ["sync_full", "grant"]
    assert (session.c1.heartbeats, session.snapshots.deliveries) == ([], [])
    await session.end()


@virtual_time
async def test_what_c1_asks_for_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    session = busy(snapshot_seconds=0.0)
    session.sync_task("t1")
    session.c1.tasks.append(UnsupportedTask(TaskID("t2"), "grant"))
    session.begin()
    await asyncio.sleep(5)
    await session.end()
    cannot = {"connector": "default.acme", "task_id": "t2", "kind": "grant"}
    assert lines(caplog.records) == [
        (logging.INFO, "C1 asks for a sync", FIELDS),
        (logging.WARNING, "C1 asks for a task that this connector does not support", cannot),
    ]


# Heartbeats


@virtual_time
async def test_nothing_is_begun_before_the_first_heartbeat_had_its_answer() -> None:
    session, task = with_task(silent_heartbeat=True)
    await asyncio.sleep(100)
    assert (session.c1.uploads, session.c1.heartbeats) == ([], [(task, 0.0)])
    await session.end()
    assert session.c1.finished == {task: SHUTTING_DOWN}


@virtual_time
async def test_a_heartbeat_follows_when_the_answer_to_the_last_says() -> None:
    session, task = with_task(35.0)
    await asyncio.sleep(100)
    assert session.c1.heartbeats == [(task, at) for at in (0.0, 10.0, 20.0, 30.0)]
    await session.end()


@virtual_time
async def test_a_failed_first_heartbeat_is_sent_again_after_a_second_and_the_work_begins(
    caplog: pytest.LogCaptureFixture,
) -> None:
    session, task = with_task(1.5, heartbeat_failures=2)
    await asyncio.sleep(5)
    assert [at for _, at in session.c1.heartbeats] == [0.0, 1.0]
    assert session.c1.finished == {task: DONE}
    told = {**FIELDS, "reason": "C1Unavailable", "error": "C1 is down"}
    assert lines(caplog.records) == [(logging.WARNING, "a heartbeat failed", told)] * 2
    await session.end()


@virtual_time
async def test_a_later_heartbeat_that_fails_is_sent_again_after_the_wait_that_c1_gave() -> None:
    session, task = with_task(25.0)
    await asyncio.sleep(5)
    session.c1.heartbeat_failures = 1
    await asyncio.sleep(25)
    assert session.c1.heartbeats == [(task, at) for at in (0.0, 10.0, 20.0)]
    assert session.c1.finished == {task: DONE}
    await session.end()


@virtual_time
async def test_ten_failed_heartbeats_in_a_row_give_the_work_up() -> None:
    session, task = with_task(LONG, heartbeat_failures=10)
    await asyncio.sleep(9.5)
    assert len(session.c1.heartbeats) == 10
    assert session.c1.finished == {task: TaskOutcome(Code.UNAVAILABLE, "C1Unavailable: C1 is down")}
    assert (session.snapshots.deliveries, result(session)) == ([], "failed")
    await session.end()


@virtual_time
async def test_nine_failures_an_answer_and_nine_failures_give_nothing_up() -> None:
    session, task = with_task(150.0, heartbeat_failures=9)
    await asyncio.sleep(12)
    assert len(session.c1.heartbeats) == 10
    session.c1.heartbeat_failures = 9
    await asyncio.sleep(150)
    assert session.c1.finished == {task: DONE}
    await session.end()


@virtual_time
async def test_a_task_that_c1_cancels_ends_its_work() -> None:
    session, task = with_task(LONG)
    await asyncio.sleep(5)
    session.c1.cancelled.add(task)
    await asyncio.sleep(5.5)
    assert session.c1.finished == {task: TaskOutcome(Code.CANCELLED, "TaskCancelled: C1 cancelled the task.")}
    assert result(session) == "cancelled"
    await session.end()


@virtual_time
async def test_a_task_that_c1_cancels_at_the_moment_when_its_upload_is_answered_was_delivered() -> None:
    session, task = with_task(answer_seconds=10.0)
    await asyncio.sleep(5)
    session.c1.cancelled.add(task)
    await asyncio.sleep(10)
    assert session.c1.heartbeats == [(task, 0.0), (task, 10.0)]
    assert (session.c1.finished, session.snapshots.deliveries) == ({task: DONE}, [(task, SNAPSHOT)])
    await session.end()


@virtual_time
async def test_a_task_that_comes_cancelled_is_never_begun() -> None:
    session, task = with_task(cancelled={"t1"})
    await asyncio.sleep(5)
    assert (session.c1.uploads, session.c1.finished[task].code) == ([], Code.CANCELLED)
    await session.end()


# Failures of the work


@pytest.mark.parametrize(
    ("error", "outcome", "message", "told"),
    [
        (
            Failure(Reason.SPEC_INVALID, "no such kind", remedy=Remedy.EDIT),
            TaskOutcome(Code.FAILED_PRECONDITION, "SpecInvalid: no such kind", True),
            (logging.WARNING, "a task failed"),
            {"reason": "SpecInvalid", "error": "no such kind"},
        ),
        (ZeroDivisionError("token-123"), UNEXPECTED, (logging.ERROR, "a task failed unexpectedly"), {}),
    ],
)
@virtual_time
async def test_an_error_of_the_work_ends_the_task_and_is_logged_and_no_unexpected_text_reaches_c1(
    error: Exception,
    outcome: TaskOutcome,
    message: tuple[int, str],
    told: dict[str, object],
    caplog: pytest.LogCaptureFixture,
) -> None:
    session, task = with_task()
    session.c1.upload_failures.append(error)
    await asyncio.sleep(5)
    assert (session.c1.finished, session.snapshots.deliveries) == ({task: outcome}, [])
    assert result(session) == "failed"
    await session.end()
    assert lines(caplog.records) == [(*message, {**FIELDS, **told})]


@virtual_time
async def test_a_delivery_that_cannot_be_recorded_is_logged_and_the_session_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(Snapshots):
        def delivered(self, task: SyncTask, snapshot: StagedSnapshot) -> None:
            raise ZeroDivisionError

    session = Session(c1=SilentC1(next_poll=1.0), snapshots=Broken())
    tasks = [session.sync_task(f"t{n}") for n in (1, 2)]
    session.begin()
    await asyncio.sleep(5)
    assert session.c1.finished == dict.fromkeys(tasks, DONE)
    assert lines(caplog.records)[0] == (logging.ERROR, "a delivery could not be recorded", FIELDS)
    assert session.listener.failures == []
    await session.end()


# FinishTask


@pytest.mark.parametrize(
    ("failures", "attempts", "taken", "ended_at"),
    [
        ([], 1, True, 0.0),
        ([AWAY], 2, True, 0.75),
        ([UNREACHABLE, AWAY], 3, True, 2.25),
        ([AWAY, AWAY, AWAY], 3, False, 2.25),
        ([REFUSED], 1, False, 0.0),
        ([ZeroDivisionError()], 1, False, 0.0),
        ([AWAY, REFUSED], 2, True, 0.75),
        ([Failure(Reason.INTERNAL_ERROR, "…")], 1, False, 0.0),
        ([Failure(Reason.C1_UNAVAILABLE, "C1 is down", retry_after=20.0)], 2, True, 20.0),
    ],
)
@virtual_time
async def test_an_end_that_may_have_been_lost_is_sent_up_to_three_times(
    failures: list[Exception], attempts: int, taken: bool, ended_at: float
) -> None:
    """A refusal of a later attempt says that C1 has the end: the answer to an earlier one was lost."""
    session, _ = with_task()
    session.c1.finish_failures.extend(failures)
    await asyncio.sleep(ended_at - 0.01)
    assert session.c1.finish_attempts == attempts - 1
    await asyncio.sleep(0.02)
    assert (session.c1.finish_attempts, bool(session.snapshots.deliveries)) == (attempts, taken)
    await asyncio.sleep(100)
    assert session.c1.finish_attempts == attempts
    await session.end()


@virtual_time
async def test_an_end_that_c1_does_not_take_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    session, _ = with_task()
    session.c1.finish_failures.append(REFUSED)
    await asyncio.sleep(1)
    await session.end()
    told = {**FIELDS, "reason": "C1RequestRejected", "error": "C1 has ended the task."}
    assert lines(caplog.records) == [(logging.WARNING, "C1 did not take a task's end", told)]


# The end of the session


@virtual_time
async def test_the_end_hands_every_task_back_at_once_and_then_closes_the_connection() -> None:
    session = busy()
    tasks = [session.sync_task(f"t{n}") for n in range(3)]
    session.begin()
    await asyncio.sleep(5)
    await session.end()
    assert (session.c1.finished, session.c1.closed, seconds()) == (dict.fromkeys(tasks, SHUTTING_DOWN), 1, 5.0)
    assert (SHUTTING_DOWN.code, SHUTTING_DOWN.non_retryable) == (Code.ABORTED, False)
    assert (result(session), session.snapshots.open) == ("handed_back", set())
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize(
    ("snapshot", "upload", "answer", "finish", "outcome", "ended_at"),
    [
        (LONG, 0.0, 0.0, 2.9, SHUTTING_DOWN, 7.9),
        (LONG, 0.0, 0.0, LONG, None, 13.0),
        (0.0, LONG, 0.0, 0.0, SHUTTING_DOWN, 5.0),
        (0.0, 0.0, 9.9, 0.0, DONE, 9.9),
        (0.0, 0.0, 10.1, 0.0, SHUTTING_DOWN, 10.0),
        (0.0, 0.0, 9.9, 3.0, DONE, 12.9),
        (0.0, 0.0, 10.1, 2.9, SHUTTING_DOWN, 12.9),
        (0.0, 0.0, LONG, LONG, None, 13.0),
        (0.0, 0.0, 0.0, 12.9, DONE, 12.9),
        (0.0, 0.0, 0.0, LONG, None, 13.0),
    ],
    ids=[
        "work, and an end in time",
        "work, and no answer to its end",
        "an upload that is not whole",
        "an upload that is whole, and an answer within five seconds",
        "an upload that is whole, and a later answer",
        "the same in time, and an end in time",
        "the same too late, and an end in time",
        "an upload that is whole, and no answer at all",
        "an end under way, and an answer in time",
        "an end under way, and no answer",
    ],
)
@virtual_time
async def test_what_the_end_of_the_session_awaits_when_it_comes_in_the_fifth_second(
    snapshot: float, upload: float, answer: float, finish: float, outcome: TaskOutcome | None, ended_at: float
) -> None:
    session, task = with_task(snapshot, upload_seconds=upload, answer_seconds=answer, finish_seconds=finish)
    await asyncio.sleep(5)
    await session.end()
    assert (session.c1.finished, session.c1.closed, seconds()) == ({task: outcome} if outcome else {}, 1, ended_at)
    assert bool(session.snapshots.deliveries) == (outcome is DONE)
    assert asyncio.all_tasks() == {asyncio.current_task()}


@virtual_time
async def test_an_end_that_stays_without_an_answer_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    session, _ = with_task(finish_seconds=100.0)
    await asyncio.sleep(1)
    await session.end()
    assert lines(caplog.records) == [(logging.WARNING, "C1 did not answer a task's end in time", FIELDS)]


@virtual_time
async def test_a_session_that_is_cancelled_again_while_it_ends_hands_back_all_the_same() -> None:
    session, task = with_task(LONG, finish_seconds=2.0)
    await asyncio.sleep(5)
    for _ in range(3):
        session.running.cancel()
        await asyncio.sleep(0.5)
    assert not session.running.done()
    await session.end()
    assert (session.c1.finished, session.c1.closed, seconds()) == ({task: SHUTTING_DOWN}, 1, 7.0)


@virtual_time
async def test_a_session_that_c1_refuses_hands_its_tasks_back_and_ends() -> None:
    session = busy()
    task = session.sync_task("t1")
    running = session.begin()
    await asyncio.sleep(5.5)
    session.c1.refusal = Failure(Reason.C1_CLIENT_REJECTED, "C1 refused the client.", remedy=Remedy.CREDENTIALS)
    await running
    assert (session.c1.finished, session.c1.closed, seconds()) == ({task: SHUTTING_DOWN}, 1, 6.0)


@pytest.mark.parametrize("turns", range(8))
@virtual_time
async def test_a_task_that_was_taken_just_as_the_session_ends_goes_back(
    turns: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    session = busy()
    session.c1.poll_seconds = 0.5
    task = session.sync_task("t1")
    session.begin()
    await asyncio.sleep(0.5)
    for _ in range(turns):
        await asyncio.sleep(0)
    await session.end()
    taken = [each.message for each in caplog.records] == ["C1 asks for a sync"]
    assert session.c1.finished == ({task: SHUTTING_DOWN} if taken else {})
    assert taken or turns < 3


@pytest.mark.parametrize("task", [HelloTask(TaskID("t1")), None], ids=["hello", "none"])
@virtual_time
async def test_a_question_under_way_is_not_awaited(task: HelloTask | None, caplog: pytest.LogCaptureFixture) -> None:
    session = busy()
    session.c1.poll_seconds = 1.5
    session.c1.tasks.extend([task] if task else [])
    session.begin()
    await asyncio.sleep(1.25)
    await session.end()
    assert (session.c1.hellos, session.c1.finished, session.c1.closed, seconds()) == ([None], {}, 1, 1.25)
    assert (session.listener.failures, caplog.records) == ([], [])
    assert asyncio.all_tasks() == {asyncio.current_task()}


@virtual_time
async def test_an_error_of_the_operator_ends_the_session_and_its_tasks_go_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(Listener):
        def c1_answered(self) -> None:
            super().c1_answered()
            if len(self.heard) > 2:
                raise ZeroDivisionError

    session = Session(c1=SilentC1(next_poll=1.0), listener=Broken())
    session.snapshots.seconds = LONG
    task = session.sync_task("t1")
    await session.begin()
    assert (session.c1.finished, session.c1.closed, seconds()) == ({task: SHUTTING_DOWN}, 1, 1.0)
    [(failure, _)] = session.listener.failures
    assert (failure.reason, failure.remedy) == (Reason.INTERNAL_ERROR, Remedy.RETRY)
    message = "the session with C1 failed unexpectedly"
    assert lines(caplog.records) == [(logging.ERROR, message, {"connector": "default.acme"})]
