"""How a connector looks at C1's side: how often, with which client, and what it says of what it finds."""

import asyncio
import contextlib
import itertools
import logging
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from buildkite_connector.connector.connector import Connector
from buildkite_connector.connector.environment import Environment
from buildkite_connector.connector.ports import C1Rest
from buildkite_connector.connector.state import DesiredState
from buildkite_connector.model.failure import Failure, Reason, Remedy, internal_error
from buildkite_connector.model.spec import C1Access, ConnectorKey, ConnectorSpec, Interval
from buildkite_connector.model.status import C1Record, C1State, ConditionStatus, ConditionType
from buildkite_connector.timing.slots import Slots
from fakes.c1_rest import (
    C1_SPEC,
    DONE,
    ERROR,
    IDS,
    RUNNING,
    FakeAccess,
    FakeC1RestClient,
    busy,
    denied,
    not_found,
    rejected,
    unavailable,
)
from fakes.connector_setup import HOUR, MINUTE, Reports, SecretCredentials, Setup, ready_setup, stopped_setup
from fakes.log_lines import lines
from fakes.task_ports import seconds
from fakes.virtual_time import until, virtual_time

C1_SYNCED = ConditionType.C1_SYNCED
QUIET = replace(C1_SPEC, force_sync=False)
DAILY = Interval(86_400.0)
SECRET_MISSING = Failure(Reason.SECRET_NOT_FOUND, "The Secret c1-api does not exist.", remedy=Remedy.CREDENTIALS)


@contextlib.asynccontextmanager
async def watching() -> AsyncIterator[Setup]:
    """A connector that syncs once a day and is forced on request only, 20 minutes after its start."""
    async with ready_setup(after=20 * MINUTE, c1=QUIET, schedule=DAILY) as setup:
        setup.c1_rest.calls.clear()
        yield setup


# Without spec.c1


@virtual_time
async def test_without_spec_c1_nothing_is_read_made_or_said() -> None:
    async with ready_setup(after=3 * HOUR) as setup:
        setup.annotate(sync_request="now")
        setup.task()
        await asyncio.sleep(MINUTE)
        assert (setup.c1_rest.calls, setup.c1_rest.accesses, setup.c1_access.reads) == ([], [], 0)
        assert all(each.c1 is None and each.condition(C1_SYNCED) is None for each in setup.reports.written)


@virtual_time
async def test_what_was_known_goes_with_spec_c1_and_the_client_is_closed() -> None:
    async with watching() as setup:
        setup.c1_rest.ends(setup.clock.now())
        await asyncio.sleep(6 * MINUTE)
        assert setup.condition(C1_SYNCED) == ("True", "C1Synced")
        assert setup.c1_rest.open == 1
        setup.edit(c1=None)
        await asyncio.sleep(MINUTE)
        assert (setup.c1_rest.open, setup.status.c1, setup.status.condition(C1_SYNCED)) == (0, None, None)
        calls = len(setup.c1_rest.calls)
        await asyncio.sleep(HOUR)
        assert len(setup.c1_rest.calls) == calls
        setup.edit(c1=QUIET)
        await asyncio.sleep(MINUTE)
        assert (len(setup.c1_rest.calls), setup.c1_rest.open) == (calls + 1, 1)


# How often


@virtual_time
async def test_while_nothing_happens_c1_is_looked_at_every_five_minutes_and_no_status_is_written() -> None:
    async with watching() as setup:
        written = len(setup.reports.written)
        await asyncio.sleep(HOUR)
        assert 11 <= len(setup.c1_rest.reads) <= 12
        waits = [later - before for before, later in itertools.pairwise(setup.c1_rest.reads)]
        assert min(waits) >= 300.0
        assert (setup.c1_rest.forces, len(setup.reports.written)) == ([], written)


