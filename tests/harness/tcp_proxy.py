"""A way to a server that can be cut, and that records when its client sent something."""

import asyncio
import contextlib
import time
from types import TracebackType
from typing import Self

from simulators.sockets import stop_listening

CHUNK = 65536


class TcpProxy:
    """From a free port of 127.0.0.1 to `host:port`. TLS goes through it unopened.

    `sent`: when bytes came from the client, in monotonic seconds. A cut is silent: connections stay open, new ones are
    accepted, and nothing arrives, as when packets are dropped.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._open = asyncio.Event()
        self._open.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.sent: list[float] = []
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stop_listening(self._server)
        self.drop()
        self._open.set()

    def cut(self) -> None:
        self._open.clear()

    def drop(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    def sent_since(self, moment: float) -> list[float]:
        return [at for at in self.sent if at >= moment]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            await self._open.wait()
            there_reader, there_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            self._writers.discard(writer)
            return
        self._writers.add(there_writer)
        ways = [
            asyncio.create_task(self._forward(reader, there_writer, record=True)),
            asyncio.create_task(self._forward(there_reader, writer, record=False)),
        ]
        try:
            await asyncio.wait(ways)
        finally:
            for each in (writer, there_writer):
                each.transport.abort()
                self._writers.discard(each)
            for way in ways:
                way.cancel()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, record: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                if record:
                    self.sent.append(time.monotonic())
                await self._open.wait()
                writer.write(data)
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()
