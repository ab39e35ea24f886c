"""What the server of probes and metrics answers, and what it stands, over real sockets."""

import asyncio
import contextlib
import resource
import socket
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Sequence

import pytest

from buildkite_connector.process import http_server
from buildkite_connector.process.http_server import Handler, Response, listen, serve_http

GET = b"GET /probe HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET /probe HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
DEADLINE = 30.0


async def probe() -> Response:
    return Response(200, b"well\n")


@contextlib.asynccontextmanager
async def served(handler: Handler = probe, *, host: str = "127.0.0.1", most: int | None = None) -> AsyncIterator[int]:
    async with serve_http(listen(host, 0), {"/probe": handler}, most) as port:
        yield port


async def exchanged(port: int, sent: bytes) -> bytes:
    """What the server sends in answer, to the end of the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    async with asyncio.timeout(DEADLINE):
        received = await reader.read()
    writer.close()
    return received


def status(received: bytes) -> int:
    return int(received.split(b" ", 2)[1])


@pytest.mark.parametrize(
    ("sent", "expected", "body"),
    [
        (LAST, 200, b"well\n"),
        (b"GET /probe HTTP/1.0\r\n\r\n", 200, b"well\n"),
        (LAST.replace(b"/probe", b"/probe?verbose=1"), 200, b"well\n"),
        (LAST.replace(b"GET", b"HEAD"), 200, b""),
        (LAST.replace(b"/probe", b"/"), 404, b"404: Not Found"),
        (LAST.replace(b"GET", b"DELETE"), 405, b"405: Method Not Allowed"),
        (b"CONNECT /probe HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 405, b"405: Method Not Allowed"),
        (LAST[:-2] + b"Content-Length: 3\r\n\r\nabc", 200, b"well\n"),
        (LAST[:-2] + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", 200, b"well\n"),
        (b"GET /probe HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", 200, b"well\n"),
        (
            b"PUT /probe HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n",
            405,
            b"405: Method Not Allowed",
        ),
        (b"GET /probe HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\n" + b"x" * 99999, 413, b""),
        (b"GET /probe HTTP/1.1\r\nHost: x\r\n" + b"X-A: 0123456789\r\n" * 2000, 431, b""),
        (b"GET /" + b"a" * 20000, 431, b""),
        (b"GET /probe HTTP/1.1\r\n\r\n", 400, b""),  # without a host
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400, b""),  # TLS
        (b"GET /probe HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400, b""),
    ],
)
async def test_each_request_gets_its_answer_and_the_servers_name_is_in_none(
    sent: bytes, expected: int, body: bytes
) -> None:
    async with served() as port:
        received = await exchanged(port, sent)
    head, _, rest = received.partition(b"\r\n\r\n")
    assert (status(received), rest) == (expected, body)
    assert b"\nserver:" not in head.lower()
    assert (b"\nallow: get, head" in head.lower()) is (expected == 405)


async def test_a_connection_carries_several_requests_and_is_closed_when_the_next_one_does_not_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_server, "KEEP_ALIVE_SECONDS", 0.05)
    async with served() as port:
        received = await exchanged(port, GET + GET)
    assert received.count(b"HTTP/1.1 200 ") == 2


@pytest.mark.parametrize(
    "sent", [b"", b"GET /probe HTT", GET[:-2], GET[:-2] + b"Content-Length: 5\r\n\r\nab"], ids=repr
)
async def test_a_request_that_does_not_become_whole_in_time_ends_its_connection(
    monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(http_server, "REQUEST_SECONDS", 0.05)
    async with served() as port:
        assert await exchanged(port, sent) == b""


async def test_an_answer_that_is_not_taken_in_time_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    large = Response(200, b"x" * (64 << 20))

    async def handler() -> Response:
        monkeypatch.setattr(http_server, "REQUEST_SECONDS", 0.0)
        return large

    async with served(handler) as port:
        assert 0 < len(await exchanged(port, GET)) < len(large.body)


async def test_an_error_of_a_handler_is_an_answer_too(caplog: pytest.LogCaptureFixture) -> None:
    async def broken() -> Response:
        raise ValueError("odd")

    async with served(broken) as port:
        assert status(await exchanged(port, LAST)) == 500
    assert [record.message for record in caplog.records] == ["a request cannot be answered"]


async def test_over_the_bound_the_oldest_connection_of_whoever_holds_most_is_closed() -> None:
    async with served(most=8) as port:
        loop = asyncio.get_running_loop()
        other = socket.create_connection(("127.0.0.1", port), source_address=("127.0.0.2", 0))
        other.setblocking(False)
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(100)]
        assert status(await exchanged(port, LAST)) == 200
        async with asyncio.timeout(DEADLINE):
            for reader, _ in silent[:90]:
                assert await reader.read() == b""
            await loop.sock_sendall(other, LAST)
            assert status(await loop.sock_recv(other, 65536)) == 200
        other.close()
        for _, writer in silent:
            writer.close()


async def test_a_client_that_never_stops_asking_stops_nobody() -> None:
    """It always has bytes on the way, so that reading never waits."""
    async with served() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)

        async def ask() -> None:
            while True:
                writer.write(GET * 500)
                await writer.drain()

        async def take() -> None:
            while await reader.read(1 << 20):
                pass

        tasks = [asyncio.create_task(ask()), asyncio.create_task(take())]
        for _ in range(20):
            assert status(await exchanged(port, LAST)) == 200
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        writer.close()


async def test_at_the_end_open_connections_and_the_port_are_closed() -> None:
    async with served() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET)
        await reader.readuntil(b"well\n")
    assert await reader.read() == b""
    writer.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


CHILD = """
import asyncio, os, resource, sys
from buildkite_connector.process.http_server import Response, listen, serve_http
from buildkite_connector.telemetry.logs import LogFormat, LogLevel, configure_logs

