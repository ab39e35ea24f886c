"""The settings of service mode from their three sources: flags go before variables, variables before the YAML file."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from buildkite_connector.cli.flags import Flag, Kind, Value
from buildkite_connector.cli.service_flags import BY_NAME, FLAGS, VARIABLES

CONFIG_PATH = "BATON_CONFIG_PATH"
DEFAULT_PATH = ".baton.yaml"
_TRUE = frozenset({"1", "t", "true"})
_FALSE = frozenset({"0", "f", "false"})


_YES = frozenset({"yes", "on"})
_NO = frozenset({"no", "off"})


class _Text(yaml.SafeLoader):
    """Takes each value as it is written.

    YAML 1.1 reads `no` as false, `123` and `1e3` as numbers, `012` as ten, `1:30` as ninety and `2026-11-30` as a date.
    What a setting takes is the flag's to say: an organization may have any of these for a slug. Only what is empty,
    `~` or `null` is no value.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012 - as in the class above it
        first: [(tag, form) for tag, form in forms if tag.endswith((":null", ":merge"))]
        for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


class SettingError(ValueError):
    """A setting that cannot be used: `source` is the flag, variable or file; the text never repeats a value."""

    def __init__(self, source: str, sentence: str) -> None:
        super().__init__(f"{source}: {sentence}")


@dataclass(frozen=True, slots=True)
class Configuration:
    """`given`: the settings that somebody set, by flag name. `notes`: what to warn of in reading them."""

    given: Mapping[str, Value] = field(repr=False)
    notes: tuple[str, ...] = ()

    def text(self, name: str) -> str:
        value = self._value(name)
        return value if isinstance(value, str) else ""

    def number(self, name: str) -> int:
        value = self._value(name)
        return int(value) if isinstance(value, int) else 0

    def switch(self, name: str) -> bool:
        return self._value(name) is True

    def items(self, name: str) -> tuple[str, ...]:
        value = self._value(name)
        return value if isinstance(value, tuple) else ()

    def is_set(self, name: str) -> bool:
        return name in self.given

    def _value(self, name: str) -> Value:
        return self.given.get(name, BY_NAME[name].default_value())


def read_configuration(
    flags: Mapping[str, object], environment: Mapping[str, str], directory: Path | None = None
) -> Configuration:
    """Read all three sources; `flags` by name, None where one is not given. `directory`: where `.baton.yaml` may be.

    A blank variable counts as not set. Raises SettingError.
    """
    file, notes = _read_file(environment, directory or Path())
    given: dict[str, Value] = {}
    for flag in FLAGS:
        value = _first(flag, flags, environment, file)
        if value is not None:
            given[flag.name] = value
    return Configuration(given, tuple(notes))


def idle_settings(
    configuration: Configuration, environment: Mapping[str, str], *, serving: bool
) -> Iterator[tuple[str, str]]:
    """Each setting that was set and cannot act, with the reason why."""
    for flag in FLAGS:
        value = configuration.given.get(flag.name)
        if value is None or value == flag.default_value() or value in flag.suits:
            continue
        why = flag.idle or (flag.idle_serving if serving else flag.idle_once)
        if flag.action and serving:
            why = "it names an action, and service mode takes its tasks from C1 alone"
        if why:
            yield f"--{flag.name}", why
    for variable in VARIABLES:
        if variable.idle and environment.get(variable.name, "").strip():
            yield variable.name, variable.idle


def asked_actions(configuration: Configuration) -> list[str]:
    """The flags that name an action and are set."""
    return [
        f"--{flag.name}"
        for flag in FLAGS
        if flag.action and configuration.given.get(flag.name) not in (None, False, "")
    ]


# The sources


def _first(
    flag: Flag, flags: Mapping[str, object], environment: Mapping[str, str], file: Mapping[str, object]
) -> Value | None:
    if (given := flags.get(flag.name)) is not None:
        return _parse(flag, given, f"--{flag.name}")
    if (text := environment.get(flag.variable, "").strip()) != "":
        return _parse(flag, text, flag.variable)
    if (found := file.get(flag.name)) is not None:
        return _parse(flag, _of_yaml(flag, found), f"{flag.name} in the configuration file")
    return None


