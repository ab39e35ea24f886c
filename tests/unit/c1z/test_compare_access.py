"""What two snapshots differ in of pipelines, clusters and roles. What a grant of a team expands to is no difference."""

from collections.abc import Callable
from dataclasses import astuple, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buildkite_connector.c1z import Changes, Difference, NamedGrant, compare
from buildkite_connector.model.directory import (
    ALL_KINDS,
    AccessLevel,
    Directory,
    OrganizationRole,
    PipelineAccess,
    ResourceKind,
    SyncScope,
)
from buildkite_connector.model.failure import Failure
from buildkite_connector.model.snapshot import StagedSnapshot
from harness.directories import small_directories
from harness.examples import examples
from harness.organization import access
from unit.c1z.altered_files import altered

Write = Callable[..., StagedSnapshot]
WHOLE = SyncScope(ALL_KINDS)


def expanded(directory: Directory) -> Directory:
    return replace(directory, scope=replace(directory.scope, expanded=True))


@pytest.fixture
def golden() -> Directory:
    return access(WHOLE)


@pytest.fixture
def difference(write: Write, tmp_path: Path) -> Callable[[Directory, Directory], Difference]:
    """The difference of two directories, each in a file of its own."""

    def difference(before: Directory, after: Directory) -> Difference:
        files = [write(tmp_path / name, each).path for name, each in (("a.c1z", before), ("b.c1z", after))]
        return compare(files[0], files[1], 100)

    return difference


Between = Callable[[Directory, Directory], Difference]


def test_an_expanded_file_and_one_that_is_not_do_not_differ(golden: Directory, difference: Between) -> None:
    for before, after in ((golden, expanded(golden)), (expanded(golden), golden), (golden, golden)):
        found = difference(before, after)
        assert found.is_empty
        assert found.before.counts == found.after.counts


def held(grants: list[NamedGrant]) -> dict[Any, str]:
    """What grants give by what they are of, and to whom."""
    return {astuple(each)[:3]: each.held for each in grants}


def changes_of(changes: Changes[NamedGrant]) -> tuple[Any, Any, Any]:
    """As `expected` has them: gained, lost, and what was and is held of those that changed."""
    assert changes.count == len(changes.gained) + len(changes.lost) + len(changes.changed)
    before, after = ([getattr(each, side) for each in changes.changed] for side in ("before", "after"))
    assert held(before).keys() == held(after).keys()
    return held(changes.gained), held(changes.lost), (held(before), held(after))


def expected(before: dict[Any, Any], after: dict[Any, Any]) -> tuple[Any, Any, Any]:
    both = [key for key in before if key in after and before[key] != after[key]]
    return (
        {key: held for key, held in after.items() if key not in before},
        {key: held for key, held in before.items() if key not in after},
        ({key: before[key] for key in both}, {key: after[key] for key in both}),
    )


def grants(directory: Directory) -> dict[str, dict[Any, str]]:
    """The grants of each kind by what they are of, and to whom."""
    of = directory.organization.id
    return {
        "memberships": {(each.team, "user", each.account): each.role for each in directory.memberships},
        "organization_roles": {(of, "user", each.id): each.role for each in directory.accounts if each.role},
        "pipeline_access": {(each.pipeline, "team", each.team): each.level for each in directory.pipeline_access},
    }


@given(small_directories(), small_directories(), st.booleans(), st.booleans())
@settings(max_examples=examples(60))
def test_any_two_differ_in_what_sets_differ_in(
    write: Write, before: Directory, after: Directory, before_expanded: bool, after_expanded: bool
) -> None:
    with TemporaryDirectory() as directory:
        files = [
            write(Path(directory) / name, expanded(each) if is_expanded else each).path
            for name, each, is_expanded in (("a", before, before_expanded), ("b", after, after_expanded))
        ]
        found = compare(files[0], files[1], 100)
    for what, there in grants(before).items():
        assert changes_of(getattr(found, what)) == expected(there, grants(after)[what]), what
    maintainers = [
        {(each.cluster, each.kind, each.maintainer) for each in directory.cluster_maintainers}
        for directory in (before, after)
    ]
    of_clusters = found.cluster_maintainers
    assert {astuple(each)[:3] for each in of_clusters.gained} == maintainers[1] - maintainers[0]
    assert {astuple(each)[:3] for each in of_clusters.lost} == maintainers[0] - maintainers[1]
    assert of_clusters.changed_count == 0
    for what in ("pipelines", "clusters"):
        ids = [{each.id for each in getattr(directory, what)} for directory in (before, after)]
        assert {each.id for each in getattr(found, what).gained} == ids[1] - ids[0]
        assert {each.id for each in getattr(found, what).lost} == ids[0] - ids[1]


