"""Text of files and servers on a person's terminal: names can hold escape codes, markup and line breaks."""

import json
import re
from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from functools import cache
from itertools import islice

from pydantic.alias_generators import to_camel
from rich.console import Console
from rich.highlighter import JSONHighlighter
from rich.table import Table
from rich.text import Text

from buildkite_connector.model.directory import Counts
from buildkite_connector.model.redactor import Redactor

LONGEST_SHOWN = 100
"""Characters of a name, an address or an id in a table or a line."""

_NOT_IN_JSON = re.compile(r"[^\x20-\x7e\n]")
_PLAIN = Redactor()


def shown(text: str, limit: int = LONGEST_SHOWN) -> str:
    """`text` on one line of at most `limit` printable characters."""
    return _PLAIN.quote(text, limit)


def cell(text: str) -> Text:
    """`text` for a table, where rich would read a plain string as markup."""
    return Text(shown(text))


def print_rows(
    console: Console,
    title: str,
    columns: Iterable[str],
    rows: Iterable[Iterable[str | Text]],
    count: int,
    limit: int,
) -> None:
    """A table of at most `limit` of `count` rows, 0 for all. A `str` is cleaned and cut; a `Text` is taken as it is."""
    most = min(limit, count) if limit else count
    title = f"{title} ({most} of {count})"
    table = Table(title=title, title_justify="left", min_width=len(title))
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in islice(rows, most):
        table.add_row(*(cell(each) if isinstance(each, str) else each for each in row))
    console.print(table)


def print_json(document: object, console: Console) -> None:
    r"""Indented JSON, colored on a terminal. What cannot be printed stands as `\u…` in it."""
    text = _NOT_IN_JSON.sub(_escaped, json.dumps(document, ensure_ascii=False, indent=2))
    if console.is_terminal:
        console.print(JSONHighlighter()(Text(text)), soft_wrap=True)
    else:
        console.file.write(f"{text}\n")


def _escaped(match: re.Match[str]) -> str:
    char = match[0]
    return char if char.isprintable() else json.dumps(char)[1:-1]


def in_camel_case(entry: object, names: Iterable[str]) -> dict[str, object]:
    """These attributes of `entry` as a JSON object."""
    return {camel_case(name): json_value(getattr(entry, name)) for name in names}


def json_value(value: object) -> object:
    """An attribute's value for JSON, which has no times."""
    return value.isoformat() if isinstance(value, datetime) else value


def counts_in_camel_case(counts: Counts) -> dict[str, int]:
    """The counts as a JSON object, without the resource types that the snapshot does not cover."""
    return {camel_case(name): count for name, count in asdict(counts).items() if count is not None}


camel_case = cache(to_camel)
