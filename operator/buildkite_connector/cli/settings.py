"""Settings from their three sources: flags go before variables, variables before the YAML file.

`flags` declares them. Plain Python, because `--help` and each start wait for it, and because an error names the source
and never repeats the value (decision 0013).
"""

import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from buildkite_connector.cli.flags import BY_NAME, FLAGS, IDLE_VARIABLES, Effect, Flag, Value

CONFIG_PATH = "BATON_CONFIG_PATH"
DEFAULT_PATH = ".baton.yaml"
DEFAULT_HOST_ID = "buildkite-connector"
"""For a machine without a name."""
SQLITE = ("storage-engine", "sqlite")
"""The form that this connector writes, so that the flag needs no warning."""
_SWITCHES = {**dict.fromkeys(("1", "t", "true"), True), **dict.fromkeys(("0", "f", "false"), False)}
_YAML_SWITCHES = {"yes": "true", "on": "true", "no": "false", "off": "false"}


class SettingError(ValueError):
    """A setting that cannot be used: `source` is the flag, variable or file; the text never repeats a value."""

    def __init__(self, source: str, sentence: str) -> None:
        super().__init__(f"{source}: {sentence}")


@dataclass(frozen=True, slots=True)
class Settings:
    """`given`: the settings that are set, by flag name. `notes`: sentences about the file, to be logged."""

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

    def without_effect(self, environment: Mapping[str, str], *, serving: bool) -> Iterator[str]:
        """The flags and variables that are set and have no effect in this mode."""
        acts = {Effect.ACTS, Effect.REJECTED, Effect.SERVING if serving else Effect.ONE_FILE}
        for flag in FLAGS:
            value = self.given.get(flag.name, flag.default_value())
            if flag.effect not in acts and value != flag.default_value() and (flag.name, value) != SQLITE:
                yield f"--{flag.name}"
        yield from (name for name in IDLE_VARIABLES if environment.get(name, "").strip())

    def reject(self, *, serving: bool) -> None:
        """Raises SettingError for a flag that would do harm, and for a vendor action when one file is written."""
        if self._asked(Effect.REJECTED):
            raise SettingError(
                "--skip-full-sync",
                "C1 would treat everyone in its empty snapshot as deleted; remove the flag, and"
                " run `buildkite-connector check` to check credentials alone",
            )
        if not serving and (action := self._asked(Effect.ACTION)):
            raise SettingError(
                action,
                "this connector does not change or list anything on the command line; it writes a snapshot,"
                " or serves C1 with --client-id",
            )

    def _asked(self, effect: Effect) -> str:
        """Return a flag of this effect that is set, or ""."""
        asked = (f"--{flag.name}" for flag in FLAGS if flag.effect is effect and self.given.get(flag.name))
        return next(asked, "")


def read_settings(
    flags: Mapping[str, object], environment: Mapping[str, str], directory: Path | None = None
) -> Settings:
    """Read all three sources; `flags` by name, None where one is not given. `directory`: where `.baton.yaml` may be.

    A blank variable counts as not set. Raises SettingError.
    """
    file, notes = _read_file(environment, directory or Path())
    given: dict[str, Value] = {}
    for flag in FLAGS:
        if (value := flags.get(flag.name)) is not None:
            given[flag.name] = _parse(flag, value, f"--{flag.name}")
        elif text := environment.get(flag.variable, "").strip():
            given[flag.name] = _parse(flag, text, flag.variable)
        elif (value := file.get(flag.name)) is not None:
            if flag.kind is bool:
                value = _YAML_SWITCHES.get(str(value).strip().lower(), value)
            given[flag.name] = _parse(flag, value, f"{flag.name} in the configuration file")
    return Settings(given, tuple(notes))


def is_serving(settings: Settings) -> bool:
    """Whether a client ID is set. Raises SettingError when only one of ID and secret is."""
    client_id, secret = settings.text("client-id"), settings.text("client-secret")
    if bool(client_id) != bool(secret):
        missing = BY_NAME["client-secret" if client_id else "client-id"]
        raise SettingError(
            f"--{missing.name}", f"the client ID and the client secret must both be set; set it, or {missing.variable}"
        )
    return bool(client_id)


def default_host_id() -> str:
    """This machine's name; in a pod, the pod's."""
    return socket.gethostname() or DEFAULT_HOST_ID


# The YAML file


class _Text(yaml.SafeLoader):
    """Takes each value as it is written.

    YAML 1.1 reads `no` as false, `123` and `1e3` as numbers, `012` as ten, `1:30` as ninety and `2026-11-30` as a date.
    The flag decides what a value means: any of these may be an organization's slug. Only an empty value, `~` and
    `null` count as not set.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012 - as in the class above it
        first: [(tag, form) for tag, form in forms if tag.endswith((":null", ":merge"))]
        for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def _read_file(environment: Mapping[str, str], directory: Path) -> tuple[Mapping[str, object], list[str]]:
    named = environment.get(CONFIG_PATH, "").strip()
    if named and not named.endswith((".yaml", ".yml")):
        raise SettingError(CONFIG_PATH, "the file's name must end in .yaml or .yml")
    path = Path(named) if named else directory / DEFAULT_PATH
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return {}, [f"{CONFIG_PATH} names a file that does not exist"] if named else []
    except (OSError, UnicodeDecodeError) as error:
        if named:
            why = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
            raise SettingError(CONFIG_PATH, f"the file cannot be read: {why}") from None
        return {}, [f"{DEFAULT_PATH} in the working directory cannot be read"]
    content = _load(text, named or DEFAULT_PATH)
    known = {str(key).lower(): value for key, value in content.items()}
    notes = [
        f"{key} in the configuration file is not a setting of this connector" for key in known if key not in BY_NAME
    ]
    return known, notes


def _load(text: str, name: str) -> Mapping[Any, Any]:
    """The error's text is not repeated: it shows lines of the file, which may hold a secret."""
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
    """Convert a value to its flag's kind. Raises SettingError."""
    if flag.kind is tuple:
        return _list(flag, value, source)
    if isinstance(value, (list, dict)):
        raise SettingError(source, "expected one value")
    text = str(value).strip()
    if flag.kind is bool:
        if text.lower() not in _SWITCHES:
            raise SettingError(source, "expected true or false")
        return _SWITCHES[text.lower()]
    if flag.kind is int:
        return _number(flag, text, source)
    if flag.choices:
        text = text.lower()
        if text and text not in flag.choices:
            raise SettingError(source, f"expected one of {', '.join(flag.choices)}")
    return text


def _number(flag: Flag, text: str, source: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = None
    if number is None or number < (flag.least or 0) or (flag.most is not None and number > flag.most):
        bounds = f"from {flag.least} to {flag.most}" if flag.most is not None else f"of at least {flag.least}"
        raise SettingError(source, f"expected a whole number {bounds}")
    return number


def _list(flag: Flag, value: object, source: str) -> tuple[str, ...]:
    """Items separated by commas or white space, or a list of such texts."""
    if isinstance(value, dict):
        raise SettingError(source, "expected a list")
    texts = [str(each) for each in value] if isinstance(value, (list, tuple)) else [str(value)]
    separated = [item for text in texts for item in text.replace(",", " ").split()]
    if flag.choices and (unknown := [each for each in separated if each not in flag.choices]):
        raise SettingError(source, f"has {len(unknown)} unknown items; expected any of {', '.join(flag.choices)}")
    return tuple(separated)
