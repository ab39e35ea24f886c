"""What C1's side costs at the API server: writes of the status and events."""

import asyncio
from dataclasses import replace
from itertools import chain, groupby

import pytest

from buildkite_connector.kubernetes.events import draft_events
from buildkite_connector.model.spec import Interval
from buildkite_connector.model.status import C1SyncState, ConditionType
from fakes.c1_rest import C1_SPEC, unavailable
from fakes.connector_setup import HOUR, MINUTE, Setup, ready_setup
from fakes.virtual_time import until, virtual_time

C1_SYNCED = ConditionType.C1_SYNCED
DAILY = Interval(86_400.0)


def obeys(setup: Setup, *, task: float, runs: float = 0.0, works: float = 20.0) -> None:
    """C1 hands out a task so long after a forced sync, which it shows as RUNNING from `runs` on."""
    loop, c1 = asyncio.get_running_loop(), setup.c1_rest

    def forced() -> None:
        if not runs:
            c1.runs(setup.clock.now())
        else:
            loop.call_later(runs, lambda: c1.runs(setup.clock.now()))
        loop.call_later(task, setup.task)
        loop.call_later(task + works, lambda: c1.ends(setup.clock.now()))

    c1.on_force = forced


@virtual_time
async def test_a_new_connector_posts_two_events() -> None:
    setup = Setup(c1=C1_SPEC, schedule=DAILY)
    obeys(setup, task=1.5)
    async with setup.running():
        await asyncio.sleep(HOUR)
        assert setup.condition(C1_SYNCED) == ("True", "C1Synced")
        written = setup.reports.written
        drafts = [draft_events(old, new) for old, new in zip([None, *written], written, strict=False)]
        told = [each.reason.value for each in chain.from_iterable(drafts)]
        assert told == ["Ready", "Delivered"]


@pytest.mark.parametrize("task", [0.0, 1.5, 5.0])
@pytest.mark.parametrize(("runs", "most"), [(0.0, 5), (0.3, 6), (3.0, 6), (8.0, 6)])
@virtual_time
async def test_a_forced_sync_writes_the_status_five_times_and_once_more_where_c1_begins_later(
    task: float, runs: float, most: int
) -> None:
    """Three times as without spec.c1, then RUNNING with `forcedFor`, and DONE."""
    async with ready_setup(c1=replace(C1_SPEC, force_sync=False), schedule=DAILY, after=20 * MINUTE) as setup:
        setup.c1_rest.ends(setup.clock.now())
        obeys(setup, task=task, runs=runs)
        await asyncio.sleep(10 * MINUTE)
        written = len(setup.reports.written)
        setup.annotate(sync_request="now")
        await asyncio.sleep(10 * MINUTE)
        assert len(setup.c1.uploads) == 1
        records = [each.c1 for each in setup.reports.written[written:] if each.c1 is not None]
        states = [each.shown.state for each in records if each.shown is not None]
        assert [state for state, _ in groupby(states)] == [C1SyncState.DONE, C1SyncState.RUNNING, C1SyncState.DONE]
        assert records[-1].forced_for == "sync2"
        assert len(records) == most


@virtual_time
async def test_a_sync_that_c1_asks_for_writes_the_status_five_times() -> None:
    async with ready_setup(c1=C1_SPEC, schedule=DAILY, after=20 * MINUTE) as setup:
        setup.c1_rest.ends(setup.clock.now())
        await asyncio.sleep(10 * MINUTE)
        written, loop = len(setup.reports.written), asyncio.get_running_loop()
        setup.c1_rest.runs(setup.clock.now())
        setup.task()
        loop.call_later(60, lambda: setup.c1_rest.ends(setup.clock.now()))
        await asyncio.sleep(10 * MINUTE)
        assert len(setup.c1.uploads) == 1
        assert setup.condition(C1_SYNCED) == ("True", "C1Synced")
        assert len(setup.reports.written) - written == 5


@pytest.mark.parametrize("how", ["fails", "hangs", "shut down"])
@virtual_time
async def test_that_c1_accepted_to_sync_is_recorded_whatever_becomes_of_the_read_after_it(how: str) -> None:
    setup = Setup(c1=replace(C1_SPEC, force_sync=False), schedule=DAILY)
    async with setup.running():
        await asyncio.sleep(MINUTE)

        def forced() -> None:
            setup.c1_rest.seconds = 0.0 if how == "fails" else 600.0
            setup.c1_rest.read_failures.append(unavailable())

        setup.c1_rest.on_force = forced
        setup.annotate(sync_request="now")
        await until(lambda: bool(setup.c1_rest.forces))
        if how != "shut down":
            await asyncio.sleep(3)
            assert setup.status.c1 is not None
            assert setup.status.c1.forced_for == "sync2"
        if how == "fails":
            assert 2.0 <= setup.c1_rest.reads[-1] - setup.c1_rest.forces[-1] <= 2.1, "the next look comes as ever"
    assert setup.status.c1 is not None
    assert setup.status.c1.forced_for == "sync2"
