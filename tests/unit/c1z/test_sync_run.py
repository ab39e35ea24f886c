"""The row that describes a sync: what its scope leaves out, as the reference leaves it out, and its id."""

import json
import secrets
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from buildkite_connector.c1z import new_sync_id, read_sync_run
from buildkite_connector.c1z.archive import unpack
from buildkite_connector.model.directory import Counts, Directory, ResourceKind, SyncScope
from buildkite_connector.model.snapshot import StagedSnapshot
from harness.organization import ACME_REFERENCE

Write = Callable[..., StagedSnapshot]

TABLES = ("v1_resource_types", "v1_resources", "v1_entitlements", "v1_grants")


def of_scope(directory: Directory, scope: SyncScope) -> Directory:
    return replace(directory, scope=scope)


def opened(path: Path) -> sqlite3.Connection:
    database = path.with_suffix(".db")
    database.write_bytes(b"".join(unpack(path)))
    return sqlite3.connect(database)


def sizes(path: Path) -> list[int]:
    with closing(opened(path)) as connection:
        return [connection.execute(f"select count(*) from {table}").fetchone()[0] for table in TABLES]  # noqa: S608


def sync_run(path: Path) -> tuple[str, int, dict[str, Any], dict[str, Any]]:
    with closing(opened(path)) as connection:
        (row,) = connection.execute("select sync_type, supports_diff, sync_token, stats from v1_sync_runs")
        return row[0], row[1], json.loads(row[2]), json.loads(row[3])


def test_resources_only_has_no_entitlements_and_no_grants(
    tmp_path: Path, write: Write, acme_directory: Directory
) -> None:
    path = tmp_path / "x.c1z"
    staged = write(path, of_scope(acme_directory, SyncScope(entitlements=False, grants=False)))
    assert sizes(path) == [2, 239, 0, 0]
    assert staged.counts == Counts(accounts=230, teams=9, memberships=0)
    assert sync_run(path) == (
        "resources_only",
        0,
        {"should_skip_entitlements_and_grants": True, "should_skip_grants": True, "version": 1},
        {
            "resource_types": 2,
            "resources": 239,
            "resources_by_resource_type": {"team": 9, "user": 230},
        },
    )


def test_without_grants_it_is_still_a_full_sync(tmp_path: Path, write: Write, acme_directory: Directory) -> None:
    path = tmp_path / "x.c1z"
    staged = write(path, of_scope(acme_directory, SyncScope(grants=False)))
    assert sizes(path) == [2, 239, 18, 0]
    assert staged.counts == Counts(accounts=230, teams=9, memberships=0)
    assert sync_run(path) == (
        "full",
        1,
        {"should_skip_grants": True, "version": 1},
        {
            "resource_types": 2,
            "resources": 239,
            "entitlements": 18,
            "resources_by_resource_type": {"team": 9, "user": 230},
            "entitlements_by_resource_type": {"team": 18},
        },
    )


@pytest.mark.parametrize(
    ("kind", "expected", "by_type"),
    [
        (ResourceKind.USER, [1, 230, 0, 0], {"user": 230}),
        (ResourceKind.TEAM, [1, 9, 18, 450], {"team": 9}),
    ],
)
def test_one_resource_type_is_a_full_sync_of_its_rows_alone(
    tmp_path: Path,
    write: Write,
    acme_directory: Directory,
    kind: ResourceKind,
    expected: list[int],
    by_type: dict[str, int],
) -> None:
    path = tmp_path / "x.c1z"
    write(path, of_scope(acme_directory, SyncScope(kinds=frozenset({kind}))))
    assert sizes(path) == expected
    sync_type, _, _, stats = sync_run(path)
    assert sync_type == "full"
    assert stats["resources_by_resource_type"] == by_type


def test_teams_alone_keep_the_members_that_are_not_listed(
    tmp_path: Path, write: Write, acme_directory: Directory
) -> None:
    scope = SyncScope(kinds=frozenset({ResourceKind.TEAM}))
    staged = write(tmp_path / "x.c1z", replace(acme_directory, accounts=(), scope=scope))
    assert staged.counts == Counts(accounts=0, teams=9, memberships=450)


@pytest.mark.parametrize("grants", [True, False])
@pytest.mark.parametrize("entitlements", [True, False])
@pytest.mark.parametrize("kinds", [set(ResourceKind), {ResourceKind.USER}, {ResourceKind.TEAM}])
def test_the_scope_can_be_told_from_the_file(
    tmp_path: Path,
    write: Write,
    acme_directory: Directory,
    kinds: set[ResourceKind],
    entitlements: bool,
    grants: bool,
) -> None:
    scope = SyncScope(frozenset(kinds), entitlements, grants)
    write(tmp_path / "x.c1z", of_scope(acme_directory, scope))
    assert read_sync_run(tmp_path / "x.c1z").scope == scope


ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def test_the_references_id_is_what_its_time_and_random_bytes_give() -> None:
    run = read_sync_run(ACME_REFERENCE)
    number = 0
    for digit in run.sync_id:
        number = number * 62 + ALPHABET.index(digit)
    random_bytes = number.to_bytes(20, "big")[4:]
    assert new_sync_id(run.started_at, lambda _: random_bytes) == run.sync_id


def test_ids_sort_by_time() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    ids = [new_sync_id(start + timedelta(seconds=n), secrets.token_bytes) for n in range(100)]
    assert ids == sorted(ids)


def test_ids_of_one_moment_differ() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert len({new_sync_id(now, secrets.token_bytes) for _ in range(100)}) == 100


@pytest.mark.parametrize(
    ("now", "expected"),
    [(datetime(1970, 1, 1, tzinfo=UTC), "0" * 27), (datetime(9999, 1, 1, tzinfo=UTC), "aWgEPL")],
)
def test_a_clock_beyond_what_the_form_holds_gives_the_nearest_time(now: datetime, expected: str) -> None:
    found = new_sync_id(now, bytes)
    assert len(found) == 27
    assert found.startswith(expected)
