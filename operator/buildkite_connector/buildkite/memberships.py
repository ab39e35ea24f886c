"""Team memberships over Buildkite's REST API, one at a time: the port of grant and revoke tasks.

The documentation names only 422 with a text for what Buildkite refuses, and nothing is read from that text.
"""

from collections.abc import Callable

import httpx

from buildkite_connector.buildkite import payload
from buildkite_connector.buildkite.body import OBJECT_LIMIT
from buildkite_connector.buildkite.client import BuildkiteClient, NotThere, expect_id, organization_path, path_part
from buildkite_connector.buildkite.errors import Call
from buildkite_connector.buildkite.http import RequestSender, Sending
from buildkite_connector.buildkite.settings import BuildkiteSettings
from buildkite_connector.model.directory import WRITE_SCOPE, AccountID, Membership, OrganizationSlug, TeamID, TokenFacts
from buildkite_connector.model.redactor import Redactor
from buildkite_connector.sync.collect import Member
from buildkite_connector.tasks.ports import WriteLost, WriteRefused


class MembershipClient:
    """One connector's `tasks.ports.MembershipAPI`. Made by `Buildkite.memberships`."""

    def __init__(self, settings: BuildkiteSettings, sender: RequestSender, redactor: Redactor) -> None:
        self._sender = sender
        self._redactor = redactor
        self._reader = BuildkiteClient(settings, sender, redactor)

    async def token(self) -> TokenFacts:
        return await self._reader.token()

    async def membership(self, slug: OrganizationSlug, team: TeamID, account: AccountID) -> Member | None:
        path = f"{_members(slug, team)}/{path_part(account)}"
        call = Call(f"GET {path}", NotThere(), self._redactor, "read_teams")
        try:
            return await self._sender.get(call, path, _about(call, account), slug, limit=OBJECT_LIMIT)
        except NotThere:
            return None

    async def team_slug(self, slug: OrganizationSlug, team: TeamID) -> str | None:
        found = await self._reader.team(slug, team)
        return found.slug if found is not None else None

    async def create(self, slug: OrganizationSlug, wanted: Membership) -> Member:
        body = {"user_id": wanted.account, "role": wanted.role.value}
        sending = Sending(
            "POST", _members(slug, wanted.team), OBJECT_LIMIT, body, (httpx.codes.CREATED, httpx.codes.OK)
        )
        return await self._write(sending, slug, wanted.account)

    async def change_role(self, slug: OrganizationSlug, wanted: Membership) -> Member:
        path = f"{_members(slug, wanted.team)}/{path_part(wanted.account)}"
        sending = Sending("PATCH", path, OBJECT_LIMIT, {"role": wanted.role.value})
        return await self._write(sending, slug, wanted.account)

    async def remove(self, slug: OrganizationSlug, membership: Membership) -> None:
        path = f"{_members(slug, membership.team)}/{path_part(membership.account)}"
        sending = Sending("DELETE", path, OBJECT_LIMIT, expected=(httpx.codes.NO_CONTENT, httpx.codes.OK))
        await self._sender.write(self._writing(sending), sending, lambda *_: None, slug)

    async def _write(self, sending: Sending, slug: OrganizationSlug, account: AccountID) -> Member:
        call = self._writing(sending)
        return await self._sender.write(call, sending, _about(call, account), slug)

    def _writing(self, sending: Sending) -> Call:
        return Call(f"{sending.method} {sending.target}", WriteLost(), self._redactor, WRITE_SCOPE, WriteRefused)


def _about(call: Call, account: AccountID) -> Callable[[httpx.Response, bytes], Member]:
    """Reads a membership; raises Failure when it is another person's."""

    def read(_: httpx.Response, body: bytes) -> Member:
        found = payload.member(body, call.redactor)
        expect_id(call, account, found.account)
        return found

    return read


def _members(slug: OrganizationSlug, team: TeamID) -> str:
    return f"{organization_path(slug)}/teams/{path_part(team)}/members"
