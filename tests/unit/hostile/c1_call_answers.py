"""The answers of a hostile C1 to gRPC calls."""

import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import quote

from buildkite_connector.proto import baton_pb2
from unit.hostile import c1_server as h2
from unit.hostile.c1_answers import ACCESS_TOKEN
from unit.hostile.c1_server import CallAnswer, Flow
from unit.hostile.http_server import Part

TASK_ID = "2ABCdefGHIjklMNOpqrSTUvwxYZ"


PLAIN_OK = h2.headers((":status", "200"), ("content-type", "application/grpc"))


GZIP_OK = PLAIN_OK + h2.headers(("grpc-encoding", "gzip"))


# Answers of gRPC calls


def message(body: bytes, flag: int = 0) -> bytes:
    return struct.pack(">BI", flag, len(body)) + body


def trailers(stream: int, code: int, details: str = "", *more: tuple[str, str]) -> bytes:
    fields = h2.headers(("grpc-status", str(code)), ("grpc-message", quote(details, safe=" ")), *more)
    return h2.header_frames(fields, stream, h2.END_STREAM)


def answered(body: Callable[[], bytes], block: bytes = PLAIN_OK, flag: int = 0) -> CallAnswer:
    """A whole answer with status OK. `body` is made by the server alone: the child has no use for its memory."""

    def answer(stream: int) -> Iterator[Part | Flow]:
        yield h2.header_frames(block, stream)
        yield Flow(message(body(), flag))
        yield trailers(stream, 0)

    return answer


def task(fields: Callable[[], dict[str, Any]]) -> CallAnswer:
    return answered(lambda: baton_pb2.BatonServiceGetTaskResponse(**fields()).SerializeToString())


def sync_task(options: Callable[[], dict[str, Any]]) -> CallAnswer:
    def fields() -> dict[str, Any]:
        return {"task": baton_pb2.Task(id=TASK_ID, sync_full=baton_pb2.Task.SyncFullTask(**options()))}

    return task(fields)


no_task = task(dict)


def message_without_end(stream: int) -> Iterator[Part | Flow]:
    yield h2.header_frames(PLAIN_OK, stream)
    yield Flow(struct.pack(">BI", 0, 0xFFFFFFFF))
    while True:
        yield Flow(bytes(1 << 20))


def messages_without_end(stream: int) -> Iterator[Part | Flow]:
    yield h2.header_frames(PLAIN_OK, stream)
    while True:
        yield Flow(message(b"") * 10_000)


def trailers_only(stream: int, code: int, details: str, *more: tuple[str, str]) -> Iterable[Part]:
    return [h2.header_frames(PLAIN_OK, stream), trailers(stream, code, details, *more)]


def refused(code: int, details: str, *more: tuple[str, str]) -> CallAnswer:
    return lambda stream: trailers_only(stream, code, details, *more)


def endless_metadata(stream: int) -> Iterator[Part]:
    yield h2.frame(h2.HEADERS, 0, stream, PLAIN_OK)
    while True:
        yield h2.frame(h2.CONTINUATION, 0, stream, h2.headers(("x", "a" * 10_000)))


def endless_trailers(stream: int) -> Iterator[Part]:
    yield h2.header_frames(PLAIN_OK, stream)
    yield h2.frame(h2.HEADERS, h2.END_STREAM, stream, h2.headers(("grpc-status", "0")))
    while True:
        yield b"".join(h2.frame(h2.CONTINUATION, 0, stream, h2.headers((f"x{n}", "a"))) for n in range(1000))


def reset(stream: int) -> Iterator[Part]:
    yield h2.frame(h2.RST_STREAM, 0, stream, struct.pack(">I", 2))


def go_away(stream: int) -> Iterator[Part]:
    said = f"{ACCESS_TOKEN} " * 100
    yield h2.frame(h2.GOAWAY, 0, 0, struct.pack(">II", 0, 11) + said.encode())


def garbage(_: int) -> Iterator[Part]:
    while True:
        yield bytes(range(256)) * 256


def floods(_: int) -> Iterator[Part]:
    flood = h2.frame(h2.PING, 0, 0, bytes(8)) * 1000 + h2.frame(h2.SETTINGS, 0, 0) * 1000
    while True:
        yield flood


def data_over_the_window(stream: int) -> Iterator[Part]:
    yield h2.header_frames(PLAIN_OK, stream)
    yield h2.frame(h2.DATA, 0, stream, struct.pack(">BI", 0, 0xFFFFFFFF))
    while True:
        yield h2.frame(h2.DATA, 0, stream, bytes(h2.LARGEST_FRAME)) * 64
