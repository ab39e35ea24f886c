"""`diff`: what two snapshot files differ in, in a form for people or for tools."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

# ruff: noqa: PLC0415  (as in `app`: no command waits for another's libraries)

MOST_LISTED = 100_000
"""Entries of one list in JSON; the counts are whole."""


class Form(StrEnum):
    """How a command prints what it found."""

    TABLE = "table"
    JSON = "json"


Output = Annotated[Form, typer.Option("--output", "-o", help="The output format, for people or for tools.")]


def diff(
    before: Annotated[Path, typer.Argument(metavar="A", help="A .c1z snapshot.")],
    after: Annotated[Path, typer.Argument(metavar="B", help="A later .c1z snapshot.")],
    output: Output = Form.TABLE,
    limit: Annotated[
        int, typer.Option(min=0, help="The maximum number of lines per kind of change; 0 shows all.")
    ] = 50,
) -> None:
    """Show the differences between two snapshots: accounts, teams, memberships and roles gained, lost and changed.

    Exit code: 0 if they are equal, 1 if they differ, 2 if one cannot be read.
    """
    from rich.console import Console

    from buildkite_connector.c1z import compare
    from buildkite_connector.cli.diff_report import print_difference, to_document
    from buildkite_connector.cli.exit import one_sentence
    from buildkite_connector.cli.printing import print_json
    from buildkite_connector.cli.signals import ended_by_signals

    as_json = output is Form.JSON
    with one_sentence(2), ended_by_signals():
        difference = compare(before, after, MOST_LISTED if as_json or not limit else limit)
    console = Console()
    if as_json:
        print_json(to_document(difference, before, after), console)
    else:
        print_difference(difference, console)
    raise SystemExit(0 if difference.is_empty else 1)
