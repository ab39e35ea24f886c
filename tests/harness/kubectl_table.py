"""What `kubectl get` prints for custom resources, from the columns that their CRD declares.

For the demo, where no kubectl is. The rules are those of the API server's table for custom resources
(the declared columns, by their simple JSONPaths and types) and of kubectl's printer (widths, upper-case
headings, ages); an end-to-end test compares it with kubectl's own output.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

Manifest = Mapping[str, Any]

MIN_WIDTH = 6
PADDING = 3
AGE = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "y": 365 * 86_400}
# Below so many seconds: the unit, and the finer unit that follows it where it is not 0.
_AGES = (
    (120, "s", ""),
    (600, "m", "s"),
    (3 * 3600, "m", ""),
    (8 * 3600, "h", "m"),
    (48 * 3600, "h", ""),
    (8 * 86_400, "d", "h"),
    (2 * 365 * 86_400, "d", ""),
    (8 * 365 * 86_400, "y", "d"),
    (math.inf, "y", ""),
)
_STEP = re.compile(
    r"""\.(?P<key>(?:[^.\[\\]|\\.)+)                                      # .status  .a\.b
      | \['(?P<quoted>[^']+)'\]                                           # ['a.b']
      | \[(?P<index>\d+)\]                                                # [0]
      | \[\?\(@\.(?P<field>\w+)\s*==\s*(?P<mark>["'])(?P<value>.*?)(?P=mark)\)\]  # [?(@.type=="Ready")]
    """,
    re.VERBOSE,
)


def render_table(crd: Manifest, objects: Sequence[Manifest], now: datetime, wide: bool = False) -> str:
    """The table that kubectl prints for these objects of the CRD's kind, each line ended.

    `now` (aware of its zone) gives the ages. `wide`: with the columns of lower priority, as `-o wide` has them.
    """
    version = next(version for version in crd["spec"]["versions"] if version["storage"])
    declared = version.get("additionalPrinterColumns") or [AGE]
    columns = [column for column in declared if wide or not column.get("priority")]
    rows = [["NAME", *(column["name"].upper() for column in columns)]]
    rows += [[item["metadata"]["name"], *(cell(column, item, now) for column in columns)] for item in objects]
    widths = [max(MIN_WIDTH, max(map(len, texts)) + PADDING) for texts in zip(*rows, strict=True)]
    return "".join(
        "".join(text.ljust(width) for text, width in zip(row[:-1], widths, strict=False)) + row[-1] + "\n"
        for row in rows
    )


def cell(column: Manifest, item: Manifest, now: datetime) -> str:
    """The text of one cell; empty where the object has no such field, or one of another type."""
    found = find(column["jsonPath"], item)
    text = ""
    match column["type"], found[0] if found else None:
        case _, None:
            pass
        case "date", str(value):
            text = _age_since(value, now)
        case (("boolean" | "string"), bool(value)):
            text = json.dumps(value)
        case (("integer" | "number"), bool()):
            pass
        case "integer", int(value) | float(value):
            text = str(int(value))
        case "number", int(value) | float(value):
            text = str(value).removesuffix(".0")
        case "string", str(value):
            line, *more = re.split(r"[\n\r\f]", value, maxsplit=1)
            text = line + "..." * len(more)
        case "string", value:
            text = json.dumps(value, separators=(",", ":"))
    return text


def find(path: str, item: Manifest) -> list[Any]:
    """What a simple JSONPath finds; nothing where a step leads nowhere. ValueError for one that is not simple."""
    found: list[Any] = [item]
    position = 0
    while position < len(path):
        step = _STEP.match(path, position)
        if step is None:
            raise ValueError(f"The JSONPath {path} has a step that this table does not know: {path[position:]}")
        position = step.end()
        key = step["quoted"] or (step["key"] or "").replace("\\", "")
        if key:
            found = [value[key] for value in found if isinstance(value, Mapping) and key in value]
            continue
        lists = [value for value in found if isinstance(value, list)]
        if step["index"]:
            index = int(step["index"])
            found = [value[index] for value in lists if index < len(value)]
        else:
            found = [entry for value in lists for entry in value if entry.get(step["field"]) == step["value"]]
    return found


def age(since: timedelta) -> str:
    """A duration as kubectl prints ages: `42s`, `5m30s`, `3h`, `12d`; `<invalid>` for one in the future."""
    seconds = int(since.total_seconds())
    if seconds < -1:
        return "<invalid>"
    unit, part = next((unit, part) for below, unit, part in _AGES if seconds < below)
    whole, rest = divmod(max(seconds, 0), _SECONDS[unit])
    finer = rest // _SECONDS[part] if part else 0
    return f"{whole}{unit}" + (f"{finer}{part}" if finer else "")


def _age_since(timestamp: str, now: datetime) -> str:
    try:
        return age(now - datetime.fromisoformat(timestamp))
    except ValueError:
        return "<invalid>"
