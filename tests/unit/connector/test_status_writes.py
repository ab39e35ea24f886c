"""What is written to the status, and how often."""

import asyncio

from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.spec import Credentials
from buildkite_connector.model.status import ConditionStatus, ConditionType, Phase
from fakes.connector_setup import MINUTE, Setup, ready_setup
from fakes.virtual_time import virtual_time


@virtual_time
async def test_a_start_is_reported_in_five_writes_and_a_later_sync_with_its_delivery_in_three() -> None:
    setup = Setup()
    async with setup.running():
        setup.task()
        await asyncio.sleep(2 * MINUTE)
        assert setup.condition(ConditionType.DELIVERED) == ("True", "Delivered")
        first = len(setup.reports.written)
        setup.task()
        setup.annotate(sync_request="again")
        await asyncio.sleep(2 * MINUTE)
    assert first == 5
    assert len(setup.reports.written) - first <= 3


@virtual_time
async def test_an_idle_connector_writes_nothing() -> None:
    async with ready_setup() as setup:
        before = len(setup.reports.written)
        await asyncio.sleep(50 * MINUTE)
    assert len(setup.reports.written) == before


@virtual_time
async def test_a_status_that_could_not_be_written_is_written_later() -> None:
    setup = Setup()
    setup.reports.failures.extend([Failure(Reason.INTERNAL_ERROR, "the API server is away")] * 3)
    async with setup.running():
        await asyncio.sleep(MINUTE)
        assert setup.condition(ConditionType.READY) == ("True", "Ready")


@virtual_time
async def test_no_status_ever_shows_a_secret() -> None:
    setup = Setup()
    setup.fake_secret.credentials = Credentials("client-id-value", "client-secret-value", "api-token-value")
    async with setup.running():
        setup.task()
        await asyncio.sleep(MINUTE)
    shown = str(setup.reports.written) + repr(setup.fake_secret.credentials)
    assert "client-secret-value" not in shown
    assert "api-token-value" not in shown


@virtual_time
async def test_a_status_that_is_being_written_at_shutdown_is_written_to_the_end() -> None:
    async with ready_setup() as setup:
        setup.reports.seconds = 1.0
        setup.annotate(sync_request="now")
        await asyncio.sleep(0.5)
        assert setup.reports.completed < len(setup.reports.written)
    assert setup.reports.completed == len(setup.reports.written)


@virtual_time
async def test_a_start_among_many_is_reported_in_five_writes_until_ready() -> None:
    """A slow check, minutes until the turn to greet C1, then minutes of waiting for a slot."""
    setup = Setup()
    setup.fake_secret.seconds = 20.0
    async with setup.running():
        async with setup.crowd(), setup.greeting_crowd():
            await asyncio.sleep(5 * MINUTE)
        await asyncio.sleep(MINUTE)
    phases = [each.phase for each in setup.reports.written]
    assert phases == [Phase.PENDING, Phase.PENDING, Phase.PENDING, Phase.SYNCING, Phase.CONNECTED]


@virtual_time
async def test_ready_stays_while_an_edit_is_checked_and_over_a_restart() -> None:
    async with ready_setup() as setup:
        before = len(setup.reports.written)
        setup.fake_secret.seconds = 20.0
        setup.edit(max_drop_percent=10)
        await asyncio.sleep(MINUTE)
        setup.rotate(client_secret="fresh")
        await asyncio.sleep(2 * MINUTE)
    setup.edit(max_drop_percent=20)
    async with setup.running(restored=setup.status):
        await asyncio.sleep(2 * MINUTE)
    ready = [status.condition(ConditionType.READY) for status in setup.reports.written[before:]]
    assert len(ready) > 6
    assert {each.status for each in ready if each is not None} == {ConditionStatus.TRUE}


@virtual_time
async def test_a_token_that_is_refused_is_told_while_the_first_hello_waits_for_its_turn() -> None:
    setup = Setup()
    async with setup.running(), setup.greeting_crowd():
        await asyncio.sleep(2 * MINUTE)
        assert setup.condition(ConditionType.READY) == ("Unknown", "Pending")
        setup.rotate(api_token="another")
        setup.buildkite.refusal = setup.rejected()
        await asyncio.sleep(2 * MINUTE)
        assert setup.condition(ConditionType.READY) == ("False", "TokenRejected")


@virtual_time
async def test_an_edit_is_told_while_the_first_hello_waits_for_its_turn() -> None:
    setup = Setup()
    async with setup.running(), setup.greeting_crowd():
        await asyncio.sleep(2 * MINUTE)
        setup.edit(max_drop_percent=10)
        await asyncio.sleep(MINUTE)
        assert setup.status.observed_generation == 2


@virtual_time
async def test_a_failure_is_told_while_the_first_sync_waits_for_a_slot() -> None:
    setup = Setup()
    async with setup.running(), setup.crowd():
        await asyncio.sleep(2 * MINUTE)
        assert setup.condition(ConditionType.READY) == ("Unknown", "Pending")
        setup.c1.refusal = Failure(Reason.C1_UNREACHABLE, "No connection to C1.")
        await asyncio.sleep(2 * MINUTE)
        assert setup.condition(ConditionType.READY) == ("False", "C1Unreachable")


@virtual_time
async def test_an_edit_is_told_while_the_first_sync_waits_for_a_slot() -> None:
    setup = Setup()
    async with setup.running(), setup.crowd():
        await asyncio.sleep(2 * MINUTE)
        setup.edit(max_drop_percent=10)
        await asyncio.sleep(MINUTE)
        assert setup.status.observed_generation == 2


@virtual_time
async def test_a_mended_secret_is_told_while_the_first_sync_waits_for_a_slot() -> None:
    setup = Setup()
    setup.fake_secret.failure = Failure(Reason.SECRET_KEY_INVALID, "not text", remedy=Remedy.CREDENTIALS)
    async with setup.running(), setup.crowd():
        await asyncio.sleep(MINUTE)
        assert setup.condition(ConditionType.READY) == ("False", "SecretKeyInvalid")
        setup.fake_secret.failure = None
        await asyncio.sleep(2 * MINUTE)
        assert setup.condition(ConditionType.READY) == ("Unknown", "Pending")
