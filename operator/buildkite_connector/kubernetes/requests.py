"""A connection to the Kubernetes API: gives every request a deadline, and tells trouble from refusal.

What may pass (connections, 429, 5xx, an answer that cannot be read) is a Failure that the connector tries again. What
the API server will not do is `ApiError`, whose meaning only the caller knows.

A Retry-After is passed on as `Failure.retry_after` to whoever tries again (see `retry_after`).
"""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

import aiohttp
from kubernetes.aio.client import ApiClient, ApiException, Configuration

from buildkite_connector.kubernetes.access import ClientConfig
from buildkite_connector.kubernetes.api_session import ApiSession
from buildkite_connector.kubernetes.retry_after import bounded_retry_after
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.redactor import Redactor

UNKNOWN_FIELD = "failed to create typed patch object"
"""What the API server says, with code 500, when the definition has not got a field of what is applied."""

REQUESTS_AT_ONCE = 16
"""Requests for connectors that are under way at once. A start of 1,000 has thousands to make; with all under way the
event loop comes round so slowly that what C1 answers at once seems to take longer than its deadline."""
_UNREADABLE = (ValueError, TypeError, AttributeError, LookupError, RecursionError)
"""What reading an answer of another shape raises."""
_LONGEST_REFUSAL = 512
"""Characters of the API server's message that are shown."""
_logger = logging.getLogger(__name__)
_T = TypeVar("_T")


class ApiError(Exception):
    """The API server answered, and said no. `status` is the HTTP code; the text is its own, made fit to be shown."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{message} ({status})")
        self.status = status
        self.message = message


class _LoggingClient(ApiClient):
    """Logs each request at debug level, without query, headers and bodies, which may hold what is secret."""

    async def call_api(self, method: str, url: str, *args: Any, **options: Any) -> Any:
        begun = time.perf_counter()
        result: dict[str, object] = {}
        try:
            response = await super().call_api(method, url, *args, **options)
            result = {"status": response.status}
        except BaseException as error:
            result = {"error": type(error).__name__}
            raise
        else:
            return response
        finally:
            milliseconds = round((time.perf_counter() - begun) * 1000)
            about = {"method": method, "path": urlsplit(url).path, **result, "milliseconds": milliseconds}
            _logger.debug("request to the Kubernetes API", extra=about)


def always() -> None:
    """Where no other process could act."""


@dataclass(frozen=True, slots=True)
class Connection:
    """Made by `open_connection`, for one event loop.

    `may_act` is called before each request for a connector, and raises Failure when this process may not act.
    """

    client: ApiClient
    session: ApiSession
    request_seconds: float
    may_act: Callable[[], None] = always
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(REQUESTS_AT_ONCE))

    async def call_in_turn(self, what: str, send: Callable[[], Awaitable[_T]]) -> _T:
        """As `call`, for a connector: at most REQUESTS_AT_ONCE of these at once, and only while this process may act.

        The wait for a turn counts to no deadline.
        """
        async with self.turns:
            self.may_act()
            return await self.call(what, send)

    async def call(self, what: str, send: Callable[[], Awaitable[_T]]) -> _T:
        """One request. Of a 401, `ApiSession` takes care.

        `what` is what it is for: "read a Secret". Raises ApiError and Failure (remedy: retry).
        """
        try:
            return await send()
        except ApiException as error:
            if not _may_pass(error):
                raise ApiError(error.status or 0, self._quote(_reason(error))) from None
            trouble, seconds = self._quote(_reason(error)), bounded_retry_after(error.headers or {})
        except (aiohttp.ClientError, OSError) as error:
            trouble, seconds = self._quote(str(error) or type(error).__name__), None
        except _UNREADABLE as error:
            # Its text may repeat the answer, which may be a Secret.
            trouble, seconds = f"its answer is not what was expected ({type(error).__name__}).", None
        raise Failure(
            Reason.KUBERNETES_UNAVAILABLE,
            f"The Kubernetes API did not let the operator {what} now, it will be tried again: {trouble}",
            retry_after=seconds,
        )

    def _quote(self, text: str) -> str:
        """What the API server says, without the operator's own token for it."""
        return Redactor(self.session.access.secrets).quote(text, _LONGEST_REFUSAL)


@asynccontextmanager
async def open_connection(
    login: ClientConfig, request_seconds: float, may_act: Callable[[], None] = always
) -> AsyncIterator[Connection]:
    """The API that `login` leads to, for the event loop that this runs in. Each request gets `request_seconds`."""
    access = await login.load()
    async with _LoggingClient(Configuration(host=access.server)) as client:
        session = ApiSession(login, access)
        client.rest_client.pool_manager = session  # which the client closes
        yield Connection(client, session, request_seconds, may_act)


def _reason(error: ApiException) -> str:
    """The API server's own sentence."""
    try:
        message = json.loads(error.body or "")["message"]
    except (ValueError, KeyError, TypeError, RecursionError):
        message = error.reason or "no reason given"
    return str(message)


def _may_pass(error: ApiException) -> bool:
    """`status` 0: the answer could not be read."""
    status = error.status or 0
    return status in {0, 429} or (status >= 500 and UNKNOWN_FIELD not in str(error.body))
