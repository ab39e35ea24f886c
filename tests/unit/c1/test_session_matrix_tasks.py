"""What can befall one task at C1: heartbeats that fail, a cancellation, an upload that breaks, an end that is lost.

Each row is a task of a real connector at the simulated C1, over TLS. What befalls the session: `test_session_matrix`.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from buildkite_connector.c1 import upload
from buildkite_connector.model.tasks import Code
from fakes.hurried_time import hurried_time
from fakes.session_setup import SessionSetup, session_setup
from simulators.c1.faults import Action, Fault
from simulators.c1.tasks import Outcome

CHUNK = 1024
"""Bytes: small, so that the snapshot of ten accounts has several chunks."""
BEFORE, AMID, LAST = 0, 2 * CHUNK, 1_000_000
"""After how many bytes an upload breaks; LAST: when C1 has the whole and is about to answer."""


async def begin(setup: SessionSetup, state: str) -> str:
    """A task in this state; its id. `syncing`: the gate is closed. `uploading`, `finishing`: C1 lets the call wait."""
    if state == "syncing":
        setup.buildkite.gate.clear()
    rpc = {"syncing": "Heartbeat", "uploading": "UploadAsset", "finishing": "FinishTask"}[state]
    if state != "syncing":
        setup.sim.stall(rpc, after_bytes=AMID if state == "uploading" else 0)
    task_id = setup.sim.add_task()
    setup.start()
    await setup.until(lambda: setup.sim.calls(rpc) if state == "syncing" else setup.sim.under_way[rpc])
    return task_id


# Heartbeats


@pytest.mark.thorough
@hurried_time
async def test_ten_failed_heartbeats_in_a_row_give_the_work_up_and_nine_do_not() -> None:
    nine, ten = await asyncio.gather(end_after_failed_heartbeats(9), end_after_failed_heartbeats(10))
    assert nine == (Code.OK, 1, [])
    assert ten == (Code.UNAVAILABLE, 2, [])


async def end_after_failed_heartbeats(failures: int) -> tuple[int, int, list[str]]:
    """The first task's code, how many tasks there were, and what C1's books disagree on."""
    async with session_setup(policy={"heartbeat_grace": 30.0}) as setup:
        task_id = await begin(setup, "syncing")
        setup.sim.fail("Heartbeat", times=failures)
        await setup.until(lambda: [call.code for call in setup.sim.calls("Heartbeat")].count("UNAVAILABLE") == failures)
        await asyncio.sleep(50)
        setup.buildkite.gate.set()
        await setup.until_settled()
        outcome = await setup.sim.finished(task_id)
        return outcome.code, len(setup.sim.tasks), setup.disagreements


# Cancellation


@pytest.mark.parametrize("state", ["queued", "syncing", "uploading", "finishing"])
@hurried_time
async def test_a_task_is_cancelled_in_each_state_and_the_next_one_is_delivered(state: str) -> None:
    async with session_setup() as setup:
        if state == "queued":
            task_id = setup.sim.add_task()
            setup.sim.cancel(task_id)
            setup.start()
        else:
            task_id = await begin(setup, state)
            setup.sim.cancel(task_id)
        if state in {"syncing", "uploading"}:
            await setup.sim.finished(task_id, 1000)
            assert setup.sim.received == []
        setup.sim.faults.clear()
        setup.buildkite.gate.set()
        outcome = await setup.sim.finished(task_id, 1000)
        assert outcome.code == (Code.OK if state == "finishing" else Code.CANCELLED)
        setup.sim.add_task()
        await setup.until_settled()
        assert setup.disagreements == []
        assert len(setup.sim.ingested) == (2 if state == "finishing" else 1)


# The upload


def error(after_bytes: int) -> Fault:
    return Fault("UploadAsset", after_bytes=after_bytes, carried_out=after_bytes == LAST)


def reset(after_bytes: int) -> Fault:
    return Fault("UploadAsset", Action.DROP, after_bytes=after_bytes, carried_out=after_bytes == LAST)


@pytest.mark.parametrize("times", [1, 3], ids=["once", "each time"])
@pytest.mark.parametrize("after_bytes", [BEFORE, AMID, LAST], ids=["before", "amid", "after the last chunk"])
@pytest.mark.parametrize("fault", [error, pytest.param(reset, marks=pytest.mark.thorough)])
def test_an_upload_that_breaks_is_begun_afresh_and_after_three_times_under_another_task(
    fault: Callable[[int], Fault], after_bytes: int, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "CHUNK_BYTES", CHUNK)

    @hurried_time
    async def test() -> None:
        async with session_setup() as setup:
            for _ in range(times):
                setup.sim.faults.add(fault(after_bytes))
            setup.sim.add_task()
            setup.start()
            await setup.until_settled()
            ends = [task.outcome.code for task in setup.sim.tasks.values() if task.outcome is not None]
            assert ends == ([Code.OK] if times == 1 else [Code.UNAVAILABLE, Code.OK])
            assert len(setup.sim.calls("UploadAsset")) == times + 1
            whole = {received.sha256 for received in setup.sim.received}
            assert len(whole) == len(ends) if after_bytes == LAST else len(whole) == 1
            assert len(setup.sim.ingested) == 1
            assert setup.disagreements == []

    test()


# The end of a task


@dataclass(frozen=True)
class Lost:
    """What becomes of FinishTask: `times` it fails; `carried_out`: only the answer is lost."""

    title: str
    times: int
    carried_out: bool
    forget_uploads: bool = False
    uploads: int = 1


LOST = (
    Lost("the call once", 1, carried_out=False),
    Lost("the answer once", 1, carried_out=True),
    Lost("the answer each time", 3, carried_out=True),
    Lost("the call each time", 3, carried_out=False, uploads=2),
    Lost("the call for an hour", 12, carried_out=False, uploads=5),
    Lost("the call each time, and C1 forgets the upload", 3, carried_out=False, forget_uploads=True, uploads=2),
)


@hurried_time
async def test_an_end_that_is_lost_leads_to_no_second_delivery() -> None:
    """All rows side by side: each waits most of its time."""
    found = await asyncio.gather(*map(books_after, LOST))
    assert found == [(lost.title, Outcome(0), lost.uploads, 1, []) for lost in LOST]


async def books_after(lost: Lost) -> tuple[str, Outcome | None, int, int, list[str]]:
    """The row's title; the task's outcome, how many files came, how many were ingested, and disagreements."""
    async with session_setup(policy={"forget_uploads": lost.forget_uploads}) as setup:
        setup.sim.fail("FinishTask", times=lost.times, carried_out=lost.carried_out)
        task_id = setup.sim.add_task()
        setup.start()
        await setup.until_settled()
        sim = setup.sim
        return lost.title, sim.tasks[task_id].outcome, len(sim.received), len(sim.ingested), setup.disagreements