@virtual_time
async def test_after_a_delivery_c1_is_looked_at_until_it_has_ended_that_sync() -> None:
    async with watching() as setup:
        ended_before = setup.clock.now()
        setup.c1_rest.ends(ended_before)
        await asyncio.sleep(2 * MINUTE)
        setup.c1_rest.runs(setup.clock.now())
        setup.c1_rest.calls.clear()
        setup.task()
        await until(lambda: bool(setup.c1.uploads))
        delivered = seconds()
        await asyncio.sleep(10 * MINUTE)
        reads = [at - delivered for at in setup.c1_rest.reads if at > delivered]
        waits = [later - before for before, later in itertools.pairwise(reads)]
        assert reads[0] == pytest.approx(2.0, abs=0.2)
        assert min(waits) >= 2.0
        assert max(waits) == pytest.approx(60.0, abs=0.1)
        assert waits == sorted(waits)
        assert setup.status.c1 is not None
        assert setup.status.c1.shown is not None
        assert (setup.status.c1.shown.state, setup.status.c1.shown.completed_at) == (RUNNING, ended_before)
        setup.c1_rest.ends(setup.clock.now())
        await asyncio.sleep(MINUTE)
        assert setup.condition(C1_SYNCED) == ("True", "C1Synced")
        reads_then = len(setup.c1_rest.reads)
        await asyncio.sleep(4 * MINUTE)
        assert len(setup.c1_rest.reads) == reads_then


@virtual_time
async def test_a_sync_that_c1_does_not_end_is_watched_for_an_hour() -> None:
    async with watching() as setup:
        setup.c1_rest.runs(setup.clock.now())
        setup.task()
        await asyncio.sleep(HOUR + 2 * MINUTE)
        assert 60 <= len(setup.c1_rest.reads) <= 90
        setup.c1_rest.calls.clear()
        await asyncio.sleep(HOUR)
        assert len(setup.c1_rest.reads) <= 12


@pytest.mark.parametrize("number", [60, pytest.param(300, marks=pytest.mark.thorough)])
@virtual_time
async def test_many_connectors_that_start_again_do_not_ask_at_once(number: int) -> None:
    setup = await stopped_setup(c1=QUIET, schedule=DAILY)
    setup.c1_rest.calls.clear()
    setup.c1_rest.seconds = 0.5

    class Spread:
        """Each draws another share."""

        drawn = 0

        def uniform(self, low: float, high: float) -> float:
            self.drawn += 1
            return low + (self.drawn * 7919 % number) / number * (high - low)

    environment = replace(setup.environment(), jitter=Spread())
    many = []
    for one in range(number):
        spec = ConnectorSpec(host_id=f"many.{one}", schedule=DAILY, c1=QUIET)
        order = DesiredState(1, spec, SecretCredentials(), c1_access=FakeAccess())
        status = replace(setup.status, last_sync=None)
        connector = Connector(ConnectorKey(f"{one % 7}.{one}"), order, status, Reports(), environment)
        connector.start()
        many.append(connector)
    await asyncio.sleep(330)
    per_second = [0] * 400
    for at in setup.c1_rest.reads:
        per_second[int(at - setup.c1_rest.reads[0])] += 1
    assert len(setup.c1_rest.reads) >= number
    assert max(per_second) <= number / 50
    for connector in many:
        await connector.close(discard=False)
    assert setup.c1_rest.open == 0


@virtual_time
async def test_connectors_that_are_made_at_once_take_turns() -> None:
    setup = Setup()
    setup.c1_rest.seconds = 1.0
    environment = setup.environment()
    many = []
    for number in range(100):
        spec = ConnectorSpec(host_id=f"many.{number}", schedule=DAILY, c1=QUIET)
        order = DesiredState(1, spec, SecretCredentials(), c1_access=FakeAccess())
        many.append(Connector(ConnectorKey(f"{number % 7}.{number}"), order, None, Reports(), environment))
        many[-1].start()
    await asyncio.sleep(20)
    assert (len(setup.c1_rest.reads), setup.c1_rest.most_at_once) == (100, 16)
    for connector in many:
        await connector.close(discard=False)


# The access and the client


@virtual_time
async def test_the_access_is_read_once_and_again_after_an_edit_only() -> None:
    async with watching() as setup:
        await asyncio.sleep(5 * HOUR)
        assert (setup.c1_access.reads, len(setup.c1_rest.accesses), setup.c1_rest.open) == (1, 1, 1)
        setup.annotate(sync_request="now")
        await asyncio.sleep(MINUTE)
        assert setup.c1_access.reads == 1
        setup.edit(sync_timeout=60.0)
        await asyncio.sleep(MINUTE)
        assert (setup.c1_access.reads, len(setup.c1_rest.accesses)) == (2, 1), "the same client, with its token"
        setup.c1_access.access = C1Access("other@acme.conductor.one/pcc", "secret")
        await asyncio.sleep(20 * MINUTE)
        assert len(setup.c1_rest.accesses) == 1
        setup.edit(sync_timeout=90.0)
        await asyncio.sleep(MINUTE)
        assert (setup.c1_access.reads, len(setup.c1_rest.accesses), setup.c1_rest.open) == (3, 2, 1)
    assert setup.c1_rest.open == 0


