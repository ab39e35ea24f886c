"""Connections to the API, kept open and shared by all requests, each behind a client of its own.

httpx keeps its connections in one pool and looks at every one of them for every request: with 32 at
work that takes four times the processor time of the request itself. A client with a single connection
has nothing to look through, so there is one for each request that is out at the same time.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http.cookiejar import CookieJar
from typing import Any

import httpx

KEPT = 64
"""How many idle connections are kept."""


async def trust(scheme: str) -> ssl.SSLContext:
    """Whose certificates count: SSL_CERT_FILE's, or else the usual authorities'. For plain http, nobody's."""
    if scheme == "http":
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return await asyncio.to_thread(httpx.create_ssl_context)


class Connections:
    """Hands out clients, the last one used first, so that few connections do most of the work.

    `tls` checks certificates (`trust`); proxies are the environment's (HTTPS_PROXY, NO_PROXY).
    """

    def __init__(self, tls: ssl.SSLContext) -> None:
        self._tls = tls
        self._idle: list[httpx.AsyncClient] = []

    @asynccontextmanager
    async def one(self) -> AsyncIterator[httpx.AsyncClient]:
        """A client for one request at a time."""
        client = self._idle.pop() if self._idle else self._new()
        try:
            yield client
        finally:
            if len(self._idle) < KEPT:
                self._idle.append(client)
            else:
                await client.aclose()

    async def close(self) -> None:
        while self._idle:
            await self._idle.pop().aclose()

    def _new(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            verify=self._tls,
            cookies=_NoCookies(),
            follow_redirects=False,
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=30.0),
        )


class _NoCookies(CookieJar):
    """Keeps nothing: what answers one connector must not come back with another's requests."""

    def extract_cookies(self, response: Any, request: Any) -> None: ...