async def probe():
    return Response(200, b"well")

async def main():
    configure_logs(LogFormat.TEXT, LogLevel.DEBUG)
    listeners = listen("127.0.0.1", 0)
    async with serve_http(listeners, {"/probe": probe}):
        await asyncio.to_thread(int)  # loads what threads need, while files can be opened
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
        taken = []
        try:
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            pass
        print(listeners[0].getsockname()[1], flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        for each in taken:
            os.close(each)
        await asyncio.to_thread(sys.stdin.readline)

asyncio.run(main())
"""


async def test_that_no_file_can_be_opened_is_logged_once_and_over_when_one_can() -> None:
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", CHILD, stdin=PIPE, stdout=PIPE, stderr=PIPE)
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    port = int((await child.stdout.read(64)).split()[-1])
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as silent:
        for _ in range(min(500, soft // 2)):
            silent.enter_context(socket.create_connection(("127.0.0.1", port), DEADLINE))
        first = await child.stderr.readline()
        child.stdin.write(b"free them\n")
        assert status(await exchanged(port, LAST)) == 200
        _, rest = await child.communicate(b"end\n")
    assert b"no connection can be accepted" in first
    assert rest == b""


def addresses(listeners: Sequence[socket.socket]) -> set[str]:
    return {listener.getsockname()[0] for listener in listeners}


IPV6 = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")


@IPV6
@pytest.mark.parametrize("host", ["", "::", "[::]", "0.0.0.0"])  # noqa: S104 - what is tested
async def test_what_stands_for_all_addresses_listens_on_both_families(host: str) -> None:
    async with served(host=host) as port:
        for address in ("127.0.0.1", "::1"):
            _, writer = await asyncio.open_connection(address, port)
            writer.close()


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::"])  # noqa: S104 - what is tested
async def test_without_ipv6_it_stands_for_all_of_ipv4(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    async with served(host=host) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()


@IPV6
@pytest.mark.parametrize(("host", "expected"), [("::1", {"::1"}), ("[::1]", {"::1"}), ("127.0.0.1", {"127.0.0.1"})])
async def test_an_address_is_that_address_alone(host: str, expected: set[str]) -> None:
    listeners = listen(host, 0)
    async with serve_http(listeners, {}):
        assert addresses(listeners) == expected


async def test_a_name_is_all_of_its_addresses_that_this_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(*_: object, **__: object) -> list[tuple[object, ...]]:
        stream = (socket.SOCK_STREAM, 6, "")
        return [
            (socket.AF_INET, *stream, ("192.0.2.7", 0)),  # of documentation, nobody's
            (socket.AF_INET, *stream, ("127.0.0.1", 0)),
            (socket.AF_INET, *stream, ("127.0.0.2", 0)),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", found)
    listeners = listen("both", 0)
    async with serve_http(listeners, {}):
        assert addresses(listeners) == {"127.0.0.1", "127.0.0.2"}
        assert len({listener.getsockname()[1] for listener in listeners}) == 1


@pytest.mark.parametrize("host", ["192.0.2.7", "no-such-host.invalid", "a..b", "x" * 100])
def test_an_address_that_this_machine_has_not_is_an_error_of_the_system(host: str) -> None:
    with pytest.raises(OSError, match=r".+"):
        listen(host, 0)
