"""Buildkite's REST API for one connector: the ports of `collect` and `preflight` over HTTP.

Every request goes through `BuildkiteClient._get`, which owns retries: the queue says when a request may
go, `errors` whether a failed one is worth another try, `payload` turns a body into the domain.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar
from urllib.parse import quote

import httpx

from buildkite_connector import __version__
from buildkite_connector.buildkite import payload
from buildkite_connector.buildkite.connection_pool import Connections
from buildkite_connector.buildkite.errors import Call, FailedAttempt, from_exception, from_payload, from_status
from buildkite_connector.buildkite.pagination import last_page
from buildkite_connector.buildkite.rate_limit.limiter import Lane
from buildkite_connector.buildkite.rate_limit.queue import RequestQueue
from buildkite_connector.buildkite.rate_limit.window import (
    ORGANIZATION,
    USER,
    WindowReadings,
    read_window,
    window_reading,
)
from buildkite_connector.buildkite.settings import BuildkiteSettings
from buildkite_connector.model.directory import (
    Account,
    Organization,
    OrganizationSlug,
    Team,
    TeamID,
    TokenFacts,
)
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.jitter import Jitter
from buildkite_connector.sync.collect import Member, TeamNotFound
from buildkite_connector.sync.listing import Page
from buildkite_connector.timing.clock import Clock

T = TypeVar("T")


class BuildkiteClient:
    """One connector's view of Buildkite: a `collect.OrganizationAPI` and a `preflight.Access`.

    Made by `Buildkite.client`, best for one sync: `requests` and `throttled_seconds` count from its making.
    """

    def __init__(
        self,
        settings: BuildkiteSettings,
        connections: Connections,
        queue: RequestQueue,
        clock: Clock,
        jitter: Jitter,
        *,
        token: str,
        quota_percent: int,
    ) -> None:
        self._settings = settings
        self._connections = connections
        self._queue = queue
        self._clock = clock
        self._jitter = jitter
        self._lane = Lane(quota_percent)
        self._headers = {
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "Authorization": f"Bearer {_sendable(token)}",
            "User-Agent": f"buildkite-connector/{__version__}",
        }
        timeouts = settings.timeouts
        self._extensions = {
            "timeout": {
                "connect": timeouts.connect,
                "read": timeouts.read,
                "write": timeouts.write,
                "pool": timeouts.total,
            }
        }
        self._requests = 0

    @property
    def page_size(self) -> int:
        return self._settings.page_size

    @property
    def requests(self) -> int:
        return self._requests

    @property
    def throttled_seconds(self) -> float:
        return self._queue.throttled_seconds(self._lane)

    async def token(self) -> TokenFacts:
        call = Call("GET /access-token", _unknown_url("/access-token"))
        return await self._get(call, "/access-token", lambda _, body: payload.token(body))

    async def organization(self, slug: OrganizationSlug) -> Organization:
        path = f"/organizations/{quote(slug, safe='')}"
        call = Call(f"GET {path}", _no_organization(slug), "read_organizations")
        return await self._get(call, path, lambda _, body: payload.organization(body), slug)

    async def organizations(self) -> Sequence[Organization]:
        found: list[Organization] = []
        number, last = 0, None
        while last is None or number < last:
            number += 1
            page = await self._page(
                "/organizations",
                number,
                payload.organizations,
                gone=_unknown_url("/organizations"),
                scope="read_organizations",
            )
            found += page.items
            last = page.last
        return found

    async def accounts(self, slug: OrganizationSlug, page: int) -> Page[Account]:
        return await self._page(
            f"/organizations/{quote(slug, safe='')}/members",
            page,
            payload.accounts,
            gone=_no_organization(slug),
            scope="read_organizations",
            organization=slug,
        )

    async def teams(self, slug: OrganizationSlug, page: int) -> Page[Team]:
        return await self._page(
            f"/organizations/{quote(slug, safe='')}/teams",
            page,
            payload.teams,
            gone=_no_organization(slug),
            scope="read_teams",
            organization=slug,
        )

    async def members(self, slug: OrganizationSlug, team: TeamID, page: int) -> Page[Member]:
        return await self._page(
            f"/organizations/{quote(slug, safe='')}/teams/{quote(team, safe='')}/members",
            page,
            payload.members,
            gone=TeamNotFound(team),
            scope="read_teams",
            organization=slug,
        )

    async def _page(
        self,
        path: str,
        number: int,
        parse: Callable[[bytes], list[T]],
        *,
        gone: Exception,
        scope: str,
        organization: str | None = None,
    ) -> Page[T]:
        call = Call(f"GET {path} (page {number})", gone, scope)

        def read(response: httpx.Response, body: bytes) -> Page[T]:
            last = last_page(response.links, page=number, url=str(response.url), call=call.name)
            return Page(parse(body), last)

        query = f"?page={number}&per_page={self._settings.page_size}"
        return await self._get(call, path + query, read, organization)

    async def _get(
        self,
        call: Call,
        target: str,
        read: Callable[[httpx.Response, bytes], T],
        organization: str | None = None,
    ) -> T:
        """Ask until there is an answer or no sense in asking again; raises what was wrong with the last."""
        patience = self._settings.patience
        tries = refusals = 0
        while True:
            answer = await self._try(call, target, read, organization)
            if not isinstance(answer, FailedAttempt):
                return answer
            wait = answer.wait or 0.0
            if answer.refused:
                refusals += 1
                if refusals > patience.refusals:
                    raise answer.error
                continue  # the queue knows when
            tries += 1
            if not answer.again or tries >= patience.tries or wait > patience.longest_retry_after:
                raise answer.error
            pause = min(patience.longest, patience.first * 2 ** (tries - 1))
            await self._clock.sleep(wait + self._jitter.uniform(0.5, 1.0) * pause)

    async def _try(
        self,
        call: Call,
        target: str,
        read: Callable[[httpx.Response, bytes], T],
        organization: str | None,
    ) -> T | FailedAttempt:
        request = httpx.Request(
            "GET", self._settings.api_url + target, headers=self._headers, extensions=self._extensions
        )
        async with self._queue.turn(self._lane, organization) as passing:
            self._requests += 1
            try:
                async with asyncio.timeout(self._settings.timeouts.total), self._connections.one() as http:
                    response = await http.send(request, stream=True)
                    try:
                        if response.status_code != httpx.codes.TOO_MANY_REQUESTS:
                            passing.answered(self._told(response))
                        body = await response.aread()
                    finally:
                        await response.aclose()
            except (httpx.HTTPError, httpx.StreamError, OSError) as error:
                trouble = from_exception(error, call, self._settings.api_url)
                passing.overload = trouble.overload
                return trouble
            if response.status_code == httpx.codes.OK:
                try:
                    return read(response, body)
                except payload.PayloadError as error:
                    return from_payload(error, call)
                except Failure as failure:
                    return FailedAttempt(failure)
            trouble = from_status(response.status_code, response.headers, body, call, now=self._clock.now())
            if trouble.refused:
                passing.answered(self._apply_429(response, body, trouble.wait, organization))
            return trouble

    def _told(self, response: httpx.Response) -> WindowReadings:
        longest = self._settings.longest_window
        return WindowReadings(
            user=read_window(response.headers, USER, longest),
            organization=read_window(response.headers, ORGANIZATION, longest),
            refused=response.status_code == httpx.codes.TOO_MANY_REQUESTS,
            failed=response.status_code >= httpx.codes.INTERNAL_SERVER_ERROR,
        )

    def _apply_429(
        self, response: httpx.Response, body: bytes, wait: float | None, organization: str | None
    ) -> WindowReadings:
        """What a 429 tells: by its headers, else by its body. If neither names a window, all requests wait."""
        told = self._told(response)
        refusal = payload.refusal(body)
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


def _sendable(token: str) -> str:
    """The token, if HTTP can carry it: what cannot be sent must not end up in a library's error message."""
    if token and token.isascii() and token.isprintable() and " " not in token:
        return token
    raise Failure(
        Reason.TOKEN_REJECTED,
        "The Buildkite API token must be plain ASCII without blanks, like bkua_ and 40 hexadecimal digits, "
        "but it is empty or holds other characters (a line break at its end, perhaps). Correct the Secret.",
        remedy=Remedy.CREDENTIALS,
    )


def _no_organization(slug: str) -> Failure:
    return Failure(
        Reason.ORGANIZATION_NOT_FOUND,
        f"Buildkite knows no organization {slug!r} that the API token reaches. Check the slug and the token's "
        "Organization Access.",
        remedy=Remedy.EDIT,
    )


def _unknown_url(path: str) -> Failure:
    return Failure(
        Reason.BUILDKITE_RESPONSE_INVALID,
        f"GET {path}: expected 200, but the answer is 404. BUILDKITE_API_URL does not lead to Buildkite's API.",
    )
