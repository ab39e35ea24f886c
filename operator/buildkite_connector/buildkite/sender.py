"""One connector's requests to Buildkite: when each goes, how often it is tried again, what is read of an answer.

`rate_limit` says when a request may go, `body` bounds what is read, `errors` says whether another try can help.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar

import httpx

from buildkite_connector import __version__
from buildkite_connector.buildkite import payload
from buildkite_connector.buildkite.body import ERROR_LIMIT, BodiesUnderWay, BodyRefused, read_body
from buildkite_connector.buildkite.connections import Connections
from buildkite_connector.buildkite.errors import (
    Call,
    FailedAttempt,
    from_body,
    from_exception,
    from_payload,
    from_status,
)
from buildkite_connector.buildkite.parsing import PayloadError
from buildkite_connector.buildkite.rate_limit import Lane, Permit, RequestQueue, WindowReadings, read_windows
from buildkite_connector.buildkite.settings import BuildkiteSettings, Timeouts
from buildkite_connector.buildkite.tokens import TokenSource
from buildkite_connector.model.directory import TokenFacts
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.jitter import Jitter
from buildkite_connector.model.observer import Observer, Operation, Work
from buildkite_connector.model.redactor import Redactor
from buildkite_connector.model.words import API_TOKEN, EXCHANGED, TokenWords
from buildkite_connector.timing.clock import Clock, server_time

_logger = logging.getLogger(__name__)
T = TypeVar("T")

HEADERS = {"Accept": "application/json", "User-Agent": f"buildkite-connector/{__version__}"}
FAILED = (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, OSError, ValueError)
"""What httpx raises when there is no answer, or not all of it."""


class _Request(httpx.Request):
    """Shows no address, which may hold an organization that only a Secret names."""

    def __repr__(self) -> str:
        return f"<Request({self.method!r})>"


@dataclass(frozen=True, slots=True, eq=False)
class Access:
    """What all requests to one Buildkite API share."""

    settings: BuildkiteSettings
    connections: Connections
    clock: Clock
    jitter: Jitter
    observer: Observer


class RequestSender:
    """Sends one connector's requests, with its token and its share of the quota, while it has its lane's slot."""

    def __init__(self, access: Access, queue: RequestQueue, lane: Lane, tokens: TokenSource, *, waits: bool) -> None:
        """`waits`: False where somebody is to hear of a request that timed out, which then is not sent again."""
        self._access = access
        self._settings = access.settings
        self._queue = queue
        self._lane = lane
        self._tokens = tokens
        self._waits = waits
        self._silence_logged = False
        self._bodies = BodiesUnderWay()
        self._headers = {**HEADERS, "Accept-Encoding": "gzip"}
        self._extensions = {"timeout": timeout_of(access.settings.timeouts), "trace": access.connections.trace}
        self.requests = 0
        """How many were sent, failed tries included."""

    @property
    def throttled_seconds(self) -> float:
        return self._lane.throttled_seconds(self._access.clock.monotonic())

    @property
    def redactor(self) -> Redactor:
        """Knows the connector's credentials."""
        return self._tokens.redactor

    @property
    def words(self) -> TokenWords:
        return EXCHANGED if self._tokens.exchanged else API_TOKEN

    async def token_facts(self) -> TokenFacts | None:
        """What is known of the token without asking Buildkite's API for it. Raises Failure."""
        return await self._tokens.facts()

    async def ask(self, call: Call, read: Callable[[httpx.Response, bytes], T]) -> T:
        """Ask until there is an answer or asking again cannot help; raise what was wrong with the last.

        The queue waits out a 429, `Patience.refusals` times. An exchanged token that is refused is replaced once. Any
        other failure of a call that changes something is final: only a request that Buildkite refused for its rate
        limit or its token certainly did nothing. `read` raises PayloadError or Failure for an answer that is not what
        it should be.
        """
        patience = self._settings.patience
        tries = refusals = 0
        replaced = False
        while True:
            await self._tokens.current()  # an exchange must not hold up others in the queue
            answer = await self._try(call, read)
            if not isinstance(answer, FailedAttempt):
                if self._lane.slot is not None:
                    self._lane.slot.kept += call.pages
                return answer
            if answer.refused:
                refusals += 1
                if refusals > patience.refusals:
                    raise answer.error
                continue  # the queue knows when
            if answer.unauthorized and self._tokens.exchanged and not replaced:
                replaced = True
                continue  # with another one
            tries += 1
            wait = answer.wait or 0.0
            again = answer.again and not call.changes and (self._waits or not answer.timed_out)
            if not again or tries >= patience.tries or wait > patience.longest_retry_after:
                raise answer.error
            if answer.timed_out and not self._silence_logged:  # once: the tries together take minutes
                self._silence_logged = True
                _logger.warning("Buildkite does not respond; retrying", extra={"error": str(answer.error)})
            pause = min(patience.longest, patience.first * 2 ** (tries - 1))
            await self._queue.pause(self._lane, wait + self._access.jitter.uniform(0.5, 1.0) * pause)

    async def _try(self, call: Call, read: Callable[[httpx.Response, bytes], T]) -> T | FailedAttempt:
        url = self._settings.api_url + call.target
        async with self._queue.permit(self._lane, call.organization) as permit:
            token = await self._tokens.current()
            headers = {**self._headers, "Authorization": f"Bearer {token}"}
            request = _Request(call.method, url, headers=headers, json=call.json, extensions=self._extensions)
            self.requests += 1
            try:
                with self._access.observer.operation(
                    Work.BUILDKITE_REQUEST, method=call.method, path=call.shown or call.target
                ) as operation:
                    response, body = await self._send(request, permit, call.limit, operation)
            except FAILED as error:
                return from_exception(error, call, self._settings.api_url, self._access.connections.proxy)
            if response.status_code in call.expected:
                if isinstance(body, BodyRefused):
                    return from_body(body, call)
                try:
                    return read(response, body)
                except PayloadError as error:
                    return from_payload(error, call)
                except Failure as failure:
                    return FailedAttempt(failure)
            failed = from_status(
                response.status_code,
                response.headers,
                body,
                call,
                now=self._access.clock.now(),
                token_hint=self._tokens.hint,
                exchanged=self._tokens.exchanged,
            )
            if failed.unauthorized:
                self._tokens.drop(token)
            if failed.refused:
                self._queue.answered(permit, self._refusal(response, body, failed.wait, call.organization))
            return failed

    async def _send(
        self, request: httpx.Request, permit: Permit, limit: int, operation: Operation
    ) -> tuple[httpx.Response, bytes | BodyRefused]:
        """The answer, closed: its body, or why that was not read to its end."""
        async with asyncio.timeout(self._settings.timeouts.total), self._access.connections.one() as http:
            response = await http.send(request, stream=True)
            readings = self._readings(response)
            windows = {"remaining_user": readings.user, "remaining_organization": readings.organization}
            left = {name: window.remaining for name, window in windows.items() if window is not None}
            operation.tell(status=response.status_code, **left)
            if not readings.refused:
                self._queue.answered(permit, readings)
            return response, await read_body(response, limit if response.is_success else ERROR_LIMIT, self._bodies)

    def _readings(self, response: httpx.Response) -> WindowReadings:
        return read_windows(response.status_code, response.headers, self._settings.longest_window)

    def _refusal(
        self, response: httpx.Response, body: bytes | BodyRefused, wait: float | None, organization: str | None
    ) -> WindowReadings:
        """What a 429 says: by its headers, else by its body. If neither names a window, all requests wait."""
        readings, longest = self._readings(response), self._settings.longest_window
        refusal = payload.refusal(b"" if isinstance(body, BodyRefused) else body)
        named = refusal.reading(longest)
        if refusal.scope == "rest_user":
            readings = replace(readings, user=readings.user or named)
        elif refusal.scope == "rest":
            readings = replace(readings, organization=readings.organization or named)
        windows = (readings.user, readings.organization if organization is not None else None)
        if not any(window is not None and window.remaining == 0 for window in windows):
            pause = refusal.reset if wait is None else wait
            if pause is None or not pause > 0:
                pause = self._settings.patience.blind_pause
            self._queue.hold(min(pause, longest))
        return readings


