"""`inspect`: what a snapshot file holds, as tables for people or JSON for tools."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from rich.console import Console
from rich.table import Table

from buildkite_connector.c1z import Snapshot, read_snapshot
from buildkite_connector.cli.printing import cell, print_json
from buildkite_connector.model.directory import Directory


def inspect(path: Path, *, as_json: bool, limit: int, console: Console) -> None:
    """Print the snapshot at `path`; `limit` bounds the rows of each table, 0 shows all. Raises Failure."""
    snapshot = read_snapshot(path)
    if as_json:
        print_json(to_document(snapshot), console)
        return
    run, directory = snapshot.run, snapshot.directory
    console.print(_summary(path, snapshot))
    names = {account.id: account.name or account.id for account in directory.accounts}
    teams = {team.id: team.name for team in directory.teams}
    members = _members_by_team(directory)
    _print_rows(
        console,
        "Accounts",
        ("Name", "Email", "Role", "ID"),
        run.counts.accounts,
        ((account.name, account.email, account.role or "", account.id) for account in directory.accounts),
        limit,
    )
    _print_rows(
        console,
        "Teams",
        ("Name", "Slug", "Privacy", "Members", "ID"),
        run.counts.teams,
        ((team.name, team.slug, team.privacy, str(members.get(team.id, 0)), team.id) for team in directory.teams),
        limit,
    )
    _print_rows(
        console,
        "Memberships",
        ("Team", "Account", "Role"),
        run.counts.memberships,
        (
            (teams.get(each.team, each.team), names.get(each.account, each.account), each.role.value)
            for each in directory.memberships
        ),
        limit,
    )


def to_document(snapshot: Snapshot) -> dict[str, object]:
    """The snapshot as plain JSON values; null where Buildkite gave no value."""
    run, directory = snapshot.run, snapshot.directory
    return {
        "syncID": run.sync_id,
        "startedAt": run.started_at.isoformat(),
        "finishedAt": run.ended_at.isoformat(),
        "counts": {
            "accounts": run.counts.accounts,
            "teams": run.counts.teams,
            "memberships": run.counts.memberships,
        },
        "accounts": [
            {
                "id": each.id,
                "name": each.name,
                "email": each.email,
                "role": each.role,
                "ssoMode": each.sso_mode,
            }
            for each in directory.accounts
        ],
        "teams": [
            {
                "id": each.id,
                "name": each.name,
                "slug": each.slug,
                "description": each.description,
                "privacy": each.privacy,
                "isDefault": each.is_default,
                "createdAt": each.created_at,
                "defaultMemberRole": each.default_member_role,
                "membersCanCreatePipelines": each.members_can_create_pipelines,
                "membersCanCreateSuites": each.members_can_create_suites,
                "membersCanCreateRegistries": each.members_can_create_registries,
                "membersCanDestroyRegistries": each.members_can_destroy_registries,
                "membersCanDestroyPackages": each.members_can_destroy_packages,
            }
            for each in directory.teams
        ],
        "memberships": [
            {"team": each.team, "account": each.account, "role": each.role.value} for each in directory.memberships
        ],
    }


def _summary(path: Path, snapshot: Snapshot) -> Table:
    run = snapshot.run
    table = Table(title=cell(str(path)), show_header=False, title_justify="left")
    table.add_row("Sync", cell(run.sync_id))
    table.add_row("Finished", run.ended_at.isoformat(timespec="seconds"))
    table.add_row("Accounts", str(run.counts.accounts))
    table.add_row("Teams", str(run.counts.teams))
    table.add_row("Memberships", str(run.counts.memberships))
    return table


def _members_by_team(directory: Directory) -> dict[str, int]:
    members: dict[str, int] = {}
    for each in directory.memberships:
        members[each.team] = members.get(each.team, 0) + 1
    return members


def _print_rows(
    console: Console, title: str, columns: tuple[str, ...], count: int, rows: Iterator[tuple[str, ...]], limit: int
) -> None:
    most = min(limit, count) if limit else count
    table = Table(title=f"{title} ({most} of {count})", title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in islice(rows, most):
        table.add_row(*map(cell, row))
    console.print(table)
