"""What grants expand to is bounded in bytes on the disk, and in memory, before it is written where that is possible."""

import sqlite3
import tracemalloc
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from buildkite_connector.c1z import ExpansionTooLarge, StoredSync
from buildkite_connector.c1z import expand as module
from buildkite_connector.c1z.derive import derive_snapshot
from buildkite_connector.c1z.writer import fill, rows_of
from buildkite_connector.model.directory import (
    AccessLevel,
    Account,
    AccountID,
    Directory,
    Membership,
    Organization,
    OrganizationSlug,
    Pipeline,
    PipelineAccess,
    PipelineID,
    Role,
    Team,
    TeamID,
)
from buildkite_connector.model.failure import Reason, Remedy
from buildkite_connector.model.snapshot import StagedSnapshot
from unit.c1z.access_golden import ALL, EXPANDED, NOW, SYNC, database

SHORT, LONG = 20, 4_000
"""Characters that a pipeline's description and repository have."""


def organization(*, people: int = 100, teams: int = 1, pipelines: int = 1, text: int = SHORT) -> Directory:
    """Everyone is in every team, and every team can read every pipeline."""

    def uuid(number: int) -> str:
        return str(UUID(int=number << 64 | number))

    accounts = tuple(Account(AccountID(uuid(each)), f"User {each}", f"u{each}@example.com") for each in range(people))
    found = tuple(Team(TeamID(uuid(each)), f"Team {each}", "", "", "visible", None, "") for each in range(teams))
    named = tuple(
        Pipeline(PipelineID(uuid(each)), f"p-{each}", f"P {each}", description="d" * text, repository="r" * text)
        for each in range(pipelines)
    )
    return Directory(
        Organization("o1", OrganizationSlug("acme"), "Acme"),
        accounts,
        found,
        tuple(Membership(team.id, account.id, Role.MEMBER) for team in found for account in accounts),
        EXPANDED,
        named,
        tuple(PipelineAccess(each.id, team.id, AccessLevel.READ_ONLY) for each in named for team in found),
    )


def filled(connection: sqlite3.Connection, directory: Directory) -> int:
    """Fill the database; gives how many grants of people on pipelines it has."""
    run = StoredSync(SYNC, NOW, NOW, directory.scope, directory.counts)
    fill(connection, rows_of(directory, run), run)
    return inherited(connection)


def inherited(connection: sqlite3.Connection) -> int:
    which = "resource_type_id = 'pipeline' and principal_resource_type_id = 'user'"
    return int(connection.execute(f"select count(*) from v1_grants where {which}").fetchone()[0])  # noqa: S608


def size(directory: Directory) -> int:
    with closing(database(directory)) as connection:
        pages, page_size = (connection.execute(f"pragma {each}").fetchone()[0] for each in ("page_count", "page_size"))
        return int(pages * page_size)


@pytest.fixture
def connection() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", isolation_level=None)


def test_what_the_rows_take_is_counted_before_any_is_written(
    connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_EXPANDED", 300_000)
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as other:
        assert filled(other, organization(text=SHORT)) == 100
    with pytest.raises(ExpansionTooLarge):
        filled(connection, organization(text=LONG))
    assert inherited(connection) == 0


def test_who_is_in_several_teams_is_counted_once(
    connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_EXPANDED", 300_000)
    assert filled(connection, organization(teams=3)) == 100


def test_the_size_of_the_database_is_looked_at_after_each_entitlement_too(
    connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_EXPANDED", 600_000)
    monkeypatch.setattr(module, "_BYTES_BESIDE", 0)  # as if rows filled pages far worse than expected
    with pytest.raises(ExpansionTooLarge):
        filled(connection, organization(pipelines=10))
    assert 300 < inherited(connection) < 1_000


@pytest.mark.parametrize("text", [0, 50, 300, 700, 1_000, 2_000, LONG])
def test_the_count_is_at_most_what_the_rows_take_and_at_least_half_of_it(
    monkeypatch: pytest.MonkeyPatch, text: int
) -> None:
    directory = organization(pipelines=20, text=text)
    takes = size(directory) - size(replace(directory, scope=ALL))
    with closing(database(replace(directory, scope=ALL))) as plain:
        for most, fits in ((takes // 2 - 1, False), (takes * 11 // 10, True)):
            monkeypatch.setattr(module, "MOST_EXPANDED", most)
            if fits:
                module.expand(plain, (SYNC, "2026"), lambda: None)
            else:
                with pytest.raises(ExpansionTooLarge):
                    module.expand(plain, (SYNC, "2026"), lambda: None)
                assert inherited(plain) == 0


def test_what_a_person_can_do_about_it_is_said_and_the_staged_file_stays(
    write: Callable[..., StagedSnapshot], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = write(tmp_path / "staged.c1z", replace(organization(), scope=ALL))
    monkeypatch.setattr(module, "MOST_EXPANDED", 50_000)
    with pytest.raises(ExpansionTooLarge) as caught:
        derive_snapshot(staged, tmp_path / "derived", scope=EXPANDED, sync_id=SYNC)
    assert (caught.value.reason, caught.value.remedy) == (Reason.SNAPSHOT_INVALID, Remedy.EDIT)
    for named in ("pipeline or cluster from spec.sync.resourceTypes", "--sync-resource-types", "skip_expand_grants"):
        assert named in caught.value.message
    assert list(tmp_path.iterdir()) == [staged.path]


def test_memory_holds_one_entitlement_at_a_time() -> None:
    with closing(database(replace(organization(people=2, pipelines=500, text=LONG), scope=ALL))) as plain:
        tracemalloc.start()
        try:
            module.expand(plain, (SYNC, "2026"), lambda: None)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 1 << 20, "all of them take 3 MB"
