"""Collecting pipelines, clusters and who has access: what is asked, what comes out, and what contradicts itself."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from itertools import chain, combinations
from typing import Any

import pytest

from buildkite_connector.model.directory import (
    ALL_KINDS,
    AccessLevel,
    Account,
    AccountID,
    ClusterMaintainer,
    Counts,
    Pipeline,
    PipelineID,
    ResourceKind,
    SyncScope,
    TeamID,
)
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.sync.collect import MOST_LEAVERS, collect, reread
from buildkite_connector.sync.listing import Page, Progress
from buildkite_connector.sync.ports import NotFound
from fakes.organization_api import (
    ACME,
    FakeOrganizationAPI,
    access,
    account,
    cluster,
    member,
    organization,
    pipeline,
    team,
)

USER, TEAM, ORGANIZATION, PIPELINE, CLUSTER = ResourceKind
EVERYTHING = SyncScope(ALL_KINDS)
COMBINATIONS = list(chain.from_iterable(combinations(ResourceKind, size) for size in range(1, len(ResourceKind) + 1)))


def large() -> FakeOrganizationAPI:
    """Listings of every size around a page of 3; every second cluster has no maintainers."""
    api = organization(accounts=7, members=[[0, 1, 2, 3], [], [6], [1], [2]])
    api.listed_pipelines = [pipeline(number) for number in range(7)]
    api.listed_access = {
        team(0).id: [access(number) for number in range(7)],
        team(1).id: [access(number, 1, AccessLevel.BUILD_AND_READ) for number in range(3)],
        team(2).id: [access(0, 2, AccessLevel.MANAGE_BUILD_AND_READ)],
    }
    api.listed_clusters = [
        cluster(0, users=[0, 1], teams=[0]),
        cluster(1),
        cluster(2, users=[6]),
        cluster(3),
        cluster(4, teams=[2]),
    ]
    return api


def small() -> FakeOrganizationAPI:
    """One page of everything: two people, teams and pipelines, a cluster that a person and a team maintain."""
    api = organization(accounts=2, members=[[0], [1]])
    api.page_size = 10
    api.listed_pipelines = [pipeline(0), pipeline(1)]
    api.listed_access = {team(0).id: [access(0), access(1)], team(1).id: [access(1, 1, AccessLevel.BUILD_AND_READ)]}
    api.listed_clusters = [cluster(0, users=[0], teams=[1])]
    return api


def when(api: FakeOrganizationAPI, listing: str, change: Callable[[], object], times: int = 1) -> None:
    """Lets something happen just before the first answers about that listing."""
    before, asked = api.before, list[None]()

    def hook(found: str, page: int) -> None:
        before(found, page)
        if found == listing and len(asked) < times:
            asked.append(None)
            change()

    api.before = hook


def delete_team(api: FakeOrganizationAPI, number: int) -> None:
    api.listed_teams.remove(team(number))
    del api.listed_members[team(number).id]
    api.listed_access.pop(team(number).id, None)


def cannot_be_found() -> None:
    raise NotFound


def asked_about(api: FakeOrganizationAPI, start: str) -> set[str]:
    return {listing for listing, _ in api.asked if listing.startswith(start)}


async def failure_of(api: FakeOrganizationAPI, scope: SyncScope = EVERYTHING) -> str:
    with pytest.raises(Failure) as failed:
        await collect(api, ACME, scope)
    assert (failed.value.reason, failed.value.remedy) == (Reason.LIST_INCOMPLETE, Remedy.RETRY)
    return failed.value.message


# What is asked


@pytest.mark.parametrize("shows_maintainers", [True, False], ids=["maintainers in the list", "no maintainers there"])
@pytest.mark.parametrize("kinds", COMBINATIONS, ids="+".join)
@pytest.mark.parametrize("access_too", [True, False], ids=["with grants", "without grants"])
async def test_every_combination_takes_the_fewest_requests_and_gives_what_it_covers(
    kinds: tuple[ResourceKind, ...], shows_maintainers: bool, access_too: bool
) -> None:
    api = large()
    api.shows_maintainers = shows_maintainers
    scope = SyncScope(frozenset(kinds), grants=access_too)
    collection = await collect(api, ACME, scope)
    assert api.requests == api.minimum_of(scope) == collection.report.requests
    assert not api.repeats
    directory = collection.directory
    grants = [each for entry in api.listed_clusters for each in entry.maintainers]
    assert directory.accounts == (tuple(api.listed_accounts) if USER in kinds else ())
    assert directory.teams == (tuple(api.listed_teams) if TEAM in kinds else ())
    assert directory.pipelines == (tuple(api.listed_pipelines) if PIPELINE in kinds else ())
    assert directory.clusters == (tuple(each.cluster for each in api.listed_clusters) if CLUSTER in kinds else ())
    assert set(directory.pipeline_access) == {
        each
        for listed in api.listed_access.values()
        for each in listed
        if access_too and {PIPELINE, TEAM} <= set(kinds)
    }
    assert set(directory.cluster_maintainers) == {
        each for each in grants if access_too and {CLUSTER, each.kind} <= set(kinds)
    }


async def test_the_figures_of_one_organization_written_down() -> None:
    """3 pages of accounts, 2 of teams, 6 of members; 3 of pipelines, 3 + 1 + 1 + 2 of them in teams and one more for a
    full page; 2 of clusters, and 2 clusters whose maintainers the list does not show."""
    api = large()
    await collect(api, ACME, EVERYTHING)
    assert api.requests == (3 + 2 + 6) + (3 + 3 + 1 + 1 + 2 + 1) + (2 + 2)


@pytest.mark.parametrize("without", [USER, TEAM, PIPELINE, CLUSTER])
async def test_the_organization_costs_nothing(without: ResourceKind) -> None:
    with_it, without_it = large(), large()
    kinds = ALL_KINDS - {without}
    await collect(with_it, ACME, SyncScope(kinds))
    await collect(without_it, ACME, SyncScope(kinds - {ORGANIZATION}))
    assert sorted(with_it.asked) == sorted(without_it.asked)


async def test_the_pipelines_of_a_team_are_asked_for_while_other_pages_are_on_their_way() -> None:
    api, held = large(), asyncio.Event()
    answer = api._answer

    async def hold_back_the_last_pages(listing: str, page: int) -> None:
        if listing in ("teams", "pipelines") and page > 1:
            await held.wait()
        await answer(listing, page)
        if listing == f"pipelines of {team(2).id}":
            held.set()

    api._answer = hold_back_the_last_pages  # type: ignore[method-assign]
    async with asyncio.timeout(5):
        await collect(api, ACME, EVERYTHING)


async def test_progress_counts_all_of_it() -> None:
    api, seen = large(), list[Progress]()
    await collect(api, ACME, EVERYTHING, progress=lambda progress: seen.append(replace(progress)))
    assert [step.pages_read for step in seen] == list(range(1, api.requests + 1))
    assert all(step.pages_read <= step.pages_known for step in seen)
    assert (seen[-1].pages_known, seen[-1].pipelines, seen[-1].clusters) == (api.requests, 7, 5)
    assert seen[0].pages_known >= 4, "each of the four listings has a first page"


async def test_counts_of_all_that_is_in_scope() -> None:
    api = small()
    api.listed_accounts = [replace(account(0), role="admin"), replace(account(1), role="member")]
    collection = await collect(api, ACME, EVERYTHING)
    assert collection.directory.counts == Counts(2, 2, 2, 2, 2, 3, 1, 2)


# Teams


@pytest.mark.parametrize("listing", [team(0).id, f"pipelines of {team(0).id}"])
async def test_a_team_that_is_gone_for_either_of_its_lists_is_left_out_with_all_that_it_can_access(
    listing: str,
) -> None:
    api = small()
    when(api, listing, lambda: delete_team(api, 0))
    collection = await collect(api, ACME, EVERYTHING)
    directory = collection.directory
    assert directory.teams == (team(1),)
    assert {each.team for each in directory.memberships} == {each.team for each in directory.pipeline_access}
    assert {each.team for each in directory.pipeline_access} == {team(1).id}
    assert directory.pipelines == (pipeline(0), pipeline(1)), "the pipelines are still there"
    assert collection.report.teams_gone == 1


async def test_a_team_whose_pipelines_cannot_be_found_once_is_read_again() -> None:
    api = small()
    when(api, f"pipelines of {team(0).id}", cannot_be_found)
    collection = await collect(api, ACME, EVERYTHING)
    assert set(collection.directory.pipeline_access) == {access(0), access(1), access(1, 1, AccessLevel.BUILD_AND_READ)}
    assert collection.report.teams_gone == 0
    assert api.requests == api.minimum_of(EVERYTHING) + 2, (
        "the list of teams and the pipelines of that team, no members"
    )


async def test_a_team_that_is_listed_and_whose_pipelines_cannot_be_found_is_not_taken_for_deleted() -> None:
    api = small()
    when(api, f"pipelines of {team(0).id}", cannot_be_found, times=2)
    said = await failure_of(api)
    assert said.startswith("Expected the pipelines of team team-0, which the list of teams still has, but Buildkite")
    assert said.count(". ") == 2


async def test_a_team_that_moves_up_unseen_is_read_with_its_pipelines() -> None:
    api = small()
    api.page_size = 2
    api.listed_teams.append(team(2))
    api.listed_members[team(2).id] = [member(0, 2)]
    api.listed_access[team(2).id] = [access(0, 2)]
    api.before = lambda listing, page: (
        delete_team(api, 0) if (listing, page) == ("teams", 2) and len(api.listed_teams) == 3 else None
    )
    when(api, team(0).id, lambda: None)
    directory = (await collect(api, ACME, EVERYTHING)).directory
    assert directory.teams == (team(1), team(2))
    assert access(0, 2) in directory.pipeline_access


@pytest.mark.parametrize("level", [AccessLevel.READ_ONLY, AccessLevel.BUILD_AND_READ])
async def test_a_team_with_two_levels_of_access_to_one_pipeline_contradicts_itself(level: AccessLevel) -> None:
    api = small()
    api.listed_access[team(0).id] = [access(0), access(1), access(0, level=level)]
    with pytest.raises(Failure, match="Expected the pipelines of team team-0 not to change while they are") as failed:
        await collect(api, ACME, EVERYTHING)
    assert failed.value.reason is Reason.ROSTER_UNSTABLE


# Pipelines


async def test_a_pipeline_that_only_a_team_names_is_added_by_its_slug() -> None:
    api = small()
    api.listed_access[team(0).id].append(access(9))
    api.listed_access[team(1).id].append(access(9, 1))
    collection = await collect(api, ACME, EVERYTHING)
    added = Pipeline(PipelineID("pipeline-9"), "deploy-9", "deploy-9")
    assert collection.directory.pipelines == (pipeline(0), pipeline(1), added)
    assert {access(9), access(9, 1)} <= set(collection.directory.pipeline_access)
    assert collection.report.pipelines_added == 1
    assert api.requests == api.minimum_of(EVERYTHING)


async def test_pipelines_of_a_team_that_is_gone_are_not_added() -> None:
    api = small()
    api.listed_access[team(0).id].append(access(9))
    when(api, team(0).id, lambda: delete_team(api, 0))
    collection = await collect(api, ACME, EVERYTHING)
    assert collection.directory.pipelines == (pipeline(0), pipeline(1))
    assert collection.report.pipelines_added == 0


async def test_pages_of_pipelines_that_move_are_read_again() -> None:
    api = large()
    when(api, "pipelines", lambda: None)
    moved: list[None] = []

    def before(listing: str, page: int) -> None:
        if (listing, page) == ("pipelines", 2) and not moved:
            moved.append(None)
            api.listed_pipelines.insert(0, pipeline(99))

    api.before = before
    collection = await collect(api, ACME, EVERYTHING)
    assert collection.directory.pipelines == tuple(api.listed_pipelines)
    assert collection.report.rereads == 1


# Clusters and who maintains them


@pytest.mark.parametrize("shows_maintainers", [True, False])
async def test_maintainers_keep_the_order_of_people_before_teams(shows_maintainers: bool) -> None:
    api = large()
    api.shows_maintainers = shows_maintainers
    directory = (await collect(api, ACME, EVERYTHING)).directory
    assert [(each.cluster, each.maintainer) for each in directory.cluster_maintainers] == [
        ("cluster-0", "account-0"),
        ("cluster-0", "account-1"),
        ("cluster-2", "account-6"),
        ("cluster-0", "team-0"),
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
    assert asked_about(api, "team ") == {"team team-99"}
    assert api.requests == api.minimum_of(EVERYTHING) + 1


async def test_a_team_that_is_known_to_be_gone_is_left_out_of_the_maintainers_without_a_question() -> None:
    api = small()
    when(api, team(1).id, lambda: delete_team(api, 1))
    collection = await collect(api, ACME, EVERYTHING)
    assert {each.maintainer for each in collection.directory.cluster_maintainers} == {"account-0"}
    assert not asked_about(api, "team ")


async def test_a_team_that_was_created_meanwhile_and_maintains_a_cluster_is_there_with_its_members() -> None:
    api = small()

    def create() -> None:
        api.listed_teams.append(team(9))
        api.listed_members[team(9).id] = [member(1, 9)]
        api.listed_access[team(9).id] = [access(0, 9)]
        api.listed_clusters = [cluster(0, teams=[9])]

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


async def test_more_strange_teams_than_can_have_been_deleted_are_not_delivered() -> None:
    api = small()
    api.listed_clusters = [cluster(0, teams=range(50, 50 + MOST_LEAVERS + 1))]
    said = await failure_of(api)
    assert f"lacks {MOST_LEAVERS + 1} of them" in said
    assert not asked_about(api, "team "), "nobody asks for so many one by one"


@pytest.mark.parametrize("kinds", [{USER, CLUSTER}, {TEAM, CLUSTER}, {CLUSTER}])
async def test_maintainers_of_a_kind_that_is_not_in_scope_are_nobodys_business(kinds: set[ResourceKind]) -> None:
    api = small()
    api.listed_clusters = [cluster(0, users=[0] if USER in kinds else [99], teams=[0] if TEAM in kinds else [99])]
    directory = (await collect(api, ACME, SyncScope(frozenset(kinds)))).directory
    assert {each.kind for each in directory.cluster_maintainers} == kinds - {CLUSTER}
    assert not asked_about(api, "team ") | asked_about(api, "account ")


# After a grant


async def test_a_team_that_is_read_again_after_a_grant_keeps_what_it_can_access() -> None:
    api = small()
    api.listed_access[team(0).id].append(access(9))
    api.listed_clusters = [cluster(0, users=[0, 99], teams=[1, 98])]
    before = await collect(api, ACME, EVERYTHING)
    api.listed_members[team(0).id].append(member(1))
    asked = api.requests
    after = await reread(api, before, frozenset({team(0).id}))
    assert api.asked[asked:] == [(team(0).id, 1)]
    assert set(after.directory.memberships) == {*before.directory.memberships, member(1)}
    assert replace(after.directory, memberships=before.directory.memberships) == before.directory
    assert replace(after.report, requests=0, rereads=0) == replace(before.report, requests=0, rereads=0)
    assert (after.report.pipelines_added, after.report.accounts_added) == (1, 1)


async def test_a_team_that_is_gone_after_a_grant_takes_its_access_with_it() -> None:
    api = small()
    before = await collect(api, ACME, EVERYTHING)
    delete_team(api, 1)
    after = (await reread(api, before, frozenset({team(1).id}))).directory
    assert {each.team for each in after.pipeline_access} == {TeamID("team-0")}
    assert after.cluster_maintainers == tuple(
        each for each in before.directory.cluster_maintainers if each.kind is USER
    )
    assert isinstance(after.cluster_maintainers[0], ClusterMaintainer)