def _of_yaml(flag: Flag, value: object) -> object:
    """A switch may be `yes` or `off` in YAML; elsewhere only what Go takes."""
    if flag.kind is not Kind.SWITCH or not isinstance(value, str):
        return value
    word = value.strip().lower()
    return True if word in _YES else False if word in _NO else value


def _read_file(environment: Mapping[str, str], directory: Path) -> tuple[Mapping[str, object], list[str]]:
    named = environment.get(CONFIG_PATH, "").strip()
    if named and not named.endswith((".yaml", ".yml")):
        raise SettingError(CONFIG_PATH, "the file's name must end in .yaml or .yml")
    path = Path(named) if named else directory / DEFAULT_PATH
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return {}, [f"{CONFIG_PATH} names a file that is not there"] if named else []
    except (OSError, UnicodeDecodeError) as error:
        if named:
            why = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
            raise SettingError(CONFIG_PATH, f"the file cannot be read: {why}") from None
        return {}, [f"{DEFAULT_PATH} in the working directory cannot be read"]
    content = _load(text, named or DEFAULT_PATH)
    known = {str(key).lower(): value for key, value in content.items()}
    notes = [f"{key} in the configuration file is no setting of this connector" for key in known if key not in BY_NAME]
    return known, notes


def _load(text: str, name: str) -> Mapping[Any, Any]:
    """The error's own text is not repeated: it shows lines of the file, which may hold a secret."""
    try:
        content = yaml.load(text, _Text)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark is not None else 1
        raise SettingError(name, f"line {line} is not YAML") from None
    except yaml.YAMLError:
        raise SettingError(name, "it is not YAML") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise SettingError(name, "expected lines such as `organization: acme-inc`")
    return content


# Values


def _parse(flag: Flag, value: object, source: str) -> Value:
    return _PARSERS[flag.kind](flag, value, source)


def _text(flag: Flag, value: object, source: str) -> str:
    if isinstance(value, (list, dict)):
        raise SettingError(source, "expected one value")
    text = str(value).strip()
    if flag.choices and text and text.lower() not in flag.choices:
        raise SettingError(source, f"expected one of {', '.join(flag.choices)}")
    return text.lower() if flag.choices else text


def _number(flag: Flag, value: object, source: str) -> int:
    within = _range(flag)
    try:
        number = int(str(value).strip())
    except ValueError:
        raise SettingError(source, f"expected a whole number{within}") from None
    if isinstance(value, bool) or not (flag.least is None or number >= flag.least):
        raise SettingError(source, f"expected a whole number{within}")
    if flag.most is not None and number > flag.most:
        raise SettingError(source, f"expected a whole number{within}")
    return number


def _range(flag: Flag) -> str:
    if flag.least is None:
        return ""
    return f" from {flag.least} to {flag.most}" if flag.most is not None else f" of at least {flag.least}"


def _switch(_: Flag, value: object, source: str) -> bool:
    text = str(value).strip().lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise SettingError(source, "expected true or false")


def _list(flag: Flag, value: object, source: str) -> tuple[str, ...]:
    """Items by commas or white space, and lists of such; an empty list where there is none."""
    if isinstance(value, dict):
        raise SettingError(source, "expected a list")
    texts = [str(each) for each in value] if isinstance(value, (list, tuple)) else [str(value)]
    separated = [item for text in texts for item in text.replace(",", " ").split()]
    if flag.choices and (unknown := [each for each in separated if each not in flag.choices]):
        raise SettingError(source, f"has {len(unknown)} unknown items; expected any of {', '.join(flag.choices)}")
    return tuple(separated)


_PARSERS: Mapping[Kind, Callable[[Flag, object, str], Value]] = {
    Kind.TEXT: _text,
    Kind.NUMBER: _number,
    Kind.SWITCH: _switch,
    Kind.LIST: _list,
}
