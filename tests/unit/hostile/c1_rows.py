"""C1's rows of the table of hostile answers: the token endpoint's, and those of gRPC calls."""

import base64
import functools
import json
import struct
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buildkite_connector.c1 import C1Settings, open_c1, parse_credentials
from buildkite_connector.proto import baton_pb2
from unit.hostile import c1_server as h2
from unit.hostile.c1_server import CallAnswer, Flow, HostileC1, TokenAnswer
from unit.hostile.http_server import FOREVER, Part
from unit.hostile.rows import Bounds, Row


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


_PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PRIVATE = _encoded(_PRIVATE.private_bytes_raw())
KEY = _encoded(
    json.dumps(
        {"kty": "OKP", "crv": "Ed25519", "x": _encoded(_PRIVATE.public_key().public_bytes_raw()), "d": PRIVATE}
    ).encode()
)
CLIENT_SECRET = f"secret-token:conductorone.com:v1:{KEY}"
ACCESS_TOKEN = "c1at_7Q+z/3fK=" + "0123456789abcdef" * 4
ASSERTION_HEAD = _encoded(b'{"alg":"EdDSA","nonce":"')
"""How every assertion begins; the rest differs each time."""
SECRETS = (KEY, PRIVATE, ACCESS_TOKEN, ASSERTION_HEAD)
TASK_ID = "2ABCdefGHIjklMNOpqrSTUvwxYZ"
DEADLINE = 1.5
HURRIED = 1.0
"""Seconds for calls that only the deadline ends, a third of the usual; so memory may grow by a third."""
METADATA_ADDRESS = "http://169.254.169.254/latest/meta-data/iam/"

GOOD_TOKEN = {"access_token": ACCESS_TOKEN, "token_type": "Bearer", "expires_in": 3600}
PLAIN_OK = h2.headers((":status", "200"), ("content-type", "application/grpc"))
GZIP_OK = PLAIN_OK + h2.headers(("grpc-encoding", "gzip"))


@asynccontextmanager
async def next_task(address: str, poll_timeout: float = 2 * DEADLINE) -> AsyncIterator[Callable[[], Awaitable[object]]]:
    """A connector asks for a task, which takes a token first."""
    host, _, ca_file = address.partition(" ")
    settings = C1Settings(
        ca_file=Path(ca_file),
        allowed_hosts=host,
        connect_timeout=DEADLINE,
        call_timeout=DEADLINE,
        poll_timeout=poll_timeout,
    )
    credentials = parse_credentials(f"otter@{host}/ccc", CLIENT_SECRET)
    async with open_c1(settings) as c1, c1.client(credentials, "acme.acme") as connector:
        yield connector.next_task


# Answers of the token endpoint


