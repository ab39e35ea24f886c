"""What a team holds its members hold too, written as C1's SDK would write it.

Three answers are compared: the product's rows, what the simulated C1 makes of the file without them by the SDK's
rules, and every user and every resource tried by hand.
"""

import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from itertools import product
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from buildkite_connector.c1z import read_snapshot
from buildkite_connector.c1z.derive import derive_snapshot
from buildkite_connector.model.directory import (
    AccessLevel,
    Account,
    AccountID,
    Cluster,
    ClusterID,
    ClusterMaintainer,
    Directory,
    Membership,
    Organization,
    OrganizationSlug,
    Pipeline,
    PipelineAccess,
    PipelineID,
    ResourceKind,
    Role,
    Team,
    TeamID,
)
from buildkite_connector.model.snapshot import StagedSnapshot
from buildkite_connector.proto.connector_pb2 import Grant
from harness.examples import examples
from simulators.c1.expander import expanded
from simulators.c1.ingest import Expected, ingest
from unit.c1z.access_golden import ALL, EXPANDED, SYNC, database

Write = Callable[..., StagedSnapshot]
LEVELS = (None, *AccessLevel)
ROLES = (None, *Role)

Sources = dict[str, frozenset[str]]
"""Of each user's grant that a team has to do with, by the grant's id: the entitlements that it comes from."""


def organization(numbers: bytes) -> Directory:
    """At most 4 people, 3 teams, 3 pipelines and 2 clusters, everything between them by the numbers."""
    take = iter(numbers)
    accounts = tuple(
        Account(AccountID(f"u{n}"), f"User {n}", "", role=("admin", "member", None)[n % 3])
        for n in range(next(take) % 5)
    )
    teams = tuple(Team(TeamID(f"t{n}"), f"Team {n}", "", "", "visible", None, "") for n in range(next(take) % 4))
    pipelines = tuple(Pipeline(PipelineID(f"p{n}"), f"p-{n}", "") for n in range(next(take) % 4))
    clusters = tuple(Cluster(ClusterID(f"c{n}"), "") for n in range(next(take) % 3))
    memberships = (
        (Membership(team.id, account.id, role) if (role := ROLES[next(take) % 3]) else None)
        for team, account in product(teams, accounts)
    )
    held = (
        (PipelineAccess(pipeline.id, team.id, level) if (level := LEVELS[next(take) % 4]) else None)
        for pipeline, team in product(pipelines, teams)
    )
    by_users = (
        ClusterMaintainer(cluster.id, account.id, ResourceKind.USER) if next(take) % 2 else None
        for cluster, account in product(clusters, accounts)
    )
    by_teams = (
        ClusterMaintainer(cluster.id, team.id, ResourceKind.TEAM) if next(take) % 2 else None
        for cluster, team in product(clusters, teams)
    )
    return Directory(
        Organization("o1", OrganizationSlug("acme"), "Acme"),
        accounts,
        teams,
        tuple(filter(None, memberships)),
        EXPANDED,
        pipelines,
        tuple(filter(None, held)),
        clusters,
        (*filter(None, by_users), *filter(None, by_teams)),
    )


organizations = st.binary(min_size=39, max_size=39).map(organization)


def grants_in(connection: sqlite3.Connection) -> dict[str, Grant]:
    rows = connection.execute("select external_id, data from v1_grants")
    return {external_id: Grant.FromString(data) for external_id, data in rows}


def by_hand(directory: Directory) -> Sources:
    """Every user, every resource: what each of the user's teams gives."""
    found: dict[str, set[str]] = {}
    seats = {(each.account, each.team): f"team:{each.team}:{each.role.value}" for each in directory.memberships}
    for account, team in product(directory.accounts, directory.teams):
        if (seat := seats.get((account.id, team.id))) is None:
            continue
        for pipeline in directory.pipelines:
            for held in directory.pipeline_access:
                if (held.pipeline, held.team) == (pipeline.id, team.id):
                    grant = f"pipeline:{pipeline.id}:{held.level.value}:user:{account.id}"
                    found.setdefault(grant, set()).add(seat)
        for cluster in directory.clusters:
            if ClusterMaintainer(cluster.id, team.id, ResourceKind.TEAM) in directory.cluster_maintainers:
                grant = f"cluster:{cluster.id}:maintainer:user:{account.id}"
                found.setdefault(grant, set()).add(seat)
                if ClusterMaintainer(cluster.id, account.id, ResourceKind.USER) in directory.cluster_maintainers:
                    found[grant].add(f"cluster:{cluster.id}:maintainer")
    return {grant: frozenset(sources) for grant, sources in found.items()}


def sources_in(grants: dict[str, Grant]) -> Sources:
    return {id_: frozenset(grant.sources.sources) for id_, grant in grants.items() if grant.sources.sources}


def highest(sources: Sources) -> dict[tuple[str, str], int]:
    """The highest level of each user on each pipeline."""
    found: dict[tuple[str, str], int] = {}
    for kind, pipeline, level, _, user in (grant.split(":") for grant in sources):
        if kind == "pipeline":
            found[user, pipeline] = max(found.get((user, pipeline), 0), LEVELS.index(AccessLevel(level)))
    return found


@settings(max_examples=examples(2000))
@given(organizations)
def test_the_rows_are_what_the_sdk_makes_of_the_grants_and_what_everybody_holds(directory: Directory) -> None:
    with closing(database(replace(directory, scope=ALL))) as plain, closing(database(directory)) as ours:
        theirs, rows, before = expanded(plain), grants_in(ours), grants_in(plain)
        again = expanded(ours)
    held = by_hand(directory)
    assert rows == theirs == again
    assert sources_in(rows) == held
    for id_, grant in rows.items():
        immutable = [each.TypeName() for each in grant.annotations] == ["c1.connector.v2.GrantImmutable"]
        assert immutable == (id_ not in before)
        assert id_ in held or grant == before[id_]


@settings(max_examples=examples(200))
@given(organizations)
def test_a_user_can_do_on_a_pipeline_the_most_that_one_of_its_teams_can(directory: Directory) -> None:
    with closing(database(directory)) as connection:
        found = highest(sources_in(grants_in(connection)))
    expected = {}
    for account, pipeline in product(directory.accounts, directory.pipelines):
        teams = {each.team for each in directory.memberships if each.account == account.id}
        levels = [
            LEVELS.index(each.level)
            for each in directory.pipeline_access
            if each.pipeline == pipeline.id and each.team in teams
        ]
        if levels:
            expected[account.id, pipeline.id] = max(levels)
    assert found == expected


@settings(max_examples=examples(25))
@given(organizations)
def test_whole_files_are_what_c1_takes_expanded_or_not(write: Write, directory: Directory) -> None:
    with tempfile.TemporaryDirectory() as place:
        plain, whole, derived = (Path(place) / name for name in ("plain", "whole", "derived"))
        staged = write(plain, replace(directory, scope=ALL))
        write(whole, directory)
        ours = derive_snapshot(staged, derived, scope=directory.scope, sync_id=SYNC)
        assert derived.read_bytes() == whole.read_bytes()
        assert ours.counts == directory.counts == read_snapshot(derived).run.counts
        summary = ingest(plain, Expected("full", expanded=False))
        assert summary.resources == ingest(derived, Expected("full", expanded=True)).resources
