"""The writer of one status, and what a connector writes."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from buildkite_connector.connector.status_writer import StatusWriter
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.status import ConditionStatus, ConditionType, ConnectorStatus, Phase
from fakes.connector_setup import MINUTE, Setup, ready_setup
from fakes.log_lines import lines
from fakes.task_ports import seconds
from fakes.virtual_time import NoJitter, VirtualClock, virtual_time


@dataclass
class Sink:
    """`begun` is each write: its time, what was there before, and what is to be there, by their generations.

    `failures` are raised by the next writes, after `seconds`, which each write takes.
    """

    seconds: float = 0.0
    failures: list[Exception] = field(default_factory=list)
    begun: list[tuple[float, int | None, int]] = field(default_factory=list)
    completed: int = 0

    async def report(self, before: ConnectorStatus | None, after: ConnectorStatus) -> None:
        self.begun.append((seconds(), before.observed_generation if before else None, after.observed_generation))
        await asyncio.sleep(self.seconds)
        if self.failures:
            raise self.failures.pop(0)
        self.completed += 1


def status(number: int) -> ConnectorStatus:
    return ConnectorStatus(observed_generation=number)


def away(retry_after: float | None = None) -> Failure:
    return Failure(Reason.KUBERNETES_UNAVAILABLE, "the API server is away", retry_after=retry_after)


def writer(sink: Sink, written: ConnectorStatus | None = None) -> StatusWriter:
    return StatusWriter("default.acme", sink, written, VirtualClock(), NoJitter())


def others() -> set[asyncio.Task[object]]:
    return asyncio.all_tasks() - {asyncio.current_task()}


@virtual_time
async def test_a_status_goes_out_with_the_one_before_it() -> None:
    sink = Sink()
    writes = writer(sink)
    writes.write(status(1))
    await asyncio.sleep(1)
    writes.write(status(2))
    await asyncio.sleep(1)
    assert sink.begun == [(0.0, None, 1), (1.0, 1, 2)]
    assert others() == set()


@pytest.mark.parametrize("turns", range(6))
@virtual_time
async def test_a_status_that_comes_just_as_the_write_before_it_ends_is_written_too(turns: int) -> None:
    sink = Sink()
    writes = writer(sink)
    writes.write(status(1))
    for _ in range(turns):  # of the event loop: the write ends in one of them
        await asyncio.sleep(0)
    writes.write(status(2))
    await asyncio.sleep(1)
    assert sink.begun[-1][2] == 2
    assert others() == set()


@virtual_time
async def test_a_status_that_a_former_process_wrote_is_not_written_again() -> None:
    sink = Sink()
    writes = writer(sink, status(1))
    writes.write(status(1))
    assert others() == set()
    writes.write(status(2))
    await asyncio.sleep(1)
    writes.write(status(2))
    assert others() == set()
    assert sink.begun == [(0.0, 1, 2)]


@virtual_time
async def test_one_write_at_a_time_and_only_the_newest_waits() -> None:
    sink = Sink(seconds=10.0)
    writes = writer(sink)
    for number in (1, 2, 3):
        writes.write(status(number))
        await asyncio.sleep(1)
    await asyncio.sleep(30)
    assert sink.begun == [(0.0, None, 1), (10.0, 1, 3)]


@virtual_time
async def test_a_status_that_is_back_at_what_was_written_is_not_written() -> None:
    sink = Sink(seconds=10.0)
    writes = writer(sink)
    for number in (1, 2, 1):
        writes.write(status(number))
        await asyncio.sleep(1)
    await asyncio.sleep(30)
    assert sink.begun == [(0.0, None, 1)]


@virtual_time
async def test_a_write_that_fails_is_repeated_later_and_later(caplog: pytest.LogCaptureFixture) -> None:
    sink = Sink(failures=[away(), away()])
    writes = writer(sink, status(1))
    writes.write(status(2))
    await asyncio.sleep(5)
    writes.write(status(3))
    await asyncio.sleep(20)
    assert sink.begun == [(0.0, 1, 2), (3.75, 1, 2), (11.25, 1, 3)]
    told = {"connector": "default.acme", "error": "the API server is away"}
    assert lines(caplog.records) == [(logging.WARNING, "the status could not be written", told)] * 2


@virtual_time
async def test_the_waits_begin_anew_after_a_write_that_went_out() -> None:
    sink = Sink(failures=[away(), away()])
    writes = writer(sink)
    writes.write(status(1))
    await asyncio.sleep(11)
    sink.seconds = 1.0
    await asyncio.sleep(0.5)
    sink.failures = []
    writes.write(status(2))
    await asyncio.sleep(0.76)
    sink.failures = [away()]
    await asyncio.sleep(10)
    assert sink.begun == [(0.0, None, 1), (3.75, None, 1), (11.25, None, 1), (12.25, 1, 2), (17.0, 1, 2)]


@virtual_time
async def test_the_wait_is_as_long_as_the_other_side_says() -> None:
    sink = Sink(failures=[away(retry_after=100.0)])
    writer(sink).write(status(1))
    await asyncio.sleep(200)
    assert [at for at, _, _ in sink.begun] == [0.0, 100.0]


@virtual_time
async def test_an_unexpected_error_is_told_once_and_the_status_is_written_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    error = ZeroDivisionError()
    sink = Sink(failures=[error, ZeroDivisionError()])
    writes = writer(sink)
    writes.write(status(1))
    await asyncio.sleep(5)
    assert lines(caplog.records) == [
        (logging.ERROR, "a status write failed unexpectedly", {"connector": "default.acme"})
    ]
    assert caplog.records[0].exc_info is not None
    assert caplog.records[0].exc_info[1] is error
    writes.write(status(2))
    await asyncio.sleep(10)
    assert sink.begun == [(0.0, None, 1), (3.75, None, 1), (11.25, None, 2)]


@virtual_time
async def test_who_waits_goes_on_with_each_status_that_is_written_and_not_before() -> None:
    sink = Sink(seconds=2.0, failures=[away()])
    writes = writer(sink)
    writes.write(status(1))
    waiting = asyncio.create_task(writes.wait())
    await asyncio.sleep(7)
    assert not waiting.done()
    assert sink.completed == 0
    await waiting
    assert (seconds(), writes.written) == (7.75, status(1))
    waiting = asyncio.create_task(writes.wait())
    await asyncio.sleep(60)
    assert not waiting.done()
    writes.write(status(2))
    await waiting
    assert writes.written == status(2)


# Closing


@virtual_time
async def test_closing_waits_for_the_write_under_way_and_begins_none() -> None:
    sink = Sink(seconds=2.9)
    writes = writer(sink)
    writes.write(status(1))
    await asyncio.sleep(1)
    await writes.close()
    assert (sink.completed, seconds()) == (1, 2.9)
    writes.write(status(2))
    assert others() == set()
    await writes.close()
    assert (len(sink.begun), seconds()) == (1, 2.9)


@virtual_time
async def test_closing_waits_three_seconds_and_no_longer(caplog: pytest.LogCaptureFixture) -> None:
    sink = Sink(seconds=100.0)
    writes = writer(sink)
    writes.write(status(1))
    await asyncio.sleep(1)
    await writes.close()
    assert (sink.completed, seconds(), others(), caplog.records) == (0, 4.0, set(), [])


@pytest.mark.parametrize("failure", [away, ZeroDivisionError], ids=["failure", "unexpected"])
@virtual_time
async def test_closing_takes_a_write_that_fails_as_the_last(failure: Callable[[], Exception]) -> None:
    sink = Sink(seconds=2.0, failures=[failure()])
    writes = writer(sink)
    writes.write(status(1))
    await asyncio.sleep(1)
    await writes.close()
    assert (len(sink.begun), seconds(), others()) == (1, 2.0, set())


@virtual_time
async def test_closing_while_nothing_is_written_takes_no_time() -> None:
    sink = Sink()
    writes = writer(sink)
    await writes.close()
    writes.write(status(1))
    assert (sink.begun, seconds(), others()) == ([], 0.0, set())


# A connector


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
