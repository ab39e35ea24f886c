"""The calls to C1: a process's access to it, and one connector's session with BatonService.

Every call has a deadline, carries the connector's token (renewed once when C1 no longer takes it) and
fails with a `Failure` only. Nothing is retried here but an upload, which starts afresh each time.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
import httpx

from buildkite_connector.c1.channel import Channel, ChannelPool
from buildkite_connector.c1.credentials import ClientCredentials, parse_credentials
from buildkite_connector.c1.errors import call_failure, unreached
from buildkite_connector.c1.hello import hello_request
from buildkite_connector.c1.hosts import Endpoint, HostPattern, parse_endpoint, parse_patterns
from buildkite_connector.c1.messages import finish_request, heartbeat_from, poll_from
from buildkite_connector.c1.rest import CONNECTORS_CLIENT, NEW_CLIENT, RestClient
from buildkite_connector.c1.settings import ALLOWED_HOSTS_VARIABLE, HOST_VARIABLE, C1Settings
from buildkite_connector.c1.token import AccessToken, AssertingClient, TokenClient, TokenSource
from buildkite_connector.c1.upload import upload_once
from buildkite_connector.c1.workload_identity import WorkloadIdentity
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.jitter import Jitter
from buildkite_connector.model.observer import SILENT, Observer, Work
from buildkite_connector.model.redactor import Redactor
from buildkite_connector.model.snapshot import OpenSnapshot
from buildkite_connector.model.spec import C1Access, ConnectorSpec, Credentials
from buildkite_connector.model.tasks import Heartbeat, Poll, TaskID, TaskOutcome
from buildkite_connector.network import Network
from buildkite_connector.network.connection_errors import by_way_of
from buildkite_connector.proto import baton_pb2
from buildkite_connector.timing.clock import BETWEEN_CALLS, Clock, SystemClock, server_time, system_jitter

_HOST_ID_LIMIT = 256
_UPLOADED_AGAIN = frozenset({Reason.C1_UNREACHABLE, Reason.C1_UNAVAILABLE, Reason.C1_REQUEST_REJECTED})
"""As by the reference client: even what C1 found wrong may have been damaged on the way."""

_Answer = TypeVar("_Answer")


def _ignore(_: Failure | None) -> None: ...


@dataclass(frozen=True, slots=True, eq=False)
class C1:
    """This process's access to C1: makes a client for each connector, all on shared channels.

    `instead`: where all calls go, whatever the client ID says. `allowed`: where a client ID may lead.
    """

    settings: C1Settings
    channels: ChannelPool
    clock: Clock
    jitter: Jitter
    observer: Observer
    may_send: Callable[[], None]
    instead: Endpoint | None
    allowed: tuple[HostPattern, ...]

    def connect(
        self, credentials: Credentials, spec: ConnectorSpec, greeted: Callable[[Failure | None], None] = _ignore
    ) -> "C1Client":
        """The client of the connector with these credentials and this spec, as `client` makes it.

        Raises Failure for credentials that are malformed too.
        """
        parsed = parse_credentials(credentials.client_id, credentials.client_secret, credentials.redactor)
        return self.client(parsed, spec.host_id, provisions=spec.provisioning.enabled, greeted=greeted)

    def client(
        self,
        credentials: ClientCredentials,
        host_id: str,
        *,
        provisions: bool = False,
        greeted: Callable[[Failure | None], None] = _ignore,
    ) -> "C1Client":
        """A session for one connector, which C1 knows as `host_id`; no call is made yet.

        `provisions`: it tells C1 that it grants and revokes memberships. `greeted` is called after each Hello, with the
        failure of one that C1 did not answer.

        Raises Failure SPEC_INVALID for a host ID that C1 would not take, CLIENT_ID_INVALID for a client ID whose host
        the settings do not allow.
        """
        if not 1 <= len(host_id) <= _HOST_ID_LIMIT:
            raise Failure(
                Reason.SPEC_INVALID,
                f"The host ID must have 1 to {_HOST_ID_LIMIT} characters and has {len(host_id)}; set "
                "delivery.hostID to a shorter name.",
                remedy=Remedy.EDIT,
            )
        channel = self.channels.acquire(self.endpoint(credentials))
        named = self._naming_the_host(credentials)
        return C1Client(self, channel, named, host_id, provisions=provisions, greeted=greeted)

    def rest(self, access: C1Access) -> RestClient:
        """A client of C1's REST API; no call is made yet.

        Raises Failure CLIENT_ID_INVALID, CLIENT_SECRET_INVALID, or WORKLOAD_IDENTITY_REJECTED where the process has no
        service-account token.
        """
        try:
            client, endpoint = self._rest_client(access)
        except Failure as failure:
            if not access.place:
                raise
            raise Failure(failure.reason, f"{failure.message} {access.place}", remedy=failure.remedy) from None
        channel = self.channels.acquire(endpoint)
        return RestClient(
            channel,
            TokenSource(client, channel, self.clock, self.settings.call_timeout, self.observer),
            clock=self.clock,
            deadline=self.settings.call_timeout,
            observer=self.observer,
            may_send=self.may_send,
            release=self.channels.release,
        )

    def _rest_client(self, access: C1Access) -> tuple[TokenClient, Endpoint]:
        if not access.client_secret:
            identity = WorkloadIdentity.parse(access.client_id, self.settings.token_file)
            return identity, self.endpoint(identity)
        private = Redactor(private=[access.client_id])
        credentials = parse_credentials(access.client_id, access.client_secret, private)
        endpoint = self.endpoint(credentials)
        remedy = CONNECTORS_CLIENT if credentials.client_id.endswith("/ccc") else NEW_CLIENT
        return AssertingClient(self._naming_the_host(credentials), remedy), endpoint

    def endpoint(self, credentials: ClientCredentials | WorkloadIdentity) -> Endpoint:
        """Where calls go, checked before a channel is made: a host that is not allowed is not even resolved.

        Raises Failure CLIENT_ID_INVALID for it, which does not name it either: what stands in a Secret may be public
        only once the operator's setting admits it.
        """
        if self.instead is not None:
            return self.instead
        if any(pattern.admits(credentials.endpoint) for pattern in self.allowed):
            return credentials.endpoint
        raise Failure(
            Reason.CLIENT_ID_INVALID,
            f"The client ID names a host that is not allowed: {ALLOWED_HOSTS_VARIABLE} allows "
            f"{self.settings.allowed_hosts}, on port 443 unless another is given; IP addresses are never allowed. Copy "
            "the client ID whole, as C1 showed it. If your tenant is on that host, add the host to the variable.",
            remedy=Remedy.CREDENTIALS,
        )

    async def reach(self, credentials: ClientCredentials) -> datetime | None:
        """Ask once without a token whether C1 answers. Returns the time that its clock shows; None: it does not tell.

        Any answer will do: what C1 has at `/` is its own business. Raises Failure C1_UNREACHABLE or C1_UNAVAILABLE, and
        what `client` raises.
        """
        channel, deadline = self.channels.acquire(self.endpoint(credentials)), self.settings.call_timeout
        try:
            async with asyncio.timeout(deadline), channel.http.stream("HEAD", "/") as response:
                return server_time(response.headers)
        except TimeoutError:
            raise Failure(
                Reason.C1_UNAVAILABLE,
                f"C1 at {channel.endpoint} did not respond within {deadline:g} s{by_way_of(channel.proxy)}."
                " Check firewall and proxy.",
            ) from None
        except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, OSError, ValueError) as error:
            redactor = self._naming_the_host(credentials).redactor
            raise Failure(
                Reason.C1_UNREACHABLE,
                f"C1 at {channel.endpoint} could not be reached: {unreached(error, channel, redactor)}",
            ) from None
        finally:
            await self.channels.release(channel)

    def _naming_the_host(self, credentials: ClientCredentials) -> ClientCredentials:
        """What C1's texts say of the client ID's host may be shown where calls go to it."""
        if self.instead is not None:
            return credentials
        return replace(credentials, redactor=credentials.redactor.without(credentials.client_id))


@asynccontextmanager
async def open_c1(
    settings: C1Settings,
    network: Network,
    *,
    clock: Clock | None = None,
    jitter: Jitter | None = None,
    observer: Observer = SILENT,
    may_send: Callable[[], None] = lambda: None,
) -> AsyncIterator[C1]:
    """Open the process's access to C1; what is still open at the end is closed.

    `may_send` is called before each call and each part of an upload, and raises Failure when this process may not act.
    Raises Failure C1_UNREACHABLE when a setting (host, allowed hosts) cannot work.
    """
    instead = _read(HOST_VARIABLE, parse_endpoint, settings.api_host) if settings.api_host else None
    allowed = _read(ALLOWED_HOSTS_VARIABLE, parse_patterns, settings.allowed_hosts)
    channels = await asyncio.to_thread(ChannelPool, settings, network)
    jitter = jitter or system_jitter()
    try:
        yield C1(settings, channels, clock or SystemClock(), jitter, observer, may_send, instead, allowed)
    finally:
        await channels.aclose()


def _read(variable: str, parse: Callable[[str], _Answer], text: str) -> _Answer:
    try:
        return parse(text)
    except ValueError as error:
        raise Failure(Reason.C1_UNREACHABLE, f"{variable} {error}; correct it.") from None


class C1Client:
    """Made by `C1.client`; close it with `aclose` or `async with`.

    Any call raises Failure: C1_UNREACHABLE and C1_UNAVAILABLE pass with time (RETRY), C1_CLIENT_REJECTED needs
    other credentials (CREDENTIALS), C1_REQUEST_REJECTED an edit (EDIT) or, under a task, another task (RETRY).
    """

    def __init__(
        self,
        c1: C1,
        channel: Channel,
        credentials: ClientCredentials,
        host_id: str,
        *,
        provisions: bool,
        greeted: Callable[[Failure | None], None],
    ) -> None:
        self._c1 = c1
        self._settings = c1.settings
        self._channel: Channel | None = channel
        self._stub: Any = channel.stub
        self._tokens = TokenSource(
            AssertingClient(credentials), channel, c1.clock, c1.settings.call_timeout, c1.observer
        )
        self._host_id = host_id
        self._provisions = provisions
        self._greeted = greeted

    async def authenticate(self) -> None:
        """Fetch an access token, unless there is one that is still good. Raises Failure as the token endpoint does."""
        await self._tokens.current()

    async def hello(self, task_id: TaskID | None = None) -> None:
        """Tell C1 who this connector is; `task_id` answers a Hello task."""
        request = hello_request(self._host_id, task_id or "", provisions=self._provisions)
        try:
            await self._unary("Hello", request, self._settings.call_timeout)
        except Failure as failure:
            self._greeted(failure)
            raise
        self._greeted(None)

    async def next_task(self) -> Poll:
        """Ask for work; C1 may hold the answer back for a while when there is none."""
        request = baton_pb2.BatonServiceGetTaskRequest(host_id=self._host_id)
        response = await self._unary("GetTask", request, self._settings.poll_timeout)
        return poll_from(response, self._tokens.redactor)

    async def heartbeat(self, task_id: TaskID) -> Heartbeat:
        """Tell C1 that the task is being worked on, and hear whether it still should be."""
        request = baton_pb2.BatonServiceHeartbeatRequest(host_id=self._host_id, task_id=task_id)
        return heartbeat_from(await self._unary("Heartbeat", request, self._settings.call_timeout), task_id)

    async def finish(self, task_id: TaskID, outcome: TaskOutcome) -> None:
        """Hand the task back, done or failed."""
        request = finish_request(self._host_id, task_id, outcome)
        await self._unary("FinishTask", request, self._settings.call_timeout)

    async def upload(self, task_id: TaskID, snapshot: OpenSnapshot, sent: Callable[[], None] = lambda: None) -> None:
        """Upload the snapshot under the task. `sent`: the whole file is on its way, and C1's answer is outstanding.

        Raises Failure UPLOAD_FAILED when the last attempt failed or the deadline of them all passed,
        C1_CLIENT_REJECTED, and for the file itself SNAPSHOT_INVALID or STORAGE_FAILED.
        """
        deadline, attempts = self._settings.upload_timeout, self._settings.upload_attempts

        def once(token: AccessToken) -> Awaitable[None]:
            call = self._stub.UploadAsset(metadata=token.metadata, timeout=deadline)
            return upload_once(call, self._host_id, task_id, snapshot, self._c1.may_send, sent)

        try:
            async with asyncio.timeout(deadline):
                for attempt in range(1, attempts + 1):
                    try:
                        return await self._call("UploadAsset", once, deadline)
                    except Failure as failure:
                        if failure.reason not in _UPLOADED_AGAIN:
                            raise
                        last = failure
                    if attempt < attempts:
                        await self._c1.clock.sleep(
                            BETWEEN_CALLS.wait(attempt, self._c1.jitter.uniform(0.0, 1.0), last.retry_after)
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
            await self._c1.channels.release(channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _unary(self, rpc: str, request: Any, deadline: float) -> Any:
        method = getattr(self._stub, rpc)
        return await self._call(rpc, lambda token: method(request, metadata=token.metadata, timeout=deadline), deadline)

    async def _call(self, rpc: str, attempt: Callable[[AccessToken], Awaitable[_Answer]], deadline: float) -> _Answer:
        """Make a call with the current token, once more with a new one if C1 refuses it, translated."""
        channel = self._channel
        if channel is None:
            raise RuntimeError("the session with C1 is closed")
        with self._c1.observer.operation(Work.C1_CALL, method=rpc, host_id=self._host_id) as operation:
            try:
                answer = await self._attempt(attempt, deadline)
            except grpc.aio.AioRpcError as error:
                code, details = error.code(), error.details() or ""
            except TimeoutError:
                code, details = grpc.StatusCode.DEADLINE_EXCEEDED, f"no response within {deadline:g} s"
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
            proxy=channel.proxy,
            wrong_clock=self._tokens.wrong_clock,
        )

    async def _attempt(self, attempt: Callable[[AccessToken], Awaitable[_Answer]], deadline: float) -> _Answer:
        """Raises AioRpcError, TimeoutError, and Failure where there is no token."""
        async with asyncio.timeout(deadline):
            self._c1.may_send()
            token = await self._tokens.current()
            try:
                self._c1.may_send()
                return await attempt(token)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAUTHENTICATED:
                    raise
            token = await self._tokens.replace(token)
            self._c1.may_send()
            return await attempt(token)
