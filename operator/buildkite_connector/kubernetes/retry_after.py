"""The API server's Retry-After: one rule for lists, watches, statuses, Secrets, events and Leases.

It holds for an answer 429 or 5xx, as a number or a date, and for no longer than LONGEST_RETRY_AFTER.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime

import aiohttp

from buildkite_connector.timing.server_time import retry_after

LONGEST_RETRY_AFTER = 60.0
"""Seconds. The API server asks for one or a few; something in between that asks for a day must not stop a connector."""

ASKS_TO_WAIT = "asks to wait"
_WORTH_A_LINE = 2
_logger = logging.getLogger(__name__)


def bounded_retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait; None where the answer asks for none."""
    named = {name.lower(): value for name, value in headers.items()}
    return retry_after(named, datetime.now(UTC), LONGEST_RETRY_AFTER)


class HoldBack:
    """A middleware of kopf's HTTP session: after an answer with Retry-After, no request leaves before that time.

    kopf itself believes any number in a 429, breaks on a date there, and reads it in no other answer. An answer with
    the header is a failed connection to kopf, which it tries again. Logged when it comes twice in a row.
    """

    def __init__(self) -> None:
        self._until = 0.0
        self._in_a_row = 0

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        await asyncio.sleep(self._until - time.monotonic())
        response = await handler(request)
        if "Retry-After" not in response.headers or (response.status != 429 and response.status < 500):
            self._in_a_row = 0
            return response
        self._in_a_row += 1
        if self._in_a_row == _WORTH_A_LINE:
            _logger.warning("the API server asks to wait, again and again", extra={"status": response.status})
        self._until = time.monotonic() + (bounded_retry_after(response.headers) or 0.0)
        response.close()
        raise aiohttp.ClientConnectionError(f"the API server answers {response.status} and {ASKS_TO_WAIT}")
