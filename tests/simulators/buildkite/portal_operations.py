"""Runs one operation of a portal's document with graphql-core, unless the schema or Buildkite's limits refuse it.

The only module that loads `graphql`, which takes a tenth of a second: `portal` imports it when it first needs it.
Buildkite runs graphql-ruby, so the refusals that tell a client what to do are worded as that library words them.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
    build_schema,
    execute_sync,
    get_argument_values,
    get_named_type,
    get_variable_values,
    is_leaf_type,
    parse,
    print_ast,
    validate,
)

from simulators.buildkite.portal_sdl import LARGEST_PAGE, MACHINE_USER, SDL

MOST_COMPLEXITY = 50_000
MOST_DEPTH = 15

Answer = dict[str, Any]
"""What stands in the body: `data`, `errors` or both."""


@cache
def _schema(machine_users: bool) -> GraphQLSchema:
    return build_schema(SDL if machine_users else SDL.replace(MACHINE_USER, ""))


def refusals(document: str, machine_users: bool) -> list[Answer]:
    """Why the schema refuses a document as a whole. `machine_users`: whether it knows `User.machineUser`."""
    return list(_checked(document, machine_users)[1])


@lru_cache(maxsize=32)
def _checked(document: str, machine_users: bool) -> tuple[DocumentNode | None, Sequence[Answer]]:
    try:
        parsed = parse(document)
    except GraphQLError as error:
        return None, [_told(error)]
    return parsed, [_told(error) for error in validate(_schema(machine_users), parsed)]


class _RefusedError(Exception):
    """The operation does not run."""

    def __init__(self, errors: Sequence[Answer]) -> None:
        self.errors = list(errors)


def run(document: str, name: str, variables: Mapping[str, Any], root: Any, machine_users: bool) -> Answer:
    """Runs the operation of that name, or the only one where it is empty, on `root`, which has a value for each field.

    A ValueError of the root's functions is an error in the answer.
    """
    try:
        parsed, operation = _operation(document, name, machine_users)
        schema = _schema(machine_users)
        _check(schema, parsed, operation, variables)
    except _RefusedError as refused:
        return {"errors": refused.errors}
    result = execute_sync(schema, parsed, root, variable_values=dict(variables), operation_name=name or None)
    for error in result.errors or ():
        if not isinstance(error.original_error, ValueError):
            raise error  # a mistake in the simulator
    errors = {"errors": [_told(error) for error in result.errors]} if result.errors else {}
    return {"data": result.data, **errors}


def _operation(document: str, name: str, machine_users: bool) -> tuple[DocumentNode, OperationDefinitionNode]:
    parsed, errors = _checked(document, machine_users)
    if parsed is None or errors:
        raise _RefusedError(errors)
    operations = [each for each in parsed.definitions if isinstance(each, OperationDefinitionNode)]
    if not name and len(operations) > 1:
        raise _RefusedError([{"message": "An operation name is required"}])
    for each in operations:
        if not name or (each.name is not None and each.name.value == name):
            return parsed, each
    raise _RefusedError([{"message": f'No operation named "{name}"'}])


def _check(
    schema: GraphQLSchema, document: DocumentNode, operation: OperationDefinitionNode, variables: Mapping[str, Any]
) -> None:
    """Raises _RefusedError for variables that are missing or wrong, and for what is too much."""
    declared = operation.variable_definitions or ()
    values = get_variable_values(schema, declared, dict(variables))
    if isinstance(values, list):
        types = {each.variable.name.value: print_ast(each.type) for each in declared}
        wrong = [next(name for name in types if f"'${name}'" in error.message) for error in values]
        raise _RefusedError(
            [{"message": f"Variable ${name} of type {types[name]} was provided invalid value"} for name in wrong]
        )
    cost = _Cost(schema, document, values)
    found = (
        ("complexity", cost.complexity(operation), MOST_COMPLEXITY),
        ("depth", cost.depth(operation), MOST_DEPTH),
    )
    exceeded = [
        {"message": f"Query has {what} of {number}, which exceeds max {what} of {most}"}
        for what, number, most in found
        if number > most
    ]
    if exceeded:
        raise _RefusedError(exceeded)


_WORDS = (
    (r"Cannot query field '(\w+)' on type '(\w+)'.*", r"Field '\1' doesn't exist on type '\2'", "undefinedField"),
    (
        r"Unknown argument '(\w+)' on field '\w+\.(\w+)'.*",
        r"Field '\2' doesn't accept argument '\1'",
        "argumentNotAccepted",
    ),
)


def _told(error: GraphQLError) -> Answer:
    told: Answer = dict(error.formatted)
    for pattern, words, code in _WORDS:
        worded, found = re.subn(pattern, words, error.message, count=1, flags=re.DOTALL)
        if found:
            return {**told, "message": worded, "extensions": {"code": code}}
    return told


@dataclass(frozen=True, slots=True)
class _Cost:
    """What an operation may cost, before it runs: facts/buildkite-credentials.md, section 5."""

    schema: GraphQLSchema
    document: DocumentNode
    variables: Any

    def complexity(self, operation: OperationDefinitionNode) -> int:
        return self._complexity(operation.selection_set, self._root(operation), 1, 1)

    def depth(self, operation: OperationDefinitionNode) -> int:
        return self._depth(operation.selection_set, self._root(operation))

    def _root(self, operation: OperationDefinitionNode) -> GraphQLObjectType:
        root = self.schema.get_root_type(operation.operation)
        assert root is not None
        return root

    def _complexity(self, selected: SelectionSetNode, parent: GraphQLNamedType, times: int, size: int) -> int:
        """Of what is selected of an object that comes `times` times; a connection comes with `size` items."""
        total = 0
        for field, of, type_ in self._fields(selected, parent):
            if field.selection_set is None or is_leaf_type(type_):
                continue
            total += times
            inner = times
            if of.name.endswith("Connection") and field.name.value in ("edges", "nodes"):
                inner = times * size
                total += inner if field.name.value == "nodes" else 0
            items = self._items(field, of) if type_.name.endswith("Connection") else 1
            total += self._complexity(field.selection_set, type_, inner, items)
        return total

    def _items(self, field: FieldNode, of: GraphQLObjectType) -> int:
        given = get_argument_values(of.fields[field.name.value], field, self.variables)
        asked = [given[name] for name in ("first", "last") if given.get(name) is not None]
        return max(0, *asked) if asked else LARGEST_PAGE

    def _depth(self, selected: SelectionSetNode, parent: GraphQLNamedType) -> int:
        return 1 + max(
            (
                self._depth(field.selection_set, type_) if field.selection_set else 0
                for field, _, type_ in self._fields(selected, parent)
            ),
            default=0,
        )

    def _fields(
        self, selected: SelectionSetNode, parent: GraphQLNamedType
    ) -> Iterator[tuple[FieldNode, GraphQLObjectType, GraphQLNamedType]]:
        """Each field that is selected, fragments resolved, with the type that it is of and its own."""
        assert isinstance(parent, GraphQLObjectType)
        for each in selected.selections:
            if isinstance(each, FieldNode):
                found = self.schema.get_field(parent, each.name.value)
                assert found is not None
                yield each, parent, get_named_type(found.type)
            elif isinstance(each, FragmentSpreadNode):
                yield from self._fields(self._fragment(each.name.value).selection_set, parent)
            elif isinstance(each, InlineFragmentNode):
                yield from self._fields(each.selection_set, parent)

    def _fragment(self, name: str) -> FragmentDefinitionNode:
        return next(
            each
            for each in self.document.definitions
            if isinstance(each, FragmentDefinitionNode) and each.name.value == name
        )
