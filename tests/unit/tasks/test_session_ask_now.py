"""The session asks sooner when C1 is about to hand out a task, and no sooner than C1 lets it."""

import asyncio

import pytest

from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.tasks import HelloTask, TaskID, UnsupportedTask
from fakes.hurried_time import HurriedClock, hurried_time
from fakes.task_ports import Session
from fakes.virtual_time import virtual_time


def busy(seconds: float) -> Failure:
    return Failure(Reason.C1_UNAVAILABLE, "busy", retry_after=seconds)


@virtual_time
async def test_it_asks_at_once_then_every_second_for_ten_seconds_then_as_c1_says() -> None:
    session = Session()
    session.begin()
    await asyncio.sleep(15)
    session.serving.ask_now()
    await asyncio.sleep(45)
    assert session.c1.polled == [0.0, *(15.0 + second for second in range(11)), 55.0]
    await session.end()


@virtual_time
async def test_once_the_task_has_come_it_asks_as_c1_says_again() -> None:
    session = Session()
    session.begin()
    await asyncio.sleep(15)
    session.serving.ask_now()
    await asyncio.sleep(1.5)
    task = session.sync_task("task1")
    await asyncio.sleep(40)
    assert session.c1.polled == [0.0, 15.0, 16.0, 17.0, 47.0]
    assert list(session.c1.finished) == [task]
    await session.end()


@pytest.mark.parametrize("other", [HelloTask(TaskID("other")), UnsupportedTask(TaskID("other"), "rotate")])
@virtual_time
async def test_another_task_is_not_the_one_that_it_asks_for(other: HelloTask | UnsupportedTask) -> None:
    session = Session()
    session.begin()
    await asyncio.sleep(15)
    session.c1.tasks.append(other)
    session.serving.ask_now()
    await asyncio.sleep(3.5)
    assert session.c1.polled == [0.0, 15.0, 16.0, 17.0, 18.0]
    await session.end()


@virtual_time
async def test_two_questions_stay_a_second_apart() -> None:
    session = Session()
    session.begin()
    await asyncio.sleep(0.25)
    session.serving.ask_now()
    session.serving.ask_now()
    await asyncio.sleep(0.5)
    session.serving.ask_now()
    await asyncio.sleep(1.6)
    assert session.c1.polled == [0.0, 1.0, 2.0]
    await session.end()


@virtual_time
async def test_a_question_that_is_under_way_is_followed_by_the_next_within_a_second() -> None:
    session = Session()
    session.c1.poll_seconds = 5.0
    session.begin()
    await asyncio.sleep(2)
    session.serving.ask_now()
    await asyncio.sleep(4.5)
    assert session.c1.polled == [0.0, 6.0]
    await session.end()


@virtual_time
async def test_while_c1_does_not_answer_its_own_wait_holds() -> None:
    session = Session()
    session.c1.poll_failures.append(busy(20.0))
    session.begin()
    await asyncio.sleep(5)
    session.serving.ask_now()
    await asyncio.sleep(12)
    session.serving.ask_now()
    await asyncio.sleep(8.5)
    assert session.c1.polled == [0.0, *(20.0 + second for second in range(6))]
    await session.end()


@virtual_time
async def test_a_failure_meanwhile_ends_the_haste() -> None:
    session = Session()
    session.begin()
    await asyncio.sleep(15)
    session.serving.ask_now()
    await asyncio.sleep(1.5)
    session.c1.poll_failures.append(busy(40.0))
    await asyncio.sleep(60)
    assert session.c1.polled == [0.0, 15.0, 16.0, 17.0, 57.0]
    await session.end()


@virtual_time
async def test_it_takes_no_more_tasks_than_it_may() -> None:
    session = Session()
    session.snapshots.seconds = 60.0
    session.c1.next_poll = 1.0
    for number in range(4):
        session.c1.tasks.append(UnsupportedTask(TaskID(f"task{number}"), "rotate"))
    session.c1.finish_seconds = 30.0
    session.begin(most_tasks=2)
    await asyncio.sleep(5)
    session.serving.ask_now()
    await asyncio.sleep(5)
    assert session.c1.polled == [0.0, 1.0]
    await session.end()


@virtual_time
async def test_a_session_that_is_ended_at_that_moment_ends() -> None:
    session = Session()
    session.begin()
    await asyncio.sleep(15)
    session.serving.ask_now()
    await session.end()
    assert (session.c1.polled, session.c1.closed, session.running.cancelled()) == ([0.0], 1, True)
    session.serving.ask_now()


@virtual_time
async def test_a_session_that_has_ended_asks_nothing_more() -> None:
    session = Session()
    session.begin()
    await asyncio.sleep(15)
    await session.end()
    session.serving.ask_now()
    await asyncio.sleep(20)
    assert session.c1.polled == [0.0]


@hurried_time
async def test_the_same_holds_in_hurried_time() -> None:
    session = Session(clock=HurriedClock())
    session.c1.next_poll = 300.0
    session.begin()
    await asyncio.sleep(15)
    session.serving.ask_now()
    await asyncio.sleep(40)
    asked = [at - session.c1.polled[1] for at in session.c1.polled[1:]]
    assert asked[0] == 0.0
    assert 9 <= len(asked) <= 11
    assert asked[-1] <= 11.5
    await session.end()
