"""The connection to the Kubernetes API: one HTTP session for the operator's calls and for kopf's watch.

Each request has a deadline. Credentials are read again before they expire and after a 401. A temporary error (a broken
connection, 429, 5xx, an unreadable answer) is a Failure that the caller retries, with the server's Retry-After. What
the API server rejects is an `ApiError`, whose meaning only the caller knows.
"""

import asyncio
import base64
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit
from weakref import WeakSet

import aiohttp
from kubernetes.aio.client import ApiClient, Configuration

from buildkite_connector.kubernetes.access import Access, ClientConfig
from buildkite_connector.kubernetes.schema import FIELD_MANAGER
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.redactor import Redactor
from buildkite_connector.network import Proxy
from buildkite_connector.network.connection_errors import dropped, named, refused_by_proxy
from buildkite_connector.timing.clock import retry_after

CONNECT_SECONDS = 10.0
LONGEST_API_SERVER_WAIT = 60.0
"""Upper bound in seconds for the API server's Retry-After."""
REQUESTS_AT_ONCE = 16
"""Concurrent requests for connectors. A start of 1,000 makes thousands; all at once would delay the event loop so much
that calls to C1 exceed their deadlines."""
UNKNOWN_FIELD = "failed to create typed patch object"
"""The API server's message, with code 500, when the CRD lacks a field of an applied object."""

_AGAIN_SECONDS = 10.0
"""Seconds between two tries to read the credentials again; the old ones are used meanwhile."""
_BUFFER_BYTES = 2 * 1024 * 1024
"""Bound of a line: an event of a watch may be longer than aiohttp's default."""
_ROUNDS_TO_CLOSE = 3
"""Rounds of the event loop after which an aborted transport is closed."""
UNREADABLE = (ValueError, TypeError, AttributeError, LookupError, RecursionError)
"""Raised by reading an answer of an unexpected shape."""
_LONGEST_MESSAGE = 512
"""Characters of the API server's message that are shown."""

_logger = logging.getLogger(__name__)
_T = TypeVar("_T")


