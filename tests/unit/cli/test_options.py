"""What options default to."""

import socket

import pytest

from buildkite_connector.buildkite import settings
from buildkite_connector.cli import options


def test_the_commands_ask_where_the_adapter_does() -> None:
    assert options.DEFAULT_API_URL == settings.DEFAULT_API_URL


@pytest.mark.parametrize(("name", "expected"), [("pod-1", "pod-1"), ("", "buildkite-connector")])
def test_a_machine_without_a_name_has_a_host_id_nevertheless(
    monkeypatch: pytest.MonkeyPatch, name: str, expected: str
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: name)
    assert options.default_host_id() == expected
