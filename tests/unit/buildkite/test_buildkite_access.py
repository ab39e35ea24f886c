"""Pipelines, clusters and who has access, from the Buildkite simulator over a real socket."""

from dataclasses import replace
from itertools import chain, combinations
from typing import Any

import pytest

from buildkite_connector.buildkite import BuildkiteSettings
from buildkite_connector.buildkite.client import LARGE_PAGES
from buildkite_connector.buildkite.errors import Call
from buildkite_connector.model.directory import Collection, SyncScope, TeamID
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.spec import OrganizationChoice
from buildkite_connector.sync.collect import collect
from buildkite_connector.sync.preflight import ScopesMissing, preflight
from fakes.buildkite_setup import Setup, serving
from fakes.organization_api import REST_KINDS
from fakes.virtual_time import virtual_time
from harness.organization import ACCESS_ORG, access, directory_of
from simulators.buildkite import faults
from simulators.buildkite.access_records import PIPELINE_SECRETS, WEBHOOK_SECRET
from simulators.buildkite.api import ACCESS_SCOPES, Token, User
from simulators.buildkite.made_access import give_access
from simulators.buildkite.made_organization import make_organization
from simulators.buildkite.organization import Organization
from simulators.buildkite.quota import Limits

EVERYTHING = SyncScope(REST_KINDS)
TOKEN = Token(scopes=ACCESS_SCOPES)
SIZES = range(1, len(REST_KINDS) + 1)
COMBINATIONS = list(chain.from_iterable(combinations(sorted(REST_KINDS), size) for size in SIZES))


def made(accounts: int = 25, teams: int = 12, pipelines: int = 31, clusters: int = 13) -> Organization:
    return give_access(make_organization(accounts, teams, 3 * accounts, slug="acme"), pipelines, clusters)


async def sync(setup: Setup, scope: SyncScope = EVERYTHING) -> Collection:
    client = setup.client()
    found = await preflight(client, OrganizationChoice(setup.sim.organization.slug), scope.kinds)
    return await collect(client, found.organization, scope)


@pytest.mark.parametrize("lists_maintainers", [True, False])
@virtual_time
async def test_the_golden_organization_is_collected_whole_for_every_combination_of_types(
    lists_maintainers: bool,
) -> None:
    async with serving(Organization.load(ACCESS_ORG), tokens=[TOKEN]) as setup:
        setup.sim.organization.access.clusters_list_maintainers = lists_maintainers
        for kinds in COMBINATIONS:
            before, scope = len(setup.sim.requests), SyncScope(frozenset(kinds))
            collection = await sync(setup, scope)
            assert collection.directory == access(scope), kinds
            minimum = setup.sim.organization.requests_at(setup.page_size, kinds)
            assert collection.report.requests == len(setup.sim.requests) - before == minimum + 2, kinds


@virtual_time
async def test_a_large_organization_takes_the_fewest_requests() -> None:
    async with serving(made(), tokens=[TOKEN]) as setup:
        collection = await sync(setup)
        assert collection.report.requests == setup.sim.organization.requests_at(setup.page_size, REST_KINDS) + 2
        assert not setup.sim.transcript.repeats
        document = setup.sim.organization.document()
        document["organization"].pop("created_at")
        assert collection.directory == directory_of(document, EVERYTHING)
        assert collection.report.pipelines_added == 0


@virtual_time
async def test_the_organization_brings_its_web_url() -> None:
    async with serving(tokens=[TOKEN]) as setup:
        assert (await sync(setup)).directory.organization.web_url == "https://buildkite.com/acme"


@virtual_time
async def test_nothing_secret_of_a_pipeline_is_kept_even_for_a_token_that_may_write_them() -> None:
    writes = Token(scopes=(*ACCESS_SCOPES, "write_pipelines"))
    async with serving(Organization.load(ACCESS_ORG), tokens=[writes]) as setup:
        kept = repr((await sync(setup)).directory.pipelines)
        assert "API :rocket:" in kept
        assert not [secret for secret in (*PIPELINE_SECRETS, WEBHOOK_SECRET) if secret in kept]