class ApiError(Exception):
    """The API server rejected a request. `status` is the HTTP code; the text is the server's, bounded and redacted."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{message} ({status})")
        self.status = status
        self.message = message


class ApiUnreachableError(aiohttp.ClientConnectionError):
    """No connection, or no answer in time."""


def always() -> None:
    """For a process that acts without an election."""


class Connection:
    """Made by `client.connect`, for one event loop. `access`: the address and credentials in use.

    `may_act` is called before each request for a connector, and raises Failure when this process may not act.
    """

    def __init__(
        self, login: ClientConfig, access: Access, request_seconds: float = 15.0, may_act: Callable[[], None] = always
    ) -> None:
        """`access`: the result of `login.load()`."""
        self._login = login
        self._request_seconds = request_seconds
        self._may_act = may_act
        self._permits = asyncio.Semaphore(REQUESTS_AT_ONCE)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), trust_env=False, read_bufsize=_BUFFER_BYTES
        )
        self._transports = WeakSet[asyncio.Transport]()
        self._renewing: asyncio.Task[Failure | None] | None = None
        self._client = ApiClient(Configuration(host=access.server))
        self._client.user_agent = FIELD_MANAGER
        self.access = access
        self._due: float | None = None
        self._take(access)

    @property
    def headers(self) -> MutableMapping[str, str]:
        """Those of every request; kopf adds its User-Agent."""
        return self._session.headers

    async def close(self) -> None:
        """Leaves no connection that waits for the server's close of TLS."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait({self._renewing})
        await self._session.close()
        for transport in list(self._transports):
            transport.abort()
        for _ in range(_ROUNDS_TO_CLOSE):
            await asyncio.sleep(0)

    async def call(
        self,
        what: str,
        method: str,
        path: str,
        read: Callable[[Any], _T],
        *,
        for_connector: bool = False,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        **names: str,
    ) -> _T:
        """What `read` makes of the JSON that the API server answers with.

        The `{name}`s in `path` are replaced by `names`. `body`: JSON, or a model of the Kubernetes client.
        `for_connector`: at most REQUESTS_AT_ONCE run concurrently, and only while this process may act; the wait counts
        towards no deadline. For `what` and errors see `attempt`.
        """

        async def parse(response: aiohttp.ClientResponse) -> _T:
            async with response:
                return read(json.loads(await response.read()))

        method, url, headers, data, _ = await self._client.param_serialize(
            method,
            path,
            path_params=names,
            query_params=list((query or {}).items()),
            header_params={"Accept": accept, "Content-Type": content_type},
            body=body,
        )
        options = {
            "headers": headers,
            "data": None if body is None else json.dumps(data).encode(),
            "timeout": self._request_seconds,
        }
        if not for_connector:
            return await self.attempt(what, parse, method, url, **options)
        async with self._permits:
            self._may_act()
            return await self.attempt(what, parse, method, url, **options)

    async def attempt(
        self,
        what: str,
        read: Callable[[aiohttp.ClientResponse], Awaitable[_T]],
        method: str,
        url: str,
        **options: Any,
    ) -> _T:
        """What `read` makes of the response. `what`: the purpose, such as "read a Secret".

        Raises ApiError and Failure (remedy: retry). Neither contains the answer, which may be a Secret. The request is
        logged at debug level without query, headers and bodies.
        """
        begun = time.perf_counter()
        result: dict[str, object] = {"error": "CancelledError"}
        try:
            response = await self.request(method, url, **options)
            result = {"status": response.status}
            if response.status < 400:
                return await read(response)
            async with response:
                text = await response.text(errors="replace")
            rejected = self._rejection(response.status, response.reason, text)
            if response.status != 429 and (response.status < 500 or UNKNOWN_FIELD in text):
                raise rejected
            trouble, seconds = rejected.message, bounded_retry_after(response.headers)
        except (aiohttp.ClientError, OSError) as error:
            result = {"error": type(error).__name__}
            trouble, seconds = self.quote(str(error) or type(error).__name__), None
        except UNREADABLE as error:
            trouble, seconds = f"its response has an unexpected form ({type(error).__name__}).", None
        finally:
            milliseconds = round((time.perf_counter() - begun) * 1000)
            about = {"method": method.upper(), "path": urlsplit(url).path, **result, "milliseconds": milliseconds}
            _logger.debug("request to the Kubernetes API", extra=about)
        raise Failure(
            Reason.KUBERNETES_UNAVAILABLE,
            f"The Kubernetes API did not let the operator {what}; the operator retries: {trouble}",
            retry_after=seconds,
        )

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: aiohttp.ClientTimeout | float | None = None,  # noqa: ASYNC109 - as aiohttp has it
        **options: Any,
    ) -> aiohttp.ClientResponse:
        """As `aiohttp.ClientSession.request`; a timeout in seconds is the total. Raises aiohttp.ClientError."""
        given = timeout if isinstance(timeout, aiohttp.ClientTimeout) else aiohttp.ClientTimeout(total=timeout)
        # As `connect`, it includes the look-up of the name in DNS.
        limits = aiohttp.ClientTimeout(total=given.total, connect=CONNECT_SECONDS, sock_read=given.sock_read)
        options = {**options, "timeout": limits}
        if self._due is not None and time.monotonic() >= self._due:
            await self._renew(self.access)
        access = self.access
        response = await self._send(method, url, headers or {}, options)
        if response.status != 401:
            return response
        failure = await self._renew(access)
        if failure is None and self.access == access:
            return response
        response.release()
        if failure is not None:
            raise ApiUnreachableError(failure.message)
        return await self._send(method, url, headers or {}, options)

    async def _send(
        self, method: str, url: str, headers: Mapping[str, str], options: Mapping[str, Any]
    ) -> aiohttp.ClientResponse:
        access = self.access
        own = self._for_proxy if url.startswith("http:") else {}  # there is no CONNECT that could carry it
        try:
            response = await self._session.request(
                method,
                url,
                headers=[*headers.items(), *access.headers, *own.items()],
                ssl=self._context,
                server_hostname=access.tls_server_name,
                proxy=None if access.proxy is None else f"http://{access.proxy}",
                proxy_headers=self._for_proxy,
                **options,
            )
        except (aiohttp.ClientError, TimeoutError) as error:
            sentence = _in_words(error, _address(url), access.proxy, options["timeout"])
            if sentence is None:
                raise
            raise ApiUnreachableError(sentence) from None
        if response.connection is not None and response.connection.transport is not None:
            self._transports.add(response.connection.transport)
        return response

    async def _renew(self, used: Access) -> Failure | None:
        """Read the credentials again, unless that happened since `used`. Return the failure, if any."""
        if self.access is not used:
            return None
        if self._renewing is None:
            self._renewing = asyncio.create_task(self._load_again())
        return await asyncio.shield(self._renewing)

    async def _load_again(self) -> Failure | None:
        try:
            self._take(await self._login.load())
        except Failure as failure:
            _logger.warning("the credentials for the Kubernetes API cannot be renewed: %s", failure.message)
            self._due = time.monotonic() + _AGAIN_SECONDS
            return failure.without_traceback()
        finally:
            self._renewing = None
        return None

    def _take(self, access: Access) -> None:
        if access.server != self.access.server:
            raise Failure(
                Reason.KUBERNETES_REFUSED,
                f"The API server is now {access.server} instead of {self.access.server}:"
                " restart the operator to use it.",
            )
        self.access = access
        self._for_proxy = _login_at(access.proxy)
        # Connections are kept for each context apart, so that another client certificate opens new ones.
        self._context = access.tls.context()
        self._due = None if access.renew_after is None else time.monotonic() + access.renew_after

    def _rejection(self, status: int, reason: str | None, body: str) -> ApiError:
        """The API server's own sentence."""
        try:
            message = json.loads(body)["message"]
        except UNREADABLE:
            message = reason or "no reason given"
        return ApiError(status, self.quote(str(message)))

    def quote(self, text: str) -> str:
        """Quote the API server, without the operator's own token."""
        return Redactor(self.access.secrets).quote(text, _LONGEST_MESSAGE)


