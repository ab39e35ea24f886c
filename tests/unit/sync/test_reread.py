"""Teams whose members were changed while their organization was collected are read again."""

import pytest

from buildkite_connector.model.directory import (
    FULL_SCOPE,
    Account,
    AccountID,
    Collection,
    CollectionReport,
    Directory,
    Membership,
    Organization,
    OrganizationSlug,
    Role,
    SyncScope,
    Team,
    TeamID,
)
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.sync.collect import reread
from fakes.organization_api import FakeOrganizationAPI

ONE, TWO = TeamID("t-1"), TeamID("t-2")
ADA, BOB, EVE = AccountID("ada"), AccountID("bob"), AccountID("eve")
ACME = Organization("id", OrganizationSlug("acme"), "Acme")


def buildkite(**members: list[Membership]) -> FakeOrganizationAPI:
    """Members of teams as they are now, two a page; a team that is not named is gone."""
    found = {TeamID(name.replace("_", "-")): listed for name, listed in members.items()}
    return FakeOrganizationAPI(
        listed_accounts=[Account(ADA, "Ada", ""), Account(BOB, "Bob", "")],
        listed_teams=[team(id_) for id_ in found],
        listed_members=found,
        page_size=2,
    )


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
    return Collection(directory, CollectionReport(requests=4, teams_gone=1, accounts_added=2, rereads=3))


def member(account: AccountID, role: Role = Role.MEMBER) -> Membership:
    return Membership(ONE, account, role, account.title())


async def test_the_changed_team_alone_is_as_it_is_now() -> None:
    api = buildkite(t_1=[member(ADA, Role.MAINTAINER), member(BOB), member(EVE)], t_2=[])
    found = await reread(api, collected(), frozenset({ONE}))
    assert set(found.directory.memberships) == {
        Membership(TWO, BOB, Role.MEMBER),
        Membership(ONE, ADA, Role.MAINTAINER),
        Membership(ONE, BOB, Role.MEMBER),
        Membership(ONE, EVE, Role.MEMBER),
    }
    assert found.directory.accounts[-1] == Account(EVE, "Eve", ""), "no membership may dangle"
    assert found.report == CollectionReport(
        requests=2 + 1,  # two pages, and one question about Eve
        throttled_seconds=1.5,
        teams_gone=1,
        accounts_added=2 + 1,
        rereads=3 + 1,
    )


async def test_somebody_who_joined_since_is_there_as_the_organization_has_them() -> None:
    api = buildkite(t_1=[member(EVE)])
    api.listed_accounts.append(Account(EVE, "Eve", "eve@example.com"))
    found = await reread(api, collected(), frozenset({ONE}))
    assert found.directory.accounts == tuple(api.listed_accounts)
    assert found.report.accounts_added == 2


async def test_somebody_of_another_team_who_left_since_keeps_their_account() -> None:
    api = buildkite(t_1=[member(EVE)])
    api.listed_accounts = [Account(ADA, "Ada", ""), Account(EVE, "Eve", "eve@example.com")]
    found = await reread(api, collected(), frozenset({ONE}))
    assert {each.account for each in found.directory.memberships} == {EVE, BOB}
    assert [each.id for each in found.directory.accounts] == [ADA, EVE, BOB], "no membership may dangle"


async def test_a_team_that_is_gone_is_left_out_with_its_memberships() -> None:
    found = await reread(buildkite(t_2=[]), collected(), frozenset({ONE}))
    assert [each.id for each in found.directory.teams] == [TWO]
    assert found.directory.memberships == (Membership(TWO, BOB, Role.MEMBER),)
    assert found.report.teams_gone == 1 + 1


async def test_a_team_that_is_listed_and_cannot_be_found_is_not_taken_for_deleted() -> None:
    api = buildkite(t_2=[])
    api.listed_teams.append(team(ONE))
    with pytest.raises(Failure, match="members of team t-1, which the list of teams still has"):
        await reread(api, collected(), frozenset({ONE}))


async def test_a_lost_organization_fails_the_sync() -> None:
    api = buildkite()

    def lost(listing: str, _page: int) -> None:
        if listing == "teams":
            raise Failure(Reason.ORGANIZATION_NOT_FOUND, "gone")

    api.before = lost
    with pytest.raises(Failure, match="gone"):
        await reread(api, collected(), frozenset({ONE}))


@pytest.mark.parametrize(
    ("scope", "teams"), [(SyncScope(grants=False), {ONE}), (FULL_SCOPE, {TeamID("t-9")}), (FULL_SCOPE, set())]
)
async def test_what_is_not_in_the_collection_costs_no_request(scope: SyncScope, teams: set[TeamID]) -> None:
    api = buildkite(t_1=[])
    found = await reread(api, collected(scope), frozenset(teams))
    assert api.requests == 0
    assert found.directory == collected(scope).directory


async def test_each_team_that_is_read_again_is_counted() -> None:
    api = buildkite(t_1=[member(ADA)], t_2=[Membership(TWO, BOB, Role.MEMBER, "Bob")])
    found = await reread(api, collected(), frozenset({ONE, TWO}))
    assert found.report.rereads == 3 + 2
