"""The chart's values as values.yaml documents them; their JSON schema and their table are made from here.

A comment right above a key describes it. A line `@schema {...}` in it adds to what the default says of the type; two
words of it are ours: `free: true` lets a map with defaults take other keys, `rule: true` marks an alert, `retired: [a]`
lets keys pass that older versions had, as an upgrade may bring them along. At the top these are RETIRED.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

DRAFT = "http://json-schema.org/draft-07/schema#"
TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
DURATION = "^[0-9]+(ms|s|m|h|d)$"
MARK = "@schema "
RETIRED = ("shards",)


@dataclass(frozen=True)
class Value:
    """A key of values.yaml. `children` empty: a leaf, whose `default` is a whole."""

    path: tuple[str, ...]
    description: str
    default: Any
    schema: dict[str, Any]
    children: "tuple[Value, ...]" = field(default=())
    free: bool = False
    retired: tuple[str, ...] = ()

    def leaves(self) -> "Iterator[Value]":
        if not self.children:
            yield self
        for child in self.children:
            yield from child.leaves()


def read_values(text: str) -> tuple[Value, ...]:
    """The top-level keys, with what is below them. ValueError for a comment that cannot be read."""
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(node, yaml.MappingNode):
        raise TypeError("values.yaml is no map")
    return _read(node, (), text.splitlines())


def _read(node: yaml.MappingNode, above: tuple[str, ...], lines: list[str]) -> tuple[Value, ...]:
    read = []
    for key, value in node.value:
        path = (*above, key.value)
        description, extra = _comment(lines, key.start_mark.line, ".".join(path))
        free, rule = extra.pop("free", False), extra.pop("rule", False)
        retired = tuple(extra.pop("retired", ()))
        default = yaml.safe_load(yaml.serialize(value))
        nested = isinstance(value, yaml.MappingNode) and bool(value.value) and not free and not rule
        children = _read(value, path, lines) if nested else ()
        schema = _rule(default) if rule else {"type": TYPES[type(default)], **extra}
        read.append(Value(path, description, default, schema, children, free, retired))
    return tuple(read)


def _comment(lines: list[str], key_line: int, path: str) -> tuple[str, dict[str, Any]]:
    """The sentences above a key, and its `@schema`."""
    start = key_line
    while start and lines[start - 1].lstrip().startswith("#"):
        start -= 1
    words, extra = [], {}
    for line in lines[start:key_line]:
        text = line.strip().lstrip("#").strip()
        if text.startswith(MARK):
            extra = yaml.safe_load(text.removeprefix(MARK))
            if not isinstance(extra, dict):
                raise ValueError(f"values.yaml, {path}: @schema takes a map, not {extra!r}")
        else:
            words.append(text)
    return " ".join(words), extra


def _rule(default: dict[str, Any]) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "enabled": {"type": "boolean"},
        "for": {"type": "string", "pattern": DURATION},
        "severity": {"type": "string", "minLength": 1},
    }
    if "threshold" in default:
        properties["threshold"] = {"type": "number", "minimum": 0}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def to_schema(values: tuple[Value, ...]) -> dict[str, Any]:
    """The schema of all values. Unknown keys are refused; `enabled` is a parent chart's switch."""
    schema = _object(values, RETIRED)
    schema["properties"]["enabled"] = {"type": "boolean", "description": "Read by a parent chart alone."}
    return {"$schema": DRAFT, "title": "Values of the chart buildkite-connector", **schema}


def _object(values: tuple[Value, ...], retired: tuple[str, ...] = ()) -> dict[str, Any]:
    properties = {value.path[-1]: _schema(value) for value in values}
    properties.update({name: {"description": "Of an older version; has no effect."} for name in retired})
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _schema(value: Value) -> dict[str, Any]:
    words = {"title": ".".join(value.path)}
    if value.description:
        words["description"] = value.description
    if not value.children:
        return {**words, **value.schema, "default": value.default}
    return {**words, **_object(value.children, value.retired), **value.schema}


def to_defaults(values: tuple[Value, ...]) -> dict[str, Any]:
    """The defaults of keys that a template cannot do without. A free map may be taken away, by null."""
    return {
        value.path[-1]: to_defaults(value.children) if value.children else value.default
        for value in values
        if not value.free
    }


def to_table(values: tuple[Value, ...]) -> str:
    """A Markdown table of the leaves."""
    rows = ["| value | description |", "|---|---|"]
    for value in (leaf for top in values for leaf in top.leaves()):
        allowed = value.schema.get("enum")
        words = value.description + (f" One of {_listed(allowed)}." if allowed else "")
        default = f"<br><small>default `{json.dumps(value.default)}`</small>"
        rows.append(f"| `{'.'.join(value.path)}`{default} | {words.replace('|', '&#124;')} |")
    return "\n".join(rows) + "\n"


def _listed(words: list[str]) -> str:
    return ", ".join(f"`{word}`" if word else "empty" for word in words)
