"""Makes docs/fields.md, every field of the resource, from the CRD; `--check` tells whether it is current."""

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buildkite_connector.kubernetes.schema import GROUP, KIND, VERSION
from buildkite_connector.kubernetes.schema.crd import definition

PAGE = Path(__file__).parent.parent / "docs" / "fields.md"
HEAD = f"""\
# API reference

You can also read these descriptions with `kubectl explain bkc.spec` and `kubectl explain bkc.status`.
The kind is `{KIND}` of `{GROUP}/{VERSION}`. [`examples/connector-full.yaml`](../examples/connector-full.yaml)
shows each field of the spec in context.
"""
KEYS = re.compile(r"(?<=ecretRef\.)keys\.\w+")
"""Each key has the same rules: they are shown once."""
NODES = {
    "spec": "What you set. `kubectl apply` rejects an invalid spec with a message that names the field.",
    "status": "What the operator writes. [Condition reasons](reasons.md) explains each reason and what to do.",
}


@dataclass(frozen=True)
class Field:
    """`path` from the spec or the status; `[]` marks an item of a list."""

    path: str
    kind: str
    default: str
    description: str
    refused: tuple[str, ...]


def fields(schema: dict[str, Any], path: str = "") -> Iterator[Field]:
    """All below this node, in the schema's order."""
    required = schema.get("required", ())
    for name, node in schema.get("properties", {}).items():
        inner = f"{path}.{name}" if path else name
        yield _field(inner, node, required=name in required)
        yield from fields(node, inner)
        item = node.get("items", {})
        if "enum" in item:
            continue
        yield from fields(item, f"{inner}[]")


def _field(path: str, node: dict[str, Any], *, required: bool) -> Field:
    default = node.get("default")
    shown = "required" if required and default in (None, "", {"name": ""}) else ""
    if not shown and default not in (None, {}, ""):
        shown = f"default `{json.dumps(default) if not isinstance(default, str) else default}`"
    rules = node.get("x-kubernetes-validations", ())
    return Field(path, _kind(node), shown, node.get("description", ""), tuple(rule["message"] for rule in rules))


def _kind(node: dict[str, Any]) -> str:
    """`integer, 10 to 100`."""
    item = node.get("items", {})
    kind = {"array": "list", "object": "map"}.get(node["type"], node["type"])
    if "enum" in item:
        kind = f"list of {', '.join(f'`{word}`' for word in item['enum'])}"
    if "minimum" in node and "maximum" in node:
        kind += f", {node['minimum']} to {node['maximum']}"
    return "time" if node.get("format") == "date-time" else kind


def to_page(schema: dict[str, Any]) -> str:
    parts = [HEAD]
    for name, words in NODES.items():
        found = list(fields(schema["properties"][name]))
        parts += [f"## {name}\n", f"{words}\n", _table(name, found)]
        if name == "spec":
            refused = [message for field in found for message in field.refused]
            for node in (schema["properties"][name], schema):
                refused += [rule["message"] for rule in node.get("x-kubernetes-validations", ())]
            lines = dict.fromkeys(f"- {_text(KEYS.sub('keys.KEY', message))}" for message in refused)
            parts += ["### What is rejected\n", "\n".join(lines) + "\n"]
    return "\n".join(parts)


def _table(name: str, found: list[Field]) -> str:
    rows = ["| field | description |", "|---|---|"]
    for field in found:
        kind = ", ".join([field.kind, *([field.default] if field.default and name == "spec" else [])])
        rows.append(f"| `{field.path}`<br><small>{kind}</small> | {_text(field.description)} |")
    return "\n".join(rows) + "\n"


def _text(description: str) -> str:
    """A cell's text: no bars, and nothing that Markdown takes for HTML."""
    return description.replace("|", "&#124;").replace("<", "&lt;")


def main() -> None:
    page = to_page(definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(page)
    elif not PAGE.exists() or PAGE.read_text() != page:
        sys.exit("docs/fields.md is not current: run make fields")


if __name__ == "__main__":
    main()
