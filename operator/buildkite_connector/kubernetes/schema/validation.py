"""Rules of the resource, written once and checked twice: by the API server as CEL, by the operator when it reads.

The operator checks again because the definition in a cluster may be older than the operator.
Every sentence names its field, as `kubectl apply` prints it to a person.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from buildkite_connector.model.duration import parse_duration

SLUG_PATTERN = "[a-z0-9]([a-z0-9_-]*[a-z0-9])?"
"""The slug of a Buildkite organization, wherever it comes from: it becomes part of an address."""

CEL_RULES = "x-kubernetes-validations"

_DURATION = "([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?"
"""Few enough digits that CEL's duration() cannot overflow: in CEL an error hides a rule's sentence."""


class SpecPart(BaseModel):
    """The spec, or a part of it."""

    model_config = ConfigDict(alias_generator=to_camel, frozen=True, extra="ignore", strict=True)


@dataclass(frozen=True, slots=True)
class Rule:
    """One CEL expression over `self`, and what to tell when it is false.

    `path` is the field to blame, from `self` on, where that is not `self`.
    """

    expression: str
    sentence: str
    path: str = ""

    def to_json(self) -> dict[str, str]:
        path = {"fieldPath": self.path} if self.path else {}
        return {"rule": self.expression, "message": self.sentence, **path}


def cel(*rules: Rule) -> dict[str, Any]:
    """The part of a JSON schema that carries the rules."""
    return {CEL_RULES: [rule.to_json() for rule in rules]}


class _Checked(ABC):
    """What pydantic calls on an annotation: `check` after the type, `rules` into the schema."""

    @abstractmethod
    def check(self, value: Any) -> Any:
        """The value as it is. Raises ValueError when it breaks a rule."""

    @abstractmethod
    def rules(self) -> tuple[Rule, ...]:
        """The same for the API server."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        flat = handler(schema)
        return {**flat, CEL_RULES: [*flat.get(CEL_RULES, ()), *cel(*self.rules())[CEL_RULES]]}


@dataclass(frozen=True)
class Pattern(_Checked):
    """A string's form: `pattern` matches the whole of it, in RE2's and Python's common dialect."""

    pattern: str
    sentence: str

    def check(self, value: str) -> str:
        if re.fullmatch(self.pattern, value) is None:
            raise ValueError(self.sentence)
        return value

    def rules(self) -> tuple[Rule, ...]:
        return (Rule(f"self.matches(r'^({self.pattern})$')", self.sentence),)


@dataclass(frozen=True)
class DurationWithin(_Checked):
    """A duration in Go's notation, from `shortest` to `longest` inclusive."""

    field: str
    shortest: str
    longest: str

    def check(self, value: str) -> str:
        try:
            seconds = parse_duration(value)
        except ValueError:
            raise ValueError(self._form.sentence) from None
        if not parse_duration(self.shortest) <= seconds <= parse_duration(self.longest):
            raise ValueError(self._range.sentence)
        return value

    def rules(self) -> tuple[Rule, ...]:
        return (self._form, self._range)

    @property
    def _form(self) -> Rule:
        return Rule(
            f"self != '' && self.matches('^{_DURATION}$')",
            f"{self.field} is not a duration: write hours, minutes and seconds such as 1h30m.",
        )

    @property
    def _range(self) -> Rule:
        return Rule(
            f"self == '' || !self.matches('^{_DURATION}$') ||"
            f" (duration(self) >= duration('{self.shortest}') && duration(self) <= duration('{self.longest}'))",
            f"{self.field} must be at least {self.shortest} and at most {self.longest}.",
        )


@dataclass(frozen=True)
class Constraint(_Checked):
    """Any other rule: the same condition as CEL and as Python."""

    rule: Rule
    holds: Callable[[Any], bool]

    def check(self, value: Any) -> Any:
        if not self.holds(value):
            raise ValueError(self.rule.sentence)
        return value

    def rules(self) -> tuple[Rule, ...]:
        return (self.rule,)
