"""A sync that reaches C1: the snapshot, the forced sync, C1's task, the delivery, and C1's state in the status."""

import asyncio
import logging
from dataclasses import replace

import pytest

from buildkite_connector.model.failure import Failure
from buildkite_connector.model.spec import Interval
from buildkite_connector.model.status import C1SyncState, ConditionType, Trigger
from fakes.c1_rest import C1_SPEC, DONE, ERROR, IDS, RUNNING, busy, denied, not_found, unavailable
from fakes.connector_setup import HOUR, MINUTE, Setup, down, ready_setup, stopped_setup
from fakes.log_lines import lines
from fakes.task_ports import seconds
from fakes.virtual_time import until, virtual_time

C1_SYNCED = ConditionType.C1_SYNCED
TASK_SECONDS = 1.5
"""How long C1 takes to hand out the task after a forced sync."""
DAILY = Interval(86_400.0)


def obeys(setup: Setup, work_seconds: float = 20.0) -> None:
    """C1 hands out a task after a forced sync, and works on the snapshot for a while."""
    loop = asyncio.get_running_loop()

    def forced() -> None:
        setup.c1_rest.runs(setup.clock.now())
        loop.call_later(TASK_SECONDS, setup.task)
        loop.call_later(TASK_SECONDS + work_seconds, lambda: setup.c1_rest.ends(setup.clock.now()))

    setup.c1_rest.on_force = forced


async def requested(setup: Setup, request: str = "now") -> None:
    """A person asks for a sync, which takes five seconds."""
    setup.annotate(sync_request=request)
    count = len(setup.buildkite.collections)
    await until(lambda: len(setup.buildkite.collections) > count and setup.buildkite.active == 0)
    await asyncio.sleep(0.1)


def forced_for(setup: Setup) -> str | None:
    return setup.status.c1.forced_for if setup.status.c1 is not None else None


def state_of(setup: Setup) -> C1SyncState | None:
    return setup.status.c1.shown.state if setup.status.c1 is not None and setup.status.c1.shown is not None else None


# The way of one requested sync


@virtual_time
async def test_a_requested_sync_is_delivered_within_seconds_and_c1s_state_follows() -> None:
    async with ready_setup(c1=replace(C1_SPEC, force_sync=False), schedule=DAILY) as setup:
        setup.c1.next_poll = 300.0
        await asyncio.sleep(MINUTE)
        assert (setup.c1_rest.forces, setup.condition(C1_SYNCED)) == ([], ("Unknown", "C1AwaitingSync"))
        obeys(setup)
        await requested(setup)
        synced = seconds()
        await until(lambda: bool(setup.c1.uploads))
        assert seconds() - synced <= 5.0
        assert [path.name for path in setup.c1.files] == ["sync2"]
        assert (len(setup.c1_rest.forces), forced_for(setup), setup.c1_rest.asked) == (1, "sync2", {IDS})
        await asyncio.sleep(3)
        assert (state_of(setup), setup.condition(C1_SYNCED)) == (RUNNING, ("Unknown", "C1Syncing"))
        await asyncio.sleep(25)
        assert (state_of(setup), setup.condition(C1_SYNCED)) == (DONE, ("True", "C1Synced"))
        looks = len(setup.c1_rest.reads)
        await asyncio.sleep(4 * MINUTE)
        assert len(setup.c1_rest.reads) == looks, "C1 has ended the sync: nothing more to watch"
        await requested(setup, "again")
        await asyncio.sleep(3)
        assert (state_of(setup), setup.condition(C1_SYNCED)) == (RUNNING, ("True", "C1Syncing"))


@virtual_time
async def test_the_session_asks_every_second_until_the_task_comes() -> None:
    async with ready_setup(c1=C1_SPEC) as setup:
        setup.c1.next_poll = 300.0
        await asyncio.sleep(30 * MINUTE)
        polls = setup.c1.polls
        await requested(setup)
        await asyncio.sleep(12)
        assert 9 <= setup.c1.polls - polls <= 12


