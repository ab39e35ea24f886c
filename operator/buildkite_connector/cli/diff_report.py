"""A difference of two snapshots, as a table and lines for people or JSON for tools."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.table import Table
from rich.text import Text

from buildkite_connector.c1z import Changed, Changes, Difference, NamedMembership, StoredSync
from buildkite_connector.cli.printing import counts_in_camel_case, in_camel_case, shown
from buildkite_connector.model.directory import Account, Team

Entry = TypeVar("Entry", Account, Team, NamedMembership)

GAINED, LOST, CHANGED = "green", "red", "yellow"


def print_difference(difference: Difference, console: Console) -> None:
    """The counts, then a line for each change: `+` gained, `-` lost, `~` changed."""
    if difference.is_empty:
        counts = difference.after.counts
        console.print(
            f"No difference: {counts.accounts:,} accounts, {counts.teams:,} teams and {counts.memberships:,} "
            "memberships in both.",
            highlight=False,
            soft_wrap=True,
        )
        return
    console.print(Text(f"{_moment(difference.before)} → {_moment(difference.after)}"), soft_wrap=True)
    console.print(_summary(difference))
    for what in difference.not_compared:
        line = f"! {what}: only one of the files covers them, so they are not compared"
        console.print(Text(line, CHANGED), soft_wrap=True)
    _print_changes(console, "account", difference.accounts, _account)
    _print_changes(console, "team", difference.teams, _team)
    _print_changes(console, "membership", difference.memberships, _membership)


def to_document(difference: Difference, before: Path, after: Path) -> dict[str, object]:
    """The difference as plain JSON values; null where a file has no value. `counts` are whole, lists may be cut."""
    return {
        "equal": difference.is_empty,
        "before": _side(difference.before, before),
        "after": _side(difference.after, after),
        "notCompared": list(difference.not_compared),
        "accounts": _changes(difference.accounts, "id", "name", "email", "role"),
        "teams": _changes(difference.teams, "id", "name", "slug", "privacy"),
        "memberships": _changes(difference.memberships, "team", "team_name", "account", "account_name", "role"),
    }


def _summary(difference: Difference) -> Table:
    before, after = difference.before, difference.after
    table = Table(box=None, pad_edge=False, show_edge=False)
    table.add_column("")
    for name, style in (("before", ""), ("after", ""), ("gained", GAINED), ("lost", LOST), ("changed", CHANGED)):
        table.add_column(name, justify="right", style=style)
    for what, changes in (
        ("accounts", difference.accounts),
        ("teams", difference.teams),
        ("memberships", difference.memberships),
    ):
        counts = (changes.gained_count, changes.lost_count, changes.changed_count)
        totals = (getattr(before.counts, what), getattr(after.counts, what))
        table.add_row(what, *(f"{count:,}" for count in (*totals, *counts)))
    return table


def _moment(run: StoredSync) -> str:
    return f"{shown(run.sync_id, 40)} ({run.ended_at:%Y-%m-%d %H:%M} UTC)"


def _print_changes(console: Console, what: str, changes: Changes[Entry], describe: Callable[[Entry], str]) -> None:
    def line(sign: str, text: str, style: str) -> None:
        console.print(Text(f"{sign} {what:<10}  {text}", style), soft_wrap=True)

    for each in changes.lost:
        line("-", describe(each), LOST)
    for each in changes.gained:
        line("+", describe(each), GAINED)
    for changed in changes.changed:
        line("~", f"{describe(changed.after)}: {', '.join(_attribute_changes(changed))}", CHANGED)
    hidden = changes.count - len(changes.lost) - len(changes.gained) - len(changes.changed)
    if hidden:
        console.print(f"… and {hidden:,} more of {what}s; --limit 0 shows all", soft_wrap=True, highlight=False)


def _attribute_changes(changed: Changed[Entry]) -> Iterator[str]:
    for name in changed.attributes:
        yield f"{name} {shown(getattr(changed.before, name))!r} → {shown(getattr(changed.after, name))!r}"


def _account(account: Account) -> str:
    email = f" <{shown(account.email)}>" if account.email else ""
    return f"{shown(account.name)}{email} ({shown(account.id)})"


def _team(team: Team) -> str:
    return f"{shown(team.name)} ({shown(team.id)})"


def _membership(membership: NamedMembership) -> str:
    account, team = (
        shown(membership.account_name or membership.account),
        shown(membership.team_name or membership.team),
    )
    return f"{account} in {team} as {shown(membership.role)} ({shown(membership.account)} in {shown(membership.team)})"


def _side(run: StoredSync, file: Path) -> dict[str, object]:
    return {
        "file": str(file),
        "syncID": run.sync_id,
        "finishedAt": run.ended_at.isoformat(),
        "counts": counts_in_camel_case(run.counts),
    }


def _changes(changes: Changes[Entry], *names: str) -> dict[str, object]:
    return {
        "counts": {
            "gained": changes.gained_count,
            "lost": changes.lost_count,
            "changed": changes.changed_count,
        },
        "gained": [_entry(each, names) for each in changes.gained],
        "lost": [_entry(each, names) for each in changes.lost],
        "changed": [
            _entry(each.after, names)
            | {
                "changes": {
                    name: {"before": getattr(each.before, name), "after": getattr(each.after, name)}
                    for name in each.attributes
                }
            }
            for each in changes.changed
        ],
    }


def _entry(entry: object, names: tuple[str, ...]) -> dict[str, object]:
    found = in_camel_case(entry, names)
    return found if isinstance(entry, NamedMembership) else {name: value or None for name, value in found.items()}
