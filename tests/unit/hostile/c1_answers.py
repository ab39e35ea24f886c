"""The answers of a hostile C1's token endpoint, and the call that gets them."""

import base64
import functools
import json
import struct
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, quote

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buildkite_connector.c1 import C1Settings, RestClient, open_c1, parse_credentials
from buildkite_connector.model.spec import C1Access
from harness.trust import reaching
from unit.hostile.c1_server import TokenAnswer
from unit.hostile.http_server import FOREVER, Part


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


CONNECT_TIMEOUT = 1.5
DEADLINE = 4.5
"""Seconds for answers that another bound ends, on a machine however busy."""


HURRIED = 0.5
"""Seconds for answers that only the deadline ends, a fraction of the usual; so memory may grow by a fraction."""


GOOD_TOKEN = {"access_token": ACCESS_TOKEN, "token_type": "Bearer", "expires_in": 3600}


@asynccontextmanager
async def next_task(
    address: str, token_timeout: float = DEADLINE, poll_timeout: float = 2 * DEADLINE
) -> AsyncIterator[Callable[[], Awaitable[object]]]:
    """A connector asks for a task, which takes a token first."""
    host, _, ca_file = address.partition(" ")
    settings = C1Settings(
        allowed_hosts=host,
        connect_timeout=CONNECT_TIMEOUT,
        call_timeout=token_timeout,
        poll_timeout=poll_timeout,
    )
    credentials = parse_credentials(f"otter@{host}/ccc", CLIENT_SECRET)
    async with open_c1(settings, reaching(Path(ca_file))) as c1, c1.client(credentials, "acme.acme") as connector:
        yield connector.next_task


@asynccontextmanager
async def rest_call(
    address: str, call: Callable[[RestClient], Awaitable[object]], call_timeout: float = DEADLINE
) -> AsyncIterator[Callable[[], Awaitable[object]]]:
    """A client of the REST API makes this call, which takes a token first."""
    host, _, ca_file = address.partition(" ")
    settings = C1Settings(allowed_hosts=host, connect_timeout=CONNECT_TIMEOUT, call_timeout=call_timeout)
    async with open_c1(settings, reaching(Path(ca_file))) as c1:
        client = c1.rest(C1Access(f"otter@{host}/spc", CLIENT_SECRET))
        yield lambda: call(client)
        await client.aclose()


def after_a_token(answer: TokenAnswer, *others: TokenAnswer) -> TokenAnswer:
    """The token endpoint is honest; the first request after that gets `answer`, each next one the next of `others`.

    After the last of them, it is `answer` again.
    """
    left = iter([answer, *others])

    def answers(form: str) -> Iterable[Part]:
        for part in good_token(form) if "grant_type" in form else next(left, answer)(form):
            # The server closes each connection: without that header, a client's next request may go into it.
            yield part.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1) if isinstance(part, bytes) else part

    return answers


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
    return whole("{}", "500 No", *(f"Set-Cookie: c{n}=" + "v" * 50 for n in range(700)))("")


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
