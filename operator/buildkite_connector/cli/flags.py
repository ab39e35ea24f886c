"""What a flag of service mode is: one declaration for the command line, the variable, the YAML file and the schema.

`service_flags` declares them, `configuration` reads them from all sources.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

Value = str | int | bool | tuple[str, ...]
"""What a setting holds: text, number, switch or list."""


class Kind(Enum):
    """What a flag takes."""

    TEXT = auto()
    NUMBER = auto()
    SWITCH = auto()
    LIST = auto()


_EMPTY: Mapping[Kind, Value] = {Kind.TEXT: "", Kind.NUMBER: 0, Kind.SWITCH: False, Kind.LIST: ()}


@dataclass(frozen=True, slots=True)
class Flag:
    """One setting. `least` and `most` bound a NUMBER, `choices` a TEXT or each item of a LIST.

    Where a flag cannot apply it is accepted with one warning that says why: `idle` in both modes, `idle_serving` in
    service mode, `idle_once` when one file is written. `suits` are values that need no such warning.
    `action`: the flag makes the vendor's connector do that one thing in place of a sync; it is refused when one file
    is written, and ignored with a warning in service mode, as by the vendor's.
    """

    name: str
    kind: Kind
    help: str
    default: Value | None = None
    short: str = ""
    hidden: bool = False
    least: int | None = None
    most: int | None = None
    choices: tuple[str, ...] = ()
    idle: str = ""
    idle_serving: str = ""
    idle_once: str = ""
    suits: tuple[str, ...] = ()
    action: bool = False
    own_variable: str = ""

    @property
    def variable(self) -> str:
        """The environment variable: the vendor's rule, or a name of this project's own."""
        return self.own_variable or f"BATON_{self.name.upper().replace('-', '_')}"

    @property
    def parameter(self) -> str:
        """The flag's name in Python."""
        return self.name.replace("-", "_")

    def default_value(self) -> Value:
        """What counts where nobody set the flag; an empty value where there is no default."""
        if self.default is not None:
            return self.default
        return _EMPTY[self.kind]


@dataclass(frozen=True, slots=True)
class Variable:
    """A setting that the vendor's connector takes from the environment alone. `idle`: why it has no effect here."""

    name: str
    meaning: str
    idle: str = ""
