"""What C1's refusals and silences become: a failure that says what can mend it."""

import asyncio
from typing import Any

import grpc
import pytest

from buildkite_connector.c1 import C1Client
from buildkite_connector.c1.errors import call_failure
from buildkite_connector.c1.hosts import Endpoint
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.redactor import Redactor
from buildkite_connector.model.tasks import TaskID, TaskOutcome
from fakes.c1_setup import connect
from simulators.c1.front import Certificate
from simulators.c1.server import C1Simulator

TASK = TaskID("2ABCdefGHIjklMNOpqrSTUvwxYZ")
CREDENTIALS = {"UNAUTHENTICATED", "PERMISSION_DENIED"}
EDIT = {"INVALID_ARGUMENT", "UNIMPLEMENTED", "FAILED_PRECONDITION", "NOT_FOUND"}
PASSING = {code.name for code in grpc.StatusCode} - CREDENTIALS - EDIT - {"OK"}


async def failure_of(sim: C1Simulator, **changes: Any) -> Failure:
    """How GetTask fails, once Hello has gone well."""
    async with connect(sim, **changes) as connector:
        await connector.hello()
        with pytest.raises(Failure) as caught:
            await connector.next_task()
    return caught.value


async def outcome(connector: C1Client, awaited: Reason | None) -> Failure | None:
    """How GetTask ends once it ends so: a channel notices in its own time that a port has closed or opened."""
    async with asyncio.timeout(10):
        while True:
            failure = None
            try:
                await connector.next_task()
            except Failure as caught:
                failure = caught
            if (failure.reason if failure else None) is awaited:
                return failure
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("code", sorted(PASSING))
async def test_a_status_that_is_not_known_to_be_final_passes_with_time(sim: C1Simulator, code: str) -> None:
    sim.fail("GetTask", code, message="not now")

    failure = await failure_of(sim)

    assert (failure.reason, failure.remedy) == (Reason.C1_UNAVAILABLE, Remedy.RETRY)
    assert f"C1 at {sim.address} did not complete GetTask: {code} (not now)" in failure.message


@pytest.mark.parametrize("code", sorted(CREDENTIALS))
async def test_a_status_that_refuses_the_client_asks_for_other_credentials(sim: C1Simulator, code: str) -> None:
    sim.fail("GetTask", code, times=None, message="not you")

    failure = await failure_of(sim)

    assert (failure.reason, failure.remedy) == (Reason.C1_CLIENT_REJECTED, Remedy.CREDENTIALS)
    assert f"refused GetTask with {code} (not you)" in failure.message


@pytest.mark.parametrize("code", sorted(EDIT))
async def test_a_status_that_refuses_the_request_asks_for_an_edit(sim: C1Simulator, code: str) -> None:
    sim.fail("GetTask", code, message="not this")

    failure = await failure_of(sim)

    assert (failure.reason, failure.remedy) == (Reason.C1_REQUEST_REJECTED, Remedy.EDIT)
    assert f"refused GetTask with {code} (not this)" in failure.message


@pytest.mark.parametrize("rpc", ["heartbeat", "finish"])
async def test_a_task_that_c1_no_longer_knows_asks_for_no_edit(sim: C1Simulator, rpc: str) -> None:
    async def call(connector: C1Client) -> None:
        await (connector.heartbeat(TASK) if rpc == "heartbeat" else connector.finish(TASK, TaskOutcome()))

    async with connect(sim) as connector:
        await connector.hello()
        with pytest.raises(Failure) as caught:
            await call(connector)

    assert (caught.value.reason, caught.value.remedy) == (Reason.C1_REQUEST_REJECTED, Remedy.RETRY)
    assert "NOT_FOUND" in caught.value.message


async def test_c1s_words_come_as_one_short_line(sim: C1Simulator) -> None:
    sim.fail("GetTask", "INTERNAL", message="panic:\n\tgoroutine\x1b[31m 1\u2028" + "x" * 5000)

    message = (await failure_of(sim)).message

    assert "(panic: goroutine [31m 1 xxx" in message
    assert message.isprintable()
    assert len(message) < 500


async def test_an_answer_that_does_not_come_is_given_up_at_its_calls_deadline(sim: C1Simulator) -> None:
    sim.stall("GetTask")

    failure = await failure_of(sim, poll_timeout=0.3)

    assert (failure.reason, failure.remedy) == (Reason.C1_UNAVAILABLE, Remedy.RETRY)
    assert "DEADLINE_EXCEEDED" in failure.message


async def test_a_connection_reset_under_a_call_passes_with_time_and_the_next_call_connects_anew(
    sim: C1Simulator,
) -> None:
    sim.drop("GetTask")
    async with connect(sim) as connector:
        await connector.hello()
        with pytest.raises(Failure) as caught:
            await connector.next_task()
        await outcome(connector, None)

    assert caught.value.reason in {Reason.C1_UNAVAILABLE, Reason.C1_UNREACHABLE}
    assert caught.value.remedy is Remedy.RETRY


async def test_a_c1_that_went_away_is_unreachable_until_it_is_back(sim: C1Simulator) -> None:
    async with connect(sim) as connector:
        await connector.hello()
        sim.close_port()
        failure = await outcome(connector, Reason.C1_UNREACHABLE)
        await sim.reopen_port()
        await outcome(connector, None)

    assert failure is not None
    assert failure.remedy is Remedy.RETRY
    assert "could not be reached for GetTask" in failure.message


async def test_a_certificate_that_no_longer_verifies_says_where_to_name_the_ca(sim: C1Simulator) -> None:
    async with connect(sim) as connector:
        await connector.hello()
        sim.show_certificate(Certificate.UNTRUSTED)
        failure = await outcome(connector, Reason.C1_UNREACHABLE)

    assert failure is not None
    assert "SSL_CERT_FILE" in failure.message


async def test_a_host_override_that_names_no_host_is_unreachable(sim: C1Simulator) -> None:
    async with connect(sim, api_host="no-such-host.invalid") as connector:
        with pytest.raises(Failure) as caught:
            await connector.hello()

    assert (caught.value.reason, caught.value.remedy) == (Reason.C1_UNREACHABLE, Remedy.RETRY)
    assert "no-such-host.invalid" in caught.value.message


@pytest.mark.parametrize("code", list(grpc.StatusCode))
def test_every_grpc_status_has_a_failure(code: grpc.StatusCode) -> None:
    for connecting in (True, False):
        failure = call_failure("Hello", Endpoint("acme.conductor.one"), code, "", Redactor(), connecting=connecting)
        assert code.name in failure.message
