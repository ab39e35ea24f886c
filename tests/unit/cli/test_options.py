"""What options default to."""

import socket
from typing import Any

import pytest
import typer.main

from buildkite_connector.buildkite import settings
from buildkite_connector.c1 import C1Settings
from buildkite_connector.cli import options
from buildkite_connector.cli.app import app
from buildkite_connector.cli.configuration import read_configuration
from buildkite_connector.cli.service_flags import FLAGS
from buildkite_connector.telemetry import server


def test_the_commands_ask_where_the_adapter_does() -> None:
    assert options.DEFAULT_API_URL == settings.DEFAULT_API_URL


@pytest.mark.parametrize(("name", "expected"), [("pod-1", "pod-1"), ("", "buildkite-connector")])
def test_a_machine_without_a_name_has_a_host_id_nevertheless(
    monkeypatch: pytest.MonkeyPatch, name: str, expected: str
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: name)
    assert options.default_host_id() == expected


COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]  # it is a group
REQUIRED = {"inspect": ["x.c1z"], "diff": ["x.c1z", "y.c1z"], "completion": ["bash"]}
VARIABLES = [
    (name, parameter.name, parameter.envvar)
    for name, command in COMMANDS.items()
    for parameter in command.params
    if parameter.envvar is not None
]
EMPTY_MEANS = {"BUILDKITE_CONNECTOR_HTTP_ADDRESS": ""}
"""The variables whose empty value is one: no server."""


def parsed(command: str) -> dict[str, Any]:
    found: dict[str, Any] = COMMANDS[command].make_context(command, list(REQUIRED.get(command, []))).params
    return found


@pytest.mark.parametrize(("command", "parameter", "variable"), VARIABLES, ids=lambda each: each)
def test_a_variable_that_is_empty_counts_as_not_set_unless_it_is_documented_otherwise(
    monkeypatch: pytest.MonkeyPatch, command: str, parameter: str, variable: str
) -> None:
    for _, _, each in VARIABLES:
        monkeypatch.delenv(each, raising=False)
    without = parsed(command)
    monkeypatch.setenv(variable, "")
    changed = {variable: EMPTY_MEANS[variable]} if variable in EMPTY_MEANS else {}
    assert parsed(command) == {**without, **({parameter: changed[variable]} if changed else {})}


def test_the_table_of_variables_has_what_the_operator_takes() -> None:
    assert {"BUILDKITE_CONNECTOR_HTTP_ADDRESS", "WATCH_NAMESPACE", "BUILDKITE_CONNECTOR_DATA_DIR"} <= {
        variable for command, _, variable in VARIABLES if command == "operator"
    }


def test_an_empty_flag_is_an_empty_address_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(options.HTTP_ADDRESS, ":9")
    found = COMMANDS["operator"].make_context("operator", ["--http-address", ""]).params
    assert found["http_address"] == ""
    assert options.HTTP_ADDRESS == server.VARIABLE


@pytest.mark.parametrize("flag", FLAGS, ids=lambda each: each.name)
@pytest.mark.parametrize("value", ["", " "])
def test_in_service_mode_an_empty_variable_counts_as_not_set(flag: Any, value: str) -> None:
    assert read_configuration({}, {flag.variable: value}).given == {}


@pytest.mark.parametrize("value", ["", " "])
def test_c1s_variables_that_are_empty_count_as_not_set(value: str) -> None:
    variables = {"BATON_C1_API_HOST": value, "BUILDKITE_CONNECTOR_C1_HOSTS": value}
    assert C1Settings.from_environment(variables) == C1Settings.from_environment({})
