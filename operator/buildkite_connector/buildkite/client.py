"""Buildkite's REST API for one connector: the ports of `collect` and `preflight` over HTTP.

`http` sends the requests, `payload` turns a body into the domain, `pagination` reads how many pages there are.
"""

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import TypeVar
from urllib.parse import quote

import httpx

from buildkite_connector.buildkite import payload
from buildkite_connector.buildkite.body import OBJECT_LIMIT, PAGE_LIMIT
from buildkite_connector.buildkite.errors import Call
from buildkite_connector.buildkite.http import RequestSender
from buildkite_connector.buildkite.pagination import Told, read_links
from buildkite_connector.buildkite.settings import BuildkiteSettings
from buildkite_connector.model.directory import (
    Account,
    AccountID,
    Organization,
    OrganizationSlug,
    Team,
    TeamID,
    TokenFacts,
    canonical_id,
)
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.redactor import Redactor
from buildkite_connector.model.spec import OrganizationChoice
from buildkite_connector.sync.collect import Member, TeamNotFound
from buildkite_connector.sync.listing import Listing, Page, ReadStatistics
from buildkite_connector.sync.preflight import NEW_TOKEN

HIDDEN_ORGANIZATION = "/organizations/{organization}"
"""What is shown in place of a path with a slug that only a Secret holds."""

T = TypeVar("T")
Named = TypeVar("Named", Account, Team)


class NotThere(Exception):  # noqa: N818
    """What was asked for is not there (404)."""


class BuildkiteClient:
    """One connector's view of Buildkite: a `collect.OrganizationAPI` and a `preflight.Access`.

    Made by `Buildkite.client`, best for one sync: `requests` and `throttled_seconds` count from its making.
    """

    def __init__(self, settings: BuildkiteSettings, sender: RequestSender, redactor: Redactor) -> None:
        self._settings = settings
        self._sender = sender
        self._redactor = redactor

    @property
    def page_size(self) -> int:
        return self._settings.page_size

    @property
    def requests(self) -> int:
        return self._sender.requests

    @property
    def throttled_seconds(self) -> float:
        return self._sender.throttled_seconds

    async def token(self) -> TokenFacts:
        call = Call("GET /access-token", _unknown_url("/access-token"), self._redactor)
        return await self._sender.get(call, "/access-token", lambda _, body: payload.token(body), limit=OBJECT_LIMIT)

    async def organization(self, slug: OrganizationSlug) -> Organization:
        return await self.chosen(OrganizationChoice(slug))

    async def chosen(self, choice: OrganizationChoice) -> Organization:
        path = _path_of(choice)
        shown = HIDDEN_ORGANIZATION if choice.key else path
        call = Call(
            f"GET {shown}",
            _no_organization(choice),
            self._redactor,
            "read_organizations",
            path=shown,
        )
        return await self._sender.get(
            call, path, lambda _, body: payload.organization(body, self._redactor), choice.slug, limit=OBJECT_LIMIT
        )

    async def organizations(self) -> Sequence[Organization]:
        """All that the token reaches."""
        listing = Listing[str, Organization](
            "the organizations of the API token",
            self._organizations,
            attrgetter("slug"),
            page_size=self.page_size,
            statistics=ReadStatistics(),
        )
        return list((await listing.read()).values())

    async def _organizations(self, page: int) -> Page[Organization]:
        return await self._page(
            "/organizations",
            page,
            lambda body: payload.organizations(body, self._redactor),
            gone=_unknown_url("/organizations"),
            scope="read_organizations",
        )

    async def accounts(self, slug: OrganizationSlug, page: int) -> Page[Account]:
        return await self._page(
            f"{organization_path(slug)}/members",
            page,
            payload.accounts,
            gone=_no_organization(OrganizationChoice(slug)),
            scope="read_organizations",
            organization=slug,
        )

    async def teams(self, slug: OrganizationSlug, page: int) -> Page[Team]:
        return await self._page(
            f"{organization_path(slug)}/teams",
            page,
            lambda body: payload.teams(body, self._redactor),
            gone=_no_organization(OrganizationChoice(slug)),
            scope="read_teams",
            organization=slug,
        )

    async def members(self, slug: OrganizationSlug, team: TeamID, page: int) -> Page[Member]:
        return await self._page(
            f"{organization_path(slug)}/teams/{path_part(team)}/members",
            page,
            payload.members,
            gone=TeamNotFound(team),
            scope="read_teams",
            organization=slug,
        )

    async def account(self, slug: OrganizationSlug, account: AccountID) -> Account | None:
        """None: the organization has no such member."""
        path = f"{organization_path(slug)}/members/{path_part(account)}"
        return await self._one(path, slug, "read_organizations", account, payload.account)

    async def team(self, slug: OrganizationSlug, team: TeamID) -> Team | None:
        """None: the organization has no such team that the token sees."""
        path = f"{organization_path(slug)}/teams/{path_part(team)}"
        return await self._one(path, slug, "read_teams", team, lambda body: payload.team(body, self._redactor))

    async def _one(
        self, path: str, slug: OrganizationSlug, scope: str, asked: str, parse: Callable[[bytes], Named]
    ) -> Named | None:
        call = Call(f"GET {path}", NotThere(), self._redactor, scope)

        def read(_: httpx.Response, body: bytes) -> Named:
            found = parse(body)
            expect_id(call, asked, found.id)
            return found

        try:
            return await self._sender.get(call, path, read, slug, limit=OBJECT_LIMIT)
        except NotThere:
            await self.organization(slug)  # an organization out of reach looks the same
            return None

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
        call = Call(f"GET {path} (page {number})", gone, self._redactor, scope)

        def read(response: httpx.Response, body: bytes) -> Page[T]:
            told = read_links(
                response.links,
                page=number,
                most=self._settings.most_pages,
                url=str(response.url),
                call=call.name,
                redactor=self._redactor,
            )
            items = parse(body)
            alone = told == Told() and len(items) < self.page_size
            return Page(items, number if alone else told.last, told.more)

        query = f"?page={number}&per_page={self.page_size}"
        return await self._sender.get(call, path + query, read, organization, limit=PAGE_LIMIT)


