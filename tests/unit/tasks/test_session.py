"""The session with C1: Hello, then GetTask in a loop; what its waits are, what is reported, what ends it."""

import asyncio
import logging

import pytest

from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.tasks import HelloTask, TaskID, TaskOutcome, UnsupportedTask
from fakes.log_lines import lines
from fakes.task_ports import SNAPSHOT, Session, seconds
from fakes.virtual_time import virtual_time

AWAY = Failure(Reason.C1_UNAVAILABLE, "C1 is down")
REJECTED = Failure(Reason.C1_CLIENT_REJECTED, "C1 refused the client.", remedy=Remedy.CREDENTIALS)
FORGOTTEN = Failure(Reason.C1_REQUEST_REJECTED, "C1 does not know the host.", remedy=Remedy.EDIT)


@virtual_time
async def test_a_session_says_hello_once_and_then_asks_when_c1_says() -> None:
    session = Session()
    session.begin()
    await asyncio.sleep(65)
    assert (session.c1.hellos, session.c1.polled) == ([None], [0.0, 30.0, 60.0])
    assert session.listener.heard == [("greeted", 0.0), ("answered", 0.0), ("answered", 30.0), ("answered", 60.0)]
    await session.end()
    assert session.c1.closed == 1


@virtual_time
async def test_a_session_that_is_ended_while_it_closes_its_connection_closes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session, closed = Session(), []

    async def slowly() -> None:
        await asyncio.sleep(2)
        closed.append(seconds())

    monkeypatch.setattr(session.c1, "aclose", slowly)
    session.c1.poll_failures.append(REJECTED)
    session.begin()
    await asyncio.sleep(1)
    await session.end()
    assert closed == [2.0]


@virtual_time
async def test_the_wait_that_c1_wants_counts_from_the_question() -> None:
    session = Session()
    session.c1.poll_seconds = 10.0
    session.begin()
    await asyncio.sleep(65)
    assert session.c1.polled == [0.0, 30.0, 60.0]
    await session.end()


@virtual_time
async def test_c1_is_never_asked_more_than_once_a_second() -> None:
    session = Session()
    session.c1.next_poll = 0.0
    session.begin()
    await asyncio.sleep(2.5)
    session.c1.poll_seconds = 5.0
    await asyncio.sleep(7.0)
    assert session.c1.polled == [0.0, 1.0, 2.0, 3.0, 9.0]
    await session.end()


@virtual_time
async def test_failures_in_a_row_double_the_wait_and_an_answer_begins_it_anew() -> None:
    session = Session()
    session.c1.poll_failures.extend([AWAY] * 3)
    session.begin()
    await asyncio.sleep(10)
    assert session.c1.polled == [0.0, 0.75, 2.25, 5.25]
    session.c1.poll_failures.append(AWAY)
    await asyncio.sleep(30)
    assert session.c1.polled[4:] == [35.25, 36.0]
    assert session.c1.hellos == [None]
    await session.end()


@virtual_time
async def test_c1_is_left_alone_for_as_long_as_its_failure_says() -> None:
    session = Session()
    session.c1.poll_failures.append(Failure(Reason.C1_UNAVAILABLE, "busy", retry_after=20.0))
    session.begin()
    await asyncio.sleep(25)
    assert session.c1.polled == [0.0, 20.0]
    await session.end()


# What is reported


@virtual_time
async def test_a_first_hello_that_fails_is_reported_at_once() -> None:
    session = Session()
    session.c1.refusal = AWAY
    session.begin()
    await asyncio.sleep(1)
    assert session.listener.heard == [(AWAY, 0.0), (AWAY, 0.75)]
    assert session.c1.polled == []
    await session.end()


@virtual_time
async def test_a_first_hello_of_a_known_connector_is_an_outage_like_any_other() -> None:
    session = Session(patient=True)
    session.c1.refusal = AWAY
    session.begin()
    await asyncio.sleep(60)
    assert session.c1.greeted == [0.0, 0.75, 2.25, 5.25, 11.25, 23.25, 47.25]
    assert session.listener.heard == [(AWAY, 47.25)]
    await session.end()