@virtual_time
async def test_a_secret_that_was_rotated_takes_effect_in_the_look_that_finds_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with watching() as setup:
        setup.c1_rest.ends(setup.clock.now())
        await asyncio.sleep(6 * MINUTE)
        setup.c1_rest.rejects.add(setup.c1_access.access.client_id)
        setup.c1_access.access = C1Access("new@acme.conductor.one/pcc", "secret")
        await asyncio.sleep(10 * MINUTE)
        assert (setup.c1_access.reads, setup.c1_rest.open, caplog.records) == (2, 1, [])
        said = [each.condition(C1_SYNCED) for each in setup.reports.written]
        assert not any(each is not None and each.status is ConditionStatus.FALSE for each in said)
        assert setup.condition(C1_SYNCED) == ("True", "C1Synced")


@virtual_time
async def test_a_client_that_c1_refuses_is_said_at_once_and_its_secret_read_again_at_each_look() -> None:
    async with watching() as setup:
        setup.c1_rest.refusal = rejected()
        await asyncio.sleep(6 * MINUTE)
        assert setup.condition(C1_SYNCED) == ("False", "C1ClientRejected")
        assert setup.condition(ConditionType.READY) == ("True", "Ready")
        await asyncio.sleep(HOUR)
        reads = setup.c1_access.reads
        setup.c1_rest.calls.clear()
        await asyncio.sleep(HOUR)
        assert 11 <= setup.c1_access.reads - reads <= 13, "not more often than every five minutes"
        assert len(setup.c1_rest.reads) == setup.c1_access.reads - reads, "and C1 is not asked again with the same one"
        setup.c1_rest.refusal = None
        await asyncio.sleep(5 * MINUTE)
        assert setup.condition(C1_SYNCED) == ("Unknown", "C1AwaitingSync")


def unreachable() -> Failure:
    return Failure(Reason.C1_UNREACHABLE, "No such host.")


@pytest.mark.parametrize("failure", [denied(), not_found(), rejected(), unreachable()])
@pytest.mark.parametrize("call", ["connector", "force_sync"])
@virtual_time
async def test_a_corrected_secret_takes_effect_after_whatever_another_one_may_fix(call: str, failure: Failure) -> None:
    """At the next look, and with one read of the Secret for each look that fails."""
    async with watching() as setup:
        setup.c1_rest.refuses[setup.c1_access.access.client_id] = (call, failure)
        setup.annotate(sync_request="now")
        await asyncio.sleep(HOUR)
        reads = setup.c1_access.reads
        await asyncio.sleep(HOUR)
        assert 11 <= setup.c1_access.reads - reads <= 13, "not more often than every five minutes"
        setup.c1_access.access = C1Access("new@acme.conductor.one/pcc", "secret")
        setup.annotate(sync_request="again")
        await asyncio.sleep(6 * MINUTE)
        assert (setup.c1_rest.accesses[-1], setup.c1_rest.open) == (setup.c1_access.access, 1)
        assert len(setup.c1_rest.forces) >= 1
        assert setup.condition(C1_SYNCED) == ("Unknown", "C1AwaitingSync")


@virtual_time
async def test_while_c1_is_only_busy_the_secret_is_not_read() -> None:
    async with watching() as setup:
        reads = setup.c1_access.reads
        setup.c1_rest.refusal = unavailable()
        await asyncio.sleep(HOUR)
        assert setup.c1_access.reads == reads


@virtual_time
async def test_a_secret_that_comes_late_is_noticed_within_a_minute() -> None:
    setup = Setup(c1=QUIET, schedule=DAILY)
    setup.c1_access.failure = SECRET_MISSING
    async with setup.running():
        await asyncio.sleep(MINUTE)
        assert setup.condition(C1_SYNCED) == ("False", "SecretNotFound")
        assert (setup.condition(ConditionType.READY), setup.c1_rest.calls) == (("True", "Ready"), [])
        setup.c1_access.failure = None
        await asyncio.sleep(MINUTE)
        assert setup.condition(C1_SYNCED) == ("Unknown", "C1AwaitingSync")


