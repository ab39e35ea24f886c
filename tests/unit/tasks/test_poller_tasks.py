"""The tasks that a session runs: three at once beside the questions, and what closing does to them."""

import asyncio
import logging

import pytest

from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.tasks import Code, HelloTask, Poll, TaskID, TaskOutcome, UnsupportedTask
from buildkite_connector.tasks.outcomes import SHUTTING_DOWN, refused_options, unsupported
from fakes.log_lines import lines
from fakes.task_ports import SNAPSHOT, Session, SilentC1, seconds
from fakes.virtual_time import virtual_time


def busy(snapshot_seconds: float = 1000.0) -> Session:
    """A session whose C1 is asked each second, and whose snapshots take so long."""
    session = Session()
    session.c1.next_poll = 1.0
    session.snapshots.seconds = snapshot_seconds
    return session


@virtual_time
async def test_a_sync_task_is_carried_out_while_c1_is_asked_on() -> None:
    session = busy(snapshot_seconds=3.5)
    task = session.sync_task("t1")
    session.begin()
    await asyncio.sleep(5.5)
    assert session.c1.polled == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert (session.c1.uploads, session.c1.finished) == ([(task, "sha-sync1")], {task: TaskOutcome()})
    assert session.snapshots.deliveries == [(task, SNAPSHOT)]
    assert session.records.facts == [
        ("task", {"connector": "default.acme", "task_id": "t1", "kind": "sync_full", "result": "success"}),
        ("delivery", {"connector": "default.acme", "task_id": "t1", "bytes": 1000}),
    ]
    await session.end()


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
async def test_what_cannot_be_carried_out_is_refused_for_good() -> None:
    session = busy()
    refused = session.sync_task("t1", refusal="no such option")
    session.c1.tasks.append(UnsupportedTask(TaskID("t2"), "grant"))
    session.begin()
    await asyncio.sleep(5)
    assert session.c1.finished == {refused: refused_options("no such option"), "t2": unsupported("grant")}
    assert [facts["kind"] for _, facts in session.records.facts] == ["sync_full", "grant"]
    assert session.c1.heartbeats == []
    await session.end()


