"""The golden case: the snapshot of acme is the reference connector's, but for what the facts enrich.

The one difference in an entitlement's own fields is its exclusion group, which the reference connector is too old
for; beyond it, teams have a description and a profile.
"""

import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from zstandard import get_frame_parameters

from buildkite_connector.c1z import write_snapshot
from buildkite_connector.c1z.archive import unpack
from buildkite_connector.model.snapshot import SyncID
from buildkite_connector.proto.connector_pb2 import (
    Entitlement,
    EntitlementExclusionGroup,
    Grant,
    GroupTrait,
    Resource,
    ResourceType,
)
from harness.organization import ACME_ORG, ACME_REFERENCE, acme

STARTED = datetime(2026, 11, 22, 23, 28, 6, 230336, tzinfo=UTC)
FINISHED = datetime(2026, 11, 22, 23, 28, 9, tzinfo=UTC)
SYNC = SyncID("3MU2vTiRPq8SdRnLeLr03nEgvMK")

Rows = dict[str, tuple[dict[str, Any], bytes]]
"""By external id: the other columns, and the message."""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("golden") / "acme.c1z"
    write_snapshot(acme(), path, sync_id=SYNC, started_at=STARTED, finished_at=FINISHED)
    return path


@pytest.fixture(scope="module")
def ours(written: Path) -> Iterator[sqlite3.Connection]:
    with closing(unpacked(written, written.with_suffix(".db"))) as connection:
        yield connection


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    with closing(unpacked(ACME_REFERENCE, tmp_path_factory.mktemp("reference") / "db")) as connection:
        yield connection


def unpacked(archive: Path, database: Path) -> sqlite3.Connection:
    database.write_bytes(b"".join(unpack(archive)))
    connection = sqlite3.connect(database)
    connection.row_factory = sqlite3.Row
    return connection


def rows(connection: sqlite3.Connection, table: str) -> Rows:
    """A table's rows but for what says when and in which sync they were written."""
    found: Rows = {}
    for row in connection.execute(f"select * from {table}"):  # noqa: S608
        columns = dict(row)
        data = columns.pop("data")
        for volatile in ("id", "sync_id", "discovered_at"):
            del columns[volatile]
        found[columns["external_id"]] = columns, data
    return found


def without_enrichment(resource: Resource) -> Resource:
    plain = Resource()
    plain.CopyFrom(resource)
    plain.ClearField("description")
    plain.ClearField("profile")
    for annotation in plain.annotations:
        if annotation.type_url.endswith("GroupTrait"):
            annotation.Pack(GroupTrait())
    return plain


def plain_resource(data: bytes) -> Message:
    return without_enrichment(Resource.FromString(data))


def plain_entitlement(data: bytes) -> Message:
    entitlement = Entitlement.FromString(data)
    entitlement.resource.CopyFrom(without_enrichment(entitlement.resource))
    others = [each for each in entitlement.annotations if not each.type_url.endswith(".EntitlementExclusionGroup")]
    del entitlement.annotations[:]
    entitlement.annotations.extend(others)
    return entitlement


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("v1_resource_types", ResourceType.FromString),
        ("v1_resources", plain_resource),
        ("v1_entitlements", plain_entitlement),
        ("v1_grants", Grant.FromString),
    ],
)
def test_every_row_is_the_references_and_none_is_missing_or_added(
    ours: sqlite3.Connection,
    reference: sqlite3.Connection,
    table: str,
    message: Callable[[bytes], Message],
) -> None:
    found, expected = rows(ours, table), rows(reference, table)
    assert found.keys() == expected.keys()
    for external_id, (columns, data) in expected.items():
        assert found[external_id][0] == columns
        assert message(found[external_id][1]) == message(data), external_id


def test_accounts_and_grants_are_the_references_to_the_last_bit(
    ours: sqlite3.Connection, reference: sqlite3.Connection
) -> None:
    users = {key: row for key, row in rows(reference, "v1_resources").items() if key.startswith("user:")}
    assert users.items() <= rows(ours, "v1_resources").items()
    assert rows(ours, "v1_grants") == rows(reference, "v1_grants")


def test_the_reference_has_no_enrichment_so_the_comparison_above_hides_nothing_of_it(
    reference: sqlite3.Connection,
) -> None:
    for _, data in rows(reference, "v1_resources").values():
        assert Resource.FromString(data) == plain_resource(data)
    for _, data in rows(reference, "v1_entitlements").values():
        assert Entitlement.FromString(data) == plain_entitlement(data)


