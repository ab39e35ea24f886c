"""The operator's `/healthz`, `/readyz` and `/metrics`.

They are served before anything else, and cost no request to Buildkite, C1 or Kubernetes. The process is healthy while
the event loop runs and each part has reported lately.
"""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from prometheus_client import CONTENT_TYPE_LATEST

from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.process.http_server import Handler, Response, listen, serve_http
from buildkite_connector.timing.clock import Clock

logger = logging.getLogger(__name__)

VARIABLE = "BUILDKITE_CONNECTOR_HTTP_ADDRESS"
DEFAULT_ADDRESS = ":8080"

LOOP_TICK = 1.0
"""Seconds between two measurements of the event loop's delay."""
LONGEST_SILENCE = 60.0
"""Seconds without a report after which a part counts as stuck."""

HealthCheck = Callable[[], str | None]
"""Returns the problem; None when there is none."""


@asynccontextmanager
async def serve(
    address: str | None,
    alive: Mapping[str, HealthCheck],
    ready: Mapping[str, HealthCheck],
    scrape: Callable[[], bytes] | None,
) -> AsyncIterator[int | None]:
    """Serve for as long as the context lasts; yield the port, None when nothing is served.

    `address`: `host:port`, or `:port` for all addresses; empty: no server; None: DEFAULT_ADDRESS, or no server where
    that is taken, as two operators on one host have it. `alive` and `ready` are asked at each probe, in this event
    loop. Raises Failure when an address that was asked for cannot be used.
    """
    if address == "":
        yield None
        return
    host, port = parse_address(address or DEFAULT_ADDRESS)
    try:
        listeners = await asyncio.to_thread(listen, host, port)
    except OSError as error:
        unusable = _unusable(address or DEFAULT_ADDRESS, error.strerror or str(error))
        if address is not None:
            raise unusable from None
        logger.warning("health and metrics are not served: %s", unusable.message)
        yield None
        return
    handlers: dict[str, Handler] = {"/healthz": _probe(alive), "/readyz": _probe(ready)}
    collection = _Collection(scrape) if scrape is not None else None
    if collection is not None:
        handlers["/metrics"] = collection.answer
    async with serve_http(listeners, handlers) as bound:
        logger.info("serving health and metrics", extra={"port": bound})
        try:
            yield bound
        finally:
            if collection is not None:
                collection.end()


def parse_address(address: str) -> tuple[str, int]:
    """Return host (empty for all addresses) and port. Raises Failure naming the variable."""
    found = re.fullmatch(r"(?:\[([^\[\]]*)\]|([^:\[\]]*)):([0-9]{1,5})", address.strip())
    if found is None or int(found[3]) > 65535:
        raise _unusable(address, "expected host:port, [IPv6 address]:port, or :port for all addresses")
    return found[1] or found[2] or "", int(found[3])


def _probe(checks: Mapping[str, HealthCheck]) -> Handler:
    async def answer() -> Response:
        wrong = {name: what for name, check in checks.items() if (what := check()) is not None}
        lines = [f"{name}: {wrong.get(name, 'ok')}" for name in checks]
        return Response(503 if wrong else 200, "\n".join((*lines, "")).encode())

    return answer


class _Collection:
    """Collects metrics in a thread, for at most half of the time, as anyone may scrape.

    Requests that come during a collection share its result.
    """

    def __init__(self, scrape: Callable[[], bytes]) -> None:
        self._scrape = scrape
        self._collecting: asyncio.Task[bytes] | None = None
        self._not_before = 0.0

    async def answer(self) -> Response:
        if self._collecting is None or self._collecting.done():
            self._collecting = asyncio.create_task(self._collect())
        return Response(200, await asyncio.shield(self._collecting), CONTENT_TYPE_LATEST)

    def end(self) -> None:
        if self._collecting is not None:
            self._collecting.cancel()

    async def _collect(self) -> bytes:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._not_before - loop.time()))
        began = loop.time()
        try:
            return await asyncio.to_thread(self._scrape)
        finally:
            self._not_before = 2 * loop.time() - began


class LoopMonitor:
    """Measures the delay of the event loop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._longest = 0.0
        self.last = clock.monotonic()
        """When the event loop last ran, in monotonic seconds."""

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            due = self._clock.monotonic() + LOOP_TICK
            await asyncio.sleep(LOOP_TICK)
            self.last = self._clock.monotonic()
            self._longest = max(self._longest, self.last - due)

    def take_longest(self) -> float:
        """The longest delay since the last call, in seconds."""
        longest, self._longest = self._longest, 0.0
        return longest


def heard_lately(what: str, last: Callable[[], float], clock: Clock, longest: float = LONGEST_SILENCE) -> HealthCheck:
    """Return a check that fails when `last` (monotonic seconds) is longer ago than `longest` seconds."""

    def check() -> str | None:
        age = clock.monotonic() - last()
        return f"{what} last reported {age:.0f} s ago" if age > longest else None

    return check


def _unusable(address: str, why: str) -> Failure:
    return Failure(
        Reason.SPEC_INVALID,
        f"The address {address!r} of {VARIABLE} cannot be used: {why}. Set another, or set it empty for no server.",
        remedy=Remedy.EDIT,
    )
