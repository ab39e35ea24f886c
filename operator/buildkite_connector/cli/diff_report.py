"""A difference of two snapshots, as a table and lines for people or JSON for tools."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.table import Table
from rich.text import Text

from buildkite_connector.c1z import (
    Changed,
    Changes,
    Difference,
    NamedClusterMaintainer,
    NamedMembership,
    NamedOrganizationRole,
    NamedPipelineAccess,
    StoredSync,
)
from buildkite_connector.cli.printing import camel_case, counts_in_camel_case, in_camel_case, shown
from buildkite_connector.model.directory import Account, Cluster, Counts, Pipeline, Team, listed

Entry = TypeVar("Entry")

GAINED, LOST, CHANGED = "green", "red", "yellow"


def print_difference(difference: Difference, console: Console) -> None:
    """The counts, then a line for each change: `+` gained, `-` lost, `~` changed."""
    if difference.is_empty:
        both = listed(f"{amount:,} {what}" for what, amount in difference.after.counts.amounts())
        console.print(f"No difference: {both} in both.", highlight=False, soft_wrap=True)
        return
    console.print(Text(f"{_moment(difference.before)} → {_moment(difference.after)}"), soft_wrap=True)
    console.print(_summary(difference))
    for what in difference.not_compared:
        line = f"! {_words(what)}: only one of the files covers them, so they are not compared"
        console.print(Text(line, CHANGED), soft_wrap=True)
    for what in _covered(difference):
        _print_changes(console, what, getattr(difference, what))


def to_document(difference: Difference, before: Path, after: Path) -> dict[str, object]:
    """The difference as plain JSON values; null where a file has no value. `counts` are whole, lists may be cut."""
    return {
        "equal": difference.is_empty,
        "before": _side(difference.before, before),
        "after": _side(difference.after, after),
        "notCompared": [camel_case(what) for what in difference.not_compared],
        **{camel_case(what): _changes(getattr(difference, what), KINDS[what].fields) for what in _covered(difference)},
    }


def _covered(difference: Difference) -> list[str]:
    """What is shown: an opt-in resource type and its grants only where one of the files covers them."""
    files = difference.before.counts, difference.after.counts
    return [what for what in KINDS if any(_total(counts, what) is not None for counts in files)]


def _total(counts: Counts, what: str) -> int | None:
    """How many a file has: `Difference` has cluster maintainers of both kinds together."""
    total: int | None = getattr(counts, "all_cluster_maintainers" if what == "cluster_maintainers" else what)
    return total


def _words(what: str) -> str:
    return what.replace("_", " ")


def _summary(difference: Difference) -> Table:
    before, after = difference.before, difference.after
    table = Table(box=None, pad_edge=False, show_edge=False)
    table.add_column("")
    for name, style in (("before", ""), ("after", ""), ("gained", GAINED), ("lost", LOST), ("changed", CHANGED)):
        table.add_column(name, justify="right", style=style)
    for what in _covered(difference):
        changes = getattr(difference, what)
        totals = (_total(before.counts, what), _total(after.counts, what))
        counts = (*totals, changes.gained_count, changes.lost_count, changes.changed_count)
        table.add_row(_words(what), *("" if count is None else f"{count:,}" for count in counts))
    return table


def _moment(run: StoredSync) -> str:
    return f"{shown(run.sync_id, 40)} ({run.ended_at:%Y-%m-%d %H:%M} UTC)"


def _print_changes(console: Console, what: str, changes: Changes[Entry]) -> None:
    label, describe = KINDS[what].label, KINDS[what].describe

    def line(sign: str, text: str, style: str) -> None:
        console.print(Text(f"{sign} {label:<10}  {text}", style), soft_wrap=True)

    for each in changes.lost:
        line("-", describe(each), LOST)
    for each in changes.gained:
        line("+", describe(each), GAINED)
    for changed in changes.changed:
        line("~", f"{describe(changed.after)}: {', '.join(_attribute_changes(changed))}", CHANGED)
    hidden = changes.count - len(changes.lost) - len(changes.gained) - len(changes.changed)
    if hidden:
        console.print(f"… and {hidden:,} more of {_words(what)}; --limit 0 shows all", soft_wrap=True, highlight=False)


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


def _role(role: NamedOrganizationRole) -> str:
    return f"{shown(role.account_name or role.account)} as {shown(role.role)} ({shown(role.account)})"


def _pipeline(pipeline: Pipeline) -> str:
    return f"{shown(pipeline.name)} ({shown(pipeline.id)})"


def _access(access: NamedPipelineAccess) -> str:
    team, pipeline = shown(access.team_name or access.team), shown(access.pipeline_name or access.pipeline)
    return f"{team} to {pipeline} as {shown(access.level)} ({shown(access.team)} to {shown(access.pipeline)})"


def _cluster(cluster: Cluster) -> str:
    return f"{shown(cluster.name)} ({shown(cluster.id)})"


def _maintainer(maintainer: NamedClusterMaintainer) -> str:
    name, cluster = maintainer.maintainer_name or maintainer.maintainer, maintainer.cluster_name or maintainer.cluster
    ids = f"{shown(maintainer.kind)} {shown(maintainer.maintainer)} of {shown(maintainer.cluster)}"
    return f"{shown(name)} of {shown(cluster)} ({ids})"


@dataclass(frozen=True, slots=True)
class _Kind:
    """How the entries of one kind are printed: a line's first word and its text, and the fields in JSON."""

    label: str
    describe: Callable[[Any], str]
    fields: tuple[str, ...]


KINDS = {
    "accounts": _Kind("account", _account, ("id", "name", "email", "role")),
    "teams": _Kind("team", _team, ("id", "name", "slug", "privacy")),
    "memberships": _Kind("membership", _membership, ("team", "team_name", "account", "account_name", "role")),
    "organization_roles": _Kind("role", _role, ("account", "account_name", "role")),
    "pipelines": _Kind("pipeline", _pipeline, ("id", "name", "slug", "repository", "visibility", "cluster_id")),
    "pipeline_access": _Kind("access", _access, ("pipeline", "pipeline_name", "team", "team_name", "level")),
    "clusters": _Kind("cluster", _cluster, ("id", "name")),
    "cluster_maintainers": _Kind(
        "maintainer", _maintainer, ("cluster", "cluster_name", "kind", "maintainer", "maintainer_name")
    ),
}
"""By what a Difference calls them."""


def _side(run: StoredSync, file: Path) -> dict[str, object]:
    return {
        "file": str(file),
        "syncID": run.sync_id,
        "finishedAt": run.ended_at.isoformat(),
        "counts": counts_in_camel_case(run.counts),
    }


def _changes(changes: Changes[Entry], names: tuple[str, ...]) -> dict[str, object]:
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
    if isinstance(entry, Account | Team | Pipeline | Cluster):
        return {name: value or None for name, value in found.items()}
    return found
