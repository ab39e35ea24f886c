"""The commands of a documentation page, in the order in which a reader comes to them."""

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$", re.M | re.S)
HEADING = re.compile(r"^##+ (?P<title>.+)$", re.M)
COMMANDS = "sh"
"""The language of a block that a reader runs. Blocks without a language show output, or say what else one may run."""


@dataclass(frozen=True)
class Block:
    """A fenced block. `section`: the heading that it stands under, of whatever level."""

    section: str
    language: str
    text: str


def blocks(page: str) -> Iterator[Block]:
    """Those of docs/<page>.md."""
    text = (ROOT / "docs" / f"{page}.md").read_text()
    headings = [(found.start(), found["title"]) for found in HEADING.finditer(text)]
    for found in FENCE.finditer(text):
        section = next((title for start, title in reversed(headings) if start < found.start()), "")
        yield Block(section, found["language"], textwrap.dedent(found["text"]))


def commands(page: str, *sections: str) -> list[str]:
    """What a reader runs of a page, or of these sections of it, each block as a script."""
    return [
        each.text for each in blocks(page) if each.language == COMMANDS and each.section in (sections or {each.section})
    ]


def manifests(page: str) -> list[str]:
    """The YAML of a page."""
    return [each.text for each in blocks(page) if each.language == "yaml"]