@pytest.mark.parametrize(
    ("trigger", "force_sync", "is_forced"),
    [
        (Trigger.REQUEST, True, True),
        (Trigger.REQUEST, False, True),
        (Trigger.SCHEDULE, True, True),
        (Trigger.SCHEDULE, False, False),
        (Trigger.CHANGE, True, True),
        (Trigger.CHANGE, False, False),
        (Trigger.TASK, True, False),
        (Trigger.TASK, False, False),
    ],
)
@virtual_time
async def test_what_triggered_a_sync_decides_whether_it_is_forced(
    trigger: Trigger, force_sync: bool, is_forced: bool
) -> None:
    async with ready_setup(c1=replace(C1_SPEC, force_sync=force_sync), after=20 * MINUTE) as setup:
        setup.c1_rest.calls.clear()
        match trigger:
            case Trigger.REQUEST:
                setup.annotate(sync_request="now")
            case Trigger.CHANGE:
                setup.edit(sync_timeout=60.0)
            case Trigger.TASK:
                setup.c1.upload_failures.append(unavailable())
                setup.task()
            case Trigger.SCHEDULE:
                await asyncio.sleep(40 * MINUTE)
        await asyncio.sleep(MINUTE)
        assert setup.status.last_sync is not None
        assert (setup.status.last_sync.trigger, setup.status.last_sync.id) == (trigger, "sync2")
        assert len(setup.c1_rest.forces) == is_forced
        assert forced_for(setup) == ("sync2" if is_forced else "sync1" if force_sync else None)
        await asyncio.sleep(10 * MINUTE)
        assert len(setup.c1_rest.forces) == is_forced, "once"


@pytest.mark.parametrize("edited", [False, True], ids=["alone", "with an edit"])
@virtual_time
async def test_a_requested_sync_that_fails_at_first_is_forced_when_it_succeeds(edited: bool) -> None:
    async with ready_setup(c1=replace(C1_SPEC, force_sync=False), schedule=DAILY, after=20 * MINUTE) as setup:
        setup.buildkite.failures.extend([down(), down()])
        setup.annotate(sync_request="now")
        if edited:
            setup.edit(quota_percent=50)
        await asyncio.sleep(10 * MINUTE)
        assert [(each.trigger, each.succeeded) for each in setup.status.history[:3]] == [
            (Trigger.REQUEST, True),
            (Trigger.REQUEST, False),
            (Trigger.REQUEST, False),
        ]
        assert (len(setup.c1_rest.forces), forced_for(setup)) == (1, setup.status.history[0].id)


@virtual_time
async def test_a_restart_does_not_forget_that_the_failed_sync_was_requested() -> None:
    setup = Setup(c1=replace(C1_SPEC, force_sync=False), schedule=DAILY)
    async with setup.running():
        await asyncio.sleep(MINUTE)
        setup.buildkite.failures.append(down())
        await requested(setup)
    async with setup.running(restored=setup.status):
        await asyncio.sleep(5 * MINUTE)
        assert (len(setup.c1_rest.forces), forced_for(setup)) == (1, "sync3")


# What stands in the way


@pytest.mark.parametrize("failure", [denied(), not_found()])
@virtual_time
async def test_a_refusal_never_fails_the_sync_and_is_said_until_c1_accepts_one(failure: Failure) -> None:
    async with ready_setup(c1=C1_SPEC, schedule=DAILY, max_snapshot_age=HOUR) as setup:
        await asyncio.sleep(10 * MINUTE)
        setup.c1_rest.ends(setup.clock.now())
        await asyncio.sleep(6 * MINUTE)
        assert setup.condition(C1_SYNCED) == ("True", "C1Synced")
        setup.c1_rest.force_failures.extend([failure, failure])
        setup.c1_rest.calls.clear()
        await requested(setup)
        await asyncio.sleep(1)
        assert setup.condition(C1_SYNCED) == ("False", failure.reason.value)
        assert setup.condition(ConditionType.READY) == ("True", "Ready")
        assert setup.status.condition(ConditionType.STALLED) is None
        assert (setup.status.consecutive_failures, forced_for(setup)) == (0, "sync1")
        await asyncio.sleep(9 * MINUTE)
        assert len(setup.c1_rest.forces) == 2, "again at the next regular look"
        assert setup.condition(C1_SYNCED) == ("False", failure.reason.value)
        obeys(setup)
        await asyncio.sleep(2 * MINUTE)
        assert (len(setup.c1_rest.forces), forced_for(setup)) == (3, "sync2")
        assert [path.name for path in setup.c1.files] == ["sync2"]
        assert setup.condition(C1_SYNCED) == ("True", "C1Synced")


