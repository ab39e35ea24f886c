"""Teams whose members were changed while their organization was collected are read again."""

import pytest

from buildkite_connector.model.directory import (
    Account,
    AccountID,
    Collection,
    CollectionReport,
    Directory,
    Membership,
    Organization,
    OrganizationSlug,
    Role,
    Team,
    TeamID,
)
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.scope import FULL_SCOPE, SyncScope
from buildkite_connector.sync.collect import Member, TeamNotFound
from buildkite_connector.sync.listing import Page
from buildkite_connector.sync.reread import reread

ONE, TWO = TeamID("t-1"), TeamID("t-2")
ADA, BOB, EVE = AccountID("ada"), AccountID("bob"), AccountID("eve")
ACME = Organization("id", OrganizationSlug("acme"), "Acme")


class Roster:
    """Members of teams, two a page. A team without an entry is gone; `away`: the organization is."""

    page_size = 2
    throttled_seconds = 1.0

    def __init__(self, *, away: bool = False, **members: list[Member]) -> None:
        self.teams = {TeamID(team.replace("_", "-")): found for team, found in members.items()}
        self.away = away
        self.requests = 0

    async def members(self, slug: OrganizationSlug, team: TeamID, page: int) -> Page[Member]:
        self.requests += 1
        if team not in self.teams:
            raise TeamNotFound(team)
        found = self.teams[team]
        return Page(found[2 * page - 2 : 2 * page], max(1, -(-len(found) // 2)))

    async def organization(self, slug: OrganizationSlug) -> Organization:
        self.requests += 1
        if self.away:
            raise Failure(Reason.ORGANIZATION_NOT_FOUND, "gone")
        return ACME

    async def accounts(self, slug: OrganizationSlug, page: int) -> Page[Account]:
        raise NotImplementedError

    async def teams_of(self, slug: OrganizationSlug, page: int) -> Page[Team]:
        raise NotImplementedError


def team(id_: TeamID) -> Team:
    return Team(id_, id_, id_, "", "visible", False, "")


def collected(scope: SyncScope = FULL_SCOPE) -> Collection:
    directory = Directory(
        ACME,
        (Account(ADA, "Ada", ""), Account(BOB, "Bob", "")),
        (team(ONE), team(TWO)),
        (Membership(ONE, ADA, Role.MEMBER), Membership(TWO, BOB, Role.MEMBER)) if scope.wants_memberships else (),
        scope,
    )
    return Collection(directory, CollectionReport(requests=4))


def member(account: AccountID, role: Role = Role.MEMBER) -> Member:
    return Member(account, account.title(), role)


async def test_the_changed_team_alone_is_as_it_is_now() -> None:
    roster = Roster(t_1=[member(ADA, Role.MAINTAINER), member(BOB), member(EVE)], t_2=[])
    found = await reread(roster, collected(), frozenset({ONE}))  # type: ignore[arg-type]  # teams are not asked for
    assert set(found.directory.memberships) == {
        Membership(TWO, BOB, Role.MEMBER),
        Membership(ONE, ADA, Role.MAINTAINER),
        Membership(ONE, BOB, Role.MEMBER),
        Membership(ONE, EVE, Role.MEMBER),
    }
    assert found.directory.accounts[-1] == Account(EVE, "Eve", ""), "no membership may dangle"
    assert (found.report.requests, found.report.accounts_added, found.report.rereads) == (6, 1, 1)


async def test_a_team_that_is_gone_is_left_out_with_its_memberships() -> None:
    found = await reread(Roster(t_2=[]), collected(), frozenset({ONE}))  # type: ignore[arg-type]
    assert [each.id for each in found.directory.teams] == [TWO]
    assert found.directory.memberships == (Membership(TWO, BOB, Role.MEMBER),)
    assert found.report.teams_gone == 1


async def test_a_lost_organization_fails_the_sync() -> None:
    with pytest.raises(Failure, match="gone"):
        await reread(Roster(away=True), collected(), frozenset({ONE}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("scope", "teams"), [(SyncScope(grants=False), {ONE}), (FULL_SCOPE, {TeamID("t-9")}), (FULL_SCOPE, set())]
)
async def test_what_is_not_in_the_collection_costs_no_request(scope: SyncScope, teams: set[TeamID]) -> None:
    roster = Roster(t_1=[])
    found = await reread(roster, collected(scope), frozenset(teams))  # type: ignore[arg-type]
    assert roster.requests == 0
    assert found.directory == collected(scope).directory
