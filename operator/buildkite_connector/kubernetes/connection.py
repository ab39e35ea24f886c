"""The connection to the Kubernetes API: one HTTP session for the typed client and for kopf's watch.

Each request has a deadline. Credentials are read again before they expire and after a 401. A temporary error (a broken
connection, 429, 5xx, an unreadable answer) is a Failure that the caller retries, with the server's Retry-After. What
the API server rejects is an `ApiError`, whose meaning only the caller knows.
"""

import asyncio
import base64
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit
from weakref import WeakSet

import aiohttp
from kubernetes.aio.client import ApiClient, ApiException, Configuration

from buildkite_connector.kubernetes.access import Access, ClientConfig
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.redactor import Redactor
from buildkite_connector.network import Proxy
from buildkite_connector.network.connection_errors import dropped, named, refused_by_proxy
from buildkite_connector.timing.clock import retry_after

CONNECT_SECONDS = 10.0
LONGEST_RETRY_AFTER = 60.0
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
_UNREADABLE = (ValueError, TypeError, AttributeError, LookupError, RecursionError)
"""Raised by reading an answer of an unexpected shape."""
_LONGEST_REFUSAL = 512
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
    """No connection, or no answer in time. kopf and the typed client retry, as after any broken connection."""


class ApiSession:
    """The part of `aiohttp.ClientSession` that both clients use, for one event loop."""

    def __init__(self, login: ClientConfig, access: Access) -> None:
        """`access`: the result of `login.load()`."""
        self._login = login
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), trust_env=False, read_bufsize=_BUFFER_BYTES
        )
        self._transports = WeakSet[asyncio.Transport]()
        self._renewing: asyncio.Task[Failure | None] | None = None
        self._access = access
        self._due: float | None = None
        self._take(access)

    @property
    def access(self) -> Access:
        """The address and credentials in use."""
        return self._access

    @property
    def headers(self) -> MutableMapping[str, str]:
        """Those of every request; kopf adds its User-Agent."""
        return self._session.headers

    @property
    def closed(self) -> bool:
        return self._session.closed

    async def close(self) -> None:
        """May be called twice. Leaves no connection that waits for the server's close of TLS."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait({self._renewing})
        await self._session.close()
        for transport in list(self._transports):
            transport.abort()
        for _ in range(_ROUNDS_TO_CLOSE):
            await asyncio.sleep(0)

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
            await self._renew(self._access)
        access = self._access
        response = await self._send(method, url, (headers or {}).items(), options)
        if response.status != 401:
            return response
        failure = await self._renew(access)
        if failure is None and self._access == access:
            return response
        response.release()
        if failure is not None:
            raise ApiUnreachableError(failure.message)
        return await self._send(method, url, (headers or {}).items(), options)

    async def _send(
        self, method: str, url: str, headers: Iterable[tuple[str, str]], options: Mapping[str, Any]
    ) -> aiohttp.ClientResponse:
        access = self._access
        for_proxy = _login_at(access.proxy)
        own = for_proxy if url.startswith("http:") else {}  # there is no CONNECT that could carry it
        try:
            response = await self._session.request(
                method,
                url,
                headers=[*headers, *access.headers, *own.items()],
                ssl=self._context,
                server_hostname=access.tls_server_name,
                proxy=None if access.proxy is None else f"http://{access.proxy}",
                proxy_headers=for_proxy,
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
        if self._access is not used:
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
        if access.server != self._access.server:
            raise Failure(
                Reason.KUBERNETES_REFUSED,
                f"The login now leads to the API server {access.server} and no longer to {self._access.server}:"
                " restart the operator to use it.",
            )
        self._access = access
        # Connections are kept for each context apart, so that another client certificate opens new ones.
        self._context = access.tls.context()
        self._due = None if access.renew_after is None else time.monotonic() + access.renew_after


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
            return f"no answer from {via} within {timeout.total:g} s"
        case _:
            return None


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
    """For a process that acts without an election."""


@dataclass(frozen=True, slots=True)
class Connection:
    """Made by `open_connection`, for one event loop.

    `may_act` is called before each request for a connector, and raises Failure when this process may not act.
    """

    client: ApiClient
    session: ApiSession
    request_seconds: float
    may_act: Callable[[], None] = always
    permits: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(REQUESTS_AT_ONCE))

    async def call_with_permit(self, what: str, send: Callable[[], Awaitable[_T]]) -> _T:
        """As `call`, for a connector: at most REQUESTS_AT_ONCE run concurrently, and only while this process may act.

        The wait for a permit counts towards no deadline.
        """
        async with self.permits:
            self.may_act()
            return await self.call(what, send)

    async def call(self, what: str, send: Callable[[], Awaitable[_T]]) -> _T:
        """Make one request. `ApiSession` handles a 401.

        `what`: the purpose, such as "read a Secret". Raises ApiError and Failure (remedy: retry).
        """
        try:
            return await send()
        except ApiException as error:
            if not may_pass(error.status or 0, str(error.body)):  # 0: the answer could not be read
                raise self.refusal(error.status or 0, error.reason, error.body) from None
            trouble = self.refusal(error.status or 0, error.reason, error.body).message
            seconds = bounded_retry_after(error.headers or {})
        except (aiohttp.ClientError, OSError) as error:
            trouble, seconds = self.quote(str(error) or type(error).__name__), None
        except _UNREADABLE as error:
            # Its text may repeat the answer, which may be a Secret.
            trouble, seconds = f"its answer has an unexpected form ({type(error).__name__}).", None
        raise Failure(
            Reason.KUBERNETES_UNAVAILABLE,
            f"The Kubernetes API did not let the operator {what}; the operator retries: {trouble}",
            retry_after=seconds,
        )

    async def send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        **names: str,
    ) -> Any:
        """The JSON of the answer at this path, whose `{name}`s are replaced by `names`; for use in `call`.

        Not a typed call: a model's errors would repeat a Secret's values, and loading the models would take a second
        of processor time at each start.
        """
        request = await self.client.param_serialize(
            method,
            path,
            path_params=names,
            query_params=list((query or {}).items()),
            header_params={"Accept": accept, "Content-Type": content_type},
            body=body,
        )
        answer = await self.client.call_api(*request, _preload_content=False, _request_timeout=self.request_seconds)
        response = answer.response
        text = (await response.read()).decode(errors="replace")
        if response.status >= 400:
            refused = ApiException(status=response.status, reason=response.reason, body=text)
            refused.headers = response.headers
            raise refused
        return json.loads(text)

    def refusal(self, status: int, reason: str | None, body: str | None) -> ApiError:
        """The API server's own sentence."""
        try:
            message = json.loads(body or "")["message"]
        except (ValueError, KeyError, TypeError, RecursionError):
            message = reason or "no reason given"
        return ApiError(status, self.quote(str(message)))

    def quote(self, text: str) -> str:
        """Quote the API server, without the operator's own token."""
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


def may_pass(status: int, body: str = "") -> bool:
    """Whether the same request may succeed later. `status` 0: the answer could not be read."""
    return status in {0, 429} or (status >= 500 and UNKNOWN_FIELD not in body)


def bounded_retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the API server asks to wait, as a number or a date; None where it asks for none."""
    lower = {name.lower(): value for name, value in headers.items()}
    return retry_after(lower, datetime.now(UTC), LONGEST_RETRY_AFTER)
