"""The operator's HTTP server: `/healthz`, `/readyz` and `/metrics`.

It answers before anything else is up, asks nobody, and costs no request to Buildkite, C1 or Kubernetes.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from buildkite_connector.model.failure import Failure, Reason, Remedy

logger = logging.getLogger(__name__)

VARIABLE = "BUILDKITE_CONNECTOR_HTTP_ADDRESS"
DEFAULT_ADDRESS = ":8080"
CLOSE_SECONDS = 1.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Check = Callable[[], str | None]
"""Gives what is wrong, None for nothing."""


@asynccontextmanager
async def serve(
    address: str | None, alive: Mapping[str, Check], ready: Mapping[str, Check], scrape: Callable[[], bytes] | None
) -> AsyncIterator[int | None]:
    """Serve for as long as the context lasts; gives the port, None when nothing is served.

    `address`: `host:port`, or `:port` for all addresses; empty: no server; None: DEFAULT_ADDRESS, or no server where
    that is taken, as two operators on one host have it. `alive` and `ready` are asked at each probe, in this event
    loop. Raises Failure when an address that was asked for cannot be used.
    """
    if address == "":
        yield None
        return
    host, port = parse_address(address or DEFAULT_ADDRESS)
    app = web.Application()
    app.router.add_get("/healthz", _probe(alive))
    app.router.add_get("/readyz", _probe(ready))
    if scrape is not None:
        app.router.add_get("/metrics", _metrics(scrape))
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=CLOSE_SECONDS)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError as error:
            unusable = _unusable(address or DEFAULT_ADDRESS, str(error))
            if address is not None:
                raise unusable from None
            logger.warning("health and metrics are not served: %s", unusable.message)
            yield None
        else:
            bound: int = runner.addresses[0][1]
            logger.info("serving health and metrics", extra={"port": bound})
            yield bound
    finally:
        await runner.cleanup()


def parse_address(address: str) -> tuple[str | None, int]:
    """Host (None for all) and port. Raises Failure naming the variable."""
    host, colon, port = address.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise _unusable(address, "expected host:port, or :port for all addresses")
    return host.removeprefix("[").removesuffix("]") or None, int(port)


def _probe(checks: Mapping[str, Check]) -> Handler:
    async def answer(_: web.Request) -> web.Response:
        wrong = {name: what for name, check in checks.items() if (what := check()) is not None}
        lines = [f"{name}: {wrong.get(name, 'ok')}" for name in checks]
        return web.Response(text="\n".join((*lines, "")), status=503 if wrong else 200)

    return answer


def _metrics(scrape: Callable[[], bytes]) -> Handler:
    turn = asyncio.Lock()

    async def answer(_: web.Request) -> web.Response:
        async with turn:  # one collection at a time: a thousand connectors take a moment, in a thread
            body = await asyncio.to_thread(scrape)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    return answer


def _unusable(address: str, why: str) -> Failure:
    return Failure(
        Reason.SPEC_INVALID,
        f"The address {address!r} of {VARIABLE} cannot be used: {why}. Set another, or leave it empty for no server.",
        remedy=Remedy.EDIT,
    )
