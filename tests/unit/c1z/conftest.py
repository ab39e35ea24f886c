"""An organization small enough to read and one large enough to be interrupted at."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from buildkite_connector.c1z import write_snapshot
from buildkite_connector.model.directory import (
    Account,
    AccountID,
    Directory,
    Membership,
    Organization,
    OrganizationSlug,
    Role,
    Team,
    TeamID,
)
from buildkite_connector.model.snapshot import StagedSnapshot, SyncID
from harness.organization import acme


@pytest.fixture(scope="session")
def acme_directory() -> Directory:
    return acme()


@pytest.fixture(scope="session")
def large_directory() -> Directory:
    """6,000 accounts in 2 teams: several batches of rows in every large table."""
    accounts = tuple(
        Account(AccountID(str(UUID(int=number))), f"Account {number}", f"user{number}@example.com")
        for number in range(6000)
    )
    teams = tuple(
        Team(TeamID(str(UUID(int=number))), f"Team {number}", f"team-{number}", "", "visible", False, "")
        for number in range(2)
    )
    return Directory(
        Organization("id", OrganizationSlug("large"), "Large"),
        accounts,
        teams,
        tuple(Membership(team.id, account.id, Role.MEMBER) for team in teams for account in accounts),
    )


@pytest.fixture(scope="session")
def write(acme_directory: Directory) -> Callable[..., StagedSnapshot]:
    """Write a directory (acme unless told) to a path, with a sync id and times that do not matter."""

    def write(
        path: Path, directory: Directory = acme_directory, stopped: Callable[[], bool] = lambda: False
    ) -> StagedSnapshot:
        now = datetime(2026, 11, 22, 23, 28, tzinfo=UTC)
        sync_id = SyncID("3MU2vTiRPq8SdRnLeLr03nEgvMK")
        return write_snapshot(directory, path, sync_id=sync_id, started_at=now, finished_at=now, stopped=stopped)

    return write
