"""HTTP with the API server, for the typed client and for kopf's watch alike.

Each request carries the credentials of its moment: they are read again before they expire and after a 401.
"""

import asyncio
import base64
import logging
import time
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakSet

import aiohttp

from buildkite_connector.kubernetes.access import Access, ClientConfig
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.network import Proxy
from buildkite_connector.network.connection_errors import dropped, named, refused_by_proxy

CONNECT_SECONDS = 10.0
_AGAIN_SECONDS = 10.0
"""After credentials could not be read again, until the next try; those that are there serve meanwhile."""
_BUFFER_BYTES = 2 * 1024 * 1024
"""A watch's events are lines, and may be longer than aiohttp's own bound."""

_TURNS_OF_AN_END = 3
"""Of the event loop, after which a transport that was aborted is closed."""

_logger = logging.getLogger(__name__)


class ApiUnreachableError(aiohttp.ClientConnectionError):
    """Says what was waited for in vain; kopf and the typed client try again, as after any broken connection."""


class ApiSession:
    """What both clients need of an `aiohttp.ClientSession`, for one event loop."""

    def __init__(
        self,
        login: ClientConfig,
        access: Access,
        middlewares: Sequence[aiohttp.ClientMiddlewareType] = (),
    ) -> None:
        """`access`: what `login` has loaded."""
        self._login = login
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            trust_env=False,
            read_bufsize=_BUFFER_BYTES,
            middlewares=middlewares,
        )
        self._transports = WeakSet[asyncio.Transport]()
        self._renewing: asyncio.Task[Failure | None] | None = None
        self._access = access
        self._due: float | None = None
        self._take(access)

    @property
    def access(self) -> Access:
        """What requests are sent with now."""
        return self._access

    @property
    def headers(self) -> MutableMapping[str, str]:
        """Those of every request; kopf adds its User-Agent."""
        return self._session.headers

    @property
    def closed(self) -> bool:
        return self._session.closed

    async def close(self) -> None:
        """May be called twice. No connection is left that waits for the server's end of TLS when the loop ends."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait({self._renewing})
        await self._session.close()
        for transport in list(self._transports):
            transport.abort()
        for _ in range(_TURNS_OF_AN_END):
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
        """Read the credentials again, unless that was done since `used`. Gives why it failed."""
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
                " restart the operator to go there.",
            )
        self._access = access
        # Connections are kept for each context apart, so that another client certificate opens new ones.
        self._context = access.tls.context()
        self._due = None if access.renew_after is None else time.monotonic() + access.renew_after


def _login_at(proxy: Proxy | None) -> dict[str, str]:
    """The header that proxies are told user name and password by; in their URL, errors would show these."""
    if proxy is None or not (proxy.user or proxy.password):
        return {}
    return {"Proxy-Authorization": f"Basic {base64.b64encode(f'{proxy.user}:{proxy.password}'.encode()).decode()}"}


def _address(url: str) -> str:
    parts = urlsplit(url)
    return parts.netloc if parts.port else f"{parts.netloc}:{443 if parts.scheme == 'https' else 80}"


def _in_words(error: Exception, server: str, proxy: Proxy | None, timeout: aiohttp.ClientTimeout) -> str | None:
    """What an error means; None where its own text is good enough."""
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
