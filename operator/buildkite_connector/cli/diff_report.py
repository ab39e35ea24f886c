"""A difference of two snapshots, as a table and lines for people or JSON for tools."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.table import Table
from rich.text import Text

from buildkite_connector.c1z import (
    Changed,
    Changes,
    Difference,
    NamedGrant,
    StoredSync,
)
from buildkite_connector.cli.printing import camel_case, counts_in_camel_case, json_value, shown
from buildkite_connector.model.directory import AccessToken, Account, Cluster, Counts, Pipeline, Team
from buildkite_connector.model.words import in_words, listed

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
        line = f"! {in_words(what)}: only one of the files covers them, so they are not compared"
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
        **{camel_case(what): _changes(getattr(difference, what), KINDS[what]) for what in _covered(difference)},
    }


def _covered(difference: Difference) -> list[str]:
    """What is shown: an opt-in resource type and its grants only where one of the files covers them."""
    files = difference.before.counts, difference.after.counts
    return [what for what in KINDS if any(_total(counts, what) is not None for counts in files)]


def _total(counts: Counts, what: str) -> int | None:
    """How many a file has: `Difference` has cluster maintainers of both kinds together."""
    total: int | None = getattr(counts, "all_cluster_maintainers" if what == "cluster_maintainers" else what)
    return total


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
        table.add_row(in_words(what), *("" if count is None else f"{count:,}" for count in counts))
    return table


def _moment(run: StoredSync) -> str:
    return f"{shown(run.sync_id, 40)} ({run.ended_at:%Y-%m-%d %H:%M} UTC)"


def _print_changes(console: Console, what: str, changes: Changes[Entry]) -> None:
    kind = KINDS[what]

    def line(sign: str, text: str, style: str) -> None:
        console.print(Text(f"{sign} {kind.label:<10}  {text}", style), soft_wrap=True)

    for each in changes.lost:
        line("-", kind.describe(each), LOST)
    for each in changes.gained:
        line("+", kind.describe(each), GAINED)
    for changed in changes.changed:
        line("~", f"{kind.describe(changed.after)}: {', '.join(_attribute_changes(changed, kind))}", CHANGED)
    hidden = changes.count - len(changes.lost) - len(changes.gained) - len(changes.changed)
    if hidden:
        console.print(
            f"… and {hidden:,} more of {in_words(what)}; --limit 0 shows all", soft_wrap=True, highlight=False
        )


def _attribute_changes(changed: Changed[Entry], kind: "_Kind") -> Iterator[str]:
    for attribute in changed.attributes:
        before, after = getattr(changed.before, attribute), getattr(changed.after, attribute)
        name = kind.name(attribute)
        if isinstance(before, tuple):
            lost = [f"-{each}" for each in before if each not in after]
            gained = [f"+{each}" for each in after if each not in before]
            yield f"{name} {' '.join(map(shown, lost + gained))}"
        else:
            yield f"{name} {_value(before)} → {_value(after)}"


def _value(value: str | bool | datetime | None) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case datetime():
            return f"{value:%Y-%m-%d %H:%M}"
    return repr(shown(value))


def _account(account: Account) -> str:
    email = f" <{shown(account.email)}>" if account.email else ""
    return f"{shown(account.name)}{email} ({shown(account.id)})"


def _resource(resource: Team | Pipeline | Cluster) -> str:
    return f"{shown(resource.name)} ({shown(resource.id)})"


def _api_token(token: AccessToken) -> str:
    return f"{shown(token.description)} of {shown(token.owner or 'nobody known')} ({shown(token.id)})"


def _names(grant: NamedGrant) -> tuple[str, str]:
    """Of the principal and of the resource."""
    return shown(grant.principal_name or grant.principal), shown(grant.resource_name or grant.resource)


def _grant(preposition: str, grant: NamedGrant) -> str:
    principal, resource = _names(grant)
    ids = f"{shown(grant.principal)} {preposition} {shown(grant.resource)}"
    return f"{principal} {preposition} {resource} as {shown(grant.held)} ({ids})"


def _role(grant: NamedGrant) -> str:
    return f"{_names(grant)[0]} as {shown(grant.held)} ({shown(grant.principal)})"


def _maintainer(grant: NamedGrant) -> str:
    principal, resource = _names(grant)
    return f"{principal} of {resource} ({shown(grant.kind)} {shown(grant.principal)} of {shown(grant.resource)})"


@dataclass(frozen=True, slots=True)
class _Kind:
    """How the entries of one kind are printed: a line's first word and its text, and the fields in JSON.

    `called`: what a grant's resource, its principal and what this holds are called.
    """

    label: str
    describe: Callable[[Any], str]
    fields: tuple[str, ...]
    called: Mapping[str, str] = field(default_factory=dict)

    def name(self, attribute: str) -> str:
        part = attribute.removesuffix("_name")
        return f"{self.called.get(part, part)}{attribute.removeprefix(part)}"

    def to_json(self, entry: object) -> dict[str, object]:
        found = {camel_case(self.name(each)): json_value(getattr(entry, each)) for each in self.fields}
        if isinstance(entry, NamedGrant):
            return found
        return {name: None if value == "" else value for name, value in found.items()}


_GRANT = ("resource", "resource_name", "principal", "principal_name", "held")
KINDS = {
    "accounts": _Kind("account", _account, ("id", "name", "email", "role")),
    "teams": _Kind("team", _resource, ("id", "name", "slug", "privacy")),
    "memberships": _Kind(
        "membership", partial(_grant, "in"), _GRANT, {"resource": "team", "principal": "account", "held": "role"}
    ),
    "organization_roles": _Kind(
        "role", _role, ("principal", "principal_name", "held"), {"principal": "account", "held": "role"}
    ),
    "pipelines": _Kind("pipeline", _resource, ("id", "name", "slug", "repository", "visibility", "cluster_id")),
    "pipeline_access": _Kind(
        "access", partial(_grant, "to"), _GRANT, {"resource": "pipeline", "principal": "team", "held": "level"}
    ),
    "clusters": _Kind("cluster", _resource, ("id", "name")),
    "cluster_maintainers": _Kind(
        "maintainer",
        _maintainer,
        ("resource", "resource_name", "kind", "principal", "principal_name"),
        {"resource": "cluster", "principal": "maintainer"},
    ),
    "api_tokens": _Kind(
        "API token",
        _api_token,
        ("id", "description", "owner", "created_at", "expires_at", "last_used_at", "scopes"),
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


def _changes(changes: Changes[Entry], kind: _Kind) -> dict[str, object]:
    return {
        "counts": {
            "gained": changes.gained_count,
            "lost": changes.lost_count,
            "changed": changes.changed_count,
        },
        "gained": [kind.to_json(each) for each in changes.gained],
        "lost": [kind.to_json(each) for each in changes.lost],
        "changed": [
            kind.to_json(each.after)
            | {
                "changes": {
                    kind.name(name): {
                        side: json_value(getattr(getattr(each, side), name)) for side in ("before", "after")
                    }
                    for name in each.attributes
                }
            }
            for each in changes.changed
        ],
    }
