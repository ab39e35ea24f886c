"""The golden case of the opt-in types: each adds its own rows to a snapshot and touches no others.

`data/access-snapshot.json` has the rows. The ids, which are a contract with C1, are written down here once more.
"""

import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from buildkite_connector.c1z import read_snapshot
from buildkite_connector.c1z.derive import derive_snapshot
from buildkite_connector.model.directory import (
    AccountID,
    ClusterID,
    ClusterMaintainer,
    Counts,
    ResourceKind,
    SyncScope,
    TeamID,
)
from buildkite_connector.model.snapshot import StagedSnapshot
from harness.examples import some
from harness.organization import access
from simulators.c1.ingest import Expected, ingest
from unit.c1z.access_golden import (
    ALL,
    DEFAULT,
    EXPANDED,
    GOLDEN,
    SYNC,
    added,
    database,
    golden,
    rows,
)

Write = Callable[..., StagedSnapshot]

ORGANIZATION = "3676f14c-dbdf-5d76-bac7-02c846d8ec8f"
ADA, PAT, LI = (
    "984aeecf-70ba-51ae-8c12-3d64d3ed9536",
    "1f822b0e-5b8f-5bb6-aeb8-42ca19ff5057",
    "f23ee699-71b3-5bc4-bf5f-43bffc7c38f1",
)
ZOE, HUONG, KIM = (
    "94868c2e-c2d9-5234-93bd-922e6a7ca43d",
    "09347e8c-e8be-57a3-827a-560addbc4275",
    "516d9309-0064-562d-91dc-3d80cc086c17",
)
PLATFORM, DEPLOY = "9a0d2f0f-98cf-51be-ab09-a22810e1e6a0", "15b5d646-4865-53af-9dd5-e6c891cec757"
API, WEB, NIGHTLY, HIDDEN = (
    "d9b271f1-e959-5e1e-ad50-fdf893a342a9",
    "3b5f46c6-5e64-575d-a4a0-bd6f385d6c74",
    "6b4e7406-179e-5bf0-b2a6-8093fcbf7b03",
    "54a17ff8-ff2c-5e7e-8a0f-f50a433e5ea7",
)
FIRST, OPEN = "01febb60-c0ca-585f-8eba-37229444d1f3", "24b079e8-501c-503c-859a-a25f031a280b"

IDS = {
    "organization": {
        "v1_resource_types": ["organization"],
        "v1_resources": [f"organization:{ORGANIZATION}"],
        "v1_entitlements": [f"organization:{ORGANIZATION}:member", f"organization:{ORGANIZATION}:admin"],
        "v1_grants": [
            f"organization:{ORGANIZATION}:admin:user:{ADA}",
            f"organization:{ORGANIZATION}:member:user:{PAT}",
            f"organization:{ORGANIZATION}:member:user:{LI}",
            f"organization:{ORGANIZATION}:member:user:{HUONG}",
            f"organization:{ORGANIZATION}:member:user:{KIM}",
        ],
    },
    "pipeline": {
        "v1_resource_types": ["pipeline"],
        "v1_resources": [f"pipeline:{API}", f"pipeline:{WEB}", f"pipeline:{NIGHTLY}", f"pipeline:{HIDDEN}"],
        "v1_entitlements": [
            f"pipeline:{pipeline}:{level}"
            for pipeline in (API, WEB, NIGHTLY, HIDDEN)
            for level in ("read_only", "build_and_read", "manage_build_and_read")
        ],
        "v1_grants": [
            f"pipeline:{API}:build_and_read:team:{PLATFORM}",
            f"pipeline:{WEB}:manage_build_and_read:team:{PLATFORM}",
            f"pipeline:{API}:manage_build_and_read:team:{DEPLOY}",
            f"pipeline:{HIDDEN}:read_only:team:{DEPLOY}",
        ],
    },
    "cluster": {
        "v1_resource_types": ["cluster"],
        "v1_resources": [f"cluster:{FIRST}", f"cluster:{OPEN}"],
        "v1_entitlements": [f"cluster:{FIRST}:maintainer", f"cluster:{OPEN}:maintainer"],
        "v1_grants": [
            f"cluster:{FIRST}:maintainer:user:{PAT}",
            f"cluster:{FIRST}:maintainer:team:{PLATFORM}",
            f"cluster:{OPEN}:maintainer:user:{KIM}",
        ],
    },
    "expanded": {
        "v1_resource_types": [],
        "v1_resources": [],
        "v1_entitlements": [],
        "v1_grants": [
            f"cluster:{FIRST}:maintainer:user:{PAT}",
            *(f"pipeline:{API}:build_and_read:user:{user}" for user in (PAT, ADA, LI)),
            *(f"pipeline:{WEB}:manage_build_and_read:user:{user}" for user in (PAT, ADA, LI)),
            *(f"pipeline:{API}:manage_build_and_read:user:{user}" for user in (PAT, ZOE)),
            *(f"pipeline:{HIDDEN}:read_only:user:{user}" for user in (PAT, ZOE)),
            *(f"cluster:{FIRST}:maintainer:user:{user}" for user in (ADA, LI)),
        ],
    },
}
KINDS = [kind for kind in ResourceKind if kind in ALL.kinds]
SCOPES = [
    SyncScope(frozenset(kind for kind, wanted in zip(KINDS, chosen, strict=True) if wanted), *parts)
    for chosen in product((True, False), repeat=len(ALL.kinds))
    if any(chosen)
    for parts in ((True, True), (True, True, True), (True, False), (False, False))
]


