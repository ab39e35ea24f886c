"""The simulated C1's tasks: who gets them, how they end, and what is a violation."""

import asyncio

from grpc import StatusCode

from buildkite_connector.proto import baton_pb2 as pb
from simulators.c1.policy import Policy
from simulators.c1.probe import Probe, probe, rejected
from simulators.c1.server import C1Simulator
from simulators.c1.tasks import Outcome
from simulators.c1.tiny_snapshot import tiny_snapshot

TASK = "2Zz7mHkq0GvPp5yq0XJ1a8RkTnB"


Heartbeat = pb.BatonServiceHeartbeatRequest


GetTasks = pb.BatonServiceGetTasksRequest


async def test_a_task_for_a_host_goes_to_that_host_alone(sim: C1Simulator, host: Probe) -> None:
    task_id = sim.add_task(host_id="another")
    assert not (await host.get_task()).HasField("task")
    async with probe(sim, host_id="another") as another:
        await another.hello()
        assert (await another.get_task()).task.id == task_id


async def test_a_task_for_a_client_goes_to_that_client_alone(sim: C1Simulator, host: Probe) -> None:
    client = sim.register_client()
    task_id = sim.add_task(client=client)
    assert not (await host.get_task()).HasField("task")
    async with probe(sim, client) as its:
        await its.hello()
        assert (await its.get_task()).task.id == task_id


async def test_get_tasks_hands_out_at_most_a_page_and_none_that_is_known(sim: C1Simulator, host: Probe) -> None:
    added = [sim.add_task() for _ in range(4)]
    request = GetTasks(host_id=host.host_id, page_size=2, known_task_ids=[added[0]])
    answer = await host.call("GetTasks", request)
    assert [task.id for task in answer.tasks] == added[1:3]


async def test_get_task_waits_for_a_task_when_it_polls_long(sim: C1Simulator, host: Probe) -> None:
    sim.policy.long_poll = 60
    asked = asyncio.create_task(host.get_task())
    await sim.wait_for(lambda: sim.under_way["GetTask"])
    task_id = sim.add_task()
    assert (await asked).task.id == task_id


async def test_an_unknown_task_is_not_found(host: Probe) -> None:
    await rejected(host.heartbeat(TASK), StatusCode.NOT_FOUND)
    await rejected(host.upload(TASK, tiny_snapshot()), StatusCode.NOT_FOUND)
    await rejected(host.finish(TASK), StatusCode.NOT_FOUND)


async def test_another_hosts_task_is_not_found(sim: C1Simulator, host: Probe) -> None:
    task_id = sim.add_task()
    await host.get_task()
    async with probe(sim, host_id="another") as another:
        await another.hello()
        await rejected(another.heartbeat(task_id), StatusCode.NOT_FOUND)


async def test_a_task_that_was_not_handed_out_is_a_failed_precondition(sim: C1Simulator, host: Probe) -> None:
    await rejected(host.heartbeat(sim.add_task()), StatusCode.FAILED_PRECONDITION, "not been handed out")


async def test_a_task_is_finished_once(sim: C1Simulator, host: Probe) -> None:
    task_id = sim.add_task()
    await host.get_task()
    await host.finish_failed(task_id, 10, "stopped")
    await rejected(host.finish_failed(task_id, 10), StatusCode.FAILED_PRECONDITION, "finished already")
    assert await sim.finished(task_id) == Outcome(10, "stopped")


async def test_a_heartbeat_that_crosses_the_end_is_refused_but_no_violation(sim: C1Simulator, host: Probe) -> None:
    task_id = sim.add_task()
    await host.get_task()
    await host.finish_failed(task_id, 10)
    await rejected(host.heartbeat(task_id), StatusCode.FAILED_PRECONDITION, "finished already")
    assert not sim.violations


async def test_a_sync_cannot_succeed_without_an_upload(sim: C1Simulator, host: Probe) -> None:
    task_id = sim.add_task()
    await host.get_task()
    await rejected(host.finish(task_id), StatusCode.FAILED_PRECONDITION, "without an accepted upload")


async def test_only_a_sync_takes_an_upload(sim: C1Simulator, host: Probe) -> None:
    task_id = sim.add_task("grant")
    await host.get_task()
    await rejected(host.upload(task_id, tiny_snapshot()), StatusCode.FAILED_PRECONDITION, "is a grant task")


