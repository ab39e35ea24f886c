"""The simulated C1's BatonService: hosts, tasks, heartbeats, and what it refuses."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc
import grpc.aio
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from grpc import StatusCode

from buildkite_connector.proto import baton_pb2 as pb
from simulators.c1.policy import Policy
from simulators.c1.probe import Probe, hello_request, probe
from simulators.c1.server import C1Simulator
from simulators.c1.tasks import Outcome, Who
from simulators.c1.tiny_snapshot import tiny_snapshot

TASK = "2Zz7mHkq0GvPp5yq0XJ1a8RkTnB"


@pytest.fixture
async def sim() -> AsyncIterator[C1Simulator]:
    async with C1Simulator() as simulator:
        yield simulator


@pytest.fixture
async def host(sim: C1Simulator) -> AsyncIterator[Probe]:
    async with probe(sim) as connected:
        await connected.hello()
        yield connected


async def refused(call: Awaitable[object], code: StatusCode, says: str = "") -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert (caught.value.code(), says in caught.value.details()) == (code, True), caught.value


async def test_a_sync_task_goes_from_hello_to_ingested(sim: C1Simulator) -> None:
    task_id = sim.add_task(sync_resource_type_ids=["user", "team"])
    async with probe(sim, host_id="acme") as host:
        await host.hello()
        answer = await host.get_task()
        assert (answer.task.id, answer.task.WhichOneof("task_type")) == (task_id, "sync_full")
        assert list(answer.task.sync_full.sync_resource_type_ids) == ["user", "team"]
        assert not (await host.heartbeat(task_id)).cancelled
        await host.upload(task_id, tiny_snapshot())
        assert not sim.ingested
        await host.finish(task_id)
    assert await sim.finished(task_id) == Outcome(0)
    assert [received.task_id for received in sim.ingested] == [task_id]
    assert [call.rpc for call in sim.transcript] == [
        "Token",
        "Hello",
        "GetTask",
        "Heartbeat",
        "UploadAsset",
        "FinishTask",
    ]
    assert not sim.violations


async def test_get_task_and_heartbeat_say_when_to_come_again(sim: C1Simulator, host: Probe) -> None:
    sim.policy.next_poll, sim.policy.next_heartbeat = 2.5, 7
    task_id = sim.add_task()
    answer = await host.get_task()
    assert answer.next_poll.ToTimedelta().total_seconds() == 2.5
    assert answer.next_heartbeat.ToTimedelta().total_seconds() == 7
    assert (await host.heartbeat(task_id)).next_heartbeat.ToTimedelta().total_seconds() == 7


async def test_without_a_task_the_answer_has_none(host: Probe) -> None:
    assert not (await host.get_task()).HasField("task")


async def test_a_session_remembers_who_said_hello_and_what(sim: C1Simulator) -> None:
    client = sim.register_client()
    async with probe(sim, client, "acme") as host:
        await host.hello()
    session = sim.sessions[Who(client.client_id, "acme")]
    assert session.user_agent.startswith("probe/1")
    assert [hello.connector_metadata.display_name for hello in session.hellos] == ["Buildkite"]


async def test_a_call_without_a_token_is_unauthenticated_and_a_violation(sim: C1Simulator, host: Probe) -> None:
    host.access_token = ""
    await refused(host.get_task(), StatusCode.UNAUTHENTICATED, "expected 'Bearer")
    assert len(sim.violations) == 1


async def test_a_call_with_an_unknown_token_is_unauthenticated_and_a_violation(sim: C1Simulator, host: Probe) -> None:
    host.access_token = "made-up"
    await refused(host.get_task(), StatusCode.UNAUTHENTICATED, "unknown")
    assert len(sim.violations) == 1


async def test_an_expired_token_is_unauthenticated_and_no_violation(sim: C1Simulator, host: Probe) -> None:
    sim.authority.expire_tokens()
    await refused(host.get_task(), StatusCode.UNAUTHENTICATED, "expired")
    assert not sim.violations


async def test_get_task_before_hello_is_a_failed_precondition(sim: C1Simulator) -> None:
    async with probe(sim, host_id="shy") as host:
        await refused(host.get_task(), StatusCode.FAILED_PRECONDITION, "shy has not said Hello")
    assert sim.violations == ["GetTask by shy: host_id: shy has not said Hello"]


def altered(change: Callable[[pb.BatonServiceHelloRequest], object]) -> pb.BatonServiceHelloRequest:
    request = hello_request("a-host")
    change(request)
    return request


MANY = [AnyMessage()] * 17
Heartbeat = pb.BatonServiceHeartbeatRequest
Finish = pb.BatonServiceFinishTaskRequest
GetTasks = pb.BatonServiceGetTasksRequest


@pytest.mark.parametrize(
    ("rpc", "request_", "field"),
    [
        ("Hello", altered(lambda r: setattr(r, "host_id", "")), "host_id: expected 1 to 256"),
        (
            "Hello",
            altered(lambda r: setattr(r, "host_id", "é" * 257)),
            "host_id: expected 1 to 256 characters, got 257",
        ),
        ("Hello", altered(lambda r: setattr(r, "task_id", "short")), "task_id: expected 27"),
        ("Hello", altered(lambda r: setattr(r.os_info, "platform_family", "")), "os_info.platform_family"),
        ("Hello", altered(lambda r: setattr(r.os_info, "hostname", "x" * 257)), "os_info.hostname"),
        ("Hello", altered(lambda r: setattr(r.build_info, "package", "x" * 257)), "build_info.package"),
        ("Hello", altered(lambda r: r.ClearField("connector_metadata")), "connector_metadata: required"),
        ("Hello", altered(lambda r: setattr(r.connector_metadata, "help_url", "http://x")), "help_url"),
        ("Hello", altered(lambda r: r.annotations.extend(MANY)), "annotations: expected at most 16"),
        ("GetTask", pb.BatonServiceGetTaskRequest(), "host_id"),
        ("GetTasks", GetTasks(host_id="a-host"), "page_size: expected 1 to 100, got 0"),
        ("GetTasks", GetTasks(host_id="a-host", page_size=101), "page_size"),
        ("GetTasks", GetTasks(host_id="a-host", page_size=1, known_task_ids=[TASK, "no"]), "known_task_ids[1]"),
        ("Heartbeat", Heartbeat(host_id="a-host"), "task_id: expected 27"),
        ("Heartbeat", Heartbeat(host_id="a-host", task_id=TASK, annotations=MANY), "annotations"),
        ("Heartbeat", Heartbeat(host_id="a-host", task_id=TASK, task_ids=["-" * 27]), "task_ids[0]"),
        ("FinishTask", Finish(host_id="a-host", task_id=TASK), "final_state"),
        ("FinishTask", Finish(host_id="a-host", task_id=TASK, error=Finish.Error()), "status.code"),
        ("FinishTask", Finish(host_id="a-host", task_id="é" * 27, success=Finish.Success()), "task_id"),
        ("FinishTask", Finish(host_id="a-host", task_id=TASK, success=Finish.Success(annotations=MANY)), "success.ann"),
    ],
)
async def test_a_field_over_its_limit_is_an_invalid_argument_that_names_it(
    sim: C1Simulator, host: Probe, rpc: str, request_: Message, field: str
) -> None:
    await refused(host.call(rpc, request_), StatusCode.INVALID_ARGUMENT, field)
    assert field in sim.violations[0]


async def test_a_hello_at_every_limit_is_accepted(sim: C1Simulator, host: Probe) -> None:
    request = hello_request("é" * 256)
    request.build_info.package = "x" * 256
    request.annotations.extend(MANY[:16])
    await host.call("Hello", request)
    assert not sim.violations


async def test_tasks_are_handed_out_once_in_the_order_in_which_they_came(sim: C1Simulator, host: Probe) -> None:
    added = [sim.add_task(), sim.add_task("grant"), sim.add_task("hello")]
    handed = [await host.get_task() for _ in range(4)]
    assert [answer.task.id for answer in handed] == [*added, ""]
    assert [answer.task.WhichOneof("task_type") for answer in handed[:3]] == ["sync_full", "grant", "hello"]


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
    await refused(host.heartbeat(TASK), StatusCode.NOT_FOUND)
    await refused(host.upload(TASK, tiny_snapshot()), StatusCode.NOT_FOUND)
    await refused(host.finish(TASK), StatusCode.NOT_FOUND)


async def test_another_hosts_task_is_not_found(sim: C1Simulator, host: Probe) -> None:
    task_id = sim.add_task()
    await host.get_task()
    async with probe(sim, host_id="another") as another:
        await another.hello()
        await refused(another.heartbeat(task_id), StatusCode.NOT_FOUND)


async def test_a_task_that_was_not_handed_out_is_a_failed_precondition(sim: C1Simulator, host: Probe) -> None:
    await refused(host.heartbeat(sim.add_task()), StatusCode.FAILED_PRECONDITION, "not been handed out")


async def test_a_task_is_finished_once(sim: C1Simulator, host: Probe) -> None:
    task_id = sim.add_task()
    await host.get_task()
    await host.finish_failed(task_id, 10, "stopped")
    await refused(host.finish_failed(task_id, 10), StatusCode.FAILED_PRECONDITION, "finished already")
    assert await sim.finished(task_id) == Outcome(10, "stopped")


async def test_a_heartbeat_that_crosses_the_end_is_refused_but_no_violation(sim: C1Simulator, host: Probe) -> None:
    task_id = sim.add_task()
    await host.get_task()
    await host.finish_failed(task_id, 10)
    await refused(host.heartbeat(task_id), StatusCode.FAILED_PRECONDITION, "finished already")
    assert not sim.violations


async def test_a_sync_cannot_succeed_without_an_upload(sim: C1Simulator, host: Probe) -> None:
    task_id = sim.add_task()
    await host.get_task()
    await refused(host.finish(task_id), StatusCode.FAILED_PRECONDITION, "without an accepted upload")


async def test_only_a_sync_takes_an_upload(sim: C1Simulator, host: Probe) -> None:
    task_id = sim.add_task("grant")
    await host.get_task()
    await refused(host.upload(task_id, tiny_snapshot()), StatusCode.FAILED_PRECONDITION, "is a grant task")


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


async def test_a_hello_task_is_answered_with_hello(sim: C1Simulator, host: Probe) -> None:
    task_id = sim.add_task("hello")
    await host.get_task()
    await host.hello(task_id)
    assert (await sim.finished(task_id)).success
    assert not sim.violations


async def test_a_hello_task_has_no_finish_task(sim: C1Simulator, host: Probe) -> None:
    task_id = sim.add_task("hello")
    await host.get_task()
    await refused(host.finish(task_id), StatusCode.FAILED_PRECONDITION, "answered with Hello alone")


async def test_hello_answers_no_task_but_a_hello_task(sim: C1Simulator, host: Probe) -> None:
    task_id = sim.add_task()
    await host.get_task()
    await refused(host.hello(task_id), StatusCode.FAILED_PRECONDITION, "is a sync_full task")


async def test_a_cancelled_task_is_told_by_heartbeat_and_can_only_fail_then(sim: C1Simulator, host: Probe) -> None:
    task_id = sim.add_task()
    await host.get_task()
    sim.cancel(task_id)
    assert (await host.heartbeat(task_id)).cancelled
    await refused(host.upload(task_id, tiny_snapshot()), StatusCode.FAILED_PRECONDITION, "cancelled")
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


async def test_syncs_fall_due_again_and_again_but_one_at_a_time() -> None:
    async with C1Simulator(Policy(sync_every=0.01)) as sim, probe(sim) as host:
        await host.hello()
        await sim.wait_for(lambda: len(sim.tasks) == 1)
        first = (await host.get_task()).task.id
        await host.finish_failed(first, 14)
        await sim.wait_for(lambda: len(sim.tasks) == 2)
        assert [record.kind for record in sim.tasks.values()] == ["sync_full", "sync_full"]


async def test_a_failed_task_comes_again_unless_it_cannot_be_retried(sim: C1Simulator, host: Probe) -> None:
    sim.policy.retry_failed = True
    first = sim.add_task(skip_grants=True)
    await host.get_task()
    await host.finish_failed(first, 10, "stopped")
    again = (await host.get_task()).task
    assert (again.id != first, again.sync_full.skip_grants) == (True, True)
    await host.finish_failed(again.id, 12, non_retryable=True)
    assert not (await host.get_task()).HasField("task")


async def test_start_debugging_is_answered(host: Probe) -> None:
    assert (await host.call("StartDebugging", pb.StartDebuggingRequest())).status
