"""Buildkite's REST API for one connector: the port `sync.ports.BuildkiteAPI` over HTTP.

`sender` sends the requests, `payload` turns a body into the domain, `pagination` reads how many pages there are.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar
from urllib.parse import quote

import httpx

from buildkite_connector.buildkite import payload
from buildkite_connector.buildkite.body import LARGE_PAGE_LIMIT, PAGE_LIMIT
from buildkite_connector.buildkite.errors import Call
from buildkite_connector.buildkite.pagination import Told, read_links
from buildkite_connector.buildkite.sender import RequestSender
from buildkite_connector.buildkite.settings import BuildkiteSettings
from buildkite_connector.model.canonical_id import canonical_id
from buildkite_connector.model.directory import (
    Account,
    AccountID,
    ClusterID,
    Membership,
    Organization,
    OrganizationSlug,
    Pipeline,
    PipelineAccess,
    ResourceKind,
    Team,
    TeamID,
    TokenFacts,
)
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.redactor import Redactor
from buildkite_connector.model.spec import OrganizationChoice
from buildkite_connector.model.token_scopes import WRITE_SCOPE
from buildkite_connector.model.words import API_TOKEN, TokenWords, capital
from buildkite_connector.sync.listing import Page
from buildkite_connector.sync.ports import MaintainedCluster, NotFound, WriteRefused

HIDDEN_ORGANIZATION = "/organizations/{organization}"
"""What is shown in place of a path with a slug that only a Secret holds."""

LARGE_PAGES = 2
"""How many pages of pipelines and clusters are asked for at the same time: together they stay below what one connector
may hold."""

T = TypeVar("T")
Named = TypeVar("Named", Account, Team)


class BuildkiteClient:
    """One connector's view of Buildkite, made by `Buildkite.client`.

    Best for one sync: `requests` and `throttled_seconds` count from its making.
    """

    def __init__(self, settings: BuildkiteSettings, sender: RequestSender) -> None:
        self.page_size = settings.page_size
        self._most_pages = settings.most_pages
        self._sender = sender
        self._large_pages = asyncio.Semaphore(LARGE_PAGES)

    @property
    def _redactor(self) -> Redactor:
        return self._sender.redactor

    @property
    def requests(self) -> int:
        return self._sender.requests

    @property
    def throttled_seconds(self) -> float:
        return self._sender.throttled_seconds

    # The token and what it can access

    async def token(self) -> TokenFacts:
        if (facts := await self._sender.token_facts()) is not None:
            return facts
        path = "/access-token"
        return await self._sender.ask(self._call(path, _unknown_url(path)), lambda _, body: payload.token(body))

    async def organization(self, choice: OrganizationChoice) -> Organization:
        path = _path_of(choice)
        call = self._call(path, _no_organization(choice, self._sender.words), "read_organizations", choice.slug)
        if choice.key:
            call = replace(call, name=f"GET {HIDDEN_ORGANIZATION}", shown=HIDDEN_ORGANIZATION)
        return await self._sender.ask(call, lambda _, body: payload.organization(body, self._redactor))

    async def organizations(self, page: int) -> Page[Organization]:
        path = "/organizations"
        call = self._call(path, _unknown_url(path), "read_organizations")
        return await self._page(call, page, lambda body: payload.organizations(body, self._redactor))

    # One organization

    async def accounts(self, slug: OrganizationSlug, page: int) -> Page[Account]:
        gone = _no_organization(OrganizationChoice(slug), self._sender.words)
        call = self._call(f"{organization_path(slug)}/members", gone, "read_organizations", slug)
        return await self._page(call, page, payload.accounts)

    async def account(self, slug: OrganizationSlug, account: AccountID) -> Account | None:
        path = f"{organization_path(slug)}/members/{path_part(account)}"
        call = self._call(path, NotFound(), "read_organizations", slug)
        return await self._one(call, slug, account, payload.account)

    async def teams(self, slug: OrganizationSlug, page: int) -> Page[Team]:
        gone = _no_organization(OrganizationChoice(slug), self._sender.words)
        call = self._call(f"{organization_path(slug)}/teams", gone, "read_teams", slug)
        return await self._page(call, page, lambda body: payload.teams(body, self._redactor))

    async def team_slug(self, slug: OrganizationSlug, team: TeamID) -> str | None:
        call = self._call(f"{organization_path(slug)}/teams/{path_part(team)}", NotFound(), "read_teams", slug)
        found = await self._one(call, slug, team, lambda body: payload.team(body, self._redactor))
        return None if found is None else found.slug

    async def members(self, slug: OrganizationSlug, team: TeamID, page: int) -> Page[Membership]:
        call = self._call(_members_path(slug, team), NotFound(), "read_teams", slug)
        return await self._page(call, page, lambda body: payload.members(body, team))

    async def pipelines(self, slug: OrganizationSlug, page: int) -> Page[Pipeline]:
        gone = _no_organization(OrganizationChoice(slug), self._sender.words)
        call = self._call(f"{organization_path(slug)}/pipelines", gone, "read_pipelines", slug)
        return await self._large_page(call, page, ResourceKind.PIPELINE, payload.pipelines)

    async def team_pipelines(self, slug: OrganizationSlug, team: TeamID, page: int) -> Page[PipelineAccess]:
        path = f"{organization_path(slug)}/teams/{path_part(team)}/pipelines"
        call = self._call(path, NotFound(), "read_teams", slug)
        return await self._page(call, page, lambda body: payload.team_pipelines(body, team, self._redactor))

    async def clusters(self, slug: OrganizationSlug, page: int) -> Page[MaintainedCluster]:
        gone = _no_organization(OrganizationChoice(slug), self._sender.words)
        call = self._call(f"{organization_path(slug)}/clusters", gone, "read_clusters", slug)
        return await self._large_page(call, page, ResourceKind.CLUSTER, payload.clusters)

    async def cluster(self, slug: OrganizationSlug, cluster: ClusterID) -> MaintainedCluster:
        path = f"{organization_path(slug)}/clusters/{path_part(cluster)}"
        call = replace(self._call(path, NotFound(), "read_clusters", slug), limit=PAGE_LIMIT)

        def read(_: httpx.Response, body: bytes) -> MaintainedCluster:
            found = payload.cluster(body, self._redactor)
            _expect_id(call, cluster, found.cluster.id)
            return found

        return await self._sender.ask(call, read)

    # Memberships, one at a time. Of what Buildkite refuses, the documentation names only 422 with a text, and nothing
    # is read from that text.

    async def membership(self, slug: OrganizationSlug, team: TeamID, account: AccountID) -> Membership | None:
        call = self._call(f"{_members_path(slug, team)}/{path_part(account)}", NotFound(), "read_teams", slug)
        try:
            return await self._sender.ask(call, _reader(call, team, account))
        except NotFound:
            return None

    async def create(self, slug: OrganizationSlug, wanted: Membership) -> Membership:
        body = {"user_id": wanted.account, "role": wanted.role.value}
        call = self._write("POST", _members_path(slug, wanted.team), slug, body, httpx.codes.CREATED)
        return await self._sender.ask(call, _reader(call, wanted.team, wanted.account))

    async def change_role(self, slug: OrganizationSlug, wanted: Membership) -> Membership:
        path = f"{_members_path(slug, wanted.team)}/{path_part(wanted.account)}"
        call = self._write("PATCH", path, slug, {"role": wanted.role.value}, httpx.codes.OK)
        return await self._sender.ask(call, _reader(call, wanted.team, wanted.account))

    async def remove(self, slug: OrganizationSlug, membership: Membership) -> None:
        path = f"{_members_path(slug, membership.team)}/{path_part(membership.account)}"
        call = self._write("DELETE", path, slug, None, httpx.codes.NO_CONTENT)
        await self._sender.ask(call, lambda *_: None)

    # How they are asked

    def _call(self, path: str, gone: Exception, scope: str = "", slug: str | None = None, method: str = "GET") -> Call:
        return Call(f"{method} {path}", path, gone, self._redactor, scope, method, slug)

    def _write(self, method: str, path: str, slug: str, body: dict[str, str] | None, expected: int) -> Call:
        call = self._call(path, NotFound(), WRITE_SCOPE, slug, method)
        meanings: dict[int, Callable[[str], Exception]] = {httpx.codes.UNPROCESSABLE_ENTITY: WriteRefused}
        return replace(call, json=body, changes=True, expected=(expected, httpx.codes.OK), meanings=meanings)

    async def _one(
        self, call: Call, slug: OrganizationSlug, asked: str, parse: Callable[[bytes], Named]
    ) -> Named | None:
        """An account or a team; None where the organization has none of this id."""

        def read(_: httpx.Response, body: bytes) -> Named:
            found = parse(body)
            _expect_id(call, asked, found.id)
            return found

        try:
            return await self._sender.ask(call, read)
        except NotFound:
            await self.organization(OrganizationChoice(slug))  # an organization out of reach looks the same
            return None

    async def _large_page(
        self, whole: Call, number: int, kind: ResourceKind, parse: Callable[[bytes, Redactor], list[T]]
    ) -> Page[T]:
        """Each item may be large. One that is too large, or that cannot be read, must not keep accounts and teams from
        being synced: the failure says how they still can be."""
        try:
            async with self._large_pages:
                return await self._page(whole, number, lambda body: parse(body, self._redactor), LARGE_PAGE_LIMIT)
        except Failure as failure:
            if failure.reason is not Reason.BUILDKITE_RESPONSE_INVALID:
                raise
            advice = f"To sync without this type until then, remove {kind} from spec.sync.resourceTypes."
            raise Failure(failure.reason, f"{failure.message} {advice}", remedy=failure.remedy) from None

    async def _page(
        self, whole: Call, number: int, parse: Callable[[bytes], list[T]], limit: int = PAGE_LIMIT
    ) -> Page[T]:
        """One page of the listing that the call `whole` names."""
        call = replace(
            whole,
            name=f"{whole.name} (page {number})",
            target=f"{whole.target}?page={number}&per_page={self.page_size}",
            limit=limit,
        )

        def read(response: httpx.Response, body: bytes) -> Page[T]:
            told = read_links(
                response.links,
                page=number,
                most=self._most_pages,
                url=str(response.url),
                call=call.name,
                redactor=self._redactor,
            )
            items = parse(body)
            alone = told == Told() and len(items) < self.page_size
            return Page(items, number if alone else told.last, told.more)

        return await self._sender.ask(call, read)


def _reader(call: Call, team: TeamID, account: AccountID) -> Callable[[httpx.Response, bytes], Membership]:
    """Reads a membership; raises Failure when it is another person's."""

    def read(_: httpx.Response, body: bytes) -> Membership:
        found = payload.member(body, team, call.redactor)
        _expect_id(call, account, found.account)
        return found

    return read