@virtual_time
async def test_closing_hands_every_task_back_and_then_closes_the_connection() -> None:
    session = busy()
    tasks = [session.sync_task(f"t{n}") for n in range(3)]
    session.begin()
    await asyncio.sleep(5)
    await session.end()
    assert (session.c1.finished, session.c1.closed, seconds()) == (dict.fromkeys(tasks, SHUTTING_DOWN), 1, 5.0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


@virtual_time
async def test_a_task_that_c1_hands_out_just_as_the_session_ends_is_handed_back() -> None:
    session = busy()
    session.c1.poll_seconds = 1.5
    task = session.sync_task("t1")
    session.begin()
    await asyncio.sleep(1.25)
    await session.end()
    assert (session.c1.finished, session.c1.closed, seconds()) == ({task: SHUTTING_DOWN}, 1, 1.5)
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("turns", range(12))
@virtual_time
async def test_no_task_is_lost_whenever_its_answer_meets_the_end_of_the_session(turns: int) -> None:
    session = busy()
    session.c1.poll_seconds = 0.5
    task = session.sync_task("t1")
    session.begin()
    await asyncio.sleep(0.5)
    for _ in range(turns):
        await asyncio.sleep(0)
    await session.end()
    assert session.c1.finished == {task: SHUTTING_DOWN}


@virtual_time
async def test_an_answer_to_the_last_question_is_not_awaited_for_longer_than_half_a_second(
    caplog: pytest.LogCaptureFixture,
) -> None:
    session = busy()
    session.c1.poll_seconds = 1000.0
    session.begin()
    await asyncio.sleep(0.75)
    assert "default.acme/GetTask" in {each.get_name() for each in asyncio.all_tasks()}
    await session.end()
    assert (session.c1.finished, session.c1.closed, seconds()) == ({}, 1, 1.25)
    assert caplog.records == []
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("task", [HelloTask(TaskID("t1")), None], ids=["hello", "failure"])
@virtual_time
async def test_nothing_is_done_about_a_last_answer_that_cannot_be_handed_back(
    task: HelloTask | None, caplog: pytest.LogCaptureFixture
) -> None:
    session = busy()
    session.c1.poll_seconds = 1.5
    session.c1.tasks.extend([task] if task else [])
    session.c1.poll_error = None if task else Failure(Reason.C1_UNAVAILABLE, "C1 is down")
    session.begin()
    await asyncio.sleep(1.25)
    await session.end()
    assert (session.c1.hellos, session.c1.finished, session.c1.closed) == ([None], {}, 1)
    assert (session.listener.failures, caplog.records) == ([], [])


@virtual_time
async def test_an_error_of_the_operator_in_the_last_answer_is_logged_and_the_session_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Odd(SilentC1):
        async def next_task(self) -> Poll:
            await super().next_task()
            return None  # type: ignore[return-value]  # what no adapter gives

    session = Session(c1=Odd(poll_seconds=1.0))
    session.begin()
    await asyncio.sleep(0.75)
    async with asyncio.timeout(10):
        await session.end()
    assert (session.c1.closed, session.polling.cancelled()) == (1, True)
    assert lines(caplog.records) == [(logging.ERROR, "C1's last answer was lost", {"connector": "default.acme"})]
    assert caplog.records[0].exc_info is not None
    assert asyncio.all_tasks() == {asyncio.current_task()}


@virtual_time
async def test_closing_waits_for_an_answer_and_an_end_but_not_for_longer() -> None:
    session = busy(snapshot_seconds=0.0)
    session.c1.answer_seconds = session.c1.finish_seconds = 1000.0
    session.sync_task("t1")
    session.begin()
    await asyncio.sleep(5)
    await session.end()
    assert (session.c1.finished, session.c1.closed, seconds()) == ({}, 1, 13.0)


@virtual_time
async def test_closing_does_not_wait_for_work_that_does_not_end() -> None:
    session = busy(snapshot_seconds=0.0)
    session.c1.upload_seconds = 1000.0
    session.snapshots.leaving_seconds = 1000.0
    task = session.sync_task("t1")
    session.begin()
    await asyncio.sleep(5)
    await session.end()
    assert (session.c1.finished, session.c1.closed, seconds()) == ({task: SHUTTING_DOWN}, 1, 13.5)


@virtual_time
async def test_the_parts_of_a_task_have_names_that_say_whose_they_are() -> None:
    session = busy()
    session.sync_task("t1")
    session.begin()
    await asyncio.sleep(5)
    names = {each.get_name() for each in asyncio.all_tasks()}
    assert names >= {f"default.acme/t1{part}" for part in ("", "/runner", "/heartbeat", "/stop")}
    session.c1.finish_seconds = 1.0
    ending = asyncio.create_task(session.end())
    await asyncio.sleep(0.5)
    assert {each.get_name() for each in asyncio.all_tasks()} >= {"default.acme/t1/finish"}
    await ending


@virtual_time
async def test_the_parts_of_an_end_under_way_have_such_names_too() -> None:
    session = busy(snapshot_seconds=0.0)
    session.c1.finish_seconds = 10.0
    session.sync_task("t1")
    session.begin()
    await asyncio.sleep(5)
    names = {each.get_name() for each in asyncio.all_tasks()}
    assert names >= {f"default.acme/t1{part}" for part in ("/runner", "/finish", "/stop")}
    await session.end()


def test_what_c1_asks_for_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    @virtual_time
    async def test() -> None:
        session = busy(snapshot_seconds=0.0)
        session.sync_task("t1")
        session.c1.tasks.append(UnsupportedTask(TaskID("t2"), "grant"))
        session.begin()
        await asyncio.sleep(5)
        await session.end()

    test()
    names = ("connector", "task_id", "kind")
    found = [(each.levelno, each.message, [each.__dict__.get(name) for name in names]) for each in caplog.records]
    assert found == [
        (logging.INFO, "C1 asks for a sync", ["default.acme", "t1", None]),
        (logging.WARNING, "C1 asks for what this connector cannot do", ["default.acme", "t2", "grant"]),
    ]


@virtual_time
async def test_an_end_that_may_have_been_lost_is_sent_again_after_the_wait_of_a_call() -> None:
    session = busy(snapshot_seconds=0.0)
    session.c1.finish_failures.append(Failure(Reason.C1_UNAVAILABLE, "C1 is down"))
    task = session.sync_task("t1")
    session.begin()
    await asyncio.sleep(0.7)
    assert (session.c1.finish_attempts, session.c1.finished) == (1, {})
    await asyncio.sleep(0.1)
    assert (session.c1.finish_attempts, session.c1.finished) == (2, {task: TaskOutcome()})
    await session.end()


@virtual_time
async def test_what_waits_for_an_upload_at_a_close_has_such_names_too_and_ends_with_it() -> None:
    session = busy(snapshot_seconds=0.0)
    session.c1.upload_seconds = 100.0
    task = session.sync_task("t1")
    polling = session.begin()
    await asyncio.sleep(5)
    polling.cancel()
    closing = asyncio.create_task(session.poller.close(asyncio.Event()))
    await asyncio.sleep(1)
    names = {each.get_name() for each in asyncio.all_tasks()}
    assert names >= {"default.acme/hurry", "default.acme/uploads"}
    await closing
    assert (session.c1.finished, session.c1.closed, seconds()) == ({task: TaskOutcome()}, 1, 100.0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
