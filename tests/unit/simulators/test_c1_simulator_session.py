"""The simulated C1's BatonService: hosts, tasks, heartbeats, and what it refuses."""

from collections.abc import Callable

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from grpc import StatusCode

from buildkite_connector.proto import baton_pb2 as pb
from simulators.c1.probe import Probe, hello_request, probe, rejected
from simulators.c1.server import C1Simulator

TASK = "2Zz7mHkq0GvPp5yq0XJ1a8RkTnB"


async def test_a_call_without_a_token_is_unauthenticated_and_a_violation(sim: C1Simulator, host: Probe) -> None:
    host.access_token = ""
    await rejected(host.get_task(), StatusCode.UNAUTHENTICATED, "expected 'Bearer")
    assert len(sim.violations) == 1


async def test_a_call_with_an_unknown_token_is_unauthenticated_and_a_violation(sim: C1Simulator, host: Probe) -> None:
    host.access_token = "made-up"
    await rejected(host.get_task(), StatusCode.UNAUTHENTICATED, "unknown")
    assert len(sim.violations) == 1


async def test_an_expired_token_is_unauthenticated_and_no_violation(sim: C1Simulator, host: Probe) -> None:
    sim.authority.expire_tokens()
    await rejected(host.get_task(), StatusCode.UNAUTHENTICATED, "expired")
    assert not sim.violations


async def test_get_task_before_hello_is_a_failed_precondition(sim: C1Simulator) -> None:
    async with probe(sim, host_id="shy") as host:
        await rejected(host.get_task(), StatusCode.FAILED_PRECONDITION, "shy has not said Hello")
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
    await rejected(host.call(rpc, request_), StatusCode.INVALID_ARGUMENT, field)
    assert field in sim.violations[0]


async def test_a_hello_at_every_limit_is_accepted(sim: C1Simulator, host: Probe) -> None:
    request = hello_request("é" * 256)
    request.build_info.package = "x" * 256
    request.annotations.extend(MANY[:16])
    await host.call("Hello", request)
    assert not sim.violations
