"""Pipelines and clusters behind the Buildkite simulator: golden and made ones, edits amid reads, the minimum."""

import json
from collections import Counter
from dataclasses import replace
from hashlib import sha256
from math import ceil

import pytest

from buildkite_connector.model.directory import ALL_KINDS, DEFAULT_KINDS, AccessLevel, ResourceKind, SyncScope
from harness.organization import ACCESS_ORG, ACME_ORG, access
from simulators.buildkite import faults
from simulators.buildkite.access_records import cluster, pipeline, team_pipeline
from simulators.buildkite.api import User
from simulators.buildkite.control import stats
from simulators.buildkite.made_access import give_access
from simulators.buildkite.made_organization import make_organization
from simulators.buildkite.organization import Organization
from unit.simulators.buildkite_access import (
    API,
    DEFAULT,
    DEPLOY,
    GOLDEN,
    HERE,
    OPEN_SOURCE,
    PLATFORM,
    TOKEN,
    USERS,
    serving,
)

EVERYTHING = SyncScope(ALL_KINDS)
AT_PIPELINES = "/v2/organizations/*/teams/*/pipelines"


def test_a_document_survives_reading_and_writing() -> None:
    for path in (ACME_ORG, ACCESS_ORG):
        document = json.loads(path.read_bytes())
        written = Organization.from_document(document).document()
        written["organization"].pop("created_at")
        assert written == document


def test_the_golden_organization_has_what_its_description_says() -> None:
    golden = access(EVERYTHING)
    pat = next(account.id for account in golden.accounts if account.name == "O'Brien, Pat")
    teams = {each.team for each in golden.memberships if each.account == pat}
    levels = [each.level for each in golden.pipeline_access if each.team in teams and each.pipeline == API]
    assert Counter(levels) == Counter({AccessLevel.BUILD_AND_READ: 1, AccessLevel.MANAGE_BUILD_AND_READ: 1})
    default = [each.maintainer for each in golden.cluster_maintainers if each.cluster == DEFAULT]
    assert default[0] == pat
    assert default[1] in teams
    roles = Counter(account.role for account in golden.accounts)
    assert (roles[None], roles["admin"]) == (1, 1)
    reached = {each.pipeline for each in golden.pipeline_access}
    assert [each.slug for each in golden.pipelines if each.id not in reached] == ["nightly-report"]
    assert golden.pipelines[-1].slug == golden.pipelines[-1].name == "hidden-deploys"


def test_made_records_have_the_fields_of_the_golden_ones() -> None:
    for each in GOLDEN.access.pipelines.records:
        told = {"description", "cluster_id", "created_at", "archived_at", "visibility"} & each.keys()
        made = pipeline(GOLDEN.slug, each["id"], each["slug"], each["name"], **{field: each[field] for field in told})
        assert made == each
    for each in GOLDEN.access.clusters.records:
        told = {"description", "default_queue_id", "default_queue_url"}
        assert cluster(GOLDEN.slug, each["id"], each["name"], **{field: each[field] for field in told}) == each
    for each in GOLDEN.access.team_pipelines[DEPLOY].records:
        slug = each["pipeline_url"].rpartition("/")[2]
        assert team_pipeline(GOLDEN.slug, each["pipeline_id"], slug, each["access_level"]) == each


def test_a_scope_without_teams_has_no_access_and_no_pipeline_that_only_a_team_names() -> None:
    golden = access(SyncScope(frozenset({ResourceKind.USER, ResourceKind.PIPELINE, ResourceKind.CLUSTER})))
    assert [each.slug for each in golden.pipelines] == ["api", "web", "nightly-report"]
    assert golden.pipeline_access == ()
    assert {each.kind for each in golden.cluster_maintainers} == {ResourceKind.USER}


@pytest.mark.parametrize("kinds", [{}, {"pipelines": 0, "clusters": 0, "team_pipelines": 0}])
def test_a_made_organization_without_pipelines_and_clusters_is_the_same_as_ever(kinds: dict[str, int]) -> None:
    document = json.dumps(give_access(make_organization(30, 4, 50, seed=3), **kinds).document())
    assert sha256(document.encode()).hexdigest() == "e280f98256676176937eb97a628b4d6887e27f112f4b8a3fe49ddb446b1455d2"