def test_another_level_is_one_change_with_the_names(golden: Directory, difference: Between) -> None:
    first, *others = golden.pipeline_access
    assert first.level is AccessLevel.BUILD_AND_READ
    raised = PipelineAccess(first.pipeline, first.team, AccessLevel.MANAGE_BUILD_AND_READ)
    found = difference(golden, replace(expanded(golden), pipeline_access=(raised, *others)))
    (changed,) = found.pipeline_access.changed
    assert (changed.before.held, changed.after.held, changed.attributes) == (first.level, raised.level, ("held",))
    assert (changed.after.resource_name, changed.after.principal_name) == ("API :rocket:", "Platform – ops & dev")
    assert sum(getattr(found, what).count for what in ("pipelines", "pipeline_access", "memberships")) == 1


def test_a_person_who_maintains_a_cluster_through_a_team_alone_no_longer_maintains_it_directly(
    golden: Directory, difference: Between
) -> None:
    """In an expanded file the person's row is there before and after, under the same ID."""
    directly = next(each for each in golden.cluster_maintainers if each.kind is ResourceKind.USER)
    others = tuple(each for each in golden.cluster_maintainers if each != directly)
    assert any(each.cluster == directly.cluster and each.kind is ResourceKind.TEAM for each in others)
    before, after = expanded(golden), expanded(replace(golden, cluster_maintainers=others))
    (lost,) = difference(before, after).cluster_maintainers.lost
    assert (lost.principal, lost.kind, lost.principal_name) == (directly.maintainer, "user", "O'Brien, Pat")
    assert lost.resource_name == "Default cluster"
    found = difference(after, before).cluster_maintainers
    assert [each.principal for each in found.gained] == [directly.maintainer]
    assert found.count == 1


def test_another_organization_role_is_one_change(golden: Directory, difference: Between) -> None:
    index = next(number for number, each in enumerate(golden.accounts) if each.role == OrganizationRole.MEMBER)
    accounts = list(golden.accounts)
    accounts[index] = replace(accounts[index], role=OrganizationRole.ADMIN)
    (changed,) = difference(golden, replace(golden, accounts=tuple(accounts))).organization_roles.changed
    assert (changed.before.held, changed.after.held, changed.attributes) == ("member", "admin", ("held",))
    assert changed.after.principal_name == accounts[index].name


def test_what_changed_of_a_pipeline_and_of_a_cluster_is_named(golden: Directory, difference: Between) -> None:
    pipeline, *pipelines = golden.pipelines
    cluster, *clusters = golden.clusters
    after = replace(
        golden,
        pipelines=(replace(pipeline, name="Another", slug="another", visibility="public", description="-"), *pipelines),
        clusters=(replace(cluster, name="Another", description="and another description"), *clusters),
    )
    found = difference(golden, after)
    assert [each.attributes for each in found.pipelines.changed] == [("name", "slug", "visibility")]
    assert [each.attributes for each in found.clusters.changed] == [("name",)]


@pytest.mark.parametrize(
    ("scope", "missing"),
    [
        (
            SyncScope(),
            ("organization_roles", "pipelines", "pipeline_access", "clusters", "cluster_maintainers", "api_tokens"),
        ),
        (SyncScope(ALL_KINDS - {ResourceKind.API_TOKEN}), ("api_tokens",)),
        (SyncScope(ALL_KINDS - {ResourceKind.PIPELINE}), ("pipelines", "pipeline_access")),
        (SyncScope(ALL_KINDS - {ResourceKind.ORGANIZATION}), ("organization_roles",)),
        (
            SyncScope(ALL_KINDS - {ResourceKind.TEAM}),
            ("teams", "memberships", "pipeline_access", "cluster_maintainers"),
        ),
        (SyncScope(ALL_KINDS - {ResourceKind.USER}), ("accounts", "organization_roles", "cluster_maintainers")),
        (
            SyncScope(ALL_KINDS, grants=False),
            ("memberships", "organization_roles", "pipeline_access", "cluster_maintainers"),
        ),
    ],
)
def test_what_only_one_file_covers_is_not_compared_and_said(
    golden: Directory, difference: Between, scope: SyncScope, missing: tuple[str, ...]
) -> None:
    for found in (difference(golden, access(scope)), difference(access(scope), golden)):
        assert found.not_compared == missing
        assert not found.is_empty
        assert sum(getattr(found, what).count for what in missing) == 0
        assert sum(changes.count for changes in (found.accounts, found.clusters)) == 0


def test_a_damaged_grant_of_a_cluster_is_blamed_on_the_file_that_has_it(
    golden: Directory, write: Write, tmp_path: Path
) -> None:
    """The count of the rows reads these grants only where teams maintain clusters too."""
    people = tuple(each for each in golden.cluster_maintainers if each.kind is ResourceKind.USER)
    sound = write(tmp_path / "sound.c1z", replace(golden, cluster_maintainers=people)).path
    damaging = "update v1_grants set data = x'ff' where resource_type_id = 'cluster'"
    damaged = altered(tmp_path / "damaged.c1z", damaging, of=sound)
    for before, after in ((damaged, sound), (sound, damaged)):
        with pytest.raises(Failure, match=r"damaged\.c1z"):
            compare(before, after, 10)
