"""A request that is cancelled amid the TLS handshake leaves no connection open, whoever it is for."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest

from buildkite_connector.buildkite import open_buildkite
from buildkite_connector.c1 import C1Settings, open_c1, parse_credentials
from buildkite_connector.network import Network, Proxies, Proxy
from fakes.buildkite_setup import HASTY
from harness.trust import DIRECT
from simulators.sockets import stop_listening
from unit.c1.test_c1_hosts import SECRET

CONNECTED = b"HTTP/1.1 200 Connection established\r\n\r\n"
CLIENT_HELLO = 0x16
PATIENCE = 30.0


class Silence:
    """Says nothing to a TLS handshake, and sees its end."""

    def __init__(self) -> None:
        self.greeted = asyncio.Event()
        self.left = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            begin = await reader.readexactly(1)
            if begin[0] != CLIENT_HELLO:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(CONNECTED)
                await reader.readexactly(1)
            self.greeted.set()
            with suppress(ConnectionError):
                while await reader.read(65_536):
                    pass
            self.left.set()
        finally:
            writer.close()


@asynccontextmanager
async def silence() -> AsyncIterator[tuple[Silence, int]]:
    silent = Silence()
    server = await asyncio.start_server(silent.serve, "127.0.0.1", 0)
    try:
        yield silent, server.sockets[0].getsockname()[1]
    finally:
        stop_listening(server)


@asynccontextmanager
async def buildkite(host: str, network: Network) -> AsyncIterator[Coroutine[Any, Any, object]]:
    """A request under way. The client outlives it."""
    timeouts = replace(HASTY.timeouts, connect=PATIENCE, read=PATIENCE, total=PATIENCE)
    settings = replace(HASTY, api_url=f"https://{host}/v2", timeouts=timeouts)
    async with open_buildkite(settings, network) as opened:
        yield opened.client("bkua_0123456789").token()


@asynccontextmanager
async def c1(host: str, network: Network) -> AsyncIterator[Coroutine[Any, Any, object]]:
    settings = C1Settings(allowed_hosts=host, connect_timeout=PATIENCE)
    credentials = parse_credentials(f"brave-otter@{host}/x", SECRET)
    async with open_c1(settings, network) as opened, opened.client(credentials, "host") as client:
        yield client.authenticate()


@pytest.mark.parametrize("proxied", [False, True])
@pytest.mark.parametrize("requesting", [buildkite, c1])
async def test_a_handshake_that_is_cancelled_leaves_no_connection(
    requesting: Callable[[str, Network], AbstractAsyncContextManager[Coroutine[Any, Any, object]]], proxied: bool
) -> None:
    async with silence() as (silent, port):
        network = Network(proxies=Proxies(https=Proxy("HTTPS_PROXY", "127.0.0.1", port))) if proxied else DIRECT
        async with requesting("acme.conductor.one" if proxied else f"localhost:{port}", network) as request:
            gc.disable()  # it would close the connection, too late
            try:
                asking = asyncio.create_task(request)
                async with asyncio.timeout(PATIENCE):
                    await silent.greeted.wait()
                    asking.cancel()
                    await asyncio.wait({asking})
                    await silent.left.wait()
            finally:
                gc.enable()
    assert asking.cancelled()
