"""Text of files and servers on a person's terminal: names can hold escape codes, markup and line breaks."""

import json
import re

from rich.console import Console
from rich.highlighter import JSONHighlighter
from rich.text import Text

from buildkite_connector.model.redactor import Redactor

LONGEST_SHOWN = 100
"""Characters of a name, an address or an id in a table or a line."""

_ASTRAL = 0x10000
_NOT_IN_JSON = re.compile(r"[^\x20-\x7e\n]")
_PLAIN = Redactor()


def shown(text: str, limit: int = LONGEST_SHOWN) -> str:
    """`text` on one line of at most `limit` printable characters."""
    return _PLAIN.quote(text, limit)


def cell(text: str) -> Text:
    """`text` for a table, where rich would read a plain string as markup."""
    return Text(shown(text))


def print_json(document: object, console: Console) -> None:
    r"""Indented JSON, colored on a terminal. What cannot be printed stands as `\u…` in it."""
    text = _NOT_IN_JSON.sub(_escaped, json.dumps(document, ensure_ascii=False, indent=2))
    if console.is_terminal:
        console.print(JSONHighlighter()(Text(text)), soft_wrap=True)
    else:
        console.file.write(f"{text}\n")


def _escaped(match: re.Match[str]) -> str:
    char = match[0]
    if char.isprintable():
        return char
    code = ord(char)
    if code < _ASTRAL:
        return f"\\u{code:04x}"
    code -= _ASTRAL
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