def test_made_access_has_the_sizes_asked_for_and_is_the_same_for_the_same_numbers() -> None:
    made, again, other = (give_access(make_organization(300, 50, 900), 200, 8, 700, seed) for seed in (0, 0, 1))
    assert made.document() == again.document() != other.document()
    pipelines = {each["id"] for each in made.access.pipelines.records}
    listings = made.access.team_pipelines
    assert (len(pipelines), len(made.access.clusters)) == (200, 8)
    assert sum(len(each) for each in listings.values()) == 700
    assert list(listings) == list(made.team_members)
    for each in listings.values():
        items = [item["pipeline_id"] for item in each.records]
        assert len(items) == len(set(items))
        assert pipelines.issuperset(items)
    actors = [each["actor"] for roster in made.access.cluster_maintainers.values() for each in roster.records]
    assert Counter(actor["type"] for actor in actors) == {"user": 6, "team": 2}
    known = {record["id"] for record in (*made.members.records, *made.teams.records)}
    assert known.issuperset(actor["id"] for actor in actors)
    clusters = {each["id"] for each in made.access.clusters.records}
    assert {each["cluster_id"] for each in made.access.pipelines.records} == clusters | {None}


def test_the_bench_has_a_team_with_more_than_one_page_of_pipelines() -> None:
    made = give_access(make_organization(10_000, 500, 38_000), pipelines=2000, clusters=20)
    sizes = [len(each) for each in made.access.team_pipelines.values()]
    assert max(sizes) > 100
    pages = sum(ceil(size / 100) for size in sizes) + sizes.count(100)
    assert made.requests_at(100, ALL_KINDS) - made.minimum_requests == 20 + pages + 1 + 20


def test_more_pipelines_of_teams_than_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="7 pipelines of teams do not fit 3 pipelines in 2 teams"):
        give_access(make_organization(1, 2, 0), pipelines=3, team_pipelines=7)


@pytest.mark.parametrize(
    ("kinds", "hidden", "listed"),
    [
        ({"user"}, 3, 3),
        (DEFAULT_KINDS, 10, 10),
        ({"organization"}, 0, 0),
        (DEFAULT_KINDS | {"organization"}, 10, 10),
        ({"pipeline"}, 2, 2),
        ({"user", "pipeline"}, 5, 5),
        ({"team", "pipeline"}, 14, 14),
        ({"cluster"}, 2, 2),
        ({"user", "cluster"}, 7, 5),
        ({"team", "cluster"}, 11, 9),
        (ALL_KINDS, 21, 19),
    ],
)
def test_the_minimum_of_each_choice_of_kinds(kinds: frozenset[str], hidden: int, listed: int) -> None:
    """Two a page: 3 pages of accounts; teams 2, their members 2, 2, 1; pipelines 2, the teams' 2, 2, 1; clusters 2, and
    one for each of both. A listing of exactly one full page is one page more."""
    golden = Organization.load(ACCESS_ORG)
    assert golden.requests_at(2, kinds) == hidden
    golden.access.clusters_list_maintainers = True
    assert golden.requests_at(2, kinds) == listed


def test_a_cluster_that_nobody_maintains_is_asked_for_even_where_the_list_has_maintainers() -> None:
    golden = Organization.load(ACCESS_ORG)
    golden.access.clusters_list_maintainers = True
    golden.edit("remove_cluster_maintainer", cluster=OPEN_SOURCE, id=maintainers(golden, OPEN_SOURCE)[0])
    assert golden.requests_at(100, {"user", "cluster"}) == 1 + 1 + 1


async def test_the_stats_tell_the_minimum_of_the_kinds_asked_for() -> None:
    async with serving() as (sim, _):
        told = [stats(sim, *kinds)["organizations"]["acme-access"]["minimum_requests"] for kinds in ((), (ALL_KINDS,))]
    assert told == [1 + 1 + 3, 1 + 1 + 3 + 1 + 3 + 1 + 2]


@pytest.mark.parametrize("admin", [True, False])
@pytest.mark.parametrize("stays_listed", [True, False])
async def test_a_team_can_vanish_between_its_members_and_its_pipelines(admin: bool, stays_listed: bool) -> None:
    reader = User(USERS["pat"], admin=admin)
    async with serving(replace(TOKEN, user=reader)) as (sim, client):
        gone = {"operation": "remove_team", "id": DEPLOY, "stays_listed": stays_listed}
        sim.fault(faults.edit_data([gone]), path=AT_PIPELINES)
        paths = [f"{HERE}/teams/{DEPLOY}/{each}" for each in ("members", "pipelines", "members")]
        assert [(await client.get(path)).status_code for path in paths] == [200, 404, 404]


