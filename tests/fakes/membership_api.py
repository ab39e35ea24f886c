"""Buildkite's team memberships in memory, with what can go wrong before and after a write takes effect."""

import asyncio
from collections import deque
from dataclasses import dataclass, field, replace

from buildkite_connector.model.directory import AccountID, Membership, OrganizationSlug, Role, TeamID, TokenFacts
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.sync.ports import NotFound, WriteRefused
from fakes.buildkite_api import SilentBuildkite

LOST = Failure(Reason.BUILDKITE_UNREACHABLE, "the connection broke")


@dataclass
class MembershipAPI(SilentBuildkite):
    """`rows` is who is in which team. `slugs` are those of the teams that exist.

    The errors in `before` are raised by the next writes in place of them, those in `after` once they took effect.
    `reads` are raised by the next readings, of the token too. `seconds` is how long each call takes; `most` how many
    ran at once. Once it took effect a write's answer takes another `answer_seconds`. `places` are the organizations
    and teams that were named.
    """

    rows: dict[tuple[TeamID, AccountID], Role] = field(default_factory=dict)
    slugs: dict[TeamID, str] = field(default_factory=lambda: {TeamID("t-1"): "platform", TeamID("t-2"): "ops"})
    people: set[AccountID] | None = None
    scopes: frozenset[str] = frozenset({"write_teams"})
    before: deque[Exception] = field(default_factory=deque)
    after: deque[Exception] = field(default_factory=deque)
    reads: deque[Exception] = field(default_factory=deque)
    seconds: float = 0.0
    answer_seconds: float = 0.0
    calls: list[str] = field(default_factory=list)
    writes: list[tuple[str, TeamID, AccountID]] = field(default_factory=list)
    places: set[tuple[OrganizationSlug, TeamID]] = field(default_factory=set)
    called: asyncio.Event = field(default_factory=asyncio.Event)
    written: asyncio.Event = field(default_factory=asyncio.Event)
    running: int = 0
    most: int = 0

    async def token(self) -> TokenFacts:
        await self._take("token")
        if self.reads:
            raise self.reads.popleft()
        return TokenFacts("uuid", self.scopes)

    async def membership(self, slug: OrganizationSlug, team: TeamID, account: AccountID) -> Membership | None:
        await self._take("read", (slug, team))
        if self.reads:
            raise self.reads.popleft()
        role = self.rows.get((team, account))
        return Membership(team, account, role, "Ada") if role is not None else None

    async def team_slug(self, slug: OrganizationSlug, team: TeamID) -> str | None:
        await self._take("team", (slug, team))
        return self.slugs.get(team)

    async def create(self, slug: OrganizationSlug, wanted: Membership) -> Membership:
        key = (wanted.team, wanted.account)
        await self._begin("create", slug, wanted)
        if wanted.team not in self.slugs:
            raise NotFound
        if key in self.rows or (self.people is not None and wanted.account not in self.people):
            raise WriteRefused("Validation failed: User is not a person for whom that is possible")
        return await self._end(wanted)

    async def change_role(self, slug: OrganizationSlug, wanted: Membership) -> Membership:
        await self._begin("change", slug, wanted)
        if (wanted.team, wanted.account) not in self.rows:
            raise NotFound
        return await self._end(wanted)

    async def remove(self, slug: OrganizationSlug, membership: Membership) -> None:
        await self._begin("remove", slug, membership)
        if self.rows.pop((membership.team, membership.account), None) is None:
            raise NotFound
        await self._answer()

    async def _take(self, what: str, place: tuple[OrganizationSlug, TeamID] | None = None) -> None:
        self.calls.append(what)
        if place is not None:
            self.places.add(place)
        self.called.set()
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.running -= 1

    async def _begin(self, what: str, slug: OrganizationSlug, wanted: Membership) -> None:
        self.writes.append((what, wanted.team, wanted.account))
        self.written.set()
        await self._take(what, (slug, wanted.team))
        if self.before:
            raise self.before.popleft()

    async def _end(self, wanted: Membership) -> Membership:
        self.rows[wanted.team, wanted.account] = wanted.role
        await self._answer()
        return replace(wanted, name="Ada")

    async def _answer(self) -> None:
        if self.answer_seconds:
            await asyncio.sleep(self.answer_seconds)
        if self.after:
            raise self.after.popleft()