@virtual_time
async def test_a_refusal_stays_said_after_c1_took_the_snapshot_by_itself() -> None:
    async with ready_setup(c1=C1_SPEC, schedule=DAILY) as setup:
        setup.c1_rest.force_failures.append(denied())
        await requested(setup)
        setup.task()
        await asyncio.sleep(MINUTE)
        assert [path.name for path in setup.c1.files] == ["sync2"]
        await asyncio.sleep(20 * MINUTE)
        assert setup.condition(C1_SYNCED) == ("False", "C1AccessDenied")
        assert len(setup.c1_rest.forces) == 2, "sync1's and this one"


@virtual_time
async def test_c1s_retry_after_holds_for_looks_and_forced_syncs_of_newer_snapshots_too() -> None:
    async with ready_setup(c1=C1_SPEC, schedule=DAILY) as setup:
        await asyncio.sleep(10 * MINUTE)
        setup.c1_rest.force_failures.append(busy(900.0))
        await requested(setup)
        refused = setup.c1_rest.forces[-1]
        setup.c1_rest.calls.clear()
        await asyncio.sleep(MINUTE)
        await requested(setup, "again")
        await asyncio.sleep(12 * MINUTE)
        assert setup.c1_rest.calls == []
        await asyncio.sleep(3 * MINUTE)
        assert (len(setup.c1_rest.forces), forced_for(setup)) == (1, "sync3")
        assert setup.c1_rest.reads[0] == pytest.approx(refused + 900.0, abs=0.1)


@virtual_time
async def test_while_c1_syncs_it_is_asked_again_when_that_has_ended() -> None:
    async with ready_setup(c1=C1_SPEC, schedule=DAILY, after=20 * MINUTE) as setup:
        setup.c1_rest.runs(setup.clock.now())
        setup.c1_rest.calls.clear()
        await requested(setup)
        await asyncio.sleep(3 * MINUTE)
        assert setup.c1_rest.forces == []
        setup.c1_rest.ends(setup.clock.now(), ERROR, "no data")
        await asyncio.sleep(MINUTE)
        assert (len(setup.c1_rest.forces), forced_for(setup)) == (1, "sync2")


@virtual_time
async def test_a_paused_connector_is_not_forced_and_says_so_with_its_remedy() -> None:
    async with ready_setup(c1=C1_SPEC, schedule=DAILY, after=20 * MINUTE) as setup:
        setup.c1_rest.pauses(setup.clock.now(), "half of the data is gone")
        await asyncio.sleep(6 * MINUTE)
        assert setup.condition(C1_SYNCED) == ("False", "C1Paused")
        found = setup.status.condition(C1_SYNCED)
        assert found is not None
        assert "C1's reason: half of the data is gone. Find out why on the connector's page in C1" in found.message
        await requested(setup)
        await asyncio.sleep(10 * MINUTE)
        assert len(setup.c1_rest.forces) == 1, "only sync1's"
        setup.c1_rest.ends(setup.clock.now())
        await asyncio.sleep(6 * MINUTE)
        assert (len(setup.c1_rest.forces), forced_for(setup)) == (2, "sync2")


@virtual_time
async def test_what_the_shrink_guard_holds_is_forced_once_it_is_accepted() -> None:
    async with ready_setup(c1=C1_SPEC, schedule=DAILY, after=20 * MINUTE) as setup:
        setup.task()
        await asyncio.sleep(MINUTE)
        setup.buildkite.accounts = 2
        await requested(setup)
        await asyncio.sleep(10 * MINUTE)
        assert setup.condition(ConditionType.DELIVERED) == ("False", "ShrinkHeld")
        assert len(setup.c1_rest.forces) == 1, "only sync1's"
        last = setup.status.last_sync
        assert last is not None
        setup.annotate(accept_shrink=last.id)
        await asyncio.sleep(1)
        assert (len(setup.c1_rest.forces), forced_for(setup)) == (2, last.id)


