"""Whatever is lost on the way: the directory that comes out is the organization, or the sync fails and says why.

Hundreds of random organizations, read by the real client from the Buildkite simulator, every second with all types.
What no answer shows is left out: a last page that became shorter looks like a shorter list, unless it is of the list of
members, which the teams name.
"""

import random
from dataclasses import dataclass

import pytest

from buildkite_connector.model.directory import (
    FULL_SCOPE,
    Collection,
    CollectionReport,
    Directory,
    SyncScope,
)
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.spec import OrganizationChoice
from buildkite_connector.sync.collect import collect
from fakes.direct_buildkite import DirectBuildkite
from fakes.organization_api import REST_KINDS
from harness.examples import some
from harness.organization import directory_of
from simulators.buildkite import faults
from simulators.buildkite.api import ACCESS_SCOPES, Token
from simulators.buildkite.fault_rules import Rule
from simulators.buildkite.listing import Listing
from simulators.buildkite.made_access import give_access
from simulators.buildkite.made_organization import make_organization
from simulators.buildkite.organization import Organization

BASE = "/v2/organizations/acme"
ORGANIZATIONS, A_TEST = 400, 50
SCOPES = (FULL_SCOPE, SyncScope(REST_KINDS))
SEEN = {Reason.ROSTER_UNSTABLE, Reason.LIST_INCOMPLETE, Reason.BUILDKITE_RESPONSE_INVALID}


def organization_of(dice: random.Random) -> Organization:
    """Everybody is in a team, so that each team's members tell of the list of members."""
    accounts, teams = dice.randint(1, 10), dice.randint(1, 4)
    made = make_organization(accounts, teams, dice.randint(0, accounts * teams), dice.randrange(2**32), slug="acme")
    inside = {row["user_id"] for roster in made.team_members.values() for row in roster.records}
    for member in made.members.records:
        if member["id"] not in inside:
            made.add_team_member(dice.choice(list(made.team_members)), member["id"], member["name"])
    give_access(made, dice.randint(0, 9), dice.randint(0, 5), seed=dice.randrange(2**32))
    made.access.clusters_list_maintainers = dice.random() < 0.5
    return made


def buildkite_of(dice: random.Random) -> DirectBuildkite:
    found = DirectBuildkite(organization_of(dice), dice.randint(1, 4), Token(scopes=ACCESS_SCOPES))
    found.turns = lambda: int(dice.random() * 3)
    return found


def scope_of(seed: int) -> SyncScope:
    return SCOPES[seed % len(SCOPES)]


def expected(organization: Organization, scope: SyncScope) -> Directory:
    document = organization.document()
    document["organization"].pop("created_at")
    return directory_of(document, scope)


@dataclass(frozen=True)
class Place:
    """One page of a listing."""

    path: str
    listing: Listing
    page: int
    last: int


def places(buildkite: DirectBuildkite, scope: SyncScope) -> list[Place]:
    organization = buildkite.organization
    listings = {f"{BASE}/members": organization.members, f"{BASE}/teams": organization.teams}
    listings |= {f"{BASE}/teams/{team}/members": found for team, found in organization.team_members.items()}
    if scope.wants_pipelines:
        access = organization.access
        listings |= {f"{BASE}/pipelines": access.pipelines, f"{BASE}/clusters": access.clusters}
        listings |= {f"{BASE}/teams/{team}/pipelines": found for team, found in access.team_pipelines.items()}
    return [
        Place(path, listing, page, listing.pages(buildkite.client.page_size))
        for path, listing in listings.items()
        for page in range(1, listing.pages(buildkite.client.page_size) + 1)
    ]


def losses(dice: random.Random, place: Place, page_size: int) -> list[faults.Effect]:
    """What may happen to the page so that an answer shows it."""
    here = min(page_size, len(place.listing) - (place.page - 1) * page_size)
    effects = [faults.drop_links(), faults.repeat_item(dice.randrange(here), dice.randrange(here))]
    if here > 1:
        source, other = dice.sample(range(here), 2)
        effects.append(faults.repeat_item(source, other, instead=True))
    everybody_shows = place.path.endswith("acme/members")
    if everybody_shows:
        effects.append(faults.set_field("id", "another", dice.randrange(here)))
    if place.page < place.last or everybody_shows:
        effects.append(faults.drop_items(dice.randint(1, here), dice.randrange(here)))
        effects.append(faults.document([]))
    if place.page < place.last:
        effects += [faults.relink(rel, None) for rel in ("next", "last")]
        effects.append(faults.page_loop())
    if place.page > 1:
        effects += [faults.relink(rel, None) for rel in ("prev", "first")]
        effects.append(faults.relink("prev", f"http://buildkite.test{place.path}?page={place.page}"))
        effects.append(faults.relink("next", f"http://buildkite.test{place.path}?page={place.page - 1}"))
    return effects


async def outcome(buildkite: DirectBuildkite, scope: SyncScope) -> Collection | Failure:
    organization = await buildkite.client.organization(OrganizationChoice(buildkite.organization.slug))
    try:
        return await collect(buildkite.client, organization, scope)
    except Failure as failure:
        return failure