def _expect_id(call: Call, asked: str, found: str) -> None:
    """Raises Failure BUILDKITE_RESPONSE_INVALID when an answer is about something else than what was asked for."""
    if canonical_id(found) != canonical_id(asked):
        raise Failure(
            Reason.BUILDKITE_RESPONSE_INVALID,
            f"{call.name}: expected a response about {asked}, but it is about {call.quote(found)}. If a proxy stands in"
            " between, check that it caches nothing; else update the connector.",
        )


def path_part(text: str) -> str:
    """`text` as one part of a URL's path. Raises ValueError where it would lead to another path."""
    if text in ("", ".", ".."):
        raise ValueError(f"{text!r} is not part of a path")
    return quote(text, safe="")


def organization_path(slug: OrganizationSlug) -> str:
    """Raises Failure ORGANIZATION_NOT_FOUND for a slug that no organization can have."""
    return _path_of(OrganizationChoice(slug))


def _members_path(slug: OrganizationSlug, team: TeamID) -> str:
    return f"{organization_path(slug)}/teams/{path_part(team)}/members"


def _path_of(choice: OrganizationChoice) -> str:
    try:
        return f"/organizations/{path_part(choice.slug)}"
    except ValueError:
        raise _no_organization(choice) from None


def _no_organization(choice: OrganizationChoice, words: TokenWords = API_TOKEN) -> Failure:
    return Failure(
        Reason.ORGANIZATION_NOT_FOUND,
        f"Buildkite knows no organization {choice} that {words.token} can access. Check the slug."
        f" {capital(words.access)}{words.why}.",
        remedy=Remedy.EDIT,
    )


def _unknown_url(path: str) -> Failure:
    return Failure(
        Reason.BUILDKITE_RESPONSE_INVALID,
        f"GET {path}: expected 200, but the response is 404. BUILDKITE_API_URL does not lead to Buildkite's API.",
    )
