"""Every option of `sync_full`, from a staged snapshot and by a new sync: what C1 gets, decoded, and what it costs.

The real connector reads a simulated Buildkite and uploads to the simulated C1.
"""

import contextlib
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import zstandard

from buildkite_connector.buildkite import BuildkiteSettings, Timeouts, open_buildkite
from buildkite_connector.model.tasks import Code
from fakes.buildkite_setup import NO_LIMITS, small_organization
from fakes.hurried_time import hurried_time
from fakes.session_setup import SessionSetup, session_setup
from harness.trust import DIRECT
from simulators.buildkite.organization import Organization
from simulators.buildkite.server import BuildkiteSimulator, Config

USERS, TEAMS, ENTITLEMENTS, GRANTS = "users", "teams", "entitlements", "grants"
ALL = {USERS, TEAMS, ENTITLEMENTS, GRANTS}
PATIENT = BuildkiteSettings(page_size=10, timeouts=Timeouts(connect=300.0, read=300.0, write=300.0, total=900.0))
MINIMUM = 3 + 2 + 12 + 1
"""Requests of one sync: pages of accounts, of teams, one of each team, and one after a page that is just full."""


@dataclass(frozen=True)
class Row:
    """A task's options, and what is in the file that answers it."""

    options: Mapping[str, Any]
    holds: set[str]
    sync_type: str = "full"
    says: str = ""


RESOURCES = {USERS, TEAMS}
ROWS = {
    "none": Row({}, ALL),
    "skip_expand_grants": Row({"skip_expand_grants": True}, ALL),
    "skip_grants": Row({"skip_grants": True}, RESOURCES | {ENTITLEMENTS}),
    "skip_entitlements_and_grants": Row({"skip_entitlements_and_grants": True}, RESOURCES, "resources_only"),
    "both skips": Row({"skip_grants": True, "skip_entitlements_and_grants": True}, RESOURCES, "resources_only"),
    "user": Row({"sync_resource_type_ids": ["user"]}, {USERS}),
    "team": Row({"sync_resource_type_ids": ["team"]}, {TEAMS, ENTITLEMENTS, GRANTS}),
    "team and user": Row({"sync_resource_type_ids": ["team", "user"]}, ALL),
    "team, skip_grants": Row({"sync_resource_type_ids": ["team"], "skip_grants": True}, {TEAMS, ENTITLEMENTS}),
    "sqlite": Row({"storage_engine": "sqlite"}, ALL),
    "a type that the spec lacks": Row({"sync_resource_type_ids": ["team", "user", "pipeline"]}, ALL),
    "pebble": Row({"storage_engine": "pebble"}, ALL, says="does not write pebble"),
}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "targeted_sync_resources": (
        {"targeted_sync_resources": [{"id": {"resource_type": "user", "resource": "u1"}}]},
        "syncs whole organizations only",
    ),
    "an unknown type": (
        {"sync_resource_type_ids": ["user", "role"]},
        "lacks (role); it has api_token, cluster, organization, pipeline, team and user",
    ),
}


@dataclass(frozen=True)
class Decoded:
    """What is in a file, read by the format alone: ids by table, the type of the sync."""

    sync_type: str
    ids: Mapping[str, set[str]] = field(hash=False)


def decode(path: Path) -> Decoded:
    """The file is `C1ZF`, a zero byte and a zstd frame with a database of SQLite."""
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "database"
        with path.open("rb") as packed, database.open("wb") as unpacked:
            assert packed.read(5) == b"C1ZF\0"
            zstandard.ZstdDecompressor().copy_stream(packed, unpacked)
        with contextlib.closing(sqlite3.connect(database)) as connection:
            [(sync_type,)] = connection.execute("select sync_type from v1_sync_runs")

            def ids(what: str) -> set[str]:
                return {row[0] for row in connection.execute(f"select external_id from {what}")}  # noqa: S608

            return Decoded(
                sync_type,
                {
                    USERS: ids("v1_resources where resource_type_id = 'user'"),
                    TEAMS: ids("v1_resources where resource_type_id = 'team'"),
                    ENTITLEMENTS: ids("v1_entitlements"),
                    GRANTS: ids("v1_grants"),
                },
            )


def expected(organization: Organization) -> dict[str, set[str]]:
    """The ids of everything, by the rules of the format."""
    teams = [team["id"] for team in organization.teams.records]
    members = {team: organization.team_members[team].records for team in teams}
    return {
        USERS: {f"user:{member['id']}" for member in organization.members.records},
        TEAMS: {f"team:{team}" for team in teams},
        ENTITLEMENTS: {f"team:{team}:{role}" for team in teams for role in ("member", "maintainer")},
        GRANTS: {
            f"team:{team}:{member['role']}:user:{member['user_id']}" for team in teams for member in members[team]
        },
    }


@contextlib.asynccontextmanager
async def connected(max_snapshot_age: float) -> AsyncIterator[tuple[SessionSetup, BuildkiteSimulator]]:
    """A connector that is ready and has synced once."""
    async with (
        BuildkiteSimulator(Config([small_organization()], limits=NO_LIMITS)) as sim,
        session_setup() as setup,
        open_buildkite(replace(PATIENT, api_url=sim.url), DIRECT, clock=setup.clock) as buildkite,
    ):
        setup.another_buildkite = lambda credential, *_, **how: buildkite.client(sim.token.value, **how)
        setup.start(max_snapshot_age)
        await setup.until(lambda: setup.ready)
        yield setup, sim


@pytest.mark.parametrize("age", [100_000.0, 0.0], ids=["staged", "fresh"])
@hurried_time
async def test_each_option_gets_what_it_asks_for_and_a_derived_file_costs_no_request(age: float) -> None:
    async with connected(age) as (setup, sim):
        everything = expected(sim.organization)
        for title, row in ROWS.items():
            before = len(sim.transcript.requests)
            task_id = setup.sim.add_task(**row.options)
            outcome = await setup.sim.finished(task_id, 1000)
            assert (outcome.code, row.says in outcome.message) == (Code.OK, True), title
            decoded = decode(setup.sim.ingested[-1].path)
            wanted = {what: everything[what] if what in row.holds else set() for what in everything}
            assert (title, decoded) == (title, Decoded(row.sync_type, wanted))
            assert (title, len(sim.transcript.requests) - before) == (title, 0 if age else MINIMUM)
        assert setup.disagreements == []


@hurried_time
async def test_options_that_cannot_be_met_are_refused_for_good_and_cost_nothing() -> None:
    async with connected(0.0) as (setup, sim):
        before = len(sim.transcript.requests)
        for title, (options, says) in REFUSED.items():
            outcome = await setup.sim.finished(setup.sim.add_task(**options), 1000)
            assert (title, outcome.code, outcome.non_retryable) == (title, Code.INVALID_ARGUMENT, True)
            assert says in outcome.message
        assert len(sim.transcript.requests) == before
        assert setup.sim.received == []
