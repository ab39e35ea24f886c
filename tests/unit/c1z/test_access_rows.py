"""Rows of access: what contradicts itself is never written, and what is written is verified."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from buildkite_connector.c1z import StoredSync, WriteStopped, read_snapshot
from buildkite_connector.c1z.derive import derive_snapshot
from buildkite_connector.c1z.texts import is_link
from buildkite_connector.c1z.writer import verify
from buildkite_connector.model.directory import (
    AccessLevel,
    AccountID,
    Cluster,
    ClusterID,
    ClusterMaintainer,
    Counts,
    Directory,
    PipelineAccess,
    PipelineID,
    ResourceKind,
    TeamID,
)
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.snapshot import StagedSnapshot
from harness.organization import access
from unit.c1z.access_golden import ALL, EXPANDED, NOW, SYNC, database

Write = Callable[..., StagedSnapshot]

PIPELINE, TEAM = PipelineID("d9b271f1-e959-5e1e-ad50-fdf893a342a9"), TeamID("b4f3a6d4-9705-58a4-9c0e-bb8de0d76fc8")
CLUSTER = ClusterID("24b079e8-501c-503c-859a-a25f031a280b")


def with_access(pipeline: str, team: str) -> Directory:
    held = PipelineAccess(PipelineID(pipeline), TeamID(team), AccessLevel.READ_ONLY)
    return replace(access(ALL), pipeline_access=(*access(ALL).pipeline_access, held))


def with_maintainer(cluster: str, user: str | None = None, team: str | None = None) -> Directory:
    each = (
        ClusterMaintainer(ClusterID(cluster), TeamID(team), ResourceKind.TEAM)
        if team
        else ClusterMaintainer(ClusterID(cluster), AccountID(user or ""), ResourceKind.USER)
    )
    return replace(access(ALL), cluster_maintainers=(*access(ALL).cluster_maintainers, each))


@pytest.mark.parametrize(
    ("directory", "missing"),
    [
        (with_access("nowhere", TEAM), f"pipeline 'nowhere' of team '{TEAM}' is not among the pipelines"),
        (with_access(PIPELINE, "nobody"), f"team 'nobody' of pipeline '{PIPELINE}' is not among the teams"),
        (with_maintainer("nowhere", team=TEAM), f"cluster 'nowhere' of team '{TEAM}' is not among the clusters"),
        (with_maintainer(CLUSTER, team="nobody"), f"team 'nobody' of cluster '{CLUSTER}' is not among the teams"),
        (with_maintainer(CLUSTER, user="nobody"), f"account 'nobody' of cluster '{CLUSTER}' is not among the accounts"),
        (with_access(PIPELINE, "9a0d2f0f-98cf-51be-ab09-a22810e1e6a0"), ""),
        (replace(access(ALL), clusters=(*access(ALL).clusters, Cluster(ClusterID("\ud800"), ""))), "the id '\\ud800'"),
        (
            replace(access(ALL), organization=replace(access(ALL).organization, id="")),
            "Buildkite gave one organization the id ''",
        ),
    ],
)
def test_what_contradicts_itself_is_never_written(
    tmp_path: Path, write: Write, directory: Directory, missing: str
) -> None:
    if not missing:  # two levels of one team on a pipeline, which Buildkite does not give, are two grants all the same
        assert write(tmp_path / "x", directory).counts.pipeline_access == 5
        return
    with pytest.raises(Failure) as caught:
        write(tmp_path / "x", directory)
    assert caught.value.reason is Reason.SNAPSHOT_INVALID
    assert missing in caught.value.message
    assert list(tmp_path.iterdir()) == []


RUN = StoredSync(SYNC, NOW, NOW, ALL, Counts(6, 3, 6, 5, 4, 4, 2, 2, 1))
ADDED = {ResourceKind.PIPELINE: 10, ResourceKind.CLUSTER: 2}


@pytest.fixture
def plain() -> Iterator[sqlite3.Connection]:
    with closing(database(access(ALL))) as connection:
        yield connection


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("delete from v1_resources where external_id like 'organization:%'", "0 organizations, expected 1"),
        ("delete from v1_resources where external_id like 'pipeline:%' limit 1", "3 pipelines, expected 4"),
        ("delete from v1_resources where external_id like 'cluster:%' limit 1", "1 clusters, expected 2"),
        (
            "delete from v1_entitlements where external_id like 'pipe%' limit 1",
            "11 entitlements on pipelines, expected 12",
        ),
        ("delete from v1_entitlements where external_id like 'cl%' limit 1", "1 entitlements on clusters, expected 2"),
        ("delete from v1_grants where external_id like 'organization:%'", "0 grants on organizations, expected 5"),
        ("delete from v1_grants where external_id like 'pipeline:%' limit 1", "3 grants on pipelines, expected 4"),
        ("delete from v1_grants where external_id like 'cluster:%' limit 1", "2 grants on clusters, expected 3"),
        ("update v1_grants set resource_type_id = 'secret' where id = 1", "5 grants on teams, expected 6"),
        (
            "update v1_grants set principal_resource_id = 'x' where principal_resource_type_id = 'team' and id = 12",
            "1 accounts or teams with grants that do not exist",
        ),
        ("update v1_grants set expansion = null where id = 12", "1 teams whose grants do not expand to their own"),
        ("update v1_grants set needs_expansion = 0 where id = 12", "1 teams whose grants do not expand to their own"),
        ("update v1_grants set needs_expansion = 1 where id = 1", "1 teams whose grants do not expand to their own"),
        ("update v1_grants set expansion = x'ff' where id = 12", "1 teams whose grants do not expand to their own"),
        ("update v1_grants set expansion = x'1001' where id = 12", "1 teams whose grants do not expand to their own"),
        (
            "update v1_grants set expansion = (select expansion from v1_grants where id = 14) where id = 12",
            "1 teams whose grants do not expand to their own",
        ),
        (
            """update v1_grants set expansion = cast(replace(expansion, ':member', ':nobody') as blob)
            where needs_expansion""",
            "2 teams whose grants do not expand to their own",
        ),
    ],
)
def test_what_is_missing_or_expands_to_what_is_not_its_own_is_told(
    plain: sqlite3.Connection, change: str, why: str
) -> None:
    verify(plain, RUN)
    plain.execute(change)
    with pytest.raises(Failure, match=why) as caught:
        verify(plain, RUN)
    assert caught.value.reason is Reason.SNAPSHOT_INVALID


def test_the_rows_that_grants_expand_to_are_counted_too() -> None:
    run = replace(RUN, scope=EXPANDED)
    with closing(database(access(EXPANDED))) as connection:
        verify(connection, run, ADDED)
        connection.execute("delete from v1_grants where id = 20")
        with pytest.raises(Failure, match="13 grants on pipelines, expected 14"):
            verify(connection, run, ADDED)


def test_expanding_can_be_stopped_between_two_entitlements(tmp_path: Path, write: Write) -> None:
    """Whichever question is answered by yes, nothing is left."""
    whole = write(tmp_path / "whole", access(ALL))
    for questions in range(60):
        stopped = partial(next, iter([False] * questions), True)
        try:
            derive_snapshot(whole, tmp_path / "x", scope=EXPANDED, sync_id=SYNC, stopped=stopped)
        except WriteStopped:
            assert list(tmp_path.iterdir()) == [whole.path]
        else:
            break
    assert questions > 20
    assert read_snapshot(tmp_path / "x").run.scope == EXPANDED


def test_an_expanded_snapshot_is_the_source_of_no_other(tmp_path: Path, write: Write) -> None:
    whole = write(tmp_path / "whole", access(EXPANDED))
    with pytest.raises(ValueError, match="does not hold what"):
        derive_snapshot(whole, tmp_path / "x", scope=EXPANDED, sync_id=SYNC)


@pytest.mark.parametrize(
    ("address", "taken"),
    [
        ("https://buildkite.com/acme/deploy", True),
        ("https://buildkite.com", True),
        ("https://buildkite.example:8443/a%20b?c=d#e", True),
        ("https://buildkite.com/" + "x" * 1002, True),
        ("https://buildkite.com/" + "x" * 1003, False),
        ("http://buildkite.com/acme", False),
        ("https://", False),
        ("https://buildkite.com/a b", False),
        ("https://buildkite.com/%zz", False),
        ("https://buildkite.com/é", False),
        ("https://user:secret@buildkite.com/", False),
        ("javascript:alert(1)", False),
        ("", False),
    ],
)
def test_a_page_is_an_https_address_or_is_left_out(address: str, taken: bool) -> None:
    assert is_link(address) is taken
