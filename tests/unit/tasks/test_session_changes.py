"""Changes of memberships in a session: how they begin, how many at once, and how soon C1 is asked for the next."""

import asyncio
import itertools
import logging

import pytest

from buildkite_connector.model.directory import AccountID, Membership, Role, TeamID
from buildkite_connector.model.tasks import GrantAnswer, MembershipTask, TaskID, TaskOutcome
from buildkite_connector.tasks.outcomes import OFF
from buildkite_connector.tasks.session import MOST_TASKS, MOST_WAITING, SHORTEST_POLL, SHORTEST_POLL_IN_BATCH
from fakes.log_lines import lines
from fakes.membership_api import LOST
from fakes.task_ports import Changes, Session, seconds
from fakes.virtual_time import virtual_time

MEMBERSHIP = Membership(TeamID("t-1"), AccountID("u-1"), Role.MEMBER)


def session_of(changes: Changes | None, next_poll: float = 0.0) -> Session:
    session = Session(changes=changes)
    session.c1.next_poll = next_poll
    return session


def ask(session: Session, name: str, *, grants: bool = True) -> TaskID:
    session.c1.tasks.append(MembershipTask(TaskID(name), grants, MEMBERSHIP))
    return TaskID(name)


def gaps(session: Session) -> list[float]:
    polled = session.c1.polled
    return [round(later - earlier, 2) for earlier, later in itertools.pairwise(polled)]


@virtual_time
async def test_a_change_is_carried_out_and_its_lines_name_the_connector(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    changes = Changes()
    changes.api.before.append(LOST)
    session = session_of(changes, next_poll=100.0)
    task = ask(session, "t1")
    session.begin()
    await asyncio.sleep(5.0)
    assert session.c1.finished == {task: TaskOutcome(answer=GrantAnswer(MEMBERSHIP))}
    about = {"connector": "default.acme", "task_id": "t1"}
    assert lines(caplog.records)[:2] == [
        (logging.INFO, "C1 asks for a change of a membership", {**about, "kind": "grant"}),
        (
            logging.WARNING,
            "a change may have been lost; the membership is read again",
            {**about, "error": "the connection broke"},
        ),
    ]
    assert session.records.facts == [("task", {**about, "kind": "grant", "result": "success"})]
    await session.end()


@virtual_time
async def test_while_nothing_is_ever_changed_a_change_is_refused_under_its_own_kind() -> None:
    session = session_of(None)
    task = ask(session, "t1", grants=False)
    session.begin()
    await asyncio.sleep(1.5)
    assert session.c1.finished == {task: OFF}
    assert [facts["kind"] for _, facts in session.records.facts] == ["revoke"]
    assert gaps(session) == [SHORTEST_POLL]
    await session.end()


@virtual_time
async def test_only_a_change_that_begins_makes_the_next_question_come_at_once() -> None:
    changes = Changes()
    changes.api.seconds = 100.0
    session = session_of(changes)
    for name in ("t1", "t2", "t2"):
        ask(session, name)
    session.begin()
    await asyncio.sleep(2.5)
    assert gaps(session) == [SHORTEST_POLL_IN_BATCH, SHORTEST_POLL_IN_BATCH, SHORTEST_POLL, SHORTEST_POLL]
    await session.end()


@virtual_time
async def test_changes_fill_the_slots_and_one_that_has_ended_leaves_its_own() -> None:
    changes = Changes()
    changes.api.seconds = 10.0
    changes.api.rows[MEMBERSHIP.team, MEMBERSHIP.account] = MEMBERSHIP.role
    session = session_of(changes)
    tasks = [ask(session, f"t{number}") for number in range(MOST_TASKS + 1)]
    session.begin()
    await asyncio.sleep(9.0)
    assert gaps(session) == [SHORTEST_POLL_IN_BATCH] * (MOST_TASKS - 1)
    await asyncio.sleep(25.0)
    assert set(session.c1.finished) == set(tasks)
    assert session.c1.polled[MOST_TASKS] == 10.0, "the first has ended"
    assert changes.api.most == MOST_TASKS
    await session.end()


@virtual_time
async def test_syncs_that_wait_take_no_slot_but_are_bounded() -> None:
    session = session_of(Changes())
    session.snapshots.seconds = 10_000.0
    for number in range(MOST_WAITING + 1):
        session.sync_task(f"s{number}")
    session.begin()
    await asyncio.sleep(MOST_WAITING + 10.0)
    assert len(session.c1.polled) == MOST_WAITING
    assert len(session.c1.tasks) == 1
    assert seconds() == MOST_WAITING + 10.0
    await session.end()


@virtual_time
async def test_without_changes_syncs_fill_the_slots() -> None:
    session = session_of(None)
    session.snapshots.seconds = 10_000.0
    for number in range(MOST_TASKS + 1):
        session.sync_task(f"s{number}")
    session.begin()
    await asyncio.sleep(20.0)
    assert len(session.c1.polled) == MOST_TASKS
    await session.end()


@virtual_time
async def test_what_is_enabled_by_now_is_not_refused_by_a_session_that_was_opened_before() -> None:
    changes = Changes()
    session = session_of(changes, next_poll=100.0)
    session.provisions = False
    task = ask(session, "t1")
    session.begin()
    await asyncio.sleep(5.0)
    assert session.c1.finished[task] != OFF
    assert changes.api.rows == {(MEMBERSHIP.team, MEMBERSHIP.account): Role.MEMBER}
    await session.end()