@pytest.mark.parametrize("block", some(range(ORGANIZATIONS // A_TEST), one_in=4))
async def test_what_is_delivered_is_the_organization(block: int) -> None:
    for seed in range(block * A_TEST, (block + 1) * A_TEST):
        dice, scope = random.Random(seed), scope_of(seed)
        buildkite = buildkite_of(dice)
        every = places(buildkite, scope)
        for place in dice.sample(every, min(len(every), dice.randint(1, 4))):
            effect = dice.choice(losses(dice, place, buildkite.client.page_size))
            times = dice.choice([1, 2, None])
            buildkite.faults.add(Rule(effect, place.path, query={"page": str(place.page)}, times=times))
        if dice.random() < 0.2:
            path = dice.choice(every).path
            buildkite.faults.add(Rule(dice.choice([faults.drop_links(), faults.stale_page()]), path, times=None))
        found = await outcome(buildkite, scope)
        if isinstance(found, Failure):
            assert found.reason in SEEN, (seed, found)
            assert found.remedy is Remedy.RETRY, (seed, found)
            buildkite.faults.clear()
            found = await outcome(buildkite, scope)
        assert isinstance(found, Collection), (seed, found)
        assert found.directory == expected(buildkite.organization, scope), seed


async def test_a_gateway_that_cuts_all_links_costs_one_more_request_a_listing_and_nothing_else() -> None:
    for seed in range(A_TEST):
        buildkite, scope = buildkite_of(random.Random(seed)), scope_of(seed)
        buildkite.faults.add(Rule(faults.drop_links(), times=None))
        found = await outcome(buildkite, scope)
        assert isinstance(found, Collection), (seed, found)
        assert found.directory == expected(buildkite.organization, scope), seed
        size = buildkite.client.page_size
        every = places(buildkite, scope)
        full = sum(len(each.listing) % size == 0 for each in every if each.page == each.last)
        known = sum(len(each.listing) == size for each in every if each.page == each.last)
        least = buildkite.organization.requests_at(size, scope.kinds) - known
        assert found.report.requests == 1 + least + full, seed


async def test_an_organization_that_stands_still_costs_the_least() -> None:
    for seed in range(A_TEST):
        buildkite, scope = buildkite_of(random.Random(seed)), scope_of(seed)
        found = await outcome(buildkite, scope)
        assert isinstance(found, Collection)
        assert found.report.requests == 1 + buildkite.organization.requests_at(
            buildkite.client.page_size, scope.kinds
        ), seed
        report = found.report
        assert report == CollectionReport(requests=report.requests), seed


@pytest.mark.parametrize("block", range(2))
async def test_people_and_teams_that_come_and_go_meanwhile_fail_nothing(block: int) -> None:
    for seed in range(block * A_TEST, (block + 1) * A_TEST):
        dice, scope = random.Random(seed), scope_of(seed)
        buildkite = buildkite_of(dice)
        organization = buildkite.organization
        before = expected(organization, scope)
        for number in range(dice.randint(1, 4)):
            edits = _edits(dice, organization, number)
            skip = dice.randrange(organization.requests_at(buildkite.client.page_size))
            buildkite.faults.add(Rule(faults.edit_data(edits), skip=1 + skip))
        found = await outcome(buildkite, scope)
        assert isinstance(found, Collection), (seed, found)
        after, directory = expected(organization, scope), found.directory
        assert {each.id for each in directory.accounts} >= {each.account for each in directory.memberships}, seed
        assert {each.id for each in directory.teams} >= {each.team for each in directory.memberships}, seed
        for account in directory.accounts:
            assert account in {*before.accounts, *after.accounts} or account.email == "", (seed, account)
        for membership in directory.memberships:
            assert membership in {*before.memberships, *after.memberships}, (seed, membership)
        for access in directory.pipeline_access:
            assert access in {*before.pipeline_access, *after.pipeline_access}, (seed, access)
        assert {each.id for each in directory.pipelines} >= {each.pipeline for each in directory.pipeline_access}, seed
        assert {each.id for each in directory.clusters} >= {each.cluster for each in directory.cluster_maintainers}
        principals = {*(each.id for each in directory.accounts), *(each.id for each in directory.teams)}
        assert principals >= {each.maintainer for each in directory.cluster_maintainers}, seed


def _edits(dice: random.Random, organization: Organization, number: int) -> list[dict[str, object]]:
    """One person or one team comes or goes, or a pipeline or a cluster goes."""
    people = [each["id"] for each in organization.members.records]
    teams = [each["id"] for each in organization.teams.records]
    pipelines = [each["id"] for each in organization.access.pipelines.records]
    clusters = [each["id"] for each in organization.access.clusters.records]
    kind = dice.choice(["join", "leave", "create", "delete", "pipeline", "cluster"])
    if kind == "pipeline" and number == 0 and pipelines:
        return [{"operation": "remove_pipeline", "id": dice.choice(pipelines)}]
    if kind == "cluster" and number == 0 and clusters:
        return [{"operation": "remove_cluster", "id": dice.choice(clusters)}]
    if kind == "leave" and number == 0 and len(people) > 1:
        return [{"operation": "remove_member", "id": dice.choice(people)}]
    if kind == "delete" and number == 0 and len(teams) > 1:
        return [{"operation": "remove_team", "id": dice.choice(teams)}]
    if kind == "create":
        record = {**organization.teams.records[0], "id": f"new-{number}", "slug": f"new-{number}"}
        return [{"operation": "add_team", "team": record, "at": dice.randint(0, len(teams) - 1)}]
    who = {"id": f"who-{number}", "name": f"Who {number}"}
    return [
        {"operation": "add_member", **who, "email": f"{number}@example.com", "at": dice.randint(0, len(people) - 1)},
    ]