@virtual_time
async def test_an_outage_is_reported_from_its_thirtieth_second_on() -> None:
    session = Session()
    session.c1.poll_failures.extend([Failure(Reason.C1_UNAVAILABLE, "down", retry_after=wait) for wait in (29.9, 0.2)])
    session.begin()
    await asyncio.sleep(35)
    assert session.listener.failures == []
    session.c1.poll_failures.extend([Failure(Reason.C1_UNAVAILABLE, "down", retry_after=30.0)] * 2)
    await asyncio.sleep(80)
    assert [at for _, at in session.listener.failures] == [91.4]
    await session.end()


@virtual_time
async def test_a_first_hello_without_an_answer_fails_after_ten_seconds() -> None:
    session = Session()
    session.c1.silent = True
    session.begin()
    await asyncio.sleep(10.5)
    [(failure, at)] = session.listener.failures
    assert (failure.reason, failure.remedy, at) == (Reason.C1_UNREACHABLE, Remedy.RETRY, 10.0)
    assert failure.message == "C1 has not answered Hello within 10 seconds. The connector retries."
    await session.end()


@virtual_time
async def test_a_later_hello_has_c1s_own_time() -> None:
    session = Session()
    session.begin()
    await asyncio.sleep(1)
    session.c1.poll_failures.append(FORGOTTEN)
    session.c1.hello_seconds = 25.0
    await asyncio.sleep(60)
    assert (session.c1.greeted, session.listener.failures) == ([0.0, 30.75], [])
    assert session.c1.polled[:3] == [0.0, 30.0, 55.75]
    assert [at for what, at in session.listener.heard if what == "greeted"] == [0.0, 55.75]
    await session.end()


@virtual_time
async def test_an_error_of_the_operator_itself_is_a_failure_like_another() -> None:
    session = Session(patient=True)
    session.c1.poll_error = ZeroDivisionError("token-123")
    session.begin()
    await asyncio.sleep(2)
    assert (session.c1.polled, session.listener.failures) == ([0.0, 0.75], [])
    await session.end()


@virtual_time
async def test_an_error_of_the_operator_that_is_reported_shows_no_text_of_its_own() -> None:
    session = Session()
    session.c1.hello_error = ZeroDivisionError("token-123")
    session.begin()
    await asyncio.sleep(0.5)
    [(failure, _)] = session.listener.failures
    assert (failure.reason, failure.remedy) == (Reason.INTERNAL_ERROR, Remedy.RETRY)
    assert failure.message.startswith("Internal error (")
    await session.end()


# What ends a session


@pytest.mark.parametrize("failure", [REJECTED, FORGOTTEN])
@virtual_time
async def test_a_hello_that_c1_refuses_ends_the_session(failure: Failure) -> None:
    session = Session(patient=True)
    session.c1.refusal = failure
    await session.begin()
    assert (session.listener.heard, session.c1.greeted) == ([(failure, 0.0)], [0.0])
    await session.end()


@virtual_time
async def test_a_client_that_c1_refuses_later_ends_the_session() -> None:
    session = Session()
    polling = session.begin()
    await asyncio.sleep(31)
    session.c1.refusal = REJECTED
    await polling
    assert (session.listener.failures, session.c1.greeted) == ([(REJECTED, 60.0)], [0.0])
    await session.end()


@virtual_time
async def test_a_host_that_c1_has_forgotten_says_hello_again_and_the_session_goes_on() -> None:
    session = Session()
    session.c1.poll_failures.append(FORGOTTEN)
    session.begin()
    await asyncio.sleep(35)
    assert (session.c1.greeted, session.c1.polled) == ([0.0, 0.75], [0.0, 0.75, 30.75])
    assert session.listener.failures == []
    await session.end()


