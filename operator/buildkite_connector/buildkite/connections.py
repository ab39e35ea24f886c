"""Connections to the API, kept open and shared by all requests, each behind a client of its own.

httpx keeps its connections in one pool and looks at every one of them for every request: with 32 at
work that takes four times the processor time of the request itself. A client with a single connection
has nothing to look through, so there is one for each request that is out at the same time.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Self
from urllib.parse import urlsplit

import httpcore
import httpx

from buildkite_connector.network import Network, NoCookies, Proxy
from buildkite_connector.network.connection_errors import close_half_open

KEPT = 64
"""How many idle connections are kept."""

READ_BYTES = 16 * 1024
"""Bytes that are read of a connection at once.

All that one read brings is worked off before another task gets its turn. 64 KB, as httpcore has it, hold 2,600
answers of 100 Continue, and those hold up the event loop for more than 100 ms.
"""

HEADER_BYTES = 64 * 1024
"""Bytes of an answer's headers. They are parsed in one go: 100 KB, as httpcore has it, hold up the event loop too."""

WRITTEN = "http11.send_request_headers.started"
"""What httpcore tells just before a request is written."""

httpcore.AsyncHTTP11Connection.READ_NUM_BYTES = READ_BYTES
httpcore.AsyncHTTP11Connection.MAX_INCOMPLETE_EVENT_SIZE = HEADER_BYTES


class Connections:
    """Hands out clients, the last one used first, so that few connections do most of the work.

    For `url` alone, through the proxy that `network` has for it: None for a loopback address, the only one that is
    reached over plain http.
    """

    def __init__(self, url: str, network: Network, may_send: Callable[[], None] = lambda: None) -> None:
        """`may_send` is called before each request and again as it is written, which may be a connect later. It raises
        Failure when this process may not act now.
        """
        self._url = url
        self._network = network
        self._may_send = may_send
        self._idle: list[httpx.AsyncClient] = []
        self._tls: ssl.SSLContext | None = None
        self._loading = asyncio.Lock()
        self.proxy: Proxy | None = None
        """What lies between, known from the first request on."""

    @classmethod
    async def open(cls, url: str, network: Network, may_send: Callable[[], None]) -> Self:
        connections = cls(url, network, may_send)
        await connections._load()
        return connections

    def elsewhere(self, url: str) -> "Connections":
        """Connections for another URL, through the same network. Nothing is loaded before the first request."""
        return Connections(url, self._network, self._may_send)

    async def _load(self) -> ssl.SSLContext:
        """Certificates and the transport, in a thread, as that takes its time."""
        async with self._loading:
            return await asyncio.to_thread(self._load_now) if self._tls is None else self._tls

    def _load_now(self) -> ssl.SSLContext:
        plain = urlsplit(self._url).scheme == "http"
        self.proxy = self._network.proxy_for(self._url)
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if plain else self._network.trust.ssl_context()
        self._idle.append(self._new(self._tls))
        return self._tls

    @asynccontextmanager
    async def one(self) -> AsyncIterator[httpx.AsyncClient]:
        """A client for one request; closed when that fails.

        A request cancelled while it connects would otherwise leave its client with a connection that is
        neither free nor closed, and the next request waiting for it.
        """
        self._may_send()
        tls = await self._load() if self._tls is None else self._tls
        client = self._idle.pop() if self._idle else self._new(tls)
        try:
            yield client
        except BaseException:
            await client.aclose()
            raise
        if len(self._idle) < KEPT:
            self._idle.append(client)
        else:
            await client.aclose()

    async def trace(self, event: str, _: object) -> None:
        """httpcore's extension of this name for each request: it tells what the connection is about to do."""
        if event == WRITTEN:
            self._may_send()

    async def close(self) -> None:
        while self._idle:
            await self._idle.pop().aclose()

    def _new(self, tls: ssl.SSLContext) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            verify=tls,
            proxy=self.proxy.url if self.proxy else None,
            trust_env=False,
            cookies=NoCookies(),
            event_hooks={"request": [close_half_open]},
            follow_redirects=False,
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=30.0),
        )
