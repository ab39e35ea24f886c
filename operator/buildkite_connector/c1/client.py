"""One connector's session with C1: Hello, GetTask, Heartbeat, UploadAsset, FinishTask.

Every call has a deadline, carries the connector's token (renewed once when C1 no longer takes it) and
fails with a `Failure` only. Nothing is retried here but an upload, which starts afresh each time.
"""

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc

from buildkite_connector.c1.channel import Channel, ChannelPool
from buildkite_connector.c1.credentials import Credentials
from buildkite_connector.c1.errors import call_failure
from buildkite_connector.c1.hello import hello_request
from buildkite_connector.c1.messages import finish_request, heartbeat_from, poll_from
from buildkite_connector.c1.settings import C1Settings
from buildkite_connector.c1.token import AccessToken, TokenSource
from buildkite_connector.c1.upload import upload_once
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.jitter import Jitter
from buildkite_connector.model.observer import Observer, Work
from buildkite_connector.model.snapshot import OpenSnapshot
from buildkite_connector.model.tasks import Heartbeat, Poll, TaskID, TaskOutcome
from buildkite_connector.proto import baton_pb2
from buildkite_connector.timing.backoff import BETWEEN_CALLS
from buildkite_connector.timing.clock import Clock

_UPLOADED_AGAIN = frozenset({Reason.C1_UNREACHABLE, Reason.C1_UNAVAILABLE, Reason.C1_REQUEST_REJECTED})
"""As by the reference client: even what C1 found wrong may have been damaged on the way."""

_Answer = TypeVar("_Answer")


