"""The status as JSON, both ways, and its schema in the CRD: all three follow the fields of `model.status`.

Reading is tolerant: what is missing, foreign, out of range or from another version counts as absent, and never as an
error: other clients can write the status too. The schema has no enums or limits: a status that the API server rejects
would not be shown at all.
"""

import inspect
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from datetime import UTC, datetime
from functools import cache
from types import UnionType
from typing import Annotated, Any, NewType, Union, get_args, get_origin, get_type_hints

from buildkite_connector.model.status import HISTORY_LENGTH, ConnectorStatus, InJson

LONGEST_TEXT = 1024
MOST = 2**63 - 1
"""What the API server's integers hold."""

_SCALARS: Mapping[type, Mapping[str, str]] = {
    bool: {"type": "boolean"},
    int: {"type": "integer", "format": "int64"},
    float: {"type": "number", "format": "double"},
    datetime: {"type": "string", "format": "date-time"},
}
_TEXT = {"type": "string"}


def status_to_json(status: ConnectorStatus) -> dict[str, Any]:
    """What is written under `status`: times in whole seconds, texts bounded, without what is not known."""
    written: dict[str, Any] = _write(status)
    return written


def status_from_json(value: object) -> ConnectorStatus | None:
    """The status as far as it can be read; None when there is none. Never raises for what it finds."""
    found: ConnectorStatus | None = _read_object(ConnectorStatus, value) if value else None
    return found and replace(found, history=found.history[:HISTORY_LENGTH])


def status_schema() -> dict[str, Any]:
    """The status in the subset of JSON Schema that the API server takes."""
    return _schema(ConnectorStatus)


def bounded_message(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 1]}…"


@dataclass(frozen=True, slots=True)
class _Field:
    """A dataclass field. `type` is a dataclass, a scalar's type or, if `many`, that of a list's items.

    `left_out` are the values that are not written. `extra` is added to the schema.
    """

    name: str
    key: str
    type: Any
    many: bool
    required: bool
    left_out: tuple[Any, ...]
    inline: bool
    extra: Mapping[str, Any]


@cache
def _fields(kind: type) -> tuple[_Field, ...]:
    hints = get_type_hints(kind, include_extras=True)
    found = []
    for each in fields(kind):
        hint = hints[each.name]
        notes = hint.__metadata__ if get_origin(hint) is Annotated else ()
        if InJson.NEVER in notes or not each.compare:  # a change of it would not be noticed, and so not be written
            continue
        extra: dict[str, Any] = {}
        for note in notes:
            extra |= {"description": note} if isinstance(note, str) else note if isinstance(note, Mapping) else {}
        bare, may_be_none = _bare(hint)
        many = get_origin(bare) is tuple
        required = each.default is each.default_factory is MISSING and not may_be_none
        left_out: tuple[Any, ...] = (None,) if may_be_none else (0,) if InJson.NOT_ZERO in notes else ("", [], {})
        found.append(
            _Field(
                each.name,
                _key(each.name),
                _bare(get_args(bare)[0])[0] if many else bare,
                many,
                required,
                () if required else left_out,
                InJson.INLINE in notes,
                extra,
            )
        )
    return tuple(found)


def _key(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join("ID" if each == "id" else each.capitalize() for each in rest)


def _bare(hint: Any) -> tuple[Any, bool]:
    """The type without Annotated, NewType and None, and whether it may be None."""
    if get_origin(hint) is Annotated:
        return _bare(hint.__origin__)
    if isinstance(hint, NewType):
        return _bare(hint.__supertype__)
    if get_origin(hint) in {Union, UnionType}:
        [only] = [each for each in get_args(hint) if each is not type(None)]
        return _bare(only)[0], True
    return hint, False


def _write(value: Any) -> Any:
    if is_dataclass(value):
        written: dict[str, Any] = {}
        for each in _fields(type(value)):  # type: ignore[arg-type]  # an instance's, not a class
            part = _write(getattr(value, each.name))
            if each.inline:
                written |= part or {}
            elif part not in each.left_out:
                written[each.key] = part
        return written
    if isinstance(value, tuple):
        return [_write(each) for each in value]
    if isinstance(value, datetime):
        return f"{_whole_seconds(value).replace(tzinfo=None).isoformat()}Z"
    if isinstance(value, float):
        return round(value, 1)
    return bounded_message(str(value)) if isinstance(value, str) else value


def _read_object(kind: Any, value: object) -> Any:
    """None where it is no object, or lacks something that is required."""
    if not isinstance(value, Mapping):
        return None
    known = {}
    for each in _fields(kind):
        part = value if each.inline else value.get(each.key)
        read = _read_list(each.type, part) if each.many else _read(each.type, part)
        if read is not None or None in each.left_out:
            known[each.name] = read
        elif each.required:
            return None
    return kind(**known)


def _read_list(kind: type, value: object) -> tuple[Any, ...] | None:
    """The items that can be read."""
    if not isinstance(value, list):
        return None
    return tuple(read for each in value if (read := _read(kind, each)) is not None)


def _read(kind: type, value: Any) -> Any:
    """None where it cannot be read."""
    if is_dataclass(kind):
        return _read_object(kind, value)
    try:
        if kind is datetime:
            return _whole_seconds(datetime.fromisoformat(value)) if isinstance(value, str) else None
        if kind is bool:
            return value if isinstance(value, bool) else None
        if kind is int or kind is float:
            known = isinstance(value, (int, kind)) and not isinstance(value, bool)
            return kind(value) if known and 0 <= value <= MOST else None  # nor NaN
        return kind(bounded_message(value)) if isinstance(value, str) else None
    except (ValueError, OverflowError):
        return None


def _whole_seconds(time: datetime) -> datetime:
    """In UTC. Raises ValueError without a time zone, OverflowError where UTC has no such time."""
    if time.tzinfo is None:
        raise ValueError("a time without its zone")
    return time.astimezone(UTC).replace(microsecond=0)


def _schema(kind: type) -> dict[str, Any]:
    if not is_dataclass(kind):
        return dict(_SCALARS.get(kind, _TEXT))
    required: list[str] = []
    properties: dict[str, Any] = {}
    for each in sorted(_fields(kind), key=lambda each: not (each.inline and each.required)):
        node = _schema(each.type)
        if each.inline:
            required += node["required"] if each.required else []
            properties |= {key: {**part, **each.extra.get(key, {})} for key, part in node["properties"].items()}
            continue
        required += [each.key] if each.required else []
        if each.many:
            node = {"type": "array", "items": node}
        ordered = {"description": None, **node, **each.extra}
        properties[each.key] = {name: part for name, part in ordered.items() if part is not None}
    summary = inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0].replace("\n", " ")
    needed = {"required": required} if required else {}
    return {"description": summary, "type": "object", **needed, "properties": properties}
