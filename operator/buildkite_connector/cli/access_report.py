"""`access`: what a person or a team can reach, and who can reach a pipeline or a cluster, by a snapshot file.

JSON, tables and CSV are made of one `AccessAnswer`, so that all three say the same.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from buildkite_connector.c1z import StoredSync
from buildkite_connector.cli.printing import cell, print_rows, shown
from buildkite_connector.cli.reach import GRANTS, MOST_NAMED, ROLES, AccessAnswer, Entry, Fields, lacks
from buildkite_connector.model.directory import OrganizationRole, ResourceKind

EVERYTHING = "every pipeline and cluster without a grant"
PUBLIC = "public"
"""The visibility of a pipeline that everyone can see."""


def notes(found: AccessAnswer) -> Iterator[str]:
    """Sentences about what the lists do not show."""
    types = [each for each in found.missing if each not in {GRANTS, ROLES}]
    if types:
        yield lacks(types)
    if GRANTS in found.missing:
        yield "this snapshot does not contain grants."
    if found.of is ResourceKind.PIPELINE and found.subject["visibility"] == PUBLIC:
        yield "this pipeline is public: everyone can see it without a grant."
    if found.subject.get("organizationRole") == OrganizationRole.ADMIN:
        yield f"this person is an organization administrator, who reaches {EVERYTHING}."
    elif ROLES in found.missing and found.of is ResourceKind.USER:
        yield f"this snapshot does not say whether this person is an administrator, who reaches {EVERYTHING}."
    elif ROLES in found.missing:
        yield f"this snapshot does not list all organization administrators, who reach {EVERYTHING}."
    elif found.of is not ResourceKind.USER:
        yield f"organization administrators reach {EVERYTHING}."


# JSON


def to_document(found: AccessAnswer, run: StoredSync, file: Path) -> dict[str, object]:
    """The answer as plain JSON values; null is a list that the snapshot does not have."""
    return {
        "file": str(file),
        "syncID": run.sync_id,
        "finishedAt": run.ended_at.isoformat(),
        found.of.value: found.subject,
        **{
            each.key: None if each.entries is None else [entry.to_json() for entry in each.entries]
            for each in found.sections
        },
        "notInSnapshot": list(found.missing),
    }


# Tables


_TITLES = {
    "name": "Name",
    "email": "Email",
    "slug": "Slug",
    "visibility": "Visibility",
    "role": "Role",
    "organizationRole": "Organization role",
    "level": "Level",
    "teams": "Through",
    "members": "Members",
    "id": "ID",
}
_TABLES: dict[tuple[ResourceKind, str], tuple[str, tuple[str, ...]]] = {
    (ResourceKind.USER, "teams"): ("Teams", ("name", "slug", "role")),
    (ResourceKind.USER, "pipelines"): ("Pipelines", ("name", "slug", "level", "teams")),
    (ResourceKind.USER, "clusters"): ("Clusters maintained", ("name", "teams", "id")),
    (ResourceKind.TEAM, "members"): ("Members", ("name", "email", "role", "organizationRole")),
    (ResourceKind.TEAM, "pipelines"): ("Pipelines", ("name", "slug", "level")),
    (ResourceKind.TEAM, "clusters"): ("Clusters maintained", ("name", "id")),
    (ResourceKind.PIPELINE, "teams"): ("Teams", ("name", "slug", "level", "members")),
    (ResourceKind.PIPELINE, "accounts"): ("Accounts", ("name", "email", "level", "teams")),
    (ResourceKind.PIPELINE, "administrators"): ("Administrators", ("name", "email")),
    (ResourceKind.CLUSTER, "teams"): ("Teams that maintain it", ("name", "slug", "members")),
    (ResourceKind.CLUSTER, "accounts"): ("Accounts that maintain it", ("name", "email", "teams")),
    (ResourceKind.CLUSTER, "administrators"): ("Administrators", ("name", "email")),
}
"""The title and the columns of the table for each list of an answer: no ID beside a slug or an address, for width."""


def print_answer(found: AccessAnswer, run: StoredSync, limit: int, console: Console) -> None:
    """A table for each list; `limit` bounds the rows of each, 0 shows all."""
    about = Table(show_header=False)
    for key in sorted(found.subject, key=list(_TITLES).index):
        about.add_row(_TITLES[key], cell(_text(found.subject[key])))
    about.add_row("Snapshot", run.ended_at.isoformat(timespec="seconds"))
    console.print(about)
    for each in found.sections:
        if each.entries is not None:
            title, columns = _TABLES[found.of, each.key]
            rows = ([_in_table(entry, column) for column in columns] for entry in each.entries)
            print_rows(console, title, [_TITLES[column] for column in columns], rows, len(each.entries), limit)
    for note in notes(found):
        console.print(Text(f"! {note[0].upper()}{note[1:]}", "yellow"), soft_wrap=True)


def _in_table(entry: Entry, column: str) -> str | Text:
    if column != "teams":
        return _text(entry.fields[column])
    ways = ["directly"] if entry.fields.get("direct") else []
    for team in entry.teams or ():
        level = f" ({team['level']})" if "level" in team else ""
        ways.append(f"{shown(_text(team['name'] or team['id']))}{level}")
    more = len(ways) - MOST_NAMED
    return Text("\n".join(ways[:MOST_NAMED] + ([f"and {more:,} more"] if more > 0 else [])))


def _text(value: str | int | None) -> str:
    return "" if value is None else str(value)


# CSV: a row for each way from a person or a team to a team, a pipeline or a cluster


CSV_COLUMNS = (
    "account_id",
    "account_name",
    "account_email",
    "organization_role",
    "team_id",
    "team_slug",
    "team_name",
    "team_role",
    "pipeline_id",
    "pipeline_slug",
    "pipeline_name",
    "pipeline_visibility",
    "level",
    "highest_level",
    "cluster_id",
    "cluster_name",
    "through",
)
"""The same for each question. What a row does not have is empty."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")
"""What a cell begins with that a spreadsheet takes for a formula."""
_LONGEST_CELL = 4096


