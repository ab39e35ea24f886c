"""What goes wrong in C1 and passes again: how long it is said, and what is tried once more."""

import asyncio
from dataclasses import replace

from buildkite_connector.model.spec import Interval
from buildkite_connector.model.status import ConditionStatus, ConditionType
from fakes.c1_rest import C1_SPEC, ERROR, unavailable
from fakes.connector_setup import HOUR, MINUTE, Setup, ready_setup
from fakes.virtual_time import until, virtual_time

C1_SYNCED = ConditionType.C1_SYNCED
QUIET = replace(C1_SPEC, force_sync=False)
DAILY = Interval(86_400.0)


def said_false(setup: Setup, written: int) -> list[str]:
    """The messages with which `C1Synced` was False in a status since that many were written."""
    found = [each.condition(C1_SYNCED) for each in setup.reports.written[written:]]
    return [each.message for each in found if each is not None and each.status is ConditionStatus.FALSE]


# A refused sync that may pass


@virtual_time
async def test_an_outage_while_c1_was_made_to_sync_is_not_said_once_c1_took_the_snapshot() -> None:
    async with ready_setup(c1=QUIET, schedule=DAILY, after=20 * MINUTE) as setup:
        setup.c1_rest.ends(setup.clock.now())
        setup.c1_rest.force_failures.extend([unavailable()] * 6)
        setup.annotate(sync_request="now")
        await until(lambda: len(setup.c1_rest.forces) >= 3)
        assert setup.condition(C1_SYNCED) == ("False", "C1Unavailable")
        setup.task()  # C1 takes it by itself
        await until(lambda: bool(setup.c1.uploads))
        await asyncio.sleep(1)
        assert setup.condition(C1_SYNCED) == ("True", "C1Synced")


@virtual_time
async def test_an_outage_is_said_for_as_long_as_snapshots_wait() -> None:
    async with ready_setup(c1=C1_SPEC, schedule=Interval(10 * MINUTE), after=MINUTE) as setup:
        setup.c1_rest.ends(setup.clock.now())
        setup.c1_rest.force_failures.extend([unavailable()] * 100)
        await until(lambda: setup.condition(C1_SYNCED) == ("False", "C1Unavailable"))
        written, syncs = len(setup.reports.written), len(setup.buildkite.collections)
        await asyncio.sleep(HOUR)
        assert len(setup.buildkite.collections) >= syncs + 5
        assert len(said_false(setup, written)) == len(setup.reports.written) - written, "also for newer snapshots"


@virtual_time
async def test_a_single_failure_is_not_counted_with_one_an_hour_before() -> None:
    async with ready_setup(c1=QUIET, schedule=DAILY, after=20 * MINUTE) as setup:
        setup.c1_rest.ends(setup.clock.now())
        setup.c1.next_poll = 5.0
        for number in (1, 2):
            await asyncio.sleep(HOUR)
            written = len(setup.reports.written)
            setup.c1_rest.force_failures.append(unavailable())
            setup.annotate(sync_request=f"request {number}")
            await until(lambda number=number: len(setup.c1_rest.forces) == number)  # type: ignore[misc]
            setup.task()  # C1 takes it by itself
            await until(lambda number=number: len(setup.c1.uploads) == number)  # type: ignore[misc]
            assert said_false(setup, written) == []


# A sync of C1 that fails again and again


@virtual_time
async def test_syncs_that_fail_one_after_the_other_are_one_trouble() -> None:
    """So that the alert, which waits 15 minutes, fires, and one event is posted."""
    async with ready_setup(c1=C1_SPEC, schedule=Interval(10 * MINUTE), after=10 * MINUTE) as setup:
        loop = asyncio.get_running_loop()

        def forced() -> None:
            setup.c1_rest.runs(setup.clock.now())
            loop.call_later(1.5, setup.task)
            loop.call_later(60, lambda: setup.c1_rest.ends(setup.clock.now(), ERROR, "no data"))

        setup.c1_rest.on_force = forced
        await until(lambda: setup.condition(C1_SYNCED) == ("False", "C1SyncFailed"))
        written = len(setup.reports.written)
        await asyncio.sleep(2 * HOUR)
        assert {setup.condition(C1_SYNCED)} == {("False", "C1SyncFailed")}
        assert len(said_false(setup, written)) == len(setup.reports.written) - written >= 30
        setup.c1_rest.on_force = lambda: setup.c1_rest.ends(setup.clock.now())
        await asyncio.sleep(20 * MINUTE)
        assert setup.condition(C1_SYNCED) == ("True", "C1Synced")


@virtual_time
async def test_a_forced_sync_that_fails_before_c1_takes_the_snapshot_is_forced_once_more() -> None:
    async with ready_setup(c1=QUIET, schedule=DAILY, after=20 * MINUTE) as setup:
        loop = asyncio.get_running_loop()

        def forced() -> None:
            setup.c1_rest.runs(setup.clock.now())
            loop.call_later(20, lambda: setup.c1_rest.ends(setup.clock.now(), ERROR, "no task was fetched"))

        setup.c1_rest.on_force = forced
        setup.annotate(sync_request="now")
        await until(lambda: setup.condition(C1_SYNCED) == ("False", "C1SyncFailed"))
        await asyncio.sleep(2 * HOUR)
        first, again = setup.c1_rest.forces
        assert 300.0 <= again - first <= 360.0
        assert setup.status.c1 is not None
        assert setup.status.c1.forced_for == "sync2"
        setup.annotate(sync_request="again")
        await asyncio.sleep(HOUR)
        assert len(setup.c1_rest.forces) == 4, "and once more for another snapshot"


@virtual_time
async def test_a_forced_sync_that_fails_after_c1_took_the_snapshot_is_not_forced_again() -> None:
    async with ready_setup(c1=QUIET, schedule=DAILY, after=20 * MINUTE) as setup:
        loop = asyncio.get_running_loop()

        def forced() -> None:
            setup.c1_rest.runs(setup.clock.now())
            setup.task()
            loop.call_later(20, lambda: setup.c1_rest.ends(setup.clock.now(), ERROR, "no data"))

        setup.c1_rest.on_force = forced
        setup.annotate(sync_request="now")
        await until(lambda: setup.condition(C1_SYNCED) == ("False", "C1SyncFailed"))
        await asyncio.sleep(2 * HOUR)
        assert setup.status.c1 is not None
        assert (len(setup.c1_rest.forces), setup.status.c1.forced_for) == (1, "sync2")