async def test_an_upload_that_no_heartbeat_came_before_is_noted_and_accepted(sim: C1Simulator, host: Probe) -> None:
    task_id = sim.add_task()
    await host.get_task()
    await host.upload(task_id, tiny_snapshot())
    assert len(sim.received) == 1
    assert "no heartbeat came before it" in sim.violations[0]


async def test_an_unsupported_task_ends_with_an_error_that_says_so(sim: C1Simulator, host: Probe) -> None:
    task_id = sim.add_task("revoke")
    await host.get_task()
    await host.finish_failed(task_id, 12, "not supported", non_retryable=True)
    assert await sim.finished(task_id) == Outcome(12, "not supported", non_retryable=True)


async def test_a_hello_task_has_no_finish_task(sim: C1Simulator, host: Probe) -> None:
    task_id = sim.add_task("hello")
    await host.get_task()
    await rejected(host.finish(task_id), StatusCode.FAILED_PRECONDITION, "answered with Hello alone")


async def test_hello_answers_no_task_but_a_hello_task(sim: C1Simulator, host: Probe) -> None:
    task_id = sim.add_task()
    await host.get_task()
    await rejected(host.hello(task_id), StatusCode.FAILED_PRECONDITION, "is a sync_full task")


async def test_a_cancelled_task_is_told_by_heartbeat_and_can_only_fail_then(sim: C1Simulator, host: Probe) -> None:
    task_id = sim.add_task()
    await host.get_task()
    sim.cancel(task_id)
    assert (await host.heartbeat(task_id)).cancelled
    await rejected(host.upload(task_id, tiny_snapshot()), StatusCode.FAILED_PRECONDITION, "cancelled")
    await host.finish_failed(task_id, 1, "cancelled")
    assert (await sim.finished(task_id)).code == 1


async def test_a_task_cancelled_before_it_was_handed_out_never_is(sim: C1Simulator, host: Probe) -> None:
    sim.cancel(sim.add_task())
    assert not (await host.get_task()).HasField("task")


async def test_a_batch_heartbeat_tells_which_tasks_are_cancelled(sim: C1Simulator, host: Probe) -> None:
    first, second = sim.add_task(), sim.add_task()
    await host.call("GetTasks", GetTasks(host_id=host.host_id, page_size=2))
    sim.cancel(second)
    answer = await host.call("Heartbeat", Heartbeat(host_id=host.host_id, task_id=first, task_ids=[first, second]))
    assert (answer.cancelled, list(answer.cancelled_task_ids)) == (False, [second])


async def test_a_task_without_heartbeats_is_a_violation(sim: C1Simulator, host: Probe) -> None:
    sim.policy.next_heartbeat, sim.policy.heartbeat_grace = 1, 0.01
    task_id = sim.add_task()
    await host.get_task()
    await sim.wait_for(lambda: sim.violations)
    assert sim.violations == [f"Heartbeat by a-host: none for {task_id} within 0.01 s"]


async def test_a_lost_task_is_handed_out_again_when_asked_for(sim: C1Simulator, host: Probe) -> None:
    sim.policy.next_heartbeat, sim.policy.heartbeat_grace, sim.policy.requeue_lost = 1, 0.01, True
    task_id = sim.add_task()
    await host.get_task()
    await sim.wait_for(lambda: sim.violations)
    assert (await host.get_task()).task.id == task_id


async def test_the_first_hello_of_a_host_makes_a_sync_due_when_asked_for() -> None:
    async with C1Simulator(Policy(sync_on_hello=True)) as sim, probe(sim, host_id="acme") as host:
        await host.hello()
        await host.hello()
        assert [(record.kind, record.host_id) for record in sim.tasks.values()] == [("sync_full", "acme")]


async def test_a_failed_task_comes_again_unless_it_cannot_be_retried(sim: C1Simulator, host: Probe) -> None:
    sim.policy.retry_failed = True
    first = sim.add_task(skip_grants=True)
    await host.get_task()
    await host.finish_failed(first, 10, "stopped")
    again = (await host.get_task()).task
    assert (again.id != first, again.sync_full.skip_grants) == (True, True)
    await host.finish_failed(again.id, 12, non_retryable=True)
    assert not (await host.get_task()).HasField("task")