def _login_at(proxy: Proxy | None) -> dict[str, str]:
    """The header with user name and password for a proxy; in the URL, error messages would show them."""
    if proxy is None or not (proxy.user or proxy.password):
        return {}
    return {"Proxy-Authorization": f"Basic {base64.b64encode(f'{proxy.user}:{proxy.password}'.encode()).decode()}"}


def _address(url: str) -> str:
    parts = urlsplit(url)
    return parts.netloc if parts.port else f"{parts.netloc}:{443 if parts.scheme == 'https' else 80}"


def _in_words(error: Exception, server: str, proxy: Proxy | None, timeout: aiohttp.ClientTimeout) -> str | None:
    """Describe an error; None where its own text is good enough."""
    via = server if proxy is None else f"{server} through the proxy {named(proxy)}"
    match error:
        case aiohttp.ClientHttpProxyError() if proxy is not None:
            refusal = refused_by_proxy(proxy, error.status, server)
            return f"{refusal.what}. {refusal.advice}"
        case aiohttp.ClientConnectorCertificateError():
            why = getattr(error.certificate_error, "verify_message", "") or str(error.certificate_error)
            return f"TLS with {via} failed: {why}"
        case aiohttp.ClientConnectorError():
            return f"no connection to {via}: {error.os_error.strerror or error.os_error}"
        case aiohttp.ConnectionTimeoutError():
            trouble = dropped(server, timeout.connect or 0.0, proxy)
            return f"{trouble.what}. {trouble.advice}"
        case TimeoutError():
            return f"no response from {via} within {timeout.total:g} s"
        case _:
            return None


def bounded_retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the API server asks to wait, as a number or a date; None where it asks for none."""
    lower = {name.lower(): value for name, value in headers.items()}
    return retry_after(lower, datetime.now(UTC), LONGEST_API_SERVER_WAIT)
