"""A C1 that sends exactly the bytes that a row says: the token endpoint and HTTP/2 for gRPC on one TLS port, or none.

HTTP/2 is by hand (RFC 9113), as no library lets a server break its rules.
"""

import asyncio
import contextlib
import functools
import os
import ssl
import struct
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme

from simulators.sockets import stop_listening
from unit.hostile.http_server import FOREVER, Part

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS, ACK = 1, 4, 1
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
LARGEST_FRAME = 16_384
FIRST_WINDOW = 65_535
INITIAL_WINDOW_SIZE = 4
"""The setting's number."""


@dataclass(frozen=True, slots=True)
class Flow:
    """DATA that keeps to the windows which the client opens."""

    data: bytes


class BesideTls(bytes):
    """A part that goes out as it is, under the TLS of the connection."""


BROKEN_RECORD = BesideTls(b"\x17\x03\x03\x00\x20" + bytes(32))
"""A TLS record that the client cannot decrypt."""

TokenAnswer = Callable[[str], Iterable[Part]]
"""Of the request's form, as it came. The connection is closed after the last part."""
CallAnswer = Callable[[int], Iterable[Part | Flow]]
"""Of the stream's number, once its request has come. The connection stays."""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def headers(*fields: tuple[str, str]) -> bytes:
    """HPACK without a table and without Huffman codes: what any client reads."""
    return b"".join(b"\0" + _text(name) + _text(value) for name, value in fields)


def _text(text: str) -> bytes:
    raw = text.encode("latin-1")
    length, encoded = len(raw), bytearray()
    if length < 127:
        return bytes([length]) + raw
    encoded.append(127)
    length -= 127
    while length >= 128:
        encoded.append(length % 128 + 128)
        length //= 128
    encoded.append(length)
    return bytes(encoded) + raw


def header_frames(block: bytes, stream: int, flags: int = 0) -> bytes:
    """HEADERS and as many CONTINUATION as the block takes."""
    pieces = [block[at : at + LARGEST_FRAME] for at in range(0, len(block), LARGEST_FRAME)] or [b""]
    kinds = [HEADERS, *[CONTINUATION] * (len(pieces) - 1)]
    return b"".join(
        frame(
            kind, (flags if kind == HEADERS else 0) | (END_HEADERS if number == len(pieces) - 1 else 0), stream, piece
        )
        for number, (kind, piece) in enumerate(zip(kinds, pieces, strict=True))
    )


class HostileC1:
    """`plain`: what every connection gets, before TLS, in place of all else."""

    def __init__(self, token: TokenAnswer, call: CallAnswer, plain: Callable[[], Iterable[Part]] | None = None) -> None:
        self._token = token
        self._call = call
        self._plain = plain
        self._connections: set[asyncio.Task[None]] = set()
        self.left = asyncio.Event()
        """Set once a connection has ended and there is no other."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Gives `host:port` and the path of the CA's file, with a space between."""
        context, ca_file = _trusted()
        tls: dict[str, Any] = {} if self._plain else {"ssl": context, "ssl_shutdown_timeout": 0.1}
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0, **tls)
        try:
            yield f"localhost:{server.sockets[0].getsockname()[1]} {ca_file}"
        finally:
            stop_listening(server)
            for task in self._connections:
                task.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._serve(reader, writer)
        except (asyncio.CancelledError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the client has had enough, or the test
        finally:
            self._connections.discard(task)
            writer.transport.abort()
            if not self._connections:
                self.left.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._plain is not None:
            await _send(self._plain(), reader, writer)
            await asyncio.sleep(0.05)  # for the bytes to leave before the connection is reset
        elif writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2":
            await _Http2(self._call, reader, writer).serve()
        else:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            length = int(head.lower().partition("content-length:")[2].partition("\r\n")[0] or 0)
            form = (await reader.readexactly(length)).decode()
            await _send(self._token(form), reader, writer)
            writer.close()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await writer.wait_closed()


async def _send(parts: Iterable[Part], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for part in parts:
        if isinstance(part, float):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if part == FOREVER else part):
                    while await reader.read(65_536):
                        pass
                    return
        elif isinstance(part, BesideTls):
            os.write(writer.get_extra_info("socket").fileno(), part)
        else:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)