def expect_id(call: Call, asked: str, found: str) -> None:
    """Raises Failure BUILDKITE_RESPONSE_INVALID when an answer is about something else than what was asked for."""
    if canonical_id(found) != canonical_id(asked):
        raise Failure(
            Reason.BUILDKITE_RESPONSE_INVALID,
            f"{call.name}: expected an answer about {asked}, but it is about {call.quote(found)}. If a proxy stands in"
            " between, check that it caches nothing; else update the connector.",
        )


def path_part(text: str) -> str:
    """`text` as one part of a URL's path. Raises ValueError where it would lead to another path."""
    if text in ("", ".", ".."):
        raise ValueError(f"{text!r} is no part of a path")
    return quote(text, safe="")


def organization_path(slug: OrganizationSlug) -> str:
    """Raises Failure ORGANIZATION_NOT_FOUND for a slug that no organization can have."""
    return _path_of(OrganizationChoice(slug))


def _path_of(choice: OrganizationChoice) -> str:
    try:
        return f"/organizations/{path_part(choice.slug)}"
    except ValueError:
        raise _no_organization(choice) from None


def _no_organization(choice: OrganizationChoice) -> Failure:
    return Failure(
        Reason.ORGANIZATION_NOT_FOUND,
        f"Buildkite knows no organization {choice} that the API token can access. Check the slug. {NEW_TOKEN}",
        remedy=Remedy.EDIT,
    )


def _unknown_url(path: str) -> Failure:
    return Failure(
        Reason.BUILDKITE_RESPONSE_INVALID,
        f"GET {path}: expected 200, but the answer is 404. BUILDKITE_API_URL does not lead to Buildkite's API.",
    )
