"""Collecting clusters and who maintains them: what is gone, who is a stranger, and what contradicts itself."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from buildkite_connector.model.directory import (
    Account,
    AccountID,
    ClusterID,
    ClusterMaintainer,
    ResourceKind,
    SyncScope,
    TeamID,
)
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.sync.collect import collect
from buildkite_connector.sync.incomplete import MOST_LEAVERS
from buildkite_connector.sync.listing import REREADS, Page
from buildkite_connector.sync.ports import MaintainedCluster, NotFound
from fakes.organization_api import ACME, FakeOrganizationAPI, access, account, cluster, member, team
from unit.sync.access_organizations import (
    EVERYTHING,
    asked_about,
    cannot_be_found,
    delete_team,
    failure_of,
    large,
    small,
    when,
)

USER, TEAM, CLUSTER = ResourceKind.USER, ResourceKind.TEAM, ResourceKind.CLUSTER


@pytest.mark.parametrize("shows_maintainers", [True, False])
async def test_maintainers_come_in_the_order_of_their_clusters(shows_maintainers: bool) -> None:
    api = large()
    api.shows_maintainers = shows_maintainers
    directory = (await collect(api, ACME, EVERYTHING)).directory
    assert [(each.cluster, each.maintainer) for each in directory.cluster_maintainers] == [
        ("cluster-0", "account-0"),
        ("cluster-0", "account-1"),
        ("cluster-0", "team-0"),
        ("cluster-2", "account-6"),
        ("cluster-4", "team-2"),
    ]


async def test_a_cluster_that_is_gone_when_it_is_read_alone_is_left_out_and_counted() -> None:
    api = large()
    api.page_size = 10
    when(api, "cluster-1", lambda: api.listed_clusters.remove(cluster(1)))
    collection = await collect(api, ACME, EVERYTHING)
    assert [each.id for each in collection.directory.clusters] == ["cluster-0", "cluster-2", "cluster-3", "cluster-4"]
    assert len(collection.directory.cluster_maintainers) == 5
    assert collection.report.clusters_gone == 1
    assert api.asked.count(("clusters", 1)) == 2
    assert {question for question in api.repeats if question[0] != "clusters"} == set(), "no cluster is read twice"


async def test_a_cluster_that_cannot_be_found_once_is_read_again() -> None:
    api = large()
    when(api, "cluster-1", cannot_be_found)
    collection = await collect(api, ACME, EVERYTHING)
    assert len(collection.directory.clusters) == 5
    assert collection.report.clusters_gone == 0


async def test_a_cluster_that_is_listed_and_cannot_be_found_is_not_taken_for_deleted() -> None:
    api = large()
    when(api, "cluster-1", cannot_be_found, times=2)
    said = await failure_of(api)
    assert said.startswith("Expected the maintainers of cluster cluster-1, which the list of clusters still has, but")


async def test_a_cluster_that_comes_and_goes_while_others_are_looked_for_is_left_out() -> None:
    api = large()

    def change() -> None:
        api.listed_clusters.remove(cluster(1))
        api.listed_clusters.append(cluster(9))

    when(api, "cluster-1", change)
    when(api, "cluster-9", lambda: api.listed_clusters.remove(cluster(9)))
    collection = await collect(api, ACME, EVERYTHING)
    assert len(collection.directory.clusters) == 4
    assert collection.report.clusters_gone == 2


async def test_a_cluster_that_cannot_be_found_at_first_in_the_second_reading_is_looked_for_again() -> None:
    api = large()

    def change() -> None:
        api.listed_clusters.remove(cluster(1))
        api.listed_clusters.append(cluster(9))

    when(api, "cluster-1", change)
    when(api, "cluster-9", cannot_be_found)
    collection = await collect(api, ACME, EVERYTHING)
    assert cluster(9).cluster in collection.directory.clusters
    assert collection.report.clusters_gone == 1
    assert len(collection.directory.cluster_maintainers) == 5


async def test_a_cluster_that_cannot_be_found_in_the_second_and_third_reading_is_not_taken_for_deleted() -> None:
    api = large()

    def change() -> None:
        api.listed_clusters.remove(cluster(1))
        api.listed_clusters.append(cluster(9))

    when(api, "cluster-1", change)
    when(api, "cluster-9", cannot_be_found, times=2)
    said = await failure_of(api)
    assert said.startswith("Expected the maintainers of cluster cluster-9, which the list of clusters still has, but")


async def test_clusters_that_come_and_go_without_end_end_the_sync() -> None:
    api = large()

    def change(listing: str, _page: int) -> None:
        if listing == api.listed_clusters[-1].cluster.id:
            api.listed_clusters[-1] = cluster(100 + len(api.asked))
            raise NotFound

    api.listed_clusters[-1] = cluster(100)
    api.before = change
    assert "the list of clusters still has" in await failure_of(api)
    assert api.asked.count(("clusters", 1)) == 1 + REREADS


async def test_an_organization_lost_on_the_way_is_not_taken_for_clusters_deleted() -> None:
    api = large()

    def lose(listing: str, _page: int) -> None:
        if listing.startswith("cluster-"):
            api.listed_clusters.clear()
        if listing == "clusters" and not api.listed_clusters:
            raise Failure(Reason.ORGANIZATION_NOT_FOUND, "gone", remedy=Remedy.EDIT)

    api.before = lose
    with pytest.raises(Failure) as failed:
        await collect(api, ACME, EVERYTHING)
    assert failed.value.reason is Reason.ORGANIZATION_NOT_FOUND


async def test_a_person_who_maintains_a_cluster_and_left_is_added_and_counted() -> None:
    api = small()
    api.listed_clusters = [cluster(0, users=[0, 99])]
    collection = await collect(api, ACME, EVERYTHING)
    assert collection.directory.accounts[-1] == Account(AccountID("account-99"), "Ann 99", "")
    assert collection.report.accounts_added == 1
    assert len(collection.directory.cluster_maintainers) == 2
    assert asked_about(api, "account ") == {"account account-99"}


async def test_a_person_who_maintains_a_cluster_and_joined_is_there_as_the_organization_has_them() -> None:
    api = small()
    api.listed_clusters = [cluster(0, users=[99])]
    when(api, "clusters", lambda: api.listed_accounts.append(account(99)))
    api.spoil = lambda listing, _, page: (
        Page([account(0), account(1)], 1) if listing == "accounts" and api.asked.count(("accounts", 1)) == 1 else page
    )
    collection = await collect(api, ACME, EVERYTHING)
    assert collection.directory.accounts == (account(0), account(1), account(99))
    assert collection.report.accounts_added == 0


@pytest.mark.parametrize(
    ("kinds", "of"), [({USER, CLUSTER}, "maintainer of a cluster"), ({USER, TEAM}, "member of a team, but")]
)
async def test_a_list_of_members_that_lacks_a_maintainer_is_not_delivered(kinds: set[ResourceKind], of: str) -> None:
    api = small()
    api.listed_clusters = [cluster(0, users=[1])]
    api.spoil = lambda listing, _, page: Page([account(0)], 1) if listing == "accounts" else page
    said = await failure_of(api, SyncScope(frozenset(kinds)))
    assert "list of members to contain every member of a team" in said
    assert of in said
    assert "it lacks 1 of them, also when it is read again (account-1). Nothing is delivered" in said


async def test_a_team_that_maintains_a_cluster_and_was_deleted_is_left_out() -> None:
    api = small()
    api.listed_clusters = [cluster(0, users=[0], teams=[1, 99])]
    collection = await collect(api, ACME, EVERYTHING)
    assert {each.maintainer for each in collection.directory.cluster_maintainers} == {"account-0", "team-1"}
    assert collection.report.teams_unseen == 1
    assert asked_about(api, "team ") == {"team team-99"}
    assert api.requests == api.minimum_of(EVERYTHING) + 1


async def test_a_team_that_is_known_to_be_gone_is_left_out_of_the_maintainers_without_a_question() -> None:
    api = small()
    when(api, team(1).id, lambda: delete_team(api, 1))
    collection = await collect(api, ACME, EVERYTHING)
    assert {each.maintainer for each in collection.directory.cluster_maintainers} == {"account-0"}
    assert not asked_about(api, "team ")


async def test_a_team_that_was_created_meanwhile_and_maintains_a_cluster_is_there_with_its_members() -> None:
    """Another one was deleted."""
    api = small()

    def create() -> None:
        api.listed_teams.append(team(9))
        api.listed_members[team(9).id] = [member(1, 9)]
        api.listed_access[team(9).id] = [access(0, 9)]
        api.listed_clusters = [cluster(0, teams=[9, 98])]

    when(api, f"pipelines of {team(0).id}", create)
    api.wait = after_teams(api)
    directory = (await collect(api, ACME, EVERYTHING)).directory
    assert team(9) in directory.teams
    assert access(0, 9) in directory.pipeline_access
    assert [each.maintainer for each in directory.cluster_maintainers] == [team(9).id]


def after_teams(api: FakeOrganizationAPI) -> Callable[[], Any]:
    """The list of clusters is answered last."""

    async def wait() -> None:
        mine = api.asked[-1]
        for _ in range(20 if mine == ("clusters", 1) else 1):
            await asyncio.sleep(0)

    return wait


async def test_a_list_of_teams_that_lacks_a_maintainer_is_not_delivered() -> None:
    api = small()
    api.spoil = lambda listing, _, page: Page([team(0)], 1) if listing == "teams" else page
    said = await failure_of(api)
    assert said == (
        "Expected the organization's list of teams to contain every team that maintains a cluster, but it lacks 1 of"
        " them, also when it is read again (team-1). Nothing is delivered, because C1 would treat them as deleted."
        " Check for a gateway between here and Buildkite that changes or caches answers; the next sync tries again."
    )


async def test_teams_that_the_token_cannot_see_fail_no_sync_however_many_they_are() -> None:
    """Secret teams, where the token's owner is no administrator: they are no fault, and they are there every time."""
    api = small()
    unseen = range(50, 50 + 3 * MOST_LEAVERS)
    api.listed_clusters = [cluster(0, teams=[1, *unseen]), cluster(1, teams=unseen)]
    collection = await collect(api, ACME, EVERYTHING)
    assert [each.maintainer for each in collection.directory.cluster_maintainers] == ["team-1"]
    assert (collection.report.teams_unseen, collection.report.teams_gone) == (len(unseen), 0)
    assert api.requests == api.minimum_of(EVERYTHING) + len(unseen), "each is asked for once, and no list is read again"


