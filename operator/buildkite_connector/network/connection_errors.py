"""Why a connection failed, in the same words for every client; and the end of one that failed halfway.

A proxy is named by `host:port`. Of its refusal only the status is shown, as the text may repeat a password.
"""

import re
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import httpcore
import httpx

from buildkite_connector.network.proxies import NO_PROXY_VARIABLE, PORTS, Proxy
from buildkite_connector.network.trust import FILE_VARIABLE

EGRESS = "Check DNS, and that firewalls and NetworkPolicies let the operator connect there."
"""Advice where packets are dropped on the way."""

_TIMEOUTS = (httpx.TimeoutException, TimeoutError)
_CONNECTED = "connection.connect_tcp.complete"
_HANDSHAKES_FAILED = frozenset({"connection.start_tls.failed", "proxy.start_tls.failed"})


@dataclass(frozen=True, slots=True)
class ConnectionTrouble:
    """`what` is a clause, `advice` a sentence. `again`: another try may succeed."""

    what: str
    advice: str
    again: bool = True


def from_exception(
    error: BaseException, host: str, proxy: Proxy | None, quote: Callable[[str], str]
) -> ConnectionTrouble | None:
    """Explain an exception of httpx for a connection to `host`; None where the connection is not the cause.

    `quote` bounds and redacts foreign text.
    """
    causes = list(chain_of(error))
    if proxy is not None and isinstance(error, httpx.ProxyError):
        status = re.match(r"[1-5][0-9]{2}\b", str(error))
        return refused_by_proxy(proxy, int(status[0]) if status else 0, host)
    tls = next((cause for cause in causes if isinstance(cause, ssl.SSLError)), None)
    if isinstance(tls, ssl.SSLCertVerificationError):
        return untrusted(quote(getattr(tls, "verify_message", "") or str(tls)), host, proxy)
    if isinstance(error, httpx.ConnectTimeout):
        return dropped(*_attempt(error), proxy)
    if proxy is None or tls is not None:
        return None
    if isinstance(error, _TIMEOUTS):
        what = "there was no response in time"
    elif isinstance(error, httpx.RemoteProtocolError):
        what = "the response was cut off or is not HTTP"
    elif isinstance(error, httpx.NetworkError):
        what = f"the connection failed ({quote(str(causes[-1])) or type(causes[-1]).__name__})"
    else:
        return None
    return through(proxy, what)


def from_grpc(details: str, host: str, proxy: Proxy | None, quote: Callable[[str], str]) -> ConnectionTrouble | None:
    """Explain gRPC's details of a failure to connect; None where the connection is not the cause."""
    if proxy is not None and (status := re.search(r"HTTP proxy returned response code ([1-5][0-9]{2})\b", details)):
        return refused_by_proxy(proxy, int(status[1]), host)
    if re.search(r"\bALPN\b|APPLICATION_PROTOCOL", details):
        return ConnectionTrouble(
            "a proxy or gateway supports only HTTP/1.1, but gRPC needs HTTP/2",
            f"Exempt {host} from TLS inspection{f' by the proxy {named(proxy)}' if proxy else ''}.",
        )
    if re.search(r"CERTIFICATE_VERIFY_FAILED|is not in peer certificate|Hostname Verification Check failed", details):
        return untrusted(quote(details), host, proxy)
    if re.search(r"SSL_ERROR_SSL|(?i:tls|ssl) handshake failed", details):
        what = f"TLS failed ({quote(details)})"
        return through(proxy, what) if proxy else ConnectionTrouble(what, EGRESS)
    if proxy is not None:
        return through(proxy, f"the connection failed ({quote(details)})")
    return None


def refused_by_proxy(proxy: Proxy, status: int, host: str) -> ConnectionTrouble:
    """The proxy rejected the request for a tunnel. `status` 0: unknown."""
    phrase = f" {HTTPStatus(status).phrase}" if status in set(HTTPStatus) else ""
    what = f"the proxy {named(proxy)} refused a tunnel to {host} with {status or 'an error'}{phrase}"
    if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        if proxy.user or proxy.password:
            return ConnectionTrouble(what, f"Correct the user name and password in {proxy.variable}.", again=False)
        form = "http://user:password@host:port"
        return ConnectionTrouble(what, f"Put its user name and password into {proxy.variable} ({form}).", again=False)
    if 400 <= status < 500:
        return ConnectionTrouble(
            what, f"Have the proxy allow {host}, or list the host in {NO_PROXY_VARIABLE}.", again=False
        )
    return ConnectionTrouble(what, f"Check that the proxy reaches {host}, or list the host in {NO_PROXY_VARIABLE}.")


def through(proxy: Proxy, what: str) -> ConnectionTrouble:
    """`what` happened on the way through a proxy, which may be the cause or not."""
    advice = f"Check {proxy.variable} and {NO_PROXY_VARIABLE}, the proxy and the network."
    return ConnectionTrouble(f"{what}{by_way_of(proxy)}", advice)


def dropped(server: str, seconds: float, proxy: Proxy | None) -> ConnectionTrouble:
    """Nothing answered the attempt to connect to `server` (a host and port) within `seconds`."""
    through = f" through the proxy {named(proxy)}" if proxy else ""
    return ConnectionTrouble(f"there was no connection to {server}{through} within {seconds:g} s", EGRESS)


def untrusted(message: str, host: str, proxy: Proxy | None) -> ConnectionTrouble:
    """`message`: that of TLS about the certificate, bounded and redacted."""
    return ConnectionTrouble(
        f"the TLS certificate of {host} could not be verified{by_way_of(proxy)}: {message}",
        f"If a proxy or a private authority signs it, name its CA file in {FILE_VARIABLE}.",
        again=False,
    )


def by_way_of(proxy: Proxy | None) -> str:
    """`, through the proxy …` for the end of a clause; empty without one."""
    return f", through the proxy {named(proxy)}" if proxy else ""


def named(proxy: Proxy) -> str:
    return f"{proxy} ({proxy.variable})"


def chain_of(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and its causes: the HTTP library wraps the system's errors."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


async def close_half_open(request: httpx.Request) -> None:
    """Close a connection whose TLS handshake is cancelled or fails, as a hook for httpx's `request` event.

    httpcore forgets such connections, and they stay open until the garbage is collected. The `trace` extension that the
    request has is kept.
    """
    others = request.extensions.get("trace")
    stream: httpcore.AsyncNetworkStream | None = None

    async def trace(event: str, info: dict[str, Any]) -> None:
        nonlocal stream
        if event == _CONNECTED:
            stream = info["return_value"]
        elif event in _HANDSHAKES_FAILED and stream is not None:
            await stream.aclose()
        if others is not None:
            await others(event, info)

    request.extensions["trace"] = trace


def _attempt(error: httpx.ConnectTimeout) -> tuple[str, float]:
    """Return host and port of the attempt, and its timeout in seconds."""
    url = error.request.url
    host = f"[{url.host}]" if ":" in url.host else url.host
    return f"{host}:{url.port or PORTS[url.scheme]}", error.request.extensions["timeout"]["connect"]
