"""One connector's requests to Buildkite: when each goes, how often it is tried again, what is read of an answer.

The queue says when a request may go, `body` bounds what is read, `errors` says whether a failed try is worth another.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

import httpx

from buildkite_connector import __version__
from buildkite_connector.buildkite import payload
from buildkite_connector.buildkite.body import ERROR_LIMIT, BodiesUnderWay, BodyRefused, read_body
from buildkite_connector.buildkite.connection_pool import Connections
from buildkite_connector.buildkite.errors import (
    Call,
    FailedAttempt,
    from_body,
    from_exception,
    from_payload,
    from_status,
)
from buildkite_connector.buildkite.rate_limit.limiter import Lane
from buildkite_connector.buildkite.rate_limit.queue import Admission, RequestQueue
from buildkite_connector.buildkite.rate_limit.window import (
    ORGANIZATION,
    USER,
    WindowReadings,
    read_window,
    window_reading,
)
from buildkite_connector.buildkite.settings import BuildkiteSettings
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.jitter import Jitter
from buildkite_connector.model.observer import Observer, Operation, Work
from buildkite_connector.model.spec import Credential, mistake, token_hint
from buildkite_connector.timing.clock import Clock
from buildkite_connector.timing.slots import Slot

_logger = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Sending:
    """What is sent: `json` as the body, if any. `limit`: bytes of an answer; `expected`: the statuses of success."""

    method: str
    target: str = field(repr=False)
    limit: int
    json: dict[str, str] | None = None
    expected: tuple[int, ...] = (httpx.codes.OK,)


class _Request(httpx.Request):
    """Shows no address, which may hold an organization that only a Secret names."""

    def __repr__(self) -> str:
        return f"<Request({self.method!r})>"


class RequestSender:
    """Sends one connector's requests, with its token and its share of the quota, while it has its `slot`."""

    def __init__(
        self,
        settings: BuildkiteSettings,
        connections: Connections,
        queue: RequestQueue,
        clock: Clock,
        jitter: Jitter,
        observer: Observer,
        *,
        token: str,
        quota_percent: int,
        urgent: bool = False,
        waits: bool = True,
        slot: Slot | None = None,
    ) -> None:
        """`waits`: False where somebody is to hear of a request that timed out, which then is not sent again."""
        self._settings = settings
        self._connections = connections
        self._queue = queue
        self._clock = clock
        self._jitter = jitter
        self._observer = observer
        self._token_hint = token_hint(token)
        self._lane = Lane(quota_percent, urgent, slot)
        self._waits = waits
        self._silence_logged = False
        self._bodies = BodiesUnderWay()
        self._headers = {
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "Authorization": f"Bearer {_checked(token)}",
            "User-Agent": f"buildkite-connector/{__version__}",
        }
        timeouts = settings.timeouts
        self._extensions = {
            "timeout": {
                "connect": timeouts.connect,
                "read": timeouts.read,
                "write": timeouts.write,
                "pool": timeouts.total,
            },
            "trace": connections.trace,
        }
        self.requests = 0
        """How many were sent, failed tries included."""

    @property
    def throttled_seconds(self) -> float:
        return self._queue.throttled_seconds(self._lane)

    async def get(
        self,
        call: Call,
        target: str,
        read: Callable[[httpx.Response, bytes], T],
        organization: str | None = None,
        *,
        limit: int,
    ) -> T:
        """Ask until there is an answer or no sense in asking again; raises what was wrong with the last.

        `limit`: bytes of the answer. `read` raises PayloadError or Failure for an answer that is not what it should be.
        """
        return await self._ask(Sending("GET", target, limit), call, read, organization, again=True)

    async def write(
        self,
        call: Call,
        sending: Sending,
        read: Callable[[httpx.Response, bytes], T],
        organization: str,
    ) -> T:
        """Send what changes something: again only where Buildkite refused it for its rate limit, and so did nothing.

        Raises as `get`, at once.
        """
        return await self._ask(sending, call, read, organization, again=False)

    async def _ask(
        self,
        sending: Sending,
        call: Call,
        read: Callable[[httpx.Response, bytes], T],
        organization: str | None,
        *,
        again: bool,
    ) -> T:
        patience = self._settings.patience
        tries = refusals = 0
        while True:
            answer = await self._try(call, sending, read, organization)
            if not isinstance(answer, FailedAttempt):
                if self._lane.slot is not None:
                    self._lane.slot.kept += 1
                return answer
            wait = answer.wait or 0.0
            if answer.refused:
                refusals += 1
                if refusals > patience.refusals:
                    raise answer.error
                continue  # the queue knows when
            tries += 1
            if answer.timed_out and not self._waits:
                raise answer.error
            if not (again and answer.again) or tries >= patience.tries or wait > patience.longest_retry_after:
                raise answer.error
            self._log_silence(answer)
            pause = min(patience.longest, patience.first * 2 ** (tries - 1))
            await self._queue.pause(self._lane, wait + self._jitter.uniform(0.5, 1.0) * pause)

    def _log_silence(self, failed: FailedAttempt) -> None:
        """Once: the tries together take minutes."""
        if failed.timed_out and not self._silence_logged:
            self._silence_logged = True
            _logger.warning("Buildkite does not answer and is asked again", extra={"error": str(failed.error)})

    async def _try(
        self,
        call: Call,
        sending: Sending,
        read: Callable[[httpx.Response, bytes], T],
        organization: str | None,
    ) -> T | FailedAttempt:
        method, target = sending.method, sending.target
        request = _Request(
            method,
            self._settings.api_url + target,
            headers=self._headers,
            json=sending.json,
            extensions=self._extensions,
        )
        async with self._queue.turn(self._lane, organization) as passing:
            self.requests += 1
            try:
                with self._observer.operation(
                    Work.BUILDKITE_REQUEST, method=method, path=call.path or target
                ) as operation:
                    response, body = await self._send(request, passing, sending.limit, operation)
            except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, OSError, ValueError) as error:
                trouble = from_exception(error, call, self._settings.api_url, self._connections.proxy)
                passing.overload = trouble.overload
                return trouble
            if response.status_code in sending.expected:
                if isinstance(body, BodyRefused):
                    return from_body(body, call)
                try:
                    return read(response, body)
                except payload.PayloadError as error:
                    return from_payload(error, call)
                except Failure as failure:
                    return FailedAttempt(failure)
            trouble = from_status(
                response.status_code,
                response.headers,
                body,
                call,
                now=self._clock.now(),
                token_hint=self._token_hint,
            )
            if trouble.refused:
                passing.answered(self._apply_429(response, body, trouble.wait, organization))
            return trouble

    async def _send(
        self, request: httpx.Request, passing: Admission, limit: int, operation: Operation
    ) -> tuple[httpx.Response, bytes | BodyRefused]:
        """The answer, closed: its body, or why that was not read to its end."""
        body: bytes | BodyRefused
        async with asyncio.timeout(self._settings.timeouts.total), self._connections.one() as http:
            response = await http.send(request, stream=True)
            try:
                told = self._told(response)
                operation.tell(status=response.status_code, **_quota(told))
                if not told.refused:
                    passing.answered(told)
                bound = limit if response.is_success else ERROR_LIMIT
                body = await read_body(response, bound, self._bodies)
            except BodyRefused as refused:
                body = refused
            finally:
                await response.aclose()  # closes the connection as well, unless all of the body was read
        return response, body

    def _told(self, response: httpx.Response) -> WindowReadings:
        longest = self._settings.longest_window
        headers = dict(response.headers.items())  # each look-up in httpx's own goes through them all
        return WindowReadings(
            user=read_window(headers, USER, longest),
            organization=read_window(headers, ORGANIZATION, longest),
            refused=response.status_code == httpx.codes.TOO_MANY_REQUESTS,
            failed=response.status_code >= httpx.codes.INTERNAL_SERVER_ERROR,
        )

    def _apply_429(
        self, response: httpx.Response, body: bytes | BodyRefused, wait: float | None, organization: str | None
    ) -> WindowReadings:
        """What a 429 tells: by its headers, else by its body. If neither names a window, all requests wait."""
        told = self._told(response)
        refusal = payload.refusal(b"" if isinstance(body, BodyRefused) else body)
        longest = self._settings.longest_window
        if refusal.reset is not None:
            named = window_reading(refusal.limit, 0, refusal.reset, 1.0, longest)
            if refusal.scope == "rest_user":
                told = replace(told, user=told.user or named)
            elif refusal.scope == "rest":
                told = replace(told, organization=told.organization or named)
        windows = (told.user, told.organization if organization is not None else None)
        if not any(window is not None and window.remaining == 0 for window in windows):
            pause = refusal.reset if wait is None else wait
            if pause is None or not pause > 0:
                pause = self._settings.patience.blind_pause
            self._queue.hold(min(pause, longest))
        return told


def _quota(told: WindowReadings) -> dict[str, int]:
    """What is left of the rate-limit windows, as far as the answer tells."""
    windows = {"remaining_user": told.user, "remaining_organization": told.organization}
    return {name: window.remaining for name, window in windows.items() if window is not None}


def _checked(token: str) -> str:
    """The token without white space around it, if it can be one.

    What HTTP cannot carry must not end up in a library's error message. Raises Failure TOKEN_INVALID.
    """
    wrong = mistake(token, Credential.API_TOKEN) if token.strip() else "is empty"
    if wrong is None:
        return token.strip()
    raise Failure(Reason.TOKEN_INVALID, f"The Buildkite API token {wrong}.", remedy=Remedy.CREDENTIALS)