async def test_a_team_that_the_list_lacks_is_found_among_many_that_the_token_cannot_see() -> None:
    api = small()
    api.listed_clusters = [cluster(0, teams=[1, *range(50, 50 + 3 * MOST_LEAVERS)])]
    api.spoil = lambda listing, _, page: Page([team(0)], 1) if listing == "teams" else page
    assert "it lacks 1 of them, also when it is read again (team-1)" in await failure_of(api)


USER_ID, TEAM_ID = "0da645b7-9840-428f-bd80-0b92ee274480", "c5e09619-8648-4896-a936-9d0b8b7b3fe9"


@pytest.mark.parametrize("listed", [str.lower, str.upper])
@pytest.mark.parametrize("named", [str.lower, str.upper])
async def test_a_maintainer_is_matched_whatever_the_case_of_its_id_and_named_as_the_lists_do(
    listed: Callable[[str], str], named: Callable[[str], str]
) -> None:
    api = small()
    user, of = AccountID(listed(USER_ID)), TeamID(listed(TEAM_ID))
    api.listed_accounts.append(replace(account(5), id=user))
    api.listed_teams.append(replace(team(5), id=of))
    api.listed_members[of] = []
    maintainers = [
        ClusterMaintainer(ClusterID("cluster-0"), change(id_), kind)  # type: ignore[arg-type]
        for id_, kind in ((USER_ID, USER), (TEAM_ID, TEAM))
        for change in (named, str.lower, str.upper)
    ]
    api.listed_clusters = [MaintainedCluster(cluster(0).cluster, tuple(maintainers))]
    collection = await collect(api, ACME, EVERYTHING)
    assert [each.maintainer for each in collection.directory.cluster_maintainers] == [user, of]
    assert (collection.report.accounts_added, collection.report.teams_unseen) == (0, 0)
    assert not asked_about(api, "account ") | asked_about(api, "team ")


@pytest.mark.parametrize("kinds", [{USER, CLUSTER}, {TEAM, CLUSTER}, {CLUSTER}])
async def test_maintainers_of_a_kind_that_is_not_in_scope_are_nobodys_business(kinds: set[ResourceKind]) -> None:
    api = small()
    api.listed_clusters = [cluster(0, users=[0] if USER in kinds else [99], teams=[0] if TEAM in kinds else [99])]
    directory = (await collect(api, ACME, SyncScope(frozenset(kinds)))).directory
    assert {each.kind for each in directory.cluster_maintainers} == kinds - {CLUSTER}
    assert not asked_about(api, "team ") | asked_about(api, "account ")