@virtual_time
async def test_a_suspended_connector_asks_c1_nothing_and_lets_its_client_go() -> None:
    async with ready_setup(c1=C1_SPEC) as setup:
        setup.edit(suspend=True)
        await asyncio.sleep(1)
        calls = len(setup.c1_rest.calls)
        await asyncio.sleep(3 * HOUR)
        assert (len(setup.c1_rest.calls), setup.status.condition(C1_SYNCED)) == (calls, None)
        assert setup.c1_rest.open == 0
        setup.edit(suspend=False)
        await asyncio.sleep(MINUTE)
        assert len(setup.c1_rest.calls) > calls
        assert setup.condition(C1_SYNCED)[0] == "Unknown"


# A restart


@virtual_time
async def test_a_restart_forces_nothing_again() -> None:
    setup = await stopped_setup(c1=C1_SPEC)
    assert (len(setup.c1_rest.forces), forced_for(setup)) == (1, "sync1")
    async with setup.running(restored=setup.status):
        await asyncio.sleep(20 * MINUTE)
        assert len(setup.c1_rest.forces) == 1
        assert len(setup.c1_rest.reads) > 3


@pytest.mark.parametrize(("down", "is_forced"), [(2 * MINUTE, True), (30 * MINUTE, False)])
@virtual_time
async def test_what_a_former_process_did_not_force_is_forced_while_it_is_fresh(down: float, is_forced: bool) -> None:
    setup = Setup(c1=C1_SPEC)
    setup.c1_rest.pauses(setup.clock.now())
    async with setup.running():
        await asyncio.sleep(MINUTE)
    setup.c1_rest.ends(setup.clock.now())
    await asyncio.sleep(down)
    started = seconds()
    setup.c1_rest.calls.clear()
    async with setup.running(restored=setup.status):
        await asyncio.sleep(10 * MINUTE)
        assert len(setup.c1_rest.forces) == is_forced
        assert setup.c1_rest.reads[0] == pytest.approx(started + 150.0, abs=1.0), "spread over five minutes"
        assert len(setup.buildkite.collections) == 1


@virtual_time
async def test_a_snapshot_that_this_process_staged_does_not_wait_for_the_first_look() -> None:
    setup = await stopped_setup(c1=C1_SPEC)
    async with setup.running(restored=setup.status):
        await asyncio.sleep(5)
        await requested(setup)
        await asyncio.sleep(1)
        assert (len(setup.c1_rest.forces), forced_for(setup)) == (2, "sync2")


# The log


@virtual_time
async def test_each_try_to_make_c1_sync_is_logged_with_its_snapshot(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "buildkite_connector.connector.c1_looks")
    async with ready_setup(c1=replace(C1_SPEC, force_sync=False), schedule=DAILY) as setup:
        setup.c1_rest.force_failures.extend([unavailable(), ValueError("the-secret")])
        await requested(setup)
        await asyncio.sleep(10 * MINUTE)
    fields = {"connector": "default.acme", "sync_id": "sync2"}
    logged = [each for each in caplog.records if each.name == "buildkite_connector.connector.c1_looks"]
    assert lines(logged) == [
        (logging.WARNING, "C1 did not accept to sync", {**fields, "error": "C1 answers 503."}),
        (logging.ERROR, "C1 could not be made to sync", fields),
        (logging.INFO, "C1 was made to sync", fields),
    ]
    assert [each.exc_info is not None for each in logged] == [False, True, False]


@virtual_time
async def test_a_look_right_after_a_forced_sync_that_fails_or_takes_long_is_no_trouble(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with ready_setup(c1=replace(C1_SPEC, force_sync=False), schedule=DAILY) as setup:
        setup.c1_rest.on_force = lambda: setup.c1_rest.read_failures.append(unavailable())
        await requested(setup)
        await until(lambda: forced_for(setup) == "sync2")

        def slow() -> None:
            setup.c1_rest.seconds = 30.0

        setup.c1_rest.on_force = slow
        await requested(setup, "again")
        await asyncio.sleep(10)
        assert forced_for(setup) == "sync3"
    assert caplog.records == []
