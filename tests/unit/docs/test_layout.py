"""The pages fit a screen: short lines of code, tables with heads, names that leave room for what they mean."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import docs_site
from harness.pages import FENCE

WIDTH = 80
"""Characters of a line of code, unless it holds a long word such as a URL.

The output of a command, a `console` block, wraps as in a terminal.
"""
NAME = 60
"""Characters of a name at the beginning of a row: it stands in one line, beside its description."""
PAGES = docs_site.pages()


def tables(page: str) -> Iterator[list[list[str]]]:
    """Each table's rows of cells, the head first."""
    for table in docs_site.TABLE.finditer(FENCE.sub("", page)):
        yield [[cell.strip() for cell in docs_site.BAR.split(row)[1:-1]] for row in table[0].splitlines()]


@pytest.mark.parametrize("path", PAGES)
def test_no_line_of_code_is_too_long(path: str) -> None:
    text = (docs_site.ROOT / path).read_text()
    blocks = [found for found in FENCE.finditer(text) if found["language"] != "console"]
    lines = [line for found in blocks for line in found["text"].splitlines()]
    assert [line for line in lines if len(line) > WIDTH and max(map(len, line.split())) < NAME] == []


@pytest.mark.parametrize("path", PAGES)
def test_each_column_has_a_head_and_each_name_leaves_room(path: str) -> None:
    for head, _, *rows in tables((docs_site.ROOT / path).read_text()):
        assert "" not in head, head
        assert "" not in [row[0] for row in rows], "on a narrow screen each row stands by itself"
        names = [name for row in rows for name in re.findall(r"`([^`]+)`", row[0].partition("<br>")[0])]
        assert [name for name in names if len(name) > NAME] == []


@pytest.mark.parametrize("path", PAGES)
def test_what_belongs_to_a_numbered_step_is_indented_as_the_site_needs_it(path: str) -> None:
    """Otherwise, a block ends the list, or the next step is text within a paragraph."""
    text = (docs_site.ROOT / path).read_text()
    assert re.findall(r"(?m)^\d+\. .+\n(?:.+\n)*\n {1,3}\S.*", text) == [], "indent it by four blanks"
    assert re.findall(r"\n\n(?: {4}.*\n)+\d+\. .*", text) == [], "leave a line free before the next step"


def test_a_row_on_a_narrow_screen_names_its_columns() -> None:
    page = "| a | `b` | c |\n|---|---|---|\n| 1 | 2 \\| 3 | |\n"
    row = docs_site.labelled(page).splitlines()[2]
    assert row == '| 1 | 2 \\| 3 {: data-head="b" } |  |'
    assert docs_site.labelled(f"```\n{page}```\n") == f"```\n{page}```\n", "code stays as it is"
    two = "| a | b |\n|---|---|\n| 1 | 2 |\n"
    assert docs_site.labelled(two) == two


def test_code_and_tables_wrap_by_the_style_sheet() -> None:
    """Nothing scrolls sideways: what these two rules promise was seen in a browser at 1280 and 400 pixels."""
    style = Path(docs_site.ROOT / "docs" / "assets" / "site.css").read_text()
    assert "pre > code { white-space: pre-wrap; overflow-wrap: anywhere; }" in style
    assert ":is(tbody, tr, td) { display: block; }" in style
