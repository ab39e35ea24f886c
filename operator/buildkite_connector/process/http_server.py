"""A small HTTP server for probes and metrics that keeps answering whatever its clients do.

The number of connections, the time and the bytes of each request, and the log lines about all of them are bounded. A
new connection over the bound ends the oldest one of the address that holds most: a client that opens thousands of
connections ends its own, and a probe is answered. h11 reads and writes HTTP/1.1.
"""

import asyncio
import logging
import os
import resource
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from email.utils import formatdate
from functools import partial
from ipaddress import ip_address

import h11

logger = logging.getLogger(__name__)

MOST_CONNECTIONS = 256
MOST_HEAD = 16 << 10
MOST_BODY = 64 << 10
"""Bytes of a request's body, which is read and dropped."""
REQUEST_SECONDS = 10.0
"""Time limit of a request's head, of its body, and of sending the answer."""
KEEP_ALIVE_SECONDS = 5.0
"""Time limit of the next request on a connection."""
LINGER_SECONDS = 1.0
ACCEPT_PAUSE = 0.1
"""Seconds until the next attempt when no connection can be accepted and none can be closed for it."""
_LOGGED_AGAIN = 600.0
_BACKLOG = 1024
_CHUNK = 16 << 10


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


Handler = Callable[[], Awaitable[Response]]


def listen(host: str, port: int) -> list[socket.socket]:
    """Listening sockets as Go's net.Listen opens them, of every address that a name has. Blocks. Raises OSError.

    No host, `0.0.0.0` and `::` stand for all addresses of both families, or of IPv4 where there is no IPv6.
    """
    host = host.removeprefix("[").removesuffix("]")
    if not host or _is_wildcard(host):
        if socket.has_dualstack_ipv6():
            return [_listener(socket.AF_INET6, ("::", port), dual=True)]
        return [_listener(socket.AF_INET, ("0.0.0.0", port))]  # noqa: S104  (asked for)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except UnicodeError:
        raise OSError(None, "it is not a host name") from None
    listeners: list[socket.socket] = []
    refused: OSError | None = None
    for family, _, _, _, address in dict.fromkeys(found):
        try:
            bound = listeners[0].getsockname()[1] if listeners else port
            listeners.append(_listener(family, (address[0], bound, *address[2:])))
        except OSError as error:  # such as an address of a family that this machine has not
            refused = refused or error
    if not listeners:
        raise refused or OSError(None, "it has no address")
    return listeners


@asynccontextmanager
async def serve_http(
    listeners: Sequence[socket.socket], handlers: Mapping[str, Handler], most: int | None = None
) -> AsyncIterator[int]:
    """Answer GET and HEAD at each path for as long as the context lasts, then close everything. Yields the port.

    `most`: connections at once; by default MOST_CONNECTIONS, or a quarter of the files that the process may open.
    """
    server = _Server(handlers, most or _affordable_connections())
    accepting = [asyncio.create_task(server.accept(each), name="accept connections") for each in listeners]
    try:
        yield listeners[0].getsockname()[1]
    finally:
        for task in accepting:
            task.cancel()
        await asyncio.wait(accepting)
        await server.close()
        for listener in listeners:
            listener.close()


