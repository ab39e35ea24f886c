"""The session with C1: Hello, polls, and what its silence means."""

import asyncio

from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.spec import ConnectorSpec, Credentials
from buildkite_connector.model.status import ConditionType
from fakes.connector_setup import C1, HOUR, MINUTE, Setup, ready_setup, stopped_setup
from fakes.virtual_time import until, virtual_time


@virtual_time
async def test_c1_out_of_reach_is_told_and_syncs_go_on() -> None:
    setup = Setup()
    setup.c1.refusal = Failure(Reason.C1_UNREACHABLE, "No connection to C1.")
    async with setup.running():
        await asyncio.sleep(2 * HOUR)
        assert setup.condition(ConditionType.READY) == ("False", "C1Unreachable")
        assert setup.condition(ConditionType.CREDENTIALS_VALID) == ("Unknown", "C1Unreachable")
        assert setup.condition(ConditionType.SYNCED) == ("True", "SyncSucceeded")
        assert len(setup.buildkite.collections) >= 2
        setup.c1.refusal = None
        await asyncio.sleep(6 * MINUTE)
        assert setup.condition(ConditionType.READY) == ("True", "Ready")


@virtual_time
async def test_a_changing_text_of_the_same_trouble_is_no_news() -> None:
    async with ready_setup() as setup:
        setup.c1.refusal = Failure(Reason.C1_UNREACHABLE, "No connection to 10.0.0.1.")
        await asyncio.sleep(10 * MINUTE)
        before = len(setup.reports.written)
        for n in range(2, 40):
            setup.c1.refusal = Failure(Reason.C1_UNREACHABLE, f"No connection to 10.0.0.{n}.")
            await asyncio.sleep(MINUTE)
    assert len(setup.reports.written) == before


@virtual_time
async def test_a_new_session_starts_without_the_failure_of_the_old_one() -> None:
    async with ready_setup() as setup:
        setup.c1.refusal = Failure(Reason.C1_UNREACHABLE, "No connection to C1.")
        await asyncio.sleep(20 * MINUTE)
        await next_poll(setup)  # the next one is minutes away: the new session comes first
        assert setup.condition(ConditionType.READY) == ("False", "C1Unreachable")
        setup.c1.refusal = None
        setup.rotate(client_secret="rotated")
        await until(lambda: len(setup.c1.hellos) == 2)
        await asyncio.sleep(1)
        assert setup.c1.closed == 1
        assert "C1Unreachable" not in str(setup.status)
        await asyncio.sleep(MINUTE)
        assert setup.condition(ConditionType.READY) == ("True", "Ready")


async def next_poll(setup: Setup) -> None:
    polls = setup.c1.polls
    await until(lambda: setup.c1.polls > polls)


@virtual_time
async def test_c1_silent_for_ten_seconds_at_a_restart_is_no_news() -> None:
    setup = await stopped_setup()
    before = len(setup.reports.written)
    setup.c1.refusal = Failure(Reason.C1_UNAVAILABLE, "C1 is restarting.")
    async with setup.running(restored=setup.status):
        await asyncio.sleep(10)
        setup.c1.refusal = None
        await asyncio.sleep(5 * MINUTE)
    assert len(setup.reports.written) == before


@virtual_time
async def test_after_a_change_of_the_client_an_outage_is_reported_at_once_although_c1_was_known() -> None:
    setup = await stopped_setup()
    async with setup.running(restored=setup.status):
        await asyncio.sleep(MINUTE)
        setup.c1.refusal = Failure(Reason.C1_UNAVAILABLE, "C1 is restarting.")
        setup.rotate(client_secret="rotated")
        await until(lambda: setup.c1.closed == 2)
        await asyncio.sleep(2)
        assert setup.condition(ConditionType.READY) == ("False", "C1Unavailable")


@virtual_time
async def test_a_session_that_does_not_close_in_order_gives_way_to_the_next_all_the_same() -> None:
    async with ready_setup() as setup:
        setup.c1.close_failures.append(ZeroDivisionError())
        setup.rotate(client_secret="rotated")
        await asyncio.sleep(10 * MINUTE)
        assert setup.c1.hellos == [None, None]
        assert setup.condition(ConditionType.READY) == ("True", "Ready")


@virtual_time
async def test_a_session_that_was_opened_just_now_is_closed_too() -> None:
    class ClosesAtOnce(Setup):
        closing: asyncio.Task[None]

        def connect_c1(self, credentials: Credentials, spec: ConnectorSpec) -> C1:
            self.closing = asyncio.create_task(self.session.close(discard=False))
            return super().connect_c1(credentials, spec)

    setup = ClosesAtOnce()
    async with setup.running():
        await asyncio.sleep(MINUTE)
        assert setup.closing.done()
        assert (setup.c1.hellos, setup.c1.closed) == ([], 1)