class C1Client:
    """Made by `C1.client`; close it with `aclose` or `async with`.

    Any call raises Failure: C1_UNREACHABLE and C1_UNAVAILABLE pass with time (RETRY), C1_CLIENT_REJECTED needs
    other credentials (CREDENTIALS), C1_REQUEST_REJECTED an edit (EDIT) or, under a task, another task (RETRY).
    """

    def __init__(
        self,
        channel: Channel,
        channels: ChannelPool,
        *,
        credentials: Credentials,
        host_id: str,
        settings: C1Settings,
        clock: Clock,
        jitter: Jitter,
        observer: Observer,
        may_send: Callable[[], None],
        provisions: bool = False,
        greeted: Callable[[Failure | None], None],
    ) -> None:
        self._channel: Channel | None = channel
        self._channels = channels
        self._stub: Any = channel.stub
        self._tokens = TokenSource(credentials, channel, clock, settings.call_timeout, observer)
        self._host_id = host_id
        self._provisions = provisions
        self._greeted = greeted
        self._settings = settings
        self._clock = clock
        self._jitter = jitter
        self._observer = observer
        self._may_send = may_send

    async def authenticate(self) -> None:
        """Fetch an access token, unless there is one that is still good. Raises Failure as the token endpoint does."""
        await self._tokens.current()

    async def hello(self, task_id: TaskID | None = None) -> None:
        """Tell C1 who this connector is; `task_id` answers a Hello task."""
        request = hello_request(self._host_id, task_id or "", provisions=self._provisions)
        try:
            await self._call("Hello", request, self._settings.call_timeout)
        except Failure as failure:
            self._greeted(failure)
            raise
        self._greeted(None)

    async def next_task(self) -> Poll:
        """Ask for work; C1 may hold the answer back for a while when there is none."""
        request = baton_pb2.BatonServiceGetTaskRequest(host_id=self._host_id)
        response = await self._call("GetTask", request, self._settings.poll_timeout)
        return poll_from(response, self._tokens.redactor)

    async def heartbeat(self, task_id: TaskID) -> Heartbeat:
        """Tell C1 that the task is being worked on, and hear whether it still should be."""
        request = baton_pb2.BatonServiceHeartbeatRequest(host_id=self._host_id, task_id=task_id)
        return heartbeat_from(await self._call("Heartbeat", request, self._settings.call_timeout), task_id)

    async def finish(self, task_id: TaskID, outcome: TaskOutcome) -> None:
        """Hand the task back, done or failed."""
        request = finish_request(self._host_id, task_id, outcome)
        await self._call("FinishTask", request, self._settings.call_timeout)

    async def upload(self, task_id: TaskID, snapshot: OpenSnapshot, sent: Callable[[], None] = lambda: None) -> None:
        """Upload the snapshot under the task. `sent`: the whole file is on its way, and C1's answer is outstanding.

        Raises Failure UPLOAD_FAILED when the last attempt failed or the deadline of them all passed,
        C1_CLIENT_REJECTED, and for the file itself SNAPSHOT_INVALID or STORAGE_FAILED.
        """
        deadline, attempts = self._settings.upload_timeout, self._settings.upload_attempts
        try:
            async with asyncio.timeout(deadline):
                for attempt in range(1, attempts + 1):
                    try:
                        return await self._upload_once(task_id, snapshot, sent)
                    except Failure as failure:
                        if failure.reason not in _UPLOADED_AGAIN:
                            raise
                        last = failure
                    if attempt < attempts:
                        await self._clock.sleep(
                            BETWEEN_CALLS.wait(attempt, self._jitter.uniform(0.0, 1.0), last.retry_after)
                        )
        except TimeoutError:
            raise Failure(Reason.UPLOAD_FAILED, f"The snapshot was not uploaded within {deadline:g} s.") from None
        raise Failure(
            Reason.UPLOAD_FAILED, f"The snapshot was not uploaded in {attempts} attempts. The last: {last.message}"
        )

    async def aclose(self) -> None:
        """Give the shared channel back; further calls are an error. May be called twice."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await self._channels.release(channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _call(self, rpc: str, request: Any, deadline: float) -> Any:
        def attempt(token: AccessToken) -> Awaitable[Any]:
            call: Awaitable[Any] = getattr(self._stub, rpc)(request, metadata=token.metadata, timeout=deadline)
            return call

        return await self._authenticated(rpc, attempt, deadline)

    async def _upload_once(self, task_id: TaskID, snapshot: OpenSnapshot, sent: Callable[[], None]) -> None:
        deadline = self._settings.upload_timeout

        def attempt(token: AccessToken) -> Awaitable[None]:
            call = self._stub.UploadAsset(metadata=token.metadata, timeout=deadline)
            return upload_once(call, self._host_id, task_id, snapshot, self._may_send, sent)

        await self._authenticated("UploadAsset", attempt, deadline)

    async def _authenticated(
        self, rpc: str, attempt: Callable[[AccessToken], Awaitable[_Answer]], deadline: float
    ) -> _Answer:
        """Make a call with the current token, once more with a new one if C1 refuses it, translated."""
        channel = self._channel
        if channel is None:
            raise RuntimeError("the session with C1 is closed")
        with self._observer.operation(Work.C1_CALL, method=rpc, host_id=self._host_id) as operation:
            try:
                answer = await self._attempt(attempt, deadline)
            except grpc.aio.AioRpcError as error:
                code, details = error.code(), error.details() or ""
            except TimeoutError:
                code, details = grpc.StatusCode.DEADLINE_EXCEEDED, f"no answer within {deadline:g} s"
            else:
                operation.tell(code=grpc.StatusCode.OK.name)
                return answer
            operation.tell(code=code.name)
        raise call_failure(
            rpc,
            channel.endpoint,
            code,
            details,
            self._tokens.redactor,
            connecting=channel.connecting,
            wrong_clock=self._tokens.wrong_clock,
            proxy=channel.proxy,
        )

    async def _attempt(self, attempt: Callable[[AccessToken], Awaitable[_Answer]], deadline: float) -> _Answer:
        """Raises AioRpcError, TimeoutError, and Failure where there is no token."""
        async with asyncio.timeout(deadline):
            self._may_send()
            token = await self._tokens.current()
            try:
                self._may_send()
                return await attempt(token)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAUTHENTICATED:
                    raise
            token = await self._tokens.replace(token)
            self._may_send()
            return await attempt(token)
