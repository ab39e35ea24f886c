"""The simulated C1's one TLS port: gRPC and the token endpoint share it, told apart by ALPN as behind C1's own.

TLS ends here; the plain bytes go on to the real servers behind, each on a loopback port of its own.
"""

import asyncio
import contextlib
import datetime
import ssl
from enum import StrEnum

import trustme

from simulators.sockets import stop_listening

HOST = "127.0.0.1"
NAME = "localhost"
"""What client IDs call it: the operator goes to no address that a client ID names, and to a name that it allows."""
ANY_ADDRESS = "0.0.0.0"  # noqa: S104  (nothing listens there: a client that connects to it meets this machine)
"""This machine by an address that is not a loopback one, so that proxies count for it."""
BLOCK = 1 << 16
NAMES = (HOST, NAME, ANY_ADDRESS, "acme.conductor.one")


class Certificate(StrEnum):
    """What the port shows to those who connect from now on."""

    VALID = "valid"
    OTHER_HOST = "other-host"
    UNTRUSTED = "untrusted"
    EXPIRED = "expired"


class Front:
    """Listens, and forwards each connection. `tasks` owns the forwarding."""

    def __init__(self, tasks: asyncio.TaskGroup, ca: trustme.CA, *, http: int, grpc: int) -> None:
        self._tasks = tasks
        self._ca = ca
        self._http = http
        self._grpc = grpc
        self._server: asyncio.Server | None = None
        self._connections: dict[int, tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = {}
        self._ended = asyncio.Event()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._context.num_tickets = 0
        self._context.set_alpn_protocols(["http/1.1", "h2"])
        self.show(Certificate.VALID)

    def show(self, certificate: Certificate) -> None:
        """Connections that are open stay so."""
        match certificate:
            case Certificate.VALID:
                leaf = self._ca.issue_cert(*NAMES)
            case Certificate.OTHER_HOST:
                leaf = self._ca.issue_cert("elsewhere.test")
            case Certificate.UNTRUSTED:
                leaf = trustme.CA().issue_cert(*NAMES)
            case Certificate.EXPIRED:
                past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
                leaf = self._ca.issue_cert(*NAMES, not_after=past)
        leaf.configure_cert(self._context)

    async def open(self, port: int) -> int:
        """Listen on `port`, or any for 0; the port. Raises OSError."""
        self._server = await asyncio.start_server(self._accept, HOST, port, ssl=self._context, ssl_shutdown_timeout=1.0)
        opened: int = self._server.sockets[0].getsockname()[1]
        return opened

    @property
    def listening(self) -> bool:
        return self._server is not None

    @property
    def connections(self) -> list[int]:
        """Those that are open, oldest first, each by the peer port that a server behind knows it by."""
        return list(self._connections)

    async def until_ended(self, connection: int) -> None:
        while connection in self._connections:
            await self._ended.wait()

    def close(self) -> None:
        """Refuse connections, and reset those that are open."""
        if self._server is not None:
            stop_listening(self._server)
            self._server = None
        self.reset()

    def reset(self) -> None:
        for inner_port in list(self._connections):
            self.drop(inner_port)

    def drop(self, inner_port: int) -> None:
        """Reset the connection that a server behind knows by this peer port."""
        if (pair := self._connections.get(inner_port)) is not None:
            for writer in pair:
                writer.transport.abort()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.create_task(self._forward(reader, writer))

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        chosen = writer.get_extra_info("ssl_object").selected_alpn_protocol()
        inner_reader, inner_writer = await asyncio.open_connection(HOST, self._grpc if chosen == "h2" else self._http)
        if not self.listening:
            writer.transport.abort()
            inner_writer.transport.abort()
            return
        inner_port: int = inner_writer.get_extra_info("sockname")[1]
        pair = self._connections[inner_port] = (writer, inner_writer)
        ways = {
            self._tasks.create_task(_copy(reader, inner_writer)),
            self._tasks.create_task(_copy(inner_reader, writer)),
        }
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            if self._connections.get(inner_port) is pair:  # else a newer connection has the port already
                del self._connections[inner_port]
            self._ended.set()
            self._ended = asyncio.Event()
            inner_writer.close()
            writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                await writer.wait_closed()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until either side is gone."""
    with contextlib.suppress(OSError):
        while block := await reader.read(BLOCK):
            writer.write(block)
            await writer.drain()
