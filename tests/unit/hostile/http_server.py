"""A server that sends exactly the bytes that a row says, when it says so."""

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from simulators.sockets import stop_listening

FOREVER = float("inf")
"""A pause that ends when the client closes the connection."""

Part = bytes | float
"""Bytes to send, or seconds to wait."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request, as it came. `origin` is what this server is reached by."""

    target: str
    headers: Mapping[str, str]
    origin: str

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def page(self) -> int:
        found = re.search(r"[?&]page=(\d+)", self.target)
        return int(found[1]) if found else 1


Answer = Callable[[Request], Iterable[Part]]
"""The connection is closed after the last part."""


class HostileServer:
    """Answers each request by the first of `routes` whose pattern its path matches in full; else closes at once."""

    def __init__(self, routes: Mapping[str, Answer]) -> None:
        self._routes = routes
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._origin = ""
        self.requests: list[Request] = []

    @asynccontextmanager
    async def running(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
        """Gives its origin, `http://127.0.0.1:port` or, with `tls`, https."""
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0, ssl=tls)
        self._origin = f"{'https' if tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self._origin
        finally:
            stop_listening(server)
            for _ in range(2):  # until connections that were accepted before are set up
                await asyncio.sleep(0)
            remaining = dict(self._connections)
            for task, writer in remaining.items():
                writer.transport.abort()  # a task that is cancelled before its first step would leave it open
                task.cancel()
            await asyncio.gather(*remaining, return_exceptions=True)

    def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._connected(reader, writer))
        self._connections[task] = writer
        task.add_done_callback(self._connections.pop)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the client has had enough
        finally:
            writer.transport.abort() if writer.transport.get_write_buffer_size() else writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip().split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        await reader.readexactly(int(headers.get("content-length", 0)))  # what is not read resets the connection
        request = Request(first.split(" ")[1], headers, self._origin)
        self.requests.append(request)
        answer = next((answer for path, answer in self._routes.items() if re.fullmatch(path, request.path)), None)
        for part in () if answer is None else answer(request):
            if isinstance(part, float):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(None if part == FOREVER else part):
                        if not await reader.read(1):
                            return
            else:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0)