class _Http2:
    """One connection, as far as rows need it: requests are taken to be complete at their END_STREAM."""

    def __init__(self, call: CallAnswer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._call = call
        self._reader = reader
        self._writer = writer
        self._initial = FIRST_WINDOW
        self._windows: dict[int, int] = {0: FIRST_WINDOW}
        self._opened = asyncio.Event()
        self._answers: list[asyncio.Task[None]] = []

    async def serve(self) -> None:
        await self._reader.readexactly(len(PREFACE))
        self._writer.write(frame(SETTINGS, 0, 0))
        try:
            while True:
                await self._take()
        finally:
            for answer in self._answers:
                answer.cancel()
            await asyncio.gather(*self._answers, return_exceptions=True)

    async def _take(self) -> None:
        head = await self._reader.readexactly(9)
        length = int.from_bytes(head[:3])
        kind, flags, stream = struct.unpack(">BBI", head[3:])
        payload = await self._reader.readexactly(length)
        if kind == SETTINGS and not flags & ACK:
            self._settings(payload)
            self._writer.write(frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            self._writer.write(frame(PING, ACK, 0, payload))
        elif kind == WINDOW_UPDATE:
            self._windows[stream] = self._windows.get(stream, self._initial) + int.from_bytes(payload)
            self._open()
        elif kind in {HEADERS, DATA} and flags & END_STREAM:
            self._answers.append(asyncio.create_task(self._answer(stream)))
        elif kind in {RST_STREAM, GOAWAY}:
            self._open()

    def _settings(self, payload: bytes) -> None:
        for number, value in struct.iter_unpack(">HI", payload):
            if number == INITIAL_WINDOW_SIZE:
                for stream in self._windows.keys() - {0}:
                    self._windows[stream] += value - self._initial
                self._initial = value
        self._open()

    def _open(self) -> None:
        self._opened.set()
        self._opened = asyncio.Event()

    async def _answer(self, stream: int) -> None:
        self._windows.setdefault(stream, self._initial)
        for part in self._call(stream):
            if isinstance(part, float):
                await (asyncio.Event().wait() if part == FOREVER else asyncio.sleep(part))
            elif isinstance(part, Flow):
                await self._flow(part.data, stream)
            else:
                self._writer.write(part)
                await self._writer.drain()
            await asyncio.sleep(0)
            if self._writer.is_closing():
                return

    async def _flow(self, whole: bytes, stream: int) -> None:
        data = memoryview(whole)  # a slice of bytes would copy the rest of 100 MB for each frame
        while data and not self._writer.is_closing():
            room = min(self._windows[0], self._windows[stream], LARGEST_FRAME)
            if room <= 0:
                await self._opened.wait()
                continue
            piece, data = data[:room], data[room:]
            self._windows[0] -= len(piece)
            self._windows[stream] -= len(piece)
            self._writer.write(frame(DATA, 0, stream, bytes(piece)))
            await self._writer.drain()
            await asyncio.sleep(0)


@functools.cache
def _trusted() -> tuple[ssl.SSLContext, Path]:
    """A context with a certificate for localhost, and the file of the CA that signed it; both last with the process."""
    ca = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1", "h2"])
    ca.issue_cert("localhost").configure_cert(context)
    folder = tempfile.TemporaryDirectory(prefix="hostile-c1-")
    ca_file = Path(folder.name) / "ca.pem"
    ca.cert_pem.write_to_path(str(ca_file))
    _kept.append(folder)
    return context, ca_file


_kept: list[tempfile.TemporaryDirectory[str]] = []
