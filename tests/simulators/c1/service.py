"""The simulated C1's BatonService: a real gRPC server that holds every call against the contract.

Each call: whose token, then scripted faults, then field limits, then what the ledger allows. Refusals end
the call with C1's code and, where the connector broke the contract, are noted as violations.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Any, NoReturn

import grpc
import grpc.aio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from buildkite_connector.proto import baton_pb2 as pb
from buildkite_connector.timing.clock import Clock
from simulators.c1.answers import Context, Exchange, duration_of, expectation, wire
from simulators.c1.faults import Action, Fault, FaultScript
from simulators.c1.ingest import MAGIC, Rejected, ingest
from simulators.c1.journal import Call, Journal
from simulators.c1.limits import Refused, check, invalid
from simulators.c1.policy import Policy
from simulators.c1.requests import Requests
from simulators.c1.tasks import Ledger, Outcome, TaskRecord
from simulators.c1.token import Authority, TokenRejected
from simulators.c1.uploads import Incoming, Uploads

SERVICE = "c1.connectorapi.baton.v1.BatonService"
CANCELLATION_SECONDS = 0.5

OPTIONS = (("grpc.so_reuseport", 0), ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000))


class BatonService:
    """`drop` resets the connection of a gRPC peer, named by its port."""

    def __init__(
        self,
        *,
        policy: Policy,
        clock: Clock,
        authority: Authority,
        faults: FaultScript,
        ledger: Ledger,
        uploads: Uploads,
        requests: Requests,
        journal: Journal,
        drop: Callable[[int], None],
    ) -> None:
        self._policy = policy
        self._clock = clock
        self._authority = authority
        self._faults = faults
        self._ledger = ledger
        self._uploads = uploads
        self._requests = requests
        self._journal = journal
        self._drop = drop

    async def start(self) -> tuple[grpc.aio.Server, int]:
        """A running server on loopback, without TLS, and its port."""
        server = grpc.aio.server(options=OPTIONS)
        unary: dict[str, tuple[type[Message], Callable[[Exchange, Any], Awaitable[Message]]]] = {
            "Hello": (pb.BatonServiceHelloRequest, self._hello),
            "GetTask": (pb.BatonServiceGetTaskRequest, self._get_task),
            "GetTasks": (pb.BatonServiceGetTasksRequest, self._get_tasks),
            "Heartbeat": (pb.BatonServiceHeartbeatRequest, self._heartbeat),
            "FinishTask": (pb.BatonServiceFinishTaskRequest, self._finish_task),
            "StartDebugging": (pb.StartDebuggingRequest, self._start_debugging),
        }
        methods = {
            rpc: grpc.unary_unary_rpc_method_handler(
                partial(self._unary, rpc, act),
                request_deserializer=request.FromString,
                response_serializer=wire,
            )
            for rpc, (request, act) in unary.items()
        }
        methods["UploadAsset"] = grpc.stream_unary_rpc_method_handler(
            self._upload_asset,
            request_deserializer=pb.BatonServiceUploadAssetRequest.FromString,
            response_serializer=wire,
        )
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
        port: int = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        return server, port

    @asynccontextmanager
    async def _exchange(self, rpc: str, context: Context) -> AsyncIterator[Exchange]:
        metadata = dict(context.invocation_metadata() or ())
        exchange = Exchange(rpc, context.peer(), metadata.get("user-agent", ""))
        self._journal.begin(rpc)
        code, detail = "UNKNOWN", "the simulator itself failed"
        refusal: Refused | None = None
        try:
            exchange.client_id = self._identify(metadata.get("authorization", ""))
            yield exchange
            code, detail = "OK", ""
        except Refused as refused:
            refusal = refused
            code, detail = refused.code.name, refused.message
            if refused.violation:
                self._journal.violate(f"{rpc} by {exchange.host_id}: {detail}")
        except asyncio.CancelledError:
            code, detail = "CANCELLED", "the caller gave up"
            raise
        finally:
            about = (exchange.client_id, exchange.host_id, exchange.task_id)
            self._journal.end(Call(self._clock.now(), rpc, code, *about, detail))
        if refusal is not None:
            await context.abort(refusal.code, refusal.message)

    def _identify(self, authorization: str) -> str:
        try:
            client_id = self._authority.identify(authorization)
        except TokenRejected as rejected:
            code = grpc.StatusCode.UNAUTHENTICATED
            raise Refused(code, str(rejected), violation=not rejected.expired) from None
        if client_id in self._authority.rest_clients:
            raise Refused(grpc.StatusCode.PERMISSION_DENIED, "authorization: not a connector's access token")
        return client_id

    async def _befall(self, fault: Fault, exchange: Exchange) -> NoReturn:
        if fault.action is Action.STALL:
            await self._faults.cleared()
        if fault.action is Action.DROP:
            self._drop(int(exchange.peer.rpartition(":")[2]))
        raise Refused(grpc.StatusCode[fault.code], fault.message, violation=False)

    async def _unary(
        self, rpc: str, act: Callable[[Exchange, Any], Awaitable[Message]], request: Any, context: Context
    ) -> Message:
        async with self._exchange(rpc, context) as exchange:
            exchange.host_id = getattr(request, "host_id", "")
            exchange.task_id = getattr(request, "task_id", "")
            fault = self._faults.take(rpc)
            if fault is not None and not fault.carried_out:
                await self._befall(fault, exchange)
            check(request)
            answer = await act(exchange, request)
            if fault is not None:
                self._ledger.answer_lost(exchange.task_id)
                await self._befall(fault, exchange)
        return answer

    async def _hello(self, exchange: Exchange, request: pb.BatonServiceHelloRequest) -> Message:
        self._ledger.hello(exchange.who, request, exchange.user_agent)
        return pb.BatonServiceHelloResponse()

    async def _get_task(self, exchange: Exchange, _: pb.BatonServiceGetTaskRequest) -> Message:
        handed = self._ledger.hand_out(exchange.who, 1)
        if not handed and self._policy.long_poll:
            try:
                await self._journal.until(lambda: any(self._ledger.waiting(exchange.who)), self._policy.long_poll)
            except TimeoutError:
                pass
            else:
                handed = self._ledger.hand_out(exchange.who, 1)
        if handed:
            exchange.task_id = handed[0].id
        task = handed[0].message() if handed else None
        return pb.BatonServiceGetTaskResponse(task=task, next_poll=self._next_poll, next_heartbeat=self._next_heartbeat)

    async def _get_tasks(self, exchange: Exchange, request: pb.BatonServiceGetTasksRequest) -> Message:
        handed = self._ledger.hand_out(exchange.who, request.page_size, request.known_task_ids)
        return pb.BatonServiceGetTasksResponse(
            tasks=[record.message() for record in handed],
            next_poll=self._next_poll,
            next_heartbeat=self._next_heartbeat,
        )

    async def _heartbeat(self, exchange: Exchange, request: pb.BatonServiceHeartbeatRequest) -> Message:
        cancelled = self._ledger.heartbeat(exchange.who, request.task_id)
        others = [task_id for task_id in request.task_ids if task_id != request.task_id]
        return pb.BatonServiceHeartbeatResponse(
            next_heartbeat=self._next_heartbeat,
            cancelled=cancelled,
            cancelled_task_ids=[task_id for task_id in others if self._ledger.heartbeat(exchange.who, task_id)],
        )

    async def _finish_task(self, exchange: Exchange, request: pb.BatonServiceFinishTaskRequest) -> Message:
        status = request.status
        outcome = Outcome(status.code, status.message, request.error.non_retryable)
        reading = self._requests.read(exchange.who, self._ledger.held(exchange.who, request.task_id), request)
        record = self._ledger.finish(exchange.who, request.task_id, outcome)
        if reading is not None:
            self._requests.end(exchange.who, record, reading)
        elif outcome.success and (received := self._uploads.ingest(request.task_id)) is not None:
            self._requests.ingested(received)
        return pb.BatonServiceFinishTaskResponse()

    async def _start_debugging(self, _: Exchange, __: pb.StartDebuggingRequest) -> Message:
        return pb.StartDebuggingResponse(status=True)

    async def _upload_asset(
        self, requests: AsyncIterator[pb.BatonServiceUploadAssetRequest], context: Context
    ) -> Message:
        async with self._exchange("UploadAsset", context) as exchange:
            began = self._clock.now()
            fault = self._faults.take("UploadAsset")
            first = await anext(requests, pb.BatonServiceUploadAssetRequest())
            if first.WhichOneof("msg") is None:
                await _cancellation()
            if first.WhichOneof("msg") != "metadata":
                raise invalid(f"msg: expected metadata first, got {first.WhichOneof('msg')}")
            exchange.host_id, exchange.task_id = first.metadata.host_id, first.metadata.task_id
            check(first)
            record = self._ledger.uploading(exchange.who, exchange.task_id)
            with self._uploads.incoming(record.id) as part:
                checksum = await self._receive(requests, part, fault, exchange)
                if checksum != part.sha256 or (fault is not None and fault.action is Action.CHECKSUM):
                    raise invalid("eof.sha256_checksum: is not the SHA-256 of the bytes received")
                part.close()
                await self._take_in(part, record, exchange, began)
            if fault is not None and fault.carried_out:
                await self._befall(fault, exchange)
        return pb.BatonServiceUploadAssetResponse()

    async def _receive(
        self,
        requests: AsyncIterator[pb.BatonServiceUploadAssetRequest],
        part: Incoming,
        fault: Fault | None,
        exchange: Exchange,
    ) -> bytes:
        """The file's bytes into `part`; gives the checksum that came with its end."""
        strikes = fault is not None and not fault.carried_out and fault.action is not Action.CHECKSUM
        checksum = b""
        async for request in requests:
            if fault is not None and strikes and part.size >= fault.after_bytes:
                await self._befall(fault, exchange)
            kind = request.WhichOneof("msg")
            if checksum:
                raise invalid(f"msg: expected nothing after eof, got {kind}")
            check(request)
            if kind == "metadata":
                raise invalid("msg: expected data or eof, got metadata again")
            if kind == "data":
                part.append(request.data.data)
            elif not part.size:
                raise invalid("msg: expected data before eof")
            else:
                checksum = request.eof.sha256_checksum
        if not checksum:
            await _cancellation()
            raise invalid("msg: the stream ended without eof")
        return checksum

    async def _take_in(self, part: Incoming, record: TaskRecord, exchange: Exchange, began: datetime) -> None:
        if record.debug and record.delivered and not part.path.read_bytes().startswith(MAGIC):
            self._uploads.keep_debug_log(part)
            return
        expected, read = expectation(record), None
        if self._policy.validate:
            try:
                read = await asyncio.to_thread(ingest, part.path, expected)
            except Rejected as rejected:
                raise invalid(f"the snapshot was rejected: {rejected}") from None
        record = self._ledger.uploading(exchange.who, record.id)
        self._uploads.keep(
            part, who=exchange.who, task_id=record.id, began=began, at=self._clock.now(), expected=expected, read=read
        )
        record.delivered = True

    @property
    def _next_poll(self) -> Duration:
        return duration_of(self._policy.next_poll)

    @property
    def _next_heartbeat(self) -> Duration:
        return duration_of(self._policy.next_heartbeat)


async def _cancellation() -> None:
    """Raises CancelledError when a stream that ended early did so because its connection broke.

    The end of the stream is seen first, the cancelled call a moment later. The moment is of the machine's time: a
    loop's may run faster.
    """
    await asyncio.to_thread(time.sleep, CANCELLATION_SECONDS)
