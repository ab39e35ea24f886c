"""The declared flags as parameters of a typer command, and Go's `--flag=false` as typer takes it."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, TypeVar

import typer

from buildkite_connector.cli.flags import Flag, Kind
from buildkite_connector.cli.service_flags import BY_NAME, FLAGS

_Command = TypeVar("_Command", bound=Callable[..., Any])
_NO = "no_"


def with_flags(*, hidden: bool = False) -> Callable[[_Command], _Command]:
    """Give a command every declared flag, as keywords for `given_flags`. `hidden`: none is in its help."""

    def add(command: _Command) -> _Command:
        own = [
            each
            for each in inspect.signature(command, eval_str=True).parameters.values()
            if each.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        parameters = [*own, *(each for flag in FLAGS for each in _parameters(flag, hidden=hidden))]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what typer reads
        command.__annotations__ = {each.name: each.annotation for each in parameters}
        return command

    return add


def given_flags(values: Mapping[str, object]) -> dict[str, object]:
    """The flags on the command line by name; a list that is empty was not given."""
    given: dict[str, object] = {}
    for flag in FLAGS:
        value = values.get(flag.parameter)
        if values.get(_NO + flag.parameter):
            value = False
        if value is not None and value != []:
            given[flag.name] = value
    return given


def from_go(arguments: Sequence[str]) -> list[str]:
    """`--flag=true` and `--flag=false`, as Go's flags of this kind are written, in typer's form."""
    return list(map(_from_go, arguments))


def _from_go(argument: str) -> str:
    name, equals, value = argument.removeprefix("--").partition("=")
    flag = BY_NAME.get(name)
    if not equals or not argument.startswith("--") or flag is None or flag.kind is not Kind.SWITCH:
        return argument
    match value.lower():
        case "1" | "t" | "true":
            return f"--{name}"
        case "0" | "f" | "false":
            return f"--no-{name}"
        case _:
            return argument


def _parameters(flag: Flag, *, hidden: bool) -> Iterator[inspect.Parameter]:
    declared = [f"--{flag.name}", *([flag.short] if flag.short else [])]
    hidden = hidden or flag.hidden
    metavar = {Kind.NUMBER: "INTEGER", Kind.LIST: "LIST"}.get(flag.kind, "TEXT")
    kind: Any = {Kind.SWITCH: bool | None, Kind.LIST: list[str] | None}.get(flag.kind, str | None)
    option = typer.Option(
        *declared,
        help=_help(flag),
        hidden=hidden,
        show_default=False,
        metavar=None if flag.kind is Kind.SWITCH else metavar,
    )
    yield _keyword(flag.parameter, Annotated[kind, option])
    if flag.kind is Kind.SWITCH:
        no = typer.Option(f"--no-{flag.name}", hidden=True, help=f"--{flag.name}=false.")
        yield _keyword(_NO + flag.parameter, Annotated[bool | None, no])


def _keyword(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _help(flag: Flag) -> str:
    """In parentheses: typer takes square brackets for markup."""
    default = f", default {flag.default}" if flag.default not in (None, False) else ""
    return f"{flag.help} ({flag.variable}{default})"
