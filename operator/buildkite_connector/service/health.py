"""The vendor's health server: `/health`, `/ready` and `/live` with JSON bodies; and the client for exec probes.

It is served before anything else, and answers from what is known: no probe costs a request to Buildkite.
"""

import asyncio
import http.client
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.status import ConditionStatus, ConditionType, ConnectorStatus
from buildkite_connector.process.http_server import Handler, Response, listen, serve_http

_C1_IS_AWAY = frozenset({Reason.C1_UNREACHABLE, Reason.C1_UNAVAILABLE})
"""Reasons that do not count: the vendor's health is about the credentials for Buildkite."""


@dataclass(frozen=True, slots=True)
class HealthAddress:
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Health:
    """What the probes read. `status` returns None until the connector has begun; `stuck` names what hangs."""

    status: Callable[[], ConnectorStatus | None]
    stuck: Callable[[], str | None]
    now: Callable[[], datetime]

    def unhealthy(self) -> str | None:
        """Return why the credentials cannot be used, as far as is known; None when they can."""
        status = self.status()
        valid = status.condition(ConditionType.CREDENTIALS_VALID) if status is not None else None
        if status is None or valid is None:
            return "The connector has not started yet."
        if valid.status is ConditionStatus.TRUE or valid.reason in _C1_IS_AWAY:
            return None
        if valid.reason is Reason.PENDING and status.organization is not None:
            return None  # Buildkite has answered, C1 not yet
        return valid.message

    def not_ready(self) -> str | None:
        return "The connector has not started yet." if self.status() is None else self.stuck()


@asynccontextmanager
async def serve_health(address: HealthAddress | None, health: Health) -> AsyncIterator[int | None]:
    """Serve for as long as the context lasts; gives the port. None: no server. Raises Failure."""
    if address is None:
        yield None
        return
    try:
        listeners = await asyncio.to_thread(listen, address.host, address.port)
    except OSError as error:
        raise Failure(
            Reason.SPEC_INVALID,
            f"The health server cannot use {address.host}:{address.port}: {error.strerror or error}. Set another"
            " --health-check-port or --health-check-bind-address.",
            remedy=Remedy.EDIT,
        ) from None
    handlers = {
        "/health": _answer(health, health.unhealthy, "healthy", "unhealthy", "validation_error"),
        "/ready": _answer(health, health.not_ready, "ready", "not_ready", "error"),
        "/live": _answer(health, lambda: None, "alive", "alive", "error"),
    }
    async with serve_http(listeners, handlers) as port:
        yield port


def _answer(health: Health, check: Callable[[], str | None], passed: str, failed: str, detail: str) -> Handler:
    async def answer() -> Response:
        wrong = check()
        body: dict[str, object] = {
            "status": passed if wrong is None else failed,
            "timestamp": health.now().isoformat(timespec="seconds").replace("+00:00", "Z"),
        }
        if wrong is not None:
            body["details"] = {detail: wrong}
        return Response(200 if wrong is None else 503, json.dumps(body).encode(), "application/json; charset=utf-8")

    return answer


# The client

_LONGEST = 64 * 1024


def ask_health(host: str, port: int, endpoint: str, timeout: float) -> tuple[bool, str]:
    """Return whether the endpoint answered 200, and its body or the error. `timeout` in seconds."""
    host = host.removeprefix("[").removesuffix("]")
    connection = http.client.HTTPConnection(_reachable(host), port, timeout=timeout)
    try:
        connection.request("GET", f"/{endpoint}")
        response = connection.getresponse()
        body = response.read(_LONGEST).decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        shown = f"[{host}]" if ":" in host else host
        return False, f"http://{shown}:{port}/{endpoint} did not answer: {error or type(error).__name__}"
    finally:
        connection.close()
    return response.status == http.client.OK, body


def _reachable(bound: str) -> str:
    """Loopback in place of an address that stands for all."""
    return "127.0.0.1" if bound in {"", "0.0.0.0", "::"} else bound  # noqa: S104  (no server binds here)
