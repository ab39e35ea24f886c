"""Any organization, with any Unicode, reads back equal to what was written, but for the documented cuts."""

import re
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import example, given, settings

from buildkite_connector.c1z import Snapshot, read_snapshot, read_sync_run, write_snapshot
from buildkite_connector.c1z.texts import display_name
from buildkite_connector.model.directory import (
    Account,
    AccountID,
    Counts,
    Directory,
    Membership,
    Organization,
    OrganizationSlug,
    Role,
    SyncScope,
    Team,
    TeamID,
)
from buildkite_connector.model.snapshot import SyncID
from harness.directories import directories
from harness.examples import examples
from harness.organization import ACME_REFERENCE, acme

STARTED = datetime(2026, 11, 22, 23, 28, 6, 230336, tzinfo=UTC)
FINISHED = datetime(2026, 11, 22, 23, 40, tzinfo=UTC)
SYNC = SyncID("3MU2vTiRPq8SdRnLeLr03nEgvMK")


def within(text: str, limit: int | None = None) -> str:
    return re.sub(r"[\ud800-\udfff]", "\N{REPLACEMENT CHARACTER}", text).encode()[:limit].decode("utf-8", "ignore")


def documented_cuts(directory: Directory) -> Directory:
    return replace(
        directory,
        organization=(
            replace(directory.organization, name=display_name(directory.organization.name, "acme"))
            if directory.scope.wants_organization
            else Organization("", OrganizationSlug(""), "")
        ),
        accounts=tuple(
            replace(
                account,
                name=display_name(account.name, account.email, account.id),
                email=within(account.email),
                role=account.role and within(account.role),
                sso_mode=account.sso_mode and within(account.sso_mode),
                details=account.details and replace(account.details, machine=bool(account.details.machine)),
            )
            for account in directory.accounts
        ),
        teams=tuple(
            replace(
                team,
                name=display_name(team.name, team.slug, team.id),
                slug=within(team.slug),
                description=within(team.description, 2048),
                privacy=within(team.privacy),
                created_at=within(team.created_at),
                default_member_role=team.default_member_role and within(team.default_member_role),
            )
            for team in directory.teams
        ),
        pipelines=tuple(
            replace(
                pipeline,
                name=display_name(pipeline.name, pipeline.slug, pipeline.id),
                slug=within(pipeline.slug),
                description=within(pipeline.description, 2048),
                web_url=page(pipeline.web_url),
                repository=within(pipeline.repository),
                visibility=within(pipeline.visibility),
                cluster_id=within(pipeline.cluster_id),
                archived_at=within(pipeline.archived_at),
            )
            for pipeline in directory.pipelines
        ),
        clusters=tuple(
            replace(
                cluster,
                name=display_name(cluster.name, cluster.id),
                description=within(cluster.description, 2048),
                web_url=page(cluster.web_url),
            )
            for cluster in directory.clusters
        ),
        api_tokens=tuple(
            replace(
                token,
                description=display_name(token.description, token.id).replace(token.id, ""),
                scopes=tuple(map(within, token.scopes)),
            )
            for token in directory.api_tokens
        ),
    )


def page(text: str) -> str:
    return "https://buildkite.com/acme/deploy" if text.endswith("://buildkite.com/acme/deploy") else ""


def written_and_read(directory: Directory, path: Path) -> Snapshot:
    staged = write_snapshot(directory, path, sync_id=SYNC, started_at=STARTED, finished_at=FINISHED)
    snapshot = read_snapshot(path)
    assert snapshot.run == read_sync_run(path)
    assert staged.counts == snapshot.directory.counts
    assert snapshot.run.counts == replace(staged.counts, last_logins=None)
    assert (staged.sync_id, staged.scope) == (snapshot.run.sync_id, snapshot.run.scope)
    return snapshot


NUL_AND_HALF_A_PAIR = Directory(
    Organization("id", OrganizationSlug("acme"), "Acme"),
    (Account(AccountID("a"), name="\0\ud800", email="\udfff@\0"),),
    (Team(TeamID("t"), "", "\0", "\udbff" * 3000, "", False, "\ud83d\ude00"),),
    (Membership(TeamID("t"), AccountID("a"), Role.MAINTAINER),),
)


@settings(max_examples=examples(60))
@given(directories())
@example(NUL_AND_HALF_A_PAIR)
def test_any_organization_reads_back_equal_but_for_the_documented_cuts(directory: Directory) -> None:
    with tempfile.TemporaryDirectory() as place:
        snapshot = written_and_read(directory, Path(place) / "any.c1z")
        assert snapshot.directory == documented_cuts(directory)
        expanded = replace(directory, scope=replace(directory.scope, expanded=True))
        snapshot = written_and_read(expanded, Path(place) / "expanded.c1z")
        assert snapshot.directory == documented_cuts(expanded)


def test_a_name_without_oddities_is_not_altered(tmp_path: Path) -> None:
    directory = acme()
    found = written_and_read(directory, tmp_path / "acme.c1z").directory
    assert found.accounts == directory.accounts
    assert found.teams == directory.teams
    assert found.memberships == directory.memberships


def test_the_references_file_reads_as_the_organization_it_was_made_of() -> None:
    snapshot, expected = read_snapshot(ACME_REFERENCE), acme()
    assert snapshot.run.counts == Counts(230, 9, 450)
    assert snapshot.run.sync_id == "3MU2vTiRPq8SdRnLeLr03nEgvMK"
    assert snapshot.run.scope == SyncScope()
    assert set(snapshot.directory.accounts) == set(expected.accounts)
    assert set(snapshot.directory.memberships) == set(expected.memberships)
    assert {(team.id, team.name) for team in snapshot.directory.teams} == {
        (team.id, team.name) for team in expected.teams
    }


def test_the_same_sync_gives_the_same_file(tmp_path: Path) -> None:
    files = [
        write_snapshot(
            acme(), tmp_path / name, sync_id=SYNC, started_at=STARTED, finished_at=FINISHED
        ).path.read_bytes()
        for name in ("one.c1z", "other.c1z")
    ]
    assert files[0] == files[1]


def test_a_clock_that_went_back_during_the_sync_does_not_end_it_before_it_started(tmp_path: Path) -> None:
    write_snapshot(acme(), tmp_path / "x.c1z", sync_id=SYNC, started_at=FINISHED, finished_at=STARTED)
    run = read_sync_run(tmp_path / "x.c1z")
    assert run.started_at == run.ended_at == FINISHED


@pytest.mark.parametrize("zone", ["UTC", "America/St_Johns", "Asia/Kathmandu"])
def test_times_read_back_the_same_in_any_zone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zone: str) -> None:
    with monkeypatch.context() as patched:
        patched.setenv("TZ", zone)
        time.tzset()
        run = written_and_read(acme(), tmp_path / "x.c1z").run
    time.tzset()
    assert (run.started_at, run.ended_at) == (STARTED, FINISHED)