@virtual_time
async def test_a_person_who_is_no_administrator_still_gets_what_teams_can_access() -> None:
    """The list of pipelines has only what the token's owner can see; the teams name the others."""
    organization = made()
    nobody = User("00000000-0000-4000-8000-000000000000", "Nobody", "nobody@example.com", admin=False)
    async with serving(organization, tokens=[replace(TOKEN, user=nobody)]) as setup:
        collection = await sync(setup)
        directory = collection.directory
        assert collection.report.pipelines_added > 0
        ids = {each.id for each in directory.pipelines}
        assert {each.pipeline for each in directory.pipeline_access} <= ids
        added = [each for each in directory.pipelines if not each.repository]
        assert len(added) == collection.report.pipelines_added
        slugs = {each["id"]: each["slug"] for each in organization.access.pipelines.records}
        assert {each.id: each.slug for each in added}.items() <= slugs.items()


@pytest.mark.parametrize("scope", ["read_pipelines", "read_clusters", "read_teams"])
@virtual_time
async def test_a_scope_that_goes_after_the_preflight_is_named(scope: str) -> None:
    async with serving(made(), tokens=[Token(scopes=tuple(each for each in ACCESS_SCOPES if each != scope))]) as setup:
        with pytest.raises(ScopesMissing, match=f"lacks the scope {scope}") as failed:
            await collect(setup.client(), setup.expected.organization, EVERYTHING)
        assert failed.value.missing == (scope,)


@virtual_time
async def test_a_team_deleted_before_its_pipelines_are_read_is_left_out() -> None:
    async with serving(made(), tokens=[TOKEN]) as setup:
        gone = TeamID(setup.sim.organization.teams.records[3]["id"])
        setup.sim.fault(
            faults.edit_data([{"operation": "remove_team", "id": gone}]),
            path=f"/v2/organizations/acme/teams/{gone}/pipelines",
        )
        collection = await sync(setup)
        directory = collection.directory
        assert gone not in {each.id for each in directory.teams}
        assert gone not in {each.team for each in directory.pipeline_access}
        assert gone not in {each.maintainer for each in directory.cluster_maintainers}
        assert collection.report.teams_gone == 1


@virtual_time
async def test_a_cluster_deleted_before_it_is_read_by_itself_is_left_out() -> None:
    async with serving(made(), tokens=[TOKEN]) as setup:
        gone = setup.sim.organization.access.clusters.records[2]["id"]
        setup.sim.fault(
            faults.edit_data([{"operation": "remove_cluster", "id": gone}]),
            path=f"/v2/organizations/acme/clusters/{gone}",
        )
        collection = await sync(setup)
        assert len(collection.directory.clusters) == 12
        assert collection.report.clusters_gone == 1


@virtual_time
async def test_a_cluster_that_is_listed_and_cannot_be_found_is_not_taken_for_deleted() -> None:
    async with serving(made(), tokens=[TOKEN]) as setup:
        access_ = setup.sim.organization.access
        access_.remove_cluster(access_.clusters.records[2]["id"], stays_listed=True)
        with pytest.raises(Failure, match="which the list of clusters still has") as failed:
            await sync(setup)
        assert failed.value.reason is Reason.LIST_INCOMPLETE


@virtual_time
async def test_few_pages_of_pipelines_are_under_way_at_once_and_others_are_not_kept_back() -> None:
    """They may be large; together they stay below what one connector may hold in memory."""
    async with serving(made(pipelines=95), tokens=[TOKEN], latency=0.05) as setup:
        client = setup.client()
        ask, out, most = client._sender.ask, 0, 0

        async def counted(call: Call, read: Any) -> Any:
            nonlocal out, most
            heavy = call.target.startswith("/organizations/acme/pipelines?")
            out += heavy
            most = max(most, out)
            try:
                return await ask(call, read)
            finally:
                out -= heavy

        client._sender.ask = counted  # type: ignore[method-assign]
        await collect(client, setup.expected.organization, EVERYTHING)
        assert most == LARGE_PAGES
        assert setup.sim.transcript.peak_in_flight >= 8


@virtual_time
async def test_all_types_stay_within_the_quota_and_take_no_longer_than_it_allows() -> None:
    """50 requests a minute for one user, as Buildkite has it, 20 ms each."""
    limits = Limits(user=50, organization=200)
    organization = made(accounts=300, teams=60, pipelines=250, clusters=10)
    async with serving(
        organization, settings=BuildkiteSettings(), tokens=[TOKEN], limits=limits, latency=0.02
    ) as setup:
        client = setup.client(quota_percent=100)
        found = await preflight(client, OrganizationChoice("acme"), REST_KINDS)
        collection = await collect(client, found.organization, EVERYTHING)
        assert setup.sim.transcript.throttled == 0
        requests = organization.requests_at(100, REST_KINDS) + 2
        assert collection.report.requests == requests
        assert collection.report.throttled_seconds <= 1.02 * 60 * (requests // 50)