def head(status: str = "200 OK", *fields: str, length: int | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", *fields]
    return ("\r\n".join(lines if length is None else [*lines, f"Content-Length: {length}"]) + "\r\n\r\n").encode()


def whole(body: bytes | str, status: str = "200 OK", *fields: str) -> TokenAnswer:
    raw = body.encode() if isinstance(body, str) else body
    return lambda _: [head(status, *fields, length=len(raw)), raw]


def good_token(_: str) -> Iterable[Part]:
    return whole(json.dumps(GOOD_TOKEN))("")


def token_with(**changes: object) -> TokenAnswer:
    return whole(json.dumps(GOOD_TOKEN | changes))


def endless(status: str) -> TokenAnswer:
    def answer(_: str) -> Iterator[Part]:
        yield head(status)
        yield b'{"error": "'
        while True:
            yield b"a" * 1_000_000

    return answer


@functools.cache
def bomb() -> bytes:
    """A quarter of a megabyte of gzip that unpacks to 256 MB."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    head = packer.flush(zlib.Z_FULL_FLUSH)
    block, crc = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH), 0
    for _ in range(256):
        crc = zlib.crc32(bytes(1 << 20), crc)
    return head + 256 * block + b"\x03\x00" + struct.pack("<II", crc, 256 << 20)


def gzip_bomb(_: str) -> Iterable[Part]:
    return [head("200 OK", "Content-Encoding: gzip", length=len(bomb())), bomb()]


def dribble(_: str) -> Iterator[Part]:
    yield head("200 OK", length=10_000)
    while True:
        yield b"a"
        yield 0.1


def chunks_of_one_byte(_: str) -> Iterator[Part]:
    yield head("200 OK", "Transfer-Encoding: chunked")
    while True:
        yield b"1\r\na\r\n" * 20_000


def endless_headers(_: str) -> Iterator[Part]:
    yield b"HTTP/1.1 200 OK\r\n"
    number = 0
    while True:
        yield b"".join(b"X-%d: a\r\n" % n for n in range(number, number + 10_000))
        number += 10_000


def endless_header(_: str) -> Iterator[Part]:
    yield b"HTTP/1.1 200 OK\r\nX: "
    while True:
        yield b"a" * 100_000


def endless_hints(_: str) -> Iterator[Part]:
    while True:
        yield b"HTTP/1.1 103 Early Hints\r\n\r\n" * 2_000


def cookies(_: str) -> Iterable[Part]:
    return whole("{}", "500 No", *(f"Set-Cookie: c{n}=" + "v" * 50 for n in range(1_000)))("")


def never(_: object = None) -> Iterator[Part]:
    yield FOREVER


def assertion_of(form: str) -> str:
    return parse_qs(form)["client_assertion"][0]


def repeated(form: str) -> str:
    """All that the connector sent or has, each in every form."""
    return " | ".join(
        encoded
        for secret in (CLIENT_SECRET, KEY, PRIVATE, ACCESS_TOKEN, *([assertion_of(form)] if form else []))
        for encoded in (secret, quote(secret, safe=""), base64.b64encode(secret.encode()).decode(), secret.upper())
    )


def each_alone(form: str) -> Iterator[str]:
    yield from repeated(form).split(" | ")


def echo_in_reason(form: str) -> Iterable[Part]:
    return [f"HTTP/1.1 401 {repeated(form)}\r\nContent-Length: 0\r\n\r\n".encode()]


def echo_in_garbage(form: str) -> Iterable[Part]:
    return [f"{assertion_of(form)} {KEY}\r\n\r\n".encode()]


def echo_in_coding(form: str) -> Iterable[Part]:
    return [head("200 OK", f"Content-Encoding: {assertion_of(form)}", length=2), b"{}"]


def echo_in_location(form: str) -> Iterable[Part]:
    return [head("302 Found", f"Location: http://[{assertion_of(form)}", length=0)]


def echo_in_body(status: str) -> TokenAnswer:
    def answer(form: str) -> Iterable[Part]:
        text = repeated(form)
        body = json.dumps({"error": text, "error_description": text, "token_type": text, "access_token": [text]})
        return whole(body, status)(form)

    return answer


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


def hostile(
    name: str,
    outcome: str | None,
    *,
    prepare: Callable[[], object] = dict,
    token: TokenAnswer = good_token,
    call: CallAnswer = no_task,
    plain: Callable[[], Iterable[Part]] | None = None,
    hurried: bool = False,
) -> Row:
    def serve() -> AbstractAsyncContextManager[str]:
        prepare()  # what takes longer to make than the product waits
        return HostileC1(token, call, plain).running()

    if hurried:
        operation = functools.partial(next_task, poll_timeout=HURRIED)
        return Row(name, serve, operation, outcome, SECRETS, Bounds(peak=21.0))
    return Row(name, serve, next_task, outcome, SECRETS)


EMPTY_ITEM = b"\x22\x00"
"""Field 4 of GetTask's answer, an annotation, with nothing in it."""
LONGEST = {"seconds": 315_576_000_000, "nanos": 999_999_999}
SHORTEST = {"seconds": -315_576_000_000, "nanos": -999_999_999}

ROWS: list[Row] = [
    hostile("an honest C1", None),
    hostile("token: 200 without an end", "answered 200 with more than 32768 bytes", token=endless("200 OK")),
    hostile("token: 401 without an end", "answered 401 with more than 32768 bytes", token=endless("401 No")),
    hostile("token: 500 without an end", "answered 500 with more than 32768 bytes", token=endless("500 No")),
    hostile("token: a bomb of gzip", "content coding gzip", token=gzip_bomb, prepare=bomb),
    hostile("token: a body byte by byte", "no answer within", token=dribble),
    hostile("token: chunks of one byte", "with more than 32768 bytes|no answer within", token=chunks_of_one_byte),
    hostile("token: no answer", "no answer within", token=never),
    hostile(
        "token: a redirect to the metadata address",
        "answered 307 where 200 was expected",
        token=whole("", "307 Elsewhere", f"Location: {METADATA_ADDRESS}"),
    ),
    hostile("token: HTML", "something other than a token", token=whole("<html>" + "a" * 30_000)),
    hostile("token: JSON 100,000 deep", "more than 32768 bytes", token=whole("[" * 100_000)),
    hostile("token: JSON 30,000 deep", "something other than a token", token=whole('{"access_token":' + "[" * 30_000)),
    hostile("token: a huge token", "token of 20000 characters", token=token_with(access_token="a" * 20_000)),
    hostile("token: a number without an end", "other than a token", token=whole('{"expires_in":' + "9" * 30_000 + "}")),
    hostile("token: a lifetime of 1e308 s", None, token=token_with(expires_in=1e308)),
    hostile("token: a lifetime before its time", None, token=token_with(expires_in=-(10**18))),
    hostile("token: a lifetime that is true", "something other than a token", token=token_with(expires_in=True)),
    hostile("token: headers without an end", "could not be reached", token=endless_headers),
    hostile("token: a header without an end", "could not be reached", token=endless_header),
    hostile("token: hints without an end", "could not be reached|no answer within", token=endless_hints),
    hostile("token: a thousand cookies", "answered 500", token=cookies),
    hostile("token: credentials in a 401", "refused the client ID and secret with 401", token=echo_in_body("401 No")),
    hostile("token: credentials in a 500", "answered 500", token=echo_in_body("500 No")),
    hostile("token: credentials in a 200", "something other than a token", token=echo_in_body("200 OK")),
    hostile("token: credentials in the reason", "with 401", token=echo_in_reason),
    hostile("token: credentials for a status line", "could not be reached", token=echo_in_garbage),
    hostile("token: credentials for a coding", "content coding", token=echo_in_coding),
    hostile("token: credentials for a location", "answered 302|could not be reached", token=echo_in_location),
    hostile("port: garbage in place of TLS", "could not be reached", plain=lambda: [bytes(range(256)) * 1000]),
    hostile("port: plain HTTP", "could not be reached", plain=lambda: whole(json.dumps(GOOD_TOKEN))("")),
    hostile("port: no handshake", "could not be reached|no answer within", plain=never),
    hostile("port: closed at once", "could not be reached", plain=list),
    hostile("call: an answer one byte too long", "RESOURCE_EXHAUSTED", call=answered(lambda: bytes((1 << 19) + 1))),
    hostile("call: an answer of 100 MB", "RESOURCE_EXHAUSTED|DEADLINE", call=answered(lambda: bytes(100 << 20))),
    hostile("call: an answer without an end", "RESOURCE_EXHAUSTED|DEADLINE_EXCEEDED", call=message_without_end),
    hostile(
        "call: answers without an end",
        "INTERNAL|UNIMPLEMENTED|DEADLINE_EXCEEDED",
        call=messages_without_end,
        hurried=True,
    ),
    hostile("call: data over the window", "did not carry out GetTask|could not be reached", call=data_over_the_window),
    hostile(
        "call: a bomb of gzip",
        "did not carry out GetTask|UNIMPLEMENTED",
        call=answered(bomb, GZIP_OK, 1),
        prepare=bomb,
    ),
    hostile("call: a task of empty annotations", None, call=answered(lambda: EMPTY_ITEM * (1 << 18))),
    hostile(
        "call: a task for a quarter of a million resources",
        None,
        call=sync_task(lambda: {"targeted_sync_resources": [{}] * ((1 << 18) - 100)}),
    ),
    hostile("call: a task for many types", None, call=sync_task(lambda: {"sync_resource_type_ids": ["a"] * 170_000})),
    hostile(
        "call: a task of a type half a megabyte long",
        None,
        call=sync_task(lambda: {"sync_resource_type_ids": ["a" * 500_000]}),
    ),
    hostile(
        "call: a task whose id is the token",
        "not 27 letters and digits",
        call=task(lambda: {"task": {"id": ACCESS_TOKEN * 1000}}),
    ),
    hostile(
        "call: the longest times",
        None,
        call=task(lambda: {"next_poll": LONGEST, "next_heartbeat": SHORTEST}),
    ),
    hostile(
        "call: times beyond the type's range",
        None,
        call=task(lambda: {"next_poll": {"seconds": -(2**63), "nanos": -(2**31)}}),
    ),
    hostile("call: details of 1 MB", "GetTask", call=refused(13, "a" * 1_000_000)),
    hostile("call: details of 15 KB", "INTERNAL", call=refused(13, "a" * 15_000)),
    *(
        hostile(f"call: the credentials in details, {number}", "UNAVAILABLE", call=refused(14, f"{each} {each}"))
        for number, each in enumerate(each_alone(""))
    ),
    hostile(
        "call: the credentials in metadata",
        "INTERNAL",
        call=refused(
            13, "no", ("x-echo", repeated("")), ("grpc-status-details-bin", base64.b64encode(b"\xff" * 99).decode())
        ),
    ),
    hostile("call: a status that there is not", "GetTask", call=refused(9999, repeated("")[:5000])),
    hostile("call: details that are no text", "INTERNAL", call=refused(13, "\x00\x1b[2J\u202e" * 500)),
    hostile("call: metadata without an end", "GetTask", call=endless_metadata),
    hostile("call: trailers without an end", "GetTask", call=endless_trailers),
    hostile("call: reset at once", "GetTask", call=reset),
    hostile("call: sent away at once", "GetTask", call=go_away),
    hostile("call: garbage", "GetTask", call=garbage),
    hostile("call: pings and settings without an end", "GetTask|DEADLINE", call=floods, hurried=True),
    hostile("call: no answer", "DEADLINE_EXCEEDED", call=never, hurried=True),
]
