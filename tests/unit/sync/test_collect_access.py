"""Collecting pipelines, clusters and who has access: what is asked, what comes out, and what contradicts itself."""

import asyncio
from dataclasses import replace
from itertools import chain, combinations

import pytest

from buildkite_connector.model.directory import (
    AccessLevel,
    ClusterMaintainer,
    Counts,
    Pipeline,
    PipelineID,
    ResourceKind,
    SyncScope,
    TeamID,
)
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.sync.collect import collect, reread
from buildkite_connector.sync.listing import Progress
from fakes.organization_api import (
    ACME,
    REST_KINDS,
    access,
    account,
    cluster,
    member,
    pipeline,
    team,
)
from unit.sync.access_organizations import (
    EVERYTHING,
    cannot_be_found,
    delete_team,
    failure_of,
    large,
    small,
    when,
)

KINDS = USER, TEAM, ORGANIZATION, PIPELINE, CLUSTER = [kind for kind in ResourceKind if kind in REST_KINDS]
COMBINATIONS = list(chain.from_iterable(combinations(KINDS, size) for size in range(1, len(KINDS) + 1)))


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
    kinds = REST_KINDS - {without}
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
    assert collection.directory.counts == Counts(2, 2, 2, 2, 2, 3, 1, 1, 1)


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


async def test_an_empty_list_of_pipelines_while_a_team_can_access_one_is_not_delivered() -> None:
    api = small()
    api.listed_pipelines = []
    assert await failure_of(api) == (
        "Expected the pipelines of acme to have those that its teams can access, but the list is empty. Check whether"
        " the token can see the pipelines, and check for a gateway between here and Buildkite that changes or"
        " caches answers; the next sync tries again."
    )


async def test_an_organization_without_pipelines_is_delivered_and_most_of_them_may_be_hidden() -> None:
    api = small()
    api.listed_pipelines, api.listed_access = [], {}
    assert (await collect(api, ACME, EVERYTHING)).directory.pipelines == ()
    api = small()
    api.listed_access[team(0).id] = [access(number) for number in range(9)]
    assert (await collect(api, ACME, EVERYTHING)).report.pipelines_added == 7


async def test_a_pipeline_that_is_added_without_a_known_slug_is_named_by_its_id() -> None:
    api = small()
    api.listed_access[team(0).id].append(replace(access(9), slug=""))
    added = (await collect(api, ACME, EVERYTHING)).directory.pipelines[-1]
    assert added == Pipeline(PipelineID("pipeline-9"), "pipeline-9", "pipeline-9")


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


# After a grant


async def test_a_team_that_is_read_again_after_a_grant_keeps_what_it_can_access() -> None:
    api = small()
    api.listed_access[team(0).id].append(access(9))
    api.listed_clusters = [cluster(0, users=[0, 99], teams=[1, 98]), cluster(5)]
    when(api, "cluster-5", api.listed_clusters.pop)
    before = await collect(api, ACME, EVERYTHING)
    api.listed_members[team(0).id].append(member(1))
    asked = api.requests
    after = await reread(api, before, frozenset({team(0).id}))
    assert api.asked[asked:] == [(team(0).id, 1)]
    assert set(after.directory.memberships) == {*before.directory.memberships, member(1)}
    assert replace(after.directory, memberships=before.directory.memberships) == before.directory
    assert replace(after.report, requests=0, rereads=0) == replace(before.report, requests=0, rereads=0)
    assert (after.report.pipelines_added, after.report.accounts_added, after.report.clusters_gone) == (1, 1, 1)
    assert after.report.teams_unseen == 1


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
