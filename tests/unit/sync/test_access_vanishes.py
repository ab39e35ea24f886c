"""Whatever comes and goes between two requests: what is collected is consistent, or the sync fails and says why.

Hundreds of random organizations with all kinds, each changed a few times while it is read.
"""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest

from buildkite_connector.model.directory import (
    AccessLevel,
    Collection,
    Directory,
    PipelineAccess,
    ResourceKind,
    SyncScope,
)
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.sync.collect import collect
from buildkite_connector.sync.ports import MaintainedCluster
from fakes.organization_api import (
    ACME,
    REST_KINDS,
    FakeOrganizationAPI,
    access,
    account,
    cluster,
    member,
    organization,
    pipeline,
    team,
)

ORGANIZATIONS, A_TEST = 600, 100
SEEN = {Reason.ROSTER_UNSTABLE, Reason.LIST_INCOMPLETE}
ONE_PAGE = 100


def random_organization(dice: random.Random) -> FakeOrganizationAPI:
    accounts, teams, pipelines = dice.randint(1, 7), dice.randint(0, 5), dice.randint(0, 7)

    def some(number: int) -> list[int]:
        return dice.sample(range(number), dice.randint(0, number))

    api = organization(accounts, [some(accounts) for _ in range(teams)])
    api.listed_pipelines = [pipeline(number) for number in range(pipelines) if dice.random() < 0.9]
    named = pipelines if api.listed_pipelines else 0  # an empty list contradicts a team that can access a pipeline
    api.listed_access = {
        team(of).id: [access(each, of, dice.choice(list(AccessLevel))) for each in some(named)] for of in range(teams)
    }
    api.listed_clusters = [cluster(number, some(accounts), some(teams)) for number in range(dice.randint(0, 5))]
    api.shows_maintainers = dice.random() < 0.5
    api.page_size = dice.choice([1, 2, 3, ONE_PAGE])
    api.tells_last = dice.random() < 0.8
    return api


@dataclass
class Changes:
    """What happens to an organization, and all that it ever held."""

    api: FakeOrganizationAPI
    dice: random.Random
    ever: set[object] = field(default_factory=set)
    always: set[object] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.ever = self.always = set(everything(self.api))

    def happen(self) -> None:
        change = self.dice.choice(
            [self.delete_team, self.delete_account, self.delete_pipeline, self.delete_cluster, self.create, self.level]
        )
        change()
        now = set(everything(self.api))
        self.ever, self.always = self.ever | now, self.always & now

    def delete_team(self) -> None:
        if self.api.listed_teams:
            gone = self.dice.choice(self.api.listed_teams)
            self.api.listed_teams.remove(gone)
            del self.api.listed_members[gone.id]
            self.api.listed_access.pop(gone.id, None)
            self._no_maintainer(gone.id)

    def delete_account(self) -> None:
        if len(self.api.listed_accounts) > 1:
            gone = self.dice.choice(self.api.listed_accounts)
            self.api.listed_accounts.remove(gone)
            for members in self.api.listed_members.values():
                members[:] = [each for each in members if each.account != gone.id]
            self._no_maintainer(gone.id)

    def delete_pipeline(self) -> None:
        if self.api.listed_pipelines:
            gone = self.dice.choice(self.api.listed_pipelines)
            self.api.listed_pipelines.remove(gone)
            for listed in self.api.listed_access.values():
                listed[:] = [each for each in listed if each.pipeline != gone.id and self.api.listed_pipelines]

    def delete_cluster(self) -> None:
        if self.api.listed_clusters:
            self.api.listed_clusters.remove(self.dice.choice(self.api.listed_clusters))

    def create(self) -> None:
        """Somebody joins and creates a team, which creates a pipeline and maintains a cluster."""
        number = 1000 + self.dice.randrange(1000)
        if team(number) in self.api.listed_teams:
            return

        def add(listed: list[Any], item: object) -> None:
            listed.insert(self.dice.randint(0, len(listed)), item)

        add(self.api.listed_accounts, account(number))
        add(self.api.listed_teams, team(number))
        self.api.listed_members[team(number).id] = [member(number, number)]
        add(self.api.listed_pipelines, pipeline(number))
        self.api.listed_access[team(number).id] = [access(number, number)]
        add(self.api.listed_clusters, cluster(number, [number], [number]))

    def level(self) -> None:
        for listed in self.api.listed_access.values():
            for place, each in enumerate(listed):
                new = self.dice.choice(list(AccessLevel))
                listed[place] = PipelineAccess(each.pipeline, each.team, new, each.slug)

    def _no_maintainer(self, gone: str) -> None:
        self.api.listed_clusters = [
            MaintainedCluster(found.cluster, tuple(each for each in found.maintainers if each.maintainer != gone))
            for found in self.api.listed_clusters
        ]


