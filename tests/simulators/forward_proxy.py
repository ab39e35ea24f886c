"""A company's HTTP proxy on loopback: it opens tunnels to names that it knows, looks into TLS, or refuses.

Names lead where a test says: clients ask for the real ones (`https://api.buildkite.com/v2`) and meet a simulator. To
any other name it answers 502, so that nothing leaves the machine.
"""

import asyncio
import base64
import contextlib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import trustme

LOOPBACK = "127.0.0.1"
BLOCK = 1 << 16


class Mode(StrEnum):
    """What it does with a tunnel that it is asked for."""

    TUNNEL = "tunnel"
    INTERCEPT = "intercept"
    """TLS ends here, with a certificate of its own authority for the name that was asked for; HTTP/2 where the client
    offers it."""
    INTERCEPT_HTTP1 = "intercept-http1"
    """Likewise, and it selects HTTP/1.1 where the client offers that, or nothing."""
    FORBID = "forbid"
    DEMAND_LOGIN = "demand-login"
    """407, whatever the client brings."""
    BAD_GATEWAY = "bad-gateway"
    SILENT = "silent"
    GARBAGE = "garbage"
    HANG_UP = "hang-up"


_REFUSALS = {
    Mode.FORBID: "403 Forbidden",
    Mode.DEMAND_LOGIN: "407 Proxy Authentication Required",
    Mode.BAD_GATEWAY: "502 Bad Gateway",
}


@dataclass
class ForwardProxy:
    """Enter it to serve. `routes`: by name (an address without brackets), the port of 127.0.0.1 that it leads to; 0 is
    the port that was asked for.

    `login`: `user:password` that it asks for, with 407. `asked`: `host:port` of each tunnel and `METHOD URL` of each
    request for plain http, in order. `logins`: the Proxy-Authorization of each, empty where there was none.
    """

    routes: Mapping[str, int]
    mode: Mode = Mode.TUNNEL
    login: str = ""
    ca: trustme.CA = field(default_factory=trustme.CA)
    asked: list[str] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)
    port: int = 0

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    @property
    def url(self) -> str:
        """Without a login."""
        return f"http://{self.address}"

    async def __aenter__(self) -> Self:
        self._tasks = asyncio.TaskGroup()
        await self._tasks.__aenter__()
        self._connections: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._accept, LOOPBACK, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._connections:
            task.cancel()
        await self._tasks.__aexit__(None, None, None)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = self._tasks.create_task(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError):  # ssl.SSLError is an OSError: the client trusts us not
            try:
                await self._answer(reader, writer)
            except asyncio.CancelledError:
                writer.transport.abort()
                raise
            finally:
                writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        method, target, _ = head.partition("\r\n")[0].split(" ")
        headers = dict(_header(line) for line in head.split("\r\n")[1:-2])
        self.asked.append(target if method == "CONNECT" else f"{method} {target}")
        self.logins.append(headers.get("proxy-authorization", ""))
        if self.mode is Mode.SILENT:
            await asyncio.Event().wait()
        if self.mode is Mode.HANG_UP:
            return
        if self.mode is Mode.GARBAGE:
            writer.write(b"\x00\x01this is no HTTP\r\n\r\n")
            await writer.drain()
            return
        place = urlsplit(f"//{target}" if method == "CONNECT" else target)
        host = place.hostname or ""
        if refusal := self._refusal(host):
            login = 'Proxy-Authenticate: Basic realm="proxy"\r\n' if refusal.startswith("407") else ""
            writer.write(f"HTTP/1.1 {refusal}\r\n{login}Content-Length: 0\r\nConnection: close\r\n\r\n".encode())
            await writer.drain()
            return
        port = self.routes[host] or place.port or 80
        if method != "CONNECT":
            await self._forward(port, head, reader, writer)
            return
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await writer.drain()
        if self.mode is Mode.TUNNEL:
            there = await asyncio.open_connection(LOOPBACK, port)
        else:
            there = await self._intercept(host, port, writer)
        await _join((reader, writer), there)

    def _refusal(self, host: str) -> str:
        if self.mode in _REFUSALS:
            return _REFUSALS[self.mode]
        wanted = "Basic " + base64.b64encode(self.login.encode()).decode()
        if self.login and self.logins[-1] != wanted:
            return _REFUSALS[Mode.DEMAND_LOGIN]
        return "" if host in self.routes else _REFUSALS[Mode.BAD_GATEWAY]

    async def _forward(self, port: int, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request for plain http, with the path alone; the connection is then the server's."""
        first, _, rest = head.partition("\r\n")
        method, target, version = first.split(" ")
        parts = urlsplit(target)
        there = await asyncio.open_connection(LOOPBACK, port)
        there[1].write(f"{method} {parts.path or '/'} {version}\r\n{rest}".encode("latin-1"))
        await _join((reader, writer), there)

    async def _intercept(
        self, host: str, port: int, writer: asyncio.StreamWriter
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(host).configure_cert(context)
        context.set_alpn_protocols(["http/1.1"] if self.mode is Mode.INTERCEPT_HTTP1 else ["h2", "http/1.1"])
        await writer.start_tls(context)
        chosen = writer.get_extra_info("ssl_object").selected_alpn_protocol()
        outside = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        outside.check_hostname, outside.verify_mode = False, ssl.CERT_NONE
        if chosen:
            outside.set_alpn_protocols([chosen])
        return await asyncio.open_connection(LOOPBACK, port, ssl=outside, server_hostname=host)


def _header(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip().lower(), value.strip()


_Way = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _join(here: _Way, there: _Way) -> None:
    """Until both sides have said all."""
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_copy(here[0], there[1]))
            tasks.create_task(_copy(there[0], here[1]))
    finally:
        there[1].transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while block := await reader.read(BLOCK):
            writer.write(block)
            await writer.drain()
    with contextlib.suppress(OSError, NotImplementedError, RuntimeError):
        writer.write_eof() if writer.can_write_eof() else writer.close()
