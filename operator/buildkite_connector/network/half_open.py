"""Closes connections whose TLS handshake was cancelled: httpcore forgets them, and they stay open until the garbage is
collected.
"""

from typing import Any

import httpcore
import httpx

_CONNECTED = "connection.connect_tcp.complete"
_HANDSHAKES_FAILED = frozenset({"connection.start_tls.failed", "proxy.start_tls.failed"})


async def close_half_open(request: httpx.Request) -> None:
    """A hook for the `request` event of an httpx client. It keeps the `trace` extension that the request has."""
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