@pytest.mark.parametrize("part", IDS)
def test_each_type_adds_exactly_these_rows(part: str) -> None:
    found = golden()[part]
    assert found == json.loads(GOLDEN.read_text(encoding="utf-8"))[part]
    assert {table: list(those) for table, those in found.items()} == IDS[part]


def test_together_they_add_what_each_adds_alone() -> None:
    together, each_alone = added(ALL, DEFAULT), golden()
    for table, those in together.items():
        assert those == each_alone["organization"][table] | each_alone["pipeline"][table] | each_alone["cluster"][table]


def test_an_expansion_is_a_bare_message_in_its_column_byte_for_byte() -> None:
    with closing(database(access(ALL))) as connection:
        (found,) = connection.execute(
            "select distinct expansion from v1_grants where principal_resource_id = ?", (PLATFORM,)
        ).fetchall()
    member, maintainer = f"team:{PLATFORM}:member".encode(), f"team:{PLATFORM}:maintainer".encode()
    assert found == (b"\x0a\x30" + member + b"\x0a\x34" + maintainer + b"\x10\x01",)


@pytest.mark.parametrize(
    ("kinds", "of_grants"),
    [
        ({"user", "organization"}, {"organization"}),
        ({"organization"}, set()),
        ({"user", "pipeline"}, set()),
        ({"team", "pipeline"}, {"team", "pipeline"}),
        ({"user", "cluster"}, {"cluster"}),
        ({"team", "cluster"}, {"team", "cluster"}),
        ({"cluster", "pipeline", "organization"}, set()),
    ],
)
def test_a_grant_is_there_only_where_the_type_of_its_principal_is(kinds: set[str], of_grants: set[str]) -> None:
    found = rows(SyncScope(frozenset(map(ResourceKind, kinds))))
    assert {row["resource_type_id"] for row in found["v1_resources"].values()} == kinds
    assert {row["resource_type_id"] for row in found["v1_grants"].values()} == of_grants
    for row in found["v1_grants"].values():
        if row["resource_type_id"] != "team":
            assert row["principal_resource_type_id"] in kinds


@pytest.mark.parametrize("scope", some(SCOPES, one_in=5), ids=lambda scope: "+".join(sorted(scope.kinds)))
def test_of_every_scope_the_file_is_derived_read_back_and_taken_by_c1(
    tmp_path: Path, write: Write, scope: SyncScope
) -> None:
    whole = write(tmp_path / "whole", access(ALL))
    expected = write(tmp_path / "expected", replace(access(ALL), scope=scope))
    derived = derive_snapshot(whole, tmp_path / "derived", scope=scope, sync_id=SYNC)
    assert derived.path.read_bytes() == expected.path.read_bytes()
    found = read_snapshot(derived.path)
    assert (found.run.scope, found.run.counts, found.directory.counts) == (scope, derived.counts, derived.counts)
    summary = ingest(derived.path, Expected(None, scope.kinds, scope.wants_grants, scope.expanded))
    assert set(summary.resource_types) == set(scope.kinds)
    assert summary.dangling_grants == (derived.counts.memberships if not scope.wants_accounts else 0)


def test_the_counts_are_those_of_what_buildkite_has_whether_expanded_or_not(tmp_path: Path, write: Write) -> None:
    for scope in (ALL, EXPANDED):
        write(tmp_path / "x", access(scope))
        found = read_snapshot(tmp_path / "x")
        assert found.run.counts == Counts(6, 3, 6, 5, 4, 4, 2, 2, 1)
        assert found.directory.organization.web_url == "https://buildkite.com/acme-access"
        assert set(found.directory.cluster_maintainers) == {
            ClusterMaintainer(ClusterID(FIRST), AccountID(PAT), ResourceKind.USER),
            ClusterMaintainer(ClusterID(FIRST), TeamID(PLATFORM), ResourceKind.TEAM),
            ClusterMaintainer(ClusterID(OPEN), AccountID(KIM), ResourceKind.USER),
        }


def test_the_statistics_count_the_rows_as_the_sdk_does_expanded_ones_too() -> None:
    with closing(database(access(EXPANDED))) as connection:
        (told, token) = connection.execute("select stats, sync_token from v1_sync_runs").fetchone()
    assert json.loads(token) == {"needs_expansion": True, "version": 1}
    assert json.loads(told) == {
        "resource_types": 5,
        "resources": 16,
        "entitlements": 22,
        "grants": 30,
        "resources_by_resource_type": {"user": 6, "team": 3, "organization": 1, "pipeline": 4, "cluster": 2},
        "entitlements_by_resource_type": {"team": 6, "organization": 2, "pipeline": 12, "cluster": 2},
        "grants_by_resource_type": {"team": 6, "organization": 5, "pipeline": 14, "cluster": 5},
    }


def test_without_an_opt_in_type_its_directory_is_written_as_before(tmp_path: Path, write: Write) -> None:
    """Pipelines in the directory, none in the scope: the file has no trace of them."""
    plain = write(tmp_path / "plain", access(DEFAULT))
    more = write(tmp_path / "more", replace(access(ALL), scope=DEFAULT))
    assert plain.sha256 == more.sha256
    assert plain.counts == Counts(6, 3, 6)
