"""What a schema says about an object's fields: defaults, pruning, and who owns which field.

The part of the Kubernetes simulator that knows structural schemas and server-side apply, without HTTP or state.
Rules: https://kubernetes.io/docs/reference/using-api/server-side-apply/ and, for defaults and pruning,
https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/.

A field's path is a tuple of steps: a key of a map, or an `Item` of a list that is a map or a set. A list of
any other kind is one value.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Manifest = dict[str, Any]
Schema = Mapping[str, Any]

METADATA_SCHEMA: Schema = {
    "properties": {
        "ownerReferences": {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["uid"]},
    }
}
# What every object has, whatever its schema says.
ROOT_FIELDS = frozenset({"apiVersion", "kind", "metadata"})


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a list, known by its keys (`type` of a condition) or, in a set, by its value."""

    keys: tuple[Any, ...]


Step = str | Item
Path = tuple[Step, ...]


def object_schema(schema: Schema | None) -> Schema:
    """The schema of a whole object: what it declares, and what every object's metadata has."""
    declared = schema or {"x-kubernetes-preserve-unknown-fields": True}
    return {**declared, "properties": {**declared.get("properties", {}), "metadata": METADATA_SCHEMA}}


def with_defaults(value: Any, schema: Schema) -> Any:
    """The value with the schema's defaults filled in."""
    if isinstance(value, list):
        return [with_defaults(item, schema.get("items", {})) for item in value]
    if not isinstance(value, dict):
        return value
    filled = {key: with_defaults(item, _child(schema, key)) for key, item in value.items()}
    for key, child in schema.get("properties", {}).items():
        if "default" in child and filled.get(key) is None and not (key in filled and child.get("nullable")):
            filled[key] = with_defaults(copy.deepcopy(child["default"]), child)
    return filled


def pruned(value: Any, schema: Schema, *, always: frozenset[str] = frozenset()) -> Any:
    """The value without the fields that the schema does not know, `always` excepted and left as they are."""
    if isinstance(value, list):
        return [pruned(item, schema.get("items", {})) for item in value]
    if not isinstance(value, dict):
        return value
    known, extra = schema.get("properties", {}), schema.get("additionalProperties")
    kept = {}
    for key, item in value.items():
        if key in always:
            kept[key] = item
        elif key in known or isinstance(extra, Mapping):
            kept[key] = pruned(item, _child(schema, key))
        elif extra or schema.get("x-kubernetes-preserve-unknown-fields"):
            kept[key] = item
    return kept


def fields(value: Any, schema: Schema, path: Path = ()) -> dict[Path, Any]:
    """Every field of a value that can have an owner, with what it holds."""
    children = _children(value, schema)
    if not children:
        return {path: value}
    return {
        deeper: held
        for step, (item, child) in children.items()
        for deeper, held in fields(item, child, (*path, step)).items()
    }


def merged(live: Any, applied: Any, schema: Schema) -> Any:
    """The live value with the applied one laid over it, maps and keyed lists merged, all else replaced."""
    old, new = _children(live, schema), _children(applied, schema)
    if isinstance(applied, dict) and isinstance(live, dict) and not _atomic(schema):
        out = dict(live)
        for step, (item, child) in new.items():
            out[str(step)] = merged(old[step][0], item, child) if step in old else copy.deepcopy(item)
        return out
    if isinstance(applied, list) and isinstance(live, list) and _keyed(schema):
        return [
            merged(old[step][0], new[step][0], new[step][1])
            if step in old and step in new
            else (new.get(step) or old[step])[0]
            for step in _interleaved(list(old), list(new))
        ]
    return copy.deepcopy(applied)


def _interleaved(live: list[Step], applied: list[Step]) -> list[Step]:
    """The order of a merged list: the applied items' own, with the live ones where they stood before these."""
    order: list[Step] = []
    left = list(live)
    for position, step in enumerate(applied):
        next_shared = next((known for known in applied[position:] if known in live), None)
        while left and left[0] != next_shared:
            other = left.pop(0)
            order += [] if other in applied else [other]
        order.append(step)
        left = left[1:] if left[:1] == [step] else left
    return order + [other for other in left if other not in applied]