@virtual_time
async def test_an_edit_of_the_ids_forgets_what_the_other_connector_showed() -> None:
    async with watching() as setup:
        setup.c1_rest.ends(setup.clock.now(), ERROR, "no data")
        await asyncio.sleep(6 * MINUTE)
        assert setup.condition(C1_SYNCED) == ("False", "C1SyncFailed")
        setup.c1_rest.refusal = unavailable()
        setup.edit(c1=replace(QUIET, connector_id="another"))
        await asyncio.sleep(5)
        assert setup.status.c1 is not None
        assert (setup.status.c1.connector_id, setup.status.c1.shown, setup.status.c1.observed_at) == (
            "another",
            None,
            None,
        )
        assert setup.condition(C1_SYNCED) == ("Unknown", "C1AwaitingSync")
        setup.c1_rest.refusal = None
        await asyncio.sleep(2 * MINUTE)
        assert setup.c1_rest.asked == {IDS, (IDS[0], "another")}
        assert setup.condition(C1_SYNCED) == ("False", "C1SyncFailed")


@virtual_time
async def test_a_look_that_an_edit_overtakes_says_nothing() -> None:
    async with watching() as setup:
        setup.c1_rest.seconds = 10.0
        await until(lambda: bool(setup.c1_rest.calls))
        await asyncio.sleep(1)
        setup.c1_rest.ends(setup.clock.now())
        setup.edit(c1=replace(QUIET, connector_id="another"))
        await asyncio.sleep(12)
        assert setup.status.c1 == C1Record(IDS[0], "another")
        await asyncio.sleep(10)
        assert setup.condition(C1_SYNCED) == ("True", "C1Synced")


# What fails


@pytest.mark.parametrize("failure", [denied(), not_found(), rejected()])
@virtual_time
async def test_what_a_person_must_fix_is_said_at_once(failure: Failure) -> None:
    async with watching() as setup:
        setup.c1_rest.read_failures.extend([failure] * 2)
        await until(lambda: setup.condition(C1_SYNCED) == ("False", failure.reason.value))
        assert setup.condition(ConditionType.READY) == ("True", "Ready")
        await asyncio.sleep(10 * MINUTE)
        assert setup.condition(C1_SYNCED) == ("Unknown", "C1AwaitingSync")


@virtual_time
async def test_what_passes_within_half_a_minute_is_not_said() -> None:
    async with watching() as setup:
        setup.c1_rest.ends(setup.clock.now())
        await asyncio.sleep(6 * MINUTE)
        written = len(setup.reports.written)
        setup.c1_rest.read_failures.append(unavailable())
        await asyncio.sleep(10 * MINUTE)
        assert len(setup.reports.written) == written
        setup.c1_rest.refusal = unavailable()
        await asyncio.sleep(7 * MINUTE)
        assert setup.condition(C1_SYNCED) == ("False", "C1Unavailable")
        setup.c1_rest.refusal = None
        await asyncio.sleep(6 * MINUTE)
        assert setup.condition(C1_SYNCED) == ("True", "C1Synced")


@virtual_time
async def test_c1_is_left_alone_for_as_long_as_it_asks() -> None:
    async with watching() as setup:
        setup.c1_rest.read_failures.append(busy(1800.0))
        await until(lambda: bool(setup.c1_rest.calls))
        failed = setup.c1_rest.reads[0]
        setup.task()
        await asyncio.sleep(29 * MINUTE)
        assert len(setup.c1_rest.calls) == 1
        await asyncio.sleep(2 * MINUTE)
        assert setup.c1_rest.reads[1] == pytest.approx(failed + 1800.0, abs=0.1)


@virtual_time
async def test_an_error_of_the_operator_itself_is_logged_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async with watching() as setup:
        setup.c1_rest.read_failures.append(ZeroDivisionError("secret"))
        await asyncio.sleep(10 * MINUTE)
        failure = internal_error(ZeroDivisionError())
        told = {"connector": "default.acme", "reason": failure.reason.value, "error": failure.message}
        assert lines(caplog.records) == [
            (logging.ERROR, "C1 could not be looked at", {"connector": "default.acme"}),
            (logging.WARNING, "C1 does not show the connector", told),
        ]
        assert len(setup.c1_rest.reads) >= 2
        setup.c1_rest.force_failures.append(ZeroDivisionError("secret"))
        setup.annotate(sync_request="now")
        await asyncio.sleep(2 * MINUTE)
        assert (len(setup.c1_rest.forces), setup.status.c1 and setup.status.c1.forced_for) == (2, "sync2")
        assert "secret" not in str([each.conditions for each in setup.reports.written])