@virtual_time
async def test_an_end_that_breaks_is_logged_and_ends_neither_another_task_nor_the_session(
    caplog: pytest.LogCaptureFixture,
) -> None:
    session = Session()
    session.c1.next_poll, session.snapshots.seconds = 1.0, 5.0
    session.c1.finish_failures.append(ZeroDivisionError())
    good = session.sync_task("good")
    session.c1.tasks.append(UnsupportedTask(TaskID("bad"), "rotate"))
    session.begin()
    await asyncio.sleep(10.5)
    assert (session.c1.finished, session.c1.finish_attempts) == ({good: TaskOutcome()}, 2)
    assert session.snapshots.deliveries == [(good, SNAPSHOT)]
    assert (session.listener.failures, session.c1.polled[-1]) == ([], 10.0)
    await session.end()
    broken = (logging.ERROR, "a task's end failed unexpectedly", {"connector": "default.acme", "task_id": "bad"})
    assert broken in lines(caplog.records)


@virtual_time
async def test_hellos_of_the_process_take_turns() -> None:
    session = Session(slots=1)
    session.begin()
    async with session.hello_slots.slot("other"):
        await asyncio.sleep(100)
        assert session.c1.greeted == []
    await asyncio.sleep(1)
    assert (session.c1.greeted, session.listener.failures) == ([100.0], [])
    assert session.hello_slots.free == 1
    await session.end()


@virtual_time
async def test_a_hello_that_c1_does_not_answer_gives_its_slot_back_and_waits_on() -> None:
    session = Session(slots=1, patient=True)
    session.c1.hello_seconds = 5.0
    session.begin()
    await asyncio.sleep(0.9)
    assert session.hello_slots.free == 0
    await asyncio.sleep(0.2)
    assert session.hello_slots.free == 1
    await asyncio.sleep(4)
    assert (session.listener.heard[0], session.hello_slots.free) == (("greeted", 5.0), 1)
    await session.end()


@virtual_time
async def test_a_hello_task_is_answered_with_its_id() -> None:
    session = Session()
    session.c1.tasks.append(HelloTask(TaskID("hello1")))
    session.begin()
    await asyncio.sleep(5)
    assert (session.c1.hellos, session.c1.finished, session.c1.polled) == ([None, "hello1"], {}, [0.0])
    await session.end()


@virtual_time
async def test_a_hello_task_that_fails_makes_the_next_question_wait_as_a_failure_does() -> None:
    session = Session()
    session.begin()
    await asyncio.sleep(29)
    session.c1.tasks.append(HelloTask(TaskID("hello1")))
    session.c1.poll_seconds = 2.0
    await asyncio.sleep(2)
    session.c1.hello_error = AWAY
    await asyncio.sleep(2.2)
    assert (session.c1.greeted, session.c1.polled) == ([0.0, 32.0], [0.0, 30.0, 32.75])
    assert (session.c1.hellos, session.listener.failures, seconds()) == ([None], [], 33.2)
    await session.end()


@virtual_time
async def test_an_outage_is_logged_at_its_beginning_and_at_its_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    session = Session()
    session.c1.poll_failures.extend([AWAY, AWAY])
    session.begin()
    await asyncio.sleep(100)
    await session.end()
    who = {"connector": "default.acme"}
    began = {**who, "reason": "C1Unavailable", "error": "C1 is down"}
    assert lines(caplog.records) == [
        (logging.WARNING, "a call to C1 failed", began),
        (logging.INFO, "C1 answers again", who),
    ]


@virtual_time
async def test_an_error_of_the_operator_itself_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    session = Session()
    error = session.c1.poll_error = ZeroDivisionError()
    session.begin()
    await asyncio.sleep(5)
    await session.end()
    assert lines(caplog.records)[0] == (logging.ERROR, "C1 could not be asked", {"connector": "default.acme"})
    assert caplog.records[0].exc_info is not None
    assert caplog.records[0].exc_info[1] is error
