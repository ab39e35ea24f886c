"""Buildkite's REST API for one connector: the ports of `collect` and `preflight` over HTTP.

`http` sends the requests, `payload` turns a body into the domain, `pagination` reads how many pages there are.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar
from urllib.parse import quote

import httpx

from buildkite_connector.buildkite import payload
from buildkite_connector.buildkite.body import OBJECT_LIMIT, PAGE_LIMIT
from buildkite_connector.buildkite.errors import Call
from buildkite_connector.buildkite.http import RequestSender
from buildkite_connector.buildkite.pagination import last_page
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
from buildkite_connector.model.spec import OrganizationChoice
from buildkite_connector.model.untrusted_text import Redactor
from buildkite_connector.sync.collect import Member, TeamNotFound
from buildkite_connector.sync.listing import Page
from buildkite_connector.sync.preflight import NEW_TOKEN

HIDDEN_ORGANIZATION = "/organizations/{organization}"
"""What is shown in place of a path with a slug that only a Secret holds."""

T = TypeVar("T")


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
        """All that the token reaches.

        Raises Failure ROSTER_UNSTABLE when a page tells of more to come and brings none that is new.
        """
        found: dict[str, Organization] = {}
        number, last = 0, None
        while last is None or number < last:
            number += 1
            page = await self._page(
                "/organizations",
                number,
                lambda body: payload.organizations(body, self._redactor),
                gone=_unknown_url("/organizations"),
                scope="read_organizations",
            )
            known = len(found)
            for organization in page.items:
                found.setdefault(organization.slug, organization)
            last = page.last
            if len(found) == known and last != number:
                raise Failure(
                    Reason.ROSTER_UNSTABLE,
                    f"GET /organizations: expected page {number}, which tells of more to follow, to bring "
                    "organizations that no page before it had, but it brought none. The next sync tries again.",
                )
        return list(found.values())

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
            last = last_page(
                response.links,
                page=number,
                most=self._settings.most_pages,
                url=str(response.url),
                call=call.name,
                redactor=self._redactor,
            )
            return Page(parse(body), last)

        query = f"?page={number}&per_page={self._settings.page_size}"
        return await self._sender.get(call, path + query, read, organization, limit=PAGE_LIMIT)


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