def test_a_teams_two_roles_exclude_one_another_in_a_group_of_that_team_alone(ours: sqlite3.Connection) -> None:
    groups: dict[str, dict[str, int]] = {}
    for external_id, (columns, data) in rows(ours, "v1_entitlements").items():
        (annotation,) = Entitlement.FromString(data).annotations
        group = EntitlementExclusionGroup()
        assert annotation.Unpack(group)
        assert not group.is_default
        assert group.exclusion_group_id == f"team:{columns['resource_id']}:role"
        groups.setdefault(group.exclusion_group_id, {})[external_id.rpartition(":")[2]] = group.order
    assert len(groups) == 9
    assert all(orders == {"member": 1, "maintainer": 2} for orders in groups.values())


def test_a_team_is_enriched_with_its_description_and_profile_everywhere_a_reviewer_looks(
    ours: sqlite3.Connection,
) -> None:
    resources, entitlements = rows(ours, "v1_resources"), rows(ours, "v1_entitlements")
    for team in json.loads(ACME_ORG.read_text(encoding="utf-8"))["teams"]:
        resource = Resource.FromString(resources[f"team:{team['id']}"][1])
        (annotation,) = resource.annotations
        trait = GroupTrait()
        assert annotation.Unpack(trait)
        assert resource.description == team["description"]
        assert MessageToDict(resource.profile) == {
            "slug": team["slug"],
            "privacy": team["privacy"],
            "is_default_team": team["default"],
            "created_at": team["created_at"],
        }
        assert trait.profile == resource.profile
        for role in ("member", "maintainer"):
            entitlement = Entitlement.FromString(entitlements[f"team:{team['id']}:{role}"][1])
            assert entitlement.resource == resource


def test_the_sync_run_says_what_the_references_says(ours: sqlite3.Connection, reference: sqlite3.Connection) -> None:
    (run,) = ours.execute("select * from v1_sync_runs")
    (expected,) = reference.execute("select * from v1_sync_runs")
    assert json.loads(run["stats"]) == json.loads(expected["stats"])
    same = ("sync_type", "parent_sync_id", "linked_sync_id", "supports_diff", "grants_backfilled")
    assert {key: run[key] for key in same} == {key: expected[key] for key in same}


def test_the_sync_run_makes_no_claim_about_the_go_sdks_verifier(ours: sqlite3.Connection) -> None:
    (run,) = ours.execute("select * from v1_sync_runs")
    assert [run[f"ingest_invariant_{name}"] for name in ("generation", "coverage", "mode")] == ["", "", ""]
    assert json.loads(run["sync_token"]) == {"version": 1}


def test_every_row_carries_the_sync_and_when_it_ended(ours: sqlite3.Connection) -> None:
    ended = FINISHED.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    for table in ("v1_resource_types", "v1_resources", "v1_entitlements", "v1_grants"):
        stamps = ours.execute(f"select distinct sync_id, discovered_at from {table}")  # noqa: S608
        assert [tuple(stamp) for stamp in stamps] == [(SYNC, ended)]


def test_times_are_text_of_the_local_wall_clock(ours: sqlite3.Connection) -> None:
    (run,) = ours.execute("select sync_id, started_at, ended_at from v1_sync_runs")
    assert tuple(run) == (
        SYNC,
        STARTED.astimezone().strftime("%Y-%m-%d %H:%M:%S.%f"),
        FINISHED.astimezone().strftime("%Y-%m-%d %H:%M:%S"),
    )


def statements(connection: sqlite3.Connection) -> dict[tuple[str, str], str]:
    """What makes each table and index, without the freedom of spelling."""
    found = {}
    for kind, name, sql in connection.execute("select type, name, sql from sqlite_master"):
        text = re.sub(r"\s+", " ", re.sub(r"--[^\n]*", "", sql)).lower()
        found[kind, name] = re.sub(r" ?([(),]) ?", r"\1", text)
    return found


def test_tables_and_indexes_are_the_references(ours: sqlite3.Connection, reference: sqlite3.Connection) -> None:
    assert statements(ours) == statements(reference)


def test_the_database_file_is_one_that_needs_nothing_beside_it(
    ours: sqlite3.Connection, reference: sqlite3.Connection
) -> None:
    for pragma in ("page_size", "encoding", "journal_mode", "user_version", "auto_vacuum", "freelist_count"):
        (found,) = ours.execute(f"pragma {pragma}")
        (expected,) = reference.execute(f"pragma {pragma}")
        assert (pragma, found[0]) == (pragma, expected[0])
    assert [tuple(row) for row in ours.execute("pragma integrity_check")] == [("ok",)]


def test_the_stream_says_its_size_and_has_a_checksum_as_the_references(written: Path) -> None:
    frame = get_frame_parameters(written.read_bytes()[5:])
    expected = get_frame_parameters(ACME_REFERENCE.read_bytes()[5:])
    assert written.read_bytes()[:5] == ACME_REFERENCE.read_bytes()[:5] == b"C1ZF\0"
    assert frame.content_size == sum(len(chunk) for chunk in unpack(written))
    assert expected.content_size > 0
    assert frame.has_checksum
    assert expected.has_checksum