def merge_patched(value: Any, patch: Any) -> Any:
    """The value after an RFC 7396 merge patch."""
    if not isinstance(patch, dict):
        return patch
    out = dict(value) if isinstance(value, dict) else {}
    for key, change in patch.items():
        if change is None:
            out.pop(key, None)
        else:
            out[key] = merge_patched(out.get(key), change)
    return out


def without(value: Any, gone: set[Path], schema: Schema) -> Any:
    """The value without these fields and all that is in them."""
    kept: dict[Step, Any] = {}
    keys = schema.get("x-kubernetes-list-map-keys", ())
    for step, (item, child) in _children(value, schema).items():
        inner = {path[1:] for path in gone if path and path[0] == step}
        if not inner:
            kept[step] = item
        elif () not in inner:
            # What is left of a list's item keeps the keys that it is known by.
            rest = without(item, inner, child)
            kept[step] = {**{key: item[key] for key in keys}, **rest} if isinstance(step, Item) else rest
    return list(kept.values()) if isinstance(value, list) else {str(step): item for step, item in kept.items()}


def _children(value: Any, schema: Schema) -> dict[Step, tuple[Any, Schema]]:
    """What is inside a value and may have an owner of its own: nothing, for a scalar or an atomic value."""
    if isinstance(value, dict) and not _atomic(schema):
        return {key: (item, _child(schema, key)) for key, item in value.items()}
    if isinstance(value, list) and _keyed(schema):
        keys, items = schema.get("x-kubernetes-list-map-keys"), schema.get("items", {})
        return {Item(tuple(item.get(k) for k in keys) if keys else (item,)): (item, items) for item in value}
    return {}


def _atomic(schema: Schema) -> bool:
    return schema.get("x-kubernetes-map-type") == "atomic"


def _keyed(schema: Schema) -> bool:
    return schema.get("x-kubernetes-list-type") in {"map", "set"}


def _child(schema: Schema, key: str) -> Schema:
    extra = schema.get("additionalProperties")
    child: Schema = schema.get("properties", {}).get(key) or (extra if isinstance(extra, Mapping) else {})
    return child


@dataclass(frozen=True, slots=True)
class Manager:
    """Who wrote: a field manager's name, whether it applies or updates, and through which subresource."""

    name: str
    applies: bool
    subresource: str


class Ownership:
    """Which managers set which fields of one object: what `metadata.managedFields` is for."""

    def __init__(self) -> None:
        self._owned: dict[Manager, set[Path]] = {}

    def conflicts(self, manager: Manager, live: Mapping[Path, Any], applied: Mapping[Path, Any]) -> set[str]:
        """Names of the others whose fields this application would change."""
        changed = {path for path, value in applied.items() if path in live and live[path] != value}
        return {other.name for other, paths in self._owned.items() if other != manager and paths & changed}

    def abandoned(self, manager: Manager, applied: Mapping[Path, Any]) -> set[Path]:
        """What goes when this manager applies no more than this: its former fields that nobody else owns.

        Each in the outermost map or item that holds no owned field any more, whatever is left in there.
        """
        owned = set(applied).union(*(paths for other, paths in self._owned.items() if other != manager))
        inhabited = {path[:length] for path in owned for length in range(len(path) + 1)}
        return {
            next(path[:length] for length in range(1, len(path) + 1) if path[:length] not in inhabited)
            for path in self._owned.get(manager, set()) - inhabited
        }

    def record(
        self, manager: Manager, before: Mapping[Path, Any], after: Mapping[Path, Any], *, applied: set[Path]
    ) -> bool:
        """Note a write; gives whether any owner changed by it.

        What changed is the writer's alone; what it applied without a change is shared.
        """
        changed = {path for path, value in after.items() if path not in before or before[path] != value}
        present = {path[:length] for path in after for length in range(len(path) + 1)}
        owned = {other: (paths & present) - changed for other, paths in self._owned.items() if other != manager}
        owned[manager] = (applied if manager.applies else self._owned.get(manager, set()) | changed) & present
        owned = {owner: paths for owner, paths in owned.items() if paths}
        moved, self._owned = owned != self._owned, owned
        return moved