def print_csv(found: AccessAnswer, console: Console) -> None:
    """The answer's rows on one line each, without characters that act on a terminal or a spreadsheet."""
    writer = csv.DictWriter(console.file, CSV_COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for row in to_rows(found):
        writer.writerow({column: _in_csv(value) for column, value in row.items()})


def to_rows(found: AccessAnswer) -> Iterator[dict[str, str | int | None]]:
    """The rows: their cells by their columns."""
    subject = _prefixed(found.of, found.subject)
    if found.subject.get("organizationRole") == OrganizationRole.ADMIN:
        yield {**subject, "through": "organization"}
    for section in found.sections:
        for entry in section.entries or ():
            row = {**subject, **_prefixed(section.of, entry.fields), "through": ""}
            if section.key == "administrators":
                row["through"] = "organization"
            if entry.teams is None:
                yield row
                continue
            if "level" in row:
                row["highest_level"] = row.pop("level")
            if entry.fields.get("direct"):
                yield {**row, "through": "direct"}
            for team in entry.teams:
                yield {**row, **_prefixed(ResourceKind.TEAM, team), "through": "team"}


def _prefixed(of: ResourceKind, fields: Fields) -> dict[str, str | int | None]:
    names = {"organizationRole": "organization_role", "role": "team_role", "level": "level"}
    prefix = "account" if of is ResourceKind.USER else of
    return {
        names.get(key) or f"{prefix}_{key}": value for key, value in fields.items() if key not in {"direct", "members"}
    }


def _in_csv(value: str | int | None) -> str:
    text = shown(_text(value), _LONGEST_CELL)
    return f"'{text}" if text.startswith(_FORMULA) else text