@virtual_time
async def test_an_outage_is_logged_at_its_beginning_and_its_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "buildkite_connector.connector.c1_looks")
    async with watching() as setup:
        caplog.clear()
        setup.c1_rest.read_failures.extend([unavailable()] * 3)
        await asyncio.sleep(20 * MINUTE)
        who = {"connector": "default.acme"}
        assert lines(caplog.records) == [
            (
                logging.WARNING,
                "C1 does not show the connector",
                {**who, "reason": "C1Unavailable", "error": "C1 answers 503."},
            ),
            (logging.INFO, "C1 shows the connector again", who),
        ]


# A restart


@pytest.mark.parametrize("refused", ["read", "force"])
@virtual_time
async def test_a_restart_keeps_what_was_said_until_the_first_look(refused: str) -> None:
    setup = Setup(c1=C1_SPEC, schedule=DAILY)
    setup.c1_rest.ends(setup.clock.now())
    (setup.c1_rest.read_failures if refused == "read" else setup.c1_rest.force_failures).extend([denied()] * 9)
    async with setup.running():
        await asyncio.sleep(MINUTE)
        assert setup.condition(C1_SYNCED) == ("False", "C1AccessDenied")
    said = setup.status.condition(C1_SYNCED)
    setup.c1_rest.read_failures.clear()
    setup.c1_rest.calls.clear()
    await asyncio.sleep(HOUR)
    async with setup.running(restored=setup.status):
        await asyncio.sleep(2 * MINUTE)
        assert (setup.c1_rest.calls, setup.status.condition(C1_SYNCED)) == ([], said)
        await asyncio.sleep(5 * MINUTE)
        expected = ("True", "C1Synced") if refused == "read" else ("False", "C1AccessDenied")
        assert (setup.c1_rest.forces, setup.condition(C1_SYNCED)) == ([], expected)


@virtual_time
async def test_what_c1_showed_a_former_process_is_not_written_again() -> None:
    setup = Setup(c1=QUIET, schedule=DAILY)
    setup.c1_rest.ends(setup.clock.now())
    async with setup.running():
        await asyncio.sleep(MINUTE)
    before = setup.status
    assert before.c1 is not None
    assert before.c1.shown == C1State(DONE, None, setup.c1_rest.shown.completed_at)
    writes = len(setup.reports.written)
    async with setup.running(restored=before):
        await asyncio.sleep(20 * MINUTE)
        assert (len(setup.reports.written), setup.status.c1) == (writes, before.c1)


# Slots, and the end of a client


class Crowded(Setup):
    """`slots`: those that all looks share. A client cannot be closed."""

    def __init__(self) -> None:
        super().__init__(c1=QUIET)
        self.slots = Slots(1, shared=False)

    def environment(self) -> Environment:
        return replace(super().environment(), c1_rest=self.unclosable, c1_rest_slots=self.slots)

    def unclosable(self, access: C1Access) -> C1Rest:
        class Unclosable(FakeC1RestClient):
            async def aclose(self) -> None:
                raise ValueError("the-secret")

        return Unclosable(self.c1_rest, access)


@virtual_time
async def test_what_is_suspended_while_it_waits_for_a_slot_is_not_looked_at() -> None:
    setup = Crowded()
    async with setup.running():
        async with setup.slots.slot("another"):
            await asyncio.sleep(10)
            setup.edit(suspend=True)
        await asyncio.sleep(MINUTE)
        assert (setup.c1_rest.calls, setup.c1_access.reads) == ([], 0)


@virtual_time
async def test_a_client_that_is_not_closed_is_logged_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    setup = Crowded()
    async with setup.running():
        await asyncio.sleep(MINUTE)
    message = "a client of C1's REST API was not closed"
    assert (logging.ERROR, message, {"connector": "default.acme"}) in lines(caplog.records)
    assert [each.message for each in caplog.records if each.exc_info is not None] == [message]
