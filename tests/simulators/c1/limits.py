"""What the simulated C1 refuses by a request's fields alone: the limits of BatonService's contract.

Lengths of text are in characters. A refusal names every field that breaks a limit.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import grpc
from google.protobuf.message import Message

from buildkite_connector.proto import baton_pb2 as pb
from buildkite_connector.proto import connector_pb2

TASK_ID = re.compile(r"[a-zA-Z0-9]{27}")
MAX_CHUNK = 1_048_576


class Refused(Exception):  # noqa: N818
    """A call ends with this gRPC code. `violation`: the connector broke the contract."""

    def __init__(self, code: grpc.StatusCode, message: str, *, violation: bool = True) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.violation = violation


def precondition(message: str) -> Refused:
    return Refused(grpc.StatusCode.FAILED_PRECONDITION, message)


def invalid(message: str) -> Refused:
    return Refused(grpc.StatusCode.INVALID_ARGUMENT, message)


def check(request: Message) -> None:
    """Raises Refused (INVALID_ARGUMENT) when a field breaks its limit."""
    problems = list(_RULES[type(request)](request))
    if problems:
        raise invalid("; ".join(problems))


def _text(field: str, value: str, shortest: int = 0) -> Iterator[str]:
    if not shortest <= len(value) <= 256:
        yield f"{field}: expected {shortest} to 256 characters, got {len(value)}"


def _bytes(field: str, value: str, shortest: int, longest: int) -> Iterator[str]:
    size = len(value.encode())
    if not shortest <= size <= longest:
        yield f"{field}: expected {shortest} to {longest} bytes, got {size}"


def _task_id(field: str, value: str) -> Iterator[str]:
    if not TASK_ID.fullmatch(value):
        yield f"{field}: expected 27 letters and digits, got {value!r}"


def _annotations(values: Sequence[object], field: str = "annotations") -> Iterator[str]:
    if len(values) > 16:
        yield f"{field}: expected at most 16, got {len(values)}"


def _task_ids(field: str, values: Iterable[str]) -> Iterator[str]:
    for index, value in enumerate(values):
        yield from _task_id(f"{field}[{index}]", value)


def _hello(request: pb.BatonServiceHelloRequest) -> Iterator[str]:
    yield from _text("host_id", request.host_id, 1)
    if request.task_id:
        yield from _task_id("task_id", request.task_id)
    for field in pb.BatonServiceHelloRequest.BuildInfo.DESCRIPTOR.fields:
        yield from _text(f"build_info.{field.name}", getattr(request.build_info, field.name))
    for field in pb.BatonServiceHelloRequest.OSInfo.DESCRIPTOR.fields:
        yield from _text(f"os_info.{field.name}", getattr(request.os_info, field.name), 1)
    if request.HasField("connector_metadata"):
        metadata = request.connector_metadata
        yield from _bytes("connector_metadata.display_name", metadata.display_name, 1, 1024)
        yield from _bytes("connector_metadata.help_url", metadata.help_url, 0, 1024)
        if metadata.help_url and not metadata.help_url.startswith("https://"):
            yield "connector_metadata.help_url: expected an https URL"
        yield from _bytes("connector_metadata.description", metadata.description, 0, 4096)
        yield from _capabilities(metadata.capabilities)
    else:
        yield "connector_metadata: required"
    yield from _annotations(request.annotations)


def _capabilities(told: connector_pb2.ConnectorCapabilities) -> Iterator[str]:
    """A connector can what its resource types can, each capability once, by number."""
    union = {each for kind in told.resource_type_capabilities for each in kind.capabilities}
    if list(told.connector_capabilities) != sorted(union):
        names = [connector_pb2.Capability.Name(each) for each in sorted(union)]
        yield f"connector_metadata.capabilities.connector_capabilities: expected {names}"


def _get_task(request: pb.BatonServiceGetTaskRequest) -> Iterator[str]:
    yield from _text("host_id", request.host_id, 1)


def _get_tasks(request: pb.BatonServiceGetTasksRequest) -> Iterator[str]:
    yield from _text("host_id", request.host_id, 1)
    if not 1 <= request.page_size <= 100:
        yield f"page_size: expected 1 to 100, got {request.page_size}"
    yield from _task_ids("known_task_ids", request.known_task_ids)
    yield from _annotations(request.annotations)


def _heartbeat(request: pb.BatonServiceHeartbeatRequest) -> Iterator[str]:
    yield from _text("host_id", request.host_id, 1)
    yield from _task_id("task_id", request.task_id)
    yield from _task_ids("task_ids", request.task_ids)
    yield from _annotations(request.annotations)


def _upload(request: pb.BatonServiceUploadAssetRequest) -> Iterator[str]:
    match request.WhichOneof("msg"):
        case "metadata":
            yield from _text("metadata.host_id", request.metadata.host_id, 1)
            yield from _task_id("metadata.task_id", request.metadata.task_id)
            yield from _annotations(request.metadata.annotations, "metadata.annotations")
        case "data":
            if not 1 <= len(request.data.data) <= MAX_CHUNK:
                yield f"data.data: expected 1 to {MAX_CHUNK} bytes, got {len(request.data.data)}"
        case "eof":
            if len(request.eof.sha256_checksum) != 32:
                yield f"eof.sha256_checksum: expected 32 bytes, got {len(request.eof.sha256_checksum)}"
            yield from _annotations(request.eof.annotations, "eof.annotations")
        case None:
            yield "msg: expected metadata, data or eof, got none"


def _finish(request: pb.BatonServiceFinishTaskRequest) -> Iterator[str]:
    yield from _text("host_id", request.host_id, 1)
    yield from _task_id("task_id", request.task_id)
    match request.WhichOneof("final_state"):
        case "success":
            yield from _annotations(request.success.annotations, "success.annotations")
            if request.status.code:
                yield f"status.code: expected 0 beside success, got {request.status.code}"
        case "error":
            yield from _annotations(request.error.annotations, "error.annotations")
            if not 1 <= request.status.code <= 16:
                yield f"status.code: expected a google.rpc error code beside error, got {request.status.code}"
            if not request.status.message:
                yield "status.message: expected a sentence beside error, got none"
        case None:
            yield "final_state: expected success or error, got none"


def _start_debugging(_: pb.StartDebuggingRequest) -> Iterator[str]:
    yield from ()


_RULES: dict[type[Message], Callable[[Any], Iterator[str]]] = {
    pb.BatonServiceHelloRequest: _hello,
    pb.BatonServiceGetTaskRequest: _get_task,
    pb.BatonServiceGetTasksRequest: _get_tasks,
    pb.BatonServiceHeartbeatRequest: _heartbeat,
    pb.BatonServiceUploadAssetRequest: _upload,
    pb.BatonServiceFinishTaskRequest: _finish,
    pb.StartDebuggingRequest: _start_debugging,
}
