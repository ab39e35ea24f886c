"""docs/fields.md has every field of the definition, with what `kubectl explain` says."""

from typing import Any

import fields
from buildkite_connector.kubernetes.schema.crd import definition

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "default": "", "description": "Its <name>."},
        "share": {"type": "integer", "default": 80, "minimum": 10, "maximum": 100, "description": "A | bar."},
        "kinds": {"type": "array", "default": ["a"], "items": {"type": "string", "enum": ["a", "b"]}},
        "history": {
            "type": "array",
            "items": {"type": "object", "properties": {"at": {"type": "string", "format": "date-time"}}},
        },
    },
}


def leaves(node: dict[str, Any], path: str) -> set[str]:
    """Every property below a node, as the page writes its path."""
    found = set[str]()
    for name, child in node.get("properties", {}).items():
        inner = f"{path}.{name}" if path else name
        found |= {inner, *leaves(child, inner), *leaves(child.get("items", {}), f"{inner}[]")}
    return found


def test_a_field_has_its_type_bounds_default_and_description() -> None:
    name, share, kinds, history, at = fields.fields(SCHEMA)
    assert (name.path, name.kind, name.default) == ("name", "string", "required")
    assert (share.kind, share.default) == ("integer, 10 to 100", "default `80`")
    assert (kinds.kind, kinds.default) == ("list of `a`, `b`", 'default `["a"]`')
    assert (history.kind, at.path, at.kind) == ("list", "history[].at", "time")


def test_a_cell_breaks_no_table() -> None:
    page = fields.to_page({"properties": {"spec": SCHEMA, "status": {}}})
    assert "| `share`<br><small>integer, 10 to 100, default `80`</small> | A &#124; bar. |" in page
    assert "Its &lt;name>." in page


def test_every_field_of_the_definition_is_on_the_page() -> None:
    schema = definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    page = fields.to_page(schema)
    for node in ("spec", "status"):
        wanted = leaves(schema["properties"][node], "")
        assert len(wanted) > 20
        assert [field for field in wanted if f"| `{field}`<br>" not in page] == []
