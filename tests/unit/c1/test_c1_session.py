"""One connector's calls against the simulated C1, over TLS."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from buildkite_connector import __version__
from buildkite_connector.c1 import open_c1
from buildkite_connector.model.failure import Failure
from buildkite_connector.model.spec import ConnectorSpec, Credentials
from buildkite_connector.model.tasks import (
    Code,
    HelloTask,
    TaskID,
    TaskOutcome,
    UnsupportedTask,
)
from fakes.c1_setup import HOST_ID, connect, open_snapshot, settings_for
from harness.trust import reaching
from simulators.c1.server import C1Simulator
from simulators.c1.tasks import Outcome, Who


async def test_hello_introduces_the_connector_within_every_limit_of_the_contract(sim: C1Simulator) -> None:
    async with connect(sim) as connector:
        await connector.hello()

    (session,) = sim.sessions.values()
    assert session.hellos[0].host_id == HOST_ID
    assert session.user_agent.startswith(f"buildkite-connector/{__version__} ")
    assert sim.violations == []


async def test_it_is_told_how_each_hello_went(sim: C1Simulator) -> None:
    heard: list[Failure | None] = []
    client = sim.register_client()
    secret = Credentials(client.client_id, client.client_secret, "token")
    async with open_c1(settings_for(sim), reaching(sim.ca_file)) as c1:
        async with c1.connect(secret, ConnectorSpec(host_id=HOST_ID), heard.append) as connector:
            sim.fail("Hello", "PERMISSION_DENIED")
            with pytest.raises(Failure) as caught:
                await connector.hello()
            await connector.hello()
        with pytest.raises(Failure, match="The client ID has no '@'"):
            c1.connect(replace(secret, client_id="x"), ConnectorSpec(host_id=HOST_ID))

    assert heard == [caught.value, None]
    assert [session.hellos[-1].host_id for session in sim.sessions.values()] == [HOST_ID]


async def test_a_hello_task_is_answered_with_its_id(sim: C1Simulator) -> None:
    task_id = sim.add_task("hello")
    async with connect(sim) as connector:
        await connector.hello()
        poll = await connector.next_task()
        await connector.hello(TaskID(task_id))

    assert poll.task == HelloTask(TaskID(task_id))
    assert sim.tasks[task_id].outcome == Outcome(0)
    assert sim.violations == []


async def test_without_work_c1_says_when_to_ask_again(sim: C1Simulator) -> None:
    sim.policy.next_poll = 12.5
    async with connect(sim) as connector:
        await connector.hello()
        poll = await connector.next_task()

    assert (poll.task, poll.next_poll) == (None, 12.5)


async def test_a_heartbeat_tells_when_the_next_is_due_and_whether_the_task_is_cancelled(sim: C1Simulator) -> None:
    sim.policy.next_heartbeat = 0.0
    task_id = TaskID(sim.add_task())
    async with connect(sim) as connector:
        await connector.hello()
        await connector.next_task()
        before = await connector.heartbeat(task_id)
        sim.cancel(task_id)
        after = await connector.heartbeat(task_id)

    assert (before.next_heartbeat, before.cancelled) == (30.0, False)
    assert after.cancelled


async def test_a_sync_task_is_delivered_and_finished(sim: C1Simulator, tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    snapshot = tmp_path / "acme.c1z"
    snapshot.write_bytes(content)
    task_id = TaskID(sim.add_task())
    async with connect(sim) as connector:
        await connector.hello()
        await connector.next_task()
        await connector.heartbeat(task_id)
        await connector.upload(task_id, open_snapshot(snapshot))
        await connector.finish(task_id, TaskOutcome())

    (received,) = sim.ingested
    assert received.sha256 == hashlib.sha256(content).hexdigest()
    assert received.who == Who(sim.authority.clients[0].client_id, HOST_ID)
    assert sim.tasks[task_id].outcome == Outcome(0)
    assert sim.violations == []


async def test_an_unsupported_task_is_handed_back_for_good(sim: C1Simulator) -> None:
    task_id = TaskID(sim.add_task("create_account"))
    async with connect(sim) as connector:
        await connector.hello()
        poll = await connector.next_task()
        await connector.finish(task_id, TaskOutcome(Code.UNIMPLEMENTED, "no accounts here", non_retryable=True))

    assert poll.task == UnsupportedTask(task_id, "create_account")
    assert sim.tasks[task_id].outcome == Outcome(12, "no accounts here", non_retryable=True)
    assert sim.violations == []


@pytest.mark.parametrize("with_port", [True, False], ids=["host:port", "host"])
async def test_a_host_override_changes_where_calls_go_and_not_whom_the_assertion_names(
    sim: C1Simulator, with_port: bool
) -> None:
    elsewhere = sim.register_client("acme.conductor.invalid" + (":8443" if with_port else ""))
    async with connect(sim, client=elsewhere, api_host=sim.address) as connector:
        await connector.hello()

    assert [call.code for call in sim.transcript] == ["200", "OK"]
    assert sim.violations == []


async def test_two_connectors_keep_their_own_tokens_on_the_link_that_they_share(sim: C1Simulator) -> None:
    async with connect(sim) as one, connect(sim) as other:
        await one.hello()
        await other.hello()
        await one.next_task()
        await other.next_task()

    clients = [client.client_id for client in sim.authority.clients]
    assert [call.client_id for call in sim.calls("GetTask")] == clients
    assert sim.token_requests == 2