@pytest.mark.parametrize("from_teams", [True, False])
async def test_a_pipeline_can_be_deleted_after_the_list_was_read(from_teams: bool) -> None:
    async with serving() as (sim, client):
        gone = {"operation": "remove_pipeline", "id": API, "from_teams": from_teams}
        sim.fault(faults.edit_data([gone]), path=AT_PIPELINES)
        listed = [API in (await client.get(f"{HERE}/pipelines")).text]
        teams = [API in (await client.get(f"{HERE}/teams/{each}/pipelines")).text for each in (PLATFORM, DEPLOY)]
        listed.append(API in (await client.get(f"{HERE}/pipelines")).text)
    assert (listed, teams) == ([True, False], [not from_teams] * 2)


@pytest.mark.parametrize("stays_listed", [True, False])
async def test_a_cluster_can_vanish_before_its_maintainers_are_read(stays_listed: bool) -> None:
    async with serving() as (sim, client):
        gone = {"operation": "remove_cluster", "id": DEFAULT, "stays_listed": stays_listed}
        sim.fault(faults.edit_data([gone]), path="/v2/organizations/*/clusters/*")
        assert [each["id"] for each in (await client.get(f"{HERE}/clusters")).json()] == [DEFAULT, OPEN_SOURCE]
        paths = [f"{HERE}/clusters/{DEFAULT}{each}" for each in ("", "/maintainers")]
        assert [(await client.get(path)).status_code for path in paths] == [404, 404]
        assert len((await client.get(f"{HERE}/clusters")).json()) == 1 + stays_listed


def test_every_edit_takes_effect() -> None:
    golden = Organization.load(ACCESS_ORG)
    golden.access.pipelines.page(1, 100)
    new = {"pipeline": "p-new", "team": PLATFORM}
    golden.edit("add_pipeline", pipeline=pipeline("acme-access", "p-new", "new", "New"), at=0)
    golden.edit("update_pipeline", id="p-new", changes={"name": "Newer"})
    golden.edit("move_pipeline", id="p-new", to=1)
    golden.edit("add_team_pipeline", team=PLATFORM, item=team_pipeline("acme-access", "p-new", "new", "read_only"))
    golden.edit("update_team_pipeline", **new, changes={"access_level": "build_and_read"})
    golden.edit("move_team_pipeline", **new, to=0)
    golden.edit("add_cluster", cluster=cluster("acme-access", "c-new", "New"))
    golden.edit("update_cluster", id="c-new", changes={"name": "Newer"})
    golden.edit("move_cluster", id="c-new", to=0)
    golden.edit(
        "add_cluster_maintainer", cluster="c-new", maintainer=GOLDEN.access.cluster_maintainers[DEFAULT].records[0]
    )
    assert [each["name"] for each in json.loads(golden.access.pipelines.page(1, 2))] == ["API :rocket:", "Newer"]
    assert golden.access.team_pipelines[PLATFORM].records[0]["access_level"] == "build_and_read"
    assert golden.access.clusters.records[0]["name"] == "Newer"
    assert len(maintainers(golden, "c-new")) == 1
    golden.edit("remove_pipeline", id="p-new")
    golden.edit("remove_cluster", id="c-new")
    assert golden.document() == GOLDEN.document()


def test_who_is_removed_has_no_access_any_more() -> None:
    golden = Organization.load(ACCESS_ORG)
    golden.edit("remove_member", id=USERS["pat"])
    assert len(maintainers(golden, DEFAULT)) == 1
    golden.edit("remove_team", id=PLATFORM)
    assert maintainers(golden, DEFAULT) == []
    assert list(golden.document()["team_pipelines"]) == [DEPLOY]
    golden.edit("remove_member", id=USERS["kim"], from_teams=False)
    assert len(maintainers(golden, OPEN_SOURCE)) == 1


def maintainers(organization: Organization, cluster_id: str) -> list[str]:
    return [each["id"] for each in organization.access.cluster_maintainers[cluster_id].records]
