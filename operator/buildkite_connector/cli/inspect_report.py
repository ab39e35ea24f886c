"""`inspect`: what a snapshot file holds, as tables for people or JSON for tools."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, fields
from itertools import islice
from pathlib import Path

from rich.console import Console
from rich.table import Table

from buildkite_connector.c1z import Snapshot, read_snapshot
from buildkite_connector.cli.printing import cell, in_camel_case, print_json
from buildkite_connector.model.directory import Account, Team

ACCOUNT_FIELDS, TEAM_FIELDS = (tuple(each.name for each in fields(kind)) for kind in (Account, Team))


def inspect(path: Path, *, as_json: bool, limit: int, console: Console) -> None:
    """Print the snapshot at `path`; `limit` bounds the rows of each table, 0 shows all. Raises Failure."""
    snapshot = read_snapshot(path)
    if as_json:
        print_json(to_document(snapshot), console)
        return
    counts, directory = snapshot.run.counts, snapshot.directory
    console.print(_summary(path, snapshot))
    names = {account.id: account.name or account.id for account in directory.accounts}
    teams = {team.id: team.name for team in directory.teams}
    members = Counter(each.team for each in directory.memberships)

    def show(title: str, columns: tuple[str, ...], count: int, rows: Iterable[tuple[str, ...]]) -> None:
        most = min(limit, count) if limit else count
        table = Table(title=f"{title} ({most} of {count})", title_justify="left")
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in islice(rows, most):
            table.add_row(*map(cell, row))
        console.print(table)

    show(
        "Accounts",
        ("Name", "Email", "Role", "ID"),
        counts.accounts,
        ((each.name, each.email, each.role or "", each.id) for each in directory.accounts),
    )
    show(
        "Teams",
        ("Name", "Slug", "Privacy", "Members", "ID"),
        counts.teams,
        ((each.name, each.slug, each.privacy, str(members[each.id]), each.id) for each in directory.teams),
    )
    show(
        "Memberships",
        ("Team", "Account", "Role"),
        counts.memberships,
        (
            (teams.get(each.team, each.team), names.get(each.account, each.account), each.role.value)
            for each in directory.memberships
        ),
    )


def to_document(snapshot: Snapshot) -> dict[str, object]:
    """The snapshot as plain JSON values; null where Buildkite gave no value."""
    run, directory = snapshot.run, snapshot.directory
    return {
        "syncID": run.sync_id,
        "startedAt": run.started_at.isoformat(),
        "finishedAt": run.ended_at.isoformat(),
        "counts": asdict(run.counts),
        "accounts": [in_camel_case(each, ACCOUNT_FIELDS) for each in directory.accounts],
        "teams": [in_camel_case(each, TEAM_FIELDS) for each in directory.teams],
        "memberships": [in_camel_case(each, ("team", "account", "role")) for each in directory.memberships],
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
