"""Rules of the resource, written once and checked twice: by the API server as CEL, by the operator when it reads.

The operator checks again because the CRD in a cluster may be older than the operator.
Every sentence names its field, as `kubectl apply` prints it to a person.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from buildkite_connector.model.spec import parse_duration

SLUG_PATTERN = "[a-z0-9]([a-z0-9_-]*[a-z0-9])?"
"""The slug of a Buildkite organization, wherever it comes from: it becomes part of an address."""

_DURATION = "([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?"
"""Few enough digits that CEL's duration() cannot overflow: in CEL an error hides a rule's sentence."""


EMPTY: dict[str, Any] = {"default": {}}
"""Makes the API server fill in the defaults of a part that was left out."""

_SECRET_KEY = "[A-Za-z0-9._-]+"  # noqa: S105
_CEL = "x-kubernetes-validations"


@dataclass(frozen=True, slots=True)
class Rule:
    """A condition as a CEL expression over `self` and as a Python function, and what to say where it does not hold.

    As an annotation it is checked by pydantic after the type, and stands in the schema. `path` is the field to blame,
    from `self` on, where that is not `self`.
    """

    expression: str
    sentence: str
    holds: Callable[[Any], bool]
    path: str = ""

    def check(self, value: Any) -> Any:
        """The value as it is. Raises ValueError with the sentence."""
        if not self.holds(value):
            raise ValueError(self.sentence)
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        flat = handler(schema)
        return {**flat, _CEL: [*flat.get(_CEL, ()), *cel(self)[_CEL]]}


def cel(*rules: Rule) -> dict[str, Any]:
    """The part of a JSON schema that carries the rules."""
    return {
        _CEL: [
            {"rule": rule.expression, "message": rule.sentence, **({"fieldPath": rule.path} if rule.path else {})}
            for rule in rules
        ]
    }


class SpecPart(BaseModel):
    """The spec, or a part of it. `RULES` are about several of its fields."""

    model_config = ConfigDict(alias_generator=to_camel, frozen=True, extra="ignore", strict=True)
    RULES: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        for rule in self.RULES:
            rule.check(self)
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        found = handler(schema)
        if cls.RULES:
            handler.resolve_ref_schema(found).update(cel(*cls.RULES))
        return found


def matches(pattern: str, sentence: str) -> Rule:
    """The whole string matches `pattern`, in RE2's and Python's common dialect."""
    return Rule(f"self.matches(r'^({pattern})$')", sentence, lambda value: re.fullmatch(pattern, value) is not None)


def secret_key(field: str) -> Rule:
    """The name of a key of a Secret."""
    return matches(_SECRET_KEY, f"{field} must be a key of a Secret: letters, digits, '.', '_' and '-'.")


def each_once(sentence: str) -> Rule:
    """No item of the list repeats."""
    return Rule(
        "self.all(each, self.exists_one(other, other == each))", sentence, lambda items: len(set(items)) == len(items)
    )


def is_duration(field: str) -> Rule:
    """A duration in Go's notation."""
    return Rule(
        f"self != '' && self.matches('^{_DURATION}$')",
        f"{field} is not a duration: use hours, minutes and seconds, such as 1h30m.",
        _is_duration,
    )


def within(field: str, shortest: str, longest: str) -> Rule:
    """A duration that is not shorter and not longer than these."""
    least, most = parse_duration(shortest), parse_duration(longest)
    return Rule(
        f"self == '' || !self.matches('^{_DURATION}$') ||"
        f" (duration(self) >= duration('{shortest}') && duration(self) <= duration('{longest}'))",
        f"{field} must be at least {shortest} and at most {longest}.",
        lambda value: least <= parse_duration(value) <= most,
    )


def _is_duration(value: str) -> bool:
    try:
        parse_duration(value)
    except ValueError:
        return False
    return True