def everything(api: FakeOrganizationAPI) -> Iterable[object]:
    yield from api.listed_accounts
    yield from api.listed_teams
    yield from api.listed_pipelines
    for lists in (api.listed_members, api.listed_access):
        for listed in lists.values():
            yield from listed
    for found in api.listed_clusters:
        yield found.cluster
        yield from found.maintainers


def contents(directory: Directory) -> set[object]:
    return {
        *directory.accounts,
        *directory.teams,
        *directory.memberships,
        *directory.pipelines,
        *directory.pipeline_access,
        *directory.clusters,
        *directory.cluster_maintainers,
    }


def assert_consistent(directory: Directory) -> None:
    """Every id once, and nothing that names what is not there."""
    accounts = [each.id for each in directory.accounts]
    teams = [each.id for each in directory.teams]
    pipelines = [each.id for each in directory.pipelines]
    clusters = [each.id for each in directory.clusters]
    pairs = [(each.team, each.pipeline) for each in directory.pipeline_access]
    for ids in (accounts, teams, pipelines, clusters, pairs, directory.cluster_maintainers):
        assert len(set(ids)) == len(ids)
    assert {each.account for each in directory.memberships} <= set(accounts)
    assert {each.team for each in directory.memberships} | {each.team for each in directory.pipeline_access} <= set(
        teams
    )
    assert {each.pipeline for each in directory.pipeline_access} <= set(pipelines)
    assert {each.cluster for each in directory.cluster_maintainers} <= set(clusters)
    for each in directory.cluster_maintainers:
        assert each.maintainer in (accounts if each.kind is ResourceKind.USER else teams)


def added_alone(thing: object) -> bool:
    """An account or a pipeline of which only another list knew."""
    return getattr(thing, "email", None) == "" or getattr(thing, "repository", None) == ""


async def outcome(api: FakeOrganizationAPI) -> Collection | Failure:
    try:
        return await collect(api, ACME, SyncScope(REST_KINDS))
    except Failure as failure:
        return failure


def at(api: FakeOrganizationAPI, moments: Iterable[int], change: Callable[[], None]) -> None:
    """Lets the change happen before the answers of these numbers."""
    numbers = list(moments)

    def before(_listing: str, _page: int) -> None:
        for _ in range(numbers.count(api.requests)):
            change()

    api.before = before


@pytest.mark.parametrize("block", range(ORGANIZATIONS // A_TEST))
async def test_what_is_collected_while_things_come_and_go_is_consistent(block: int) -> None:
    failures = 0
    for seed in range(block * A_TEST, (block + 1) * A_TEST):
        dice = random.Random(seed)
        api = random_organization(dice)
        changes = Changes(api, dice)
        last = api.minimum_of(SyncScope(REST_KINDS))
        at(api, [dice.randint(1, last) for _ in range(dice.randint(0, 4))], changes.happen)
        found = await outcome(api)
        assert api.out == 0, seed
        if isinstance(found, Failure):
            failures += 1
            assert (found.reason in SEEN, found.remedy) == (True, Remedy.RETRY), (seed, found)
            api.before = lambda _listing, _page: None
            found = await outcome(api)
            assert isinstance(found, Collection), (seed, found)
        assert_consistent(found.directory)
        assert {each for each in contents(found.directory) if not added_alone(each)} <= changes.ever, seed
        if api.page_size == ONE_PAGE:  # where an item that moves to a page before goes unseen, no answer shows it
            assert contents(found.directory) >= changes.always, seed
    assert failures <= A_TEST // 10, "people who work in Buildkite fail no sync"