class _Server:
    def __init__(self, handlers: Mapping[str, Handler], most: int) -> None:
        self._handlers = handlers
        self._most = most
        self._open: dict[asyncio.Task[None], str] = {}
        """The connections, the oldest first, each with the address of its client."""
        self._counts: Counter[str] = Counter()
        self._step = asyncio.Lock()
        self._logged_at: float | None = None

    async def accept(self, listener: socket.socket) -> None:
        """Accept connections until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, peer = await loop.sock_accept(listener)
            except ConnectionAbortedError:  # the client has gone already
                await asyncio.sleep(0)
                continue
            except OSError as error:
                self._log_refusal(error, loop.time())
                await asyncio.sleep(0 if self._end_one() else ACCEPT_PAUSE)
                continue
            if len(self._open) >= self._most:
                self._end_one()
            task = loop.create_task(self._converse(connection), name="an HTTP connection")
            task.add_done_callback(partial(self._ended, connection))
            self._open[task] = peer[0]
            self._counts[peer[0]] += 1
            await asyncio.sleep(0)  # however many arrive, everything else in this loop runs between two

    async def close(self) -> None:
        tasks = list(self._open)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _end_one(self) -> bool:
        """Return whether there was one."""
        if not self._open:
            return False
        (address, _), *_ = self._counts.most_common(1)
        oldest = next(task for task, of in self._open.items() if of == address)
        oldest.cancel()
        self._forget(oldest)
        return True

    def _ended(self, connection: socket.socket, task: asyncio.Task[None]) -> None:
        connection.close()  # here, because a task that is cancelled before it began runs none of its own code
        self._forget(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a connection ended with an error", exc_info=error)

    def _forget(self, task: asyncio.Task[None]) -> None:
        address = self._open.pop(task, None)
        if address is not None:
            self._counts[address] -= 1
            if not self._counts[address]:
                del self._counts[address]

    def _log_refusal(self, error: OSError, now: float) -> None:
        if self._logged_at is None or now - self._logged_at > _LOGGED_AGAIN:
            self._logged_at = now
            logger.warning(
                "no connection can be accepted for health and metrics; it is tried again, and said again at most every"
                " ten minutes",
                extra={"error": error.strerror or str(error)},
            )

    async def _converse(self, connection: socket.socket) -> None:
        with suppress(OSError, TimeoutError):
            conversation = _Conversation(connection, self._handlers, self._step)
            patience = REQUEST_SECONDS
            while await conversation.answer_one(patience):
                patience = KEEP_ALIVE_SECONDS
            await conversation.linger()


class _Conversation:
    """One connection. Every method raises OSError when it breaks, and TimeoutError when the client is too slow."""

    def __init__(self, connection: socket.socket, handlers: Mapping[str, Handler], step: asyncio.Lock) -> None:
        """`step` is held for a round of the event loop before each chunk and request: all connections together take
        one step a round, whatever they send, so that they cannot slow down the rest of the process.
        """
        self._socket = connection
        self._handlers = handlers
        self._step = step
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MOST_HEAD)

    async def answer_one(self, patience: float) -> bool:
        """Answer one request; return whether another may follow. `patience`: seconds for the head."""
        head_only = False
        try:
            async with asyncio.timeout(patience):
                request = await self._next_event()
            if not isinstance(request, h11.Request):
                return False
            head_only = request.method == b"HEAD"
            answer = None if self._http.they_are_waiting_for_100_continue else await self._read_body()
            answer = answer or await self._answer(request)
        except h11.RemoteProtocolError as error:
            if self._http.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
                return False
            answer = Response(error.error_status_hint, b"")
        await self._send(answer, head_only=head_only)
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        await self._wait_for_step()
        return True

    async def linger(self) -> None:
        """Wait until the client has read the answer: closing a socket with unread bytes discards it."""
        self._socket.shutdown(socket.SHUT_WR)
        async with asyncio.timeout(LINGER_SECONDS):
            while await self._receive():
                pass

    async def _read_body(self) -> Response | None:
        """Drop the body; return the answer to one that is too long."""
        read = 0
        async with asyncio.timeout(REQUEST_SECONDS):
            while isinstance(event := await self._next_event(), h11.Data):
                read += len(event.data)
                if read > MOST_BODY:
                    return Response(413, b"")
        return None

    async def _answer(self, request: h11.Request) -> Response:
        handler = self._handlers.get(request.target.partition(b"?")[0].decode("ascii", "replace"))
        if handler is None:
            return Response(404, b"404: Not Found")
        if request.method not in {b"GET", b"HEAD"}:
            return Response(405, b"405: Method Not Allowed")
        try:
            return await handler()
        except Exception:
            logger.exception("a request cannot be answered")
            return Response(500, b"500: Internal Server Error")

    async def _send(self, answer: Response, *, head_only: bool) -> None:
        headers = [
            ("Content-Type", answer.content_type),
            ("Content-Length", str(len(answer.body))),
            ("Date", formatdate(usegmt=True)),
        ]
        if answer.status == 405:
            headers.append(("Allow", "GET, HEAD"))
        if self._http.their_state is not h11.DONE:
            headers.append(("Connection", "close"))
        parts: list[bytes] = [self._http.send(h11.Response(status_code=answer.status, headers=headers)) or b""]
        if not head_only:
            parts += self._http.send_with_data_passthrough(h11.Data(data=answer.body)) or []
        parts += self._http.send_with_data_passthrough(h11.EndOfMessage()) or []
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(REQUEST_SECONDS):
            for part in parts:
                await loop.sock_sendall(self._socket, part)

    async def _next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await self._receive())
        return event

    async def _receive(self) -> bytes:
        chunk = await asyncio.get_running_loop().sock_recv(self._socket, _CHUNK)
        await self._wait_for_step()
        return chunk

    async def _wait_for_step(self) -> None:
        async with self._step:
            await asyncio.sleep(0)


def _affordable_connections() -> int:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_CONNECTIONS if files == resource.RLIM_INFINITY else min(MOST_CONNECTIONS, max(8, files // 4))


def _is_wildcard(host: str) -> bool:
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False


def _listener(family: int, address: tuple[str | int, ...], *, dual: bool = False) -> socket.socket:
    try:
        listener = socket.create_server(
            address, family=socket.AddressFamily(family), backlog=_BACKLOG, dualstack_ipv6=dual
        )
    except OSError as error:  # whose text repeats the address as Python has it
        raise OSError(error.errno, os.strerror(error.errno or 0)) from None
    listener.setblocking(False)
    return listener