REACHED_PATH = "/access-token"
"""Without a token, Buildkite answers 401 in JSON here."""


async def reach(access: Access, redactor: Redactor) -> datetime | None:
    """Ask once without a token whether Buildkite's API can be reached, and whether it is Buildkite that answers.

    Returns the time that Buildkite's clock shows; None where the answer does not tell.

    Raises Failure BUILDKITE_UNREACHABLE, BUILDKITE_UNAVAILABLE, BUILDKITE_RATE_LIMITED, or what else is wrong with an
    answer that is not Buildkite's refusal.
    """
    settings, connections = access.settings, access.connections
    gone = _elsewhere(f"the response is 404 for {settings.api_url}")
    call = Call(f"GET {REACHED_PATH}", REACHED_PATH, gone, redactor)
    request = httpx.Request(
        "GET",
        settings.api_url + call.target,
        headers={**HEADERS, "Accept-Encoding": "identity"},
        extensions={"timeout": timeout_of(settings.timeouts)},
    )
    try:
        async with asyncio.timeout(settings.timeouts.total), connections.one() as http:
            response = await http.send(request, stream=True)
            body = await read_body(response, ERROR_LIMIT, BodiesUnderWay())
    except FAILED as error:
        raise from_exception(error, call, settings.api_url, connections.proxy).error from None
    status, kind = response.status_code, response.headers.get("content-type", "").partition(";")[0].strip()
    if 200 <= status < 300 or kind.lower() == "text/html":
        raise _elsewhere(f"the response is {status} in {call.quote(kind) or 'no content type'}")
    if status != httpx.codes.UNAUTHORIZED:
        raise from_status(status, response.headers, body, call, now=access.clock.now()).error
    return server_time(response.headers)


def _elsewhere(what: str) -> Failure:
    return Failure(
        Reason.BUILDKITE_RESPONSE_INVALID,
        f"GET {REACHED_PATH} without a token: expected 401 in JSON, but {what}. Something other than Buildkite's API "
        "answers, a proxy's or gateway's own page perhaps: check BUILDKITE_API_URL and the proxies in between.",
    )


def timeout_of(timeouts: Timeouts) -> dict[str, float]:
    return {"connect": timeouts.connect, "read": timeouts.read, "write": timeouts.write, "pool": timeouts.total}
