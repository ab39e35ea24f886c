"""Settings from flags, variables and a YAML file: which counts, what is refused, what is said of the rest."""

import socket
from collections.abc import Mapping
from pathlib import Path

import pytest

from buildkite_connector.cli.flags import BY_NAME, FLAGS, Value
from buildkite_connector.cli.settings import SettingError, Settings, default_host_id, read_settings

SECRET = "secret-token:conductorone.com:v1:abcdefgh"


def read(directory: Path, flags: Mapping[str, object] | None = None, /, file: str = "", **environment: str) -> Settings:
    if file:
        (directory / ".baton.yaml").write_text(file)
    return read_settings(flags or {}, environment, directory)


ON = {"1", "t", "true", "TRUE"}
OFF = {"0", "f", "false", "False"}


@pytest.mark.parametrize(
    ("flags", "environment", "file", "expected"),
    [
        ({}, {}, "", {"file": "sync.c1z", "task-concurrency": 3, "health-check": False, "log-path": ()}),
        ({"file": "flag"}, {"BATON_FILE": "variable"}, "file: file", {"file": "flag"}),
        ({}, {"BATON_FILE": "variable"}, "file: file", {"file": "variable"}),
        ({}, {"BATON_FILE": " "}, "file: file", {"file": "file"}),
        ({"health-check": False}, {"BATON_HEALTH_CHECK": "true"}, "", {"health-check": False}),
        *(({}, {"BATON_HEALTH_CHECK": text}, "", {"health-check": True}) for text in sorted(ON)),
        *(({}, {"BATON_HEALTH_CHECK": text}, "health-check: on", {"health-check": False}) for text in sorted(OFF)),
        *(({}, {}, f"health-check: {text}", {"health-check": True}) for text in sorted(ON | {"yes", "On"})),
        *(({}, {}, f"health-check: {text}", {"health-check": False}) for text in sorted(OFF | {"no", "off"})),
        ({"task-concurrency": "100"}, {}, "", {"task-concurrency": 100}),
        ({}, {"BATON_TASK_CONCURRENCY": "1"}, "", {"task-concurrency": 1}),
        ({}, {}, "task-concurrency: 7", {"task-concurrency": 7}),
        ({}, {"BATON_LOG_LEVEL": " WARN "}, "", {"log-level": "warn"}),
        ({"log-path": ["a", "b,c"]}, {}, "", {"log-path": ("a", "b", "c")}),
        *(
            ({}, {"BATON_SYNC_RESOURCE_TYPES": text}, "", {"sync-resource-types": ("user", "team")})
            for text in ("user,team", "user team", " user , team ")
        ),
        ({}, {}, "sync-resource-types: [user, team]", {"sync-resource-types": ("user", "team")}),
    ],
)
def test_each_source_is_read_and_the_first_that_has_a_value_counts(
    tmp_path: Path, flags: dict[str, object], environment: dict[str, str], file: str, expected: dict[str, Value]
) -> None:
    found = read(tmp_path, flags, file, **environment)
    readers = {str: found.text, int: found.number, bool: found.switch, tuple: found.items}
    assert {name: readers[BY_NAME[name].kind](name) for name in expected} == expected
    assert found.given.keys() <= expected.keys()


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("BATON_TASK_CONCURRENCY", "0", "BATON_TASK_CONCURRENCY: expected a whole number from 1 to 100"),
        ("BATON_TASK_CONCURRENCY", "101", "BATON_TASK_CONCURRENCY: expected a whole number from 1 to 100"),
        ("BATON_HTTP_TIMEOUT_SECONDS", "1801", "expected a whole number from 1 to 1800"),
        ("BATON_HTTP_TIMEOUT_SECONDS", "5m", "expected a whole number"),
        ("BATON_WORKERS", "-2", "expected a whole number of at least -1"),
        ("BATON_HEALTH_CHECK", "maybe", "BATON_HEALTH_CHECK: expected true or false"),
        ("BATON_LOG_LEVEL", "loud", "expected one of debug, info"),
        ("BATON_STORAGE_ENGINE", "badger", "expected one of sqlite, pebble"),
        ("BATON_SYNC_RESOURCE_TYPES", "user,role", "expected any of user, team"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_by_its_sources_name(
    tmp_path: Path, variable: str, value: str, expected: str
) -> None:
    with pytest.raises(SettingError, match=expected):
        read(tmp_path, **{variable: value})


def test_the_named_file_is_read_and_must_be_yaml_by_its_name(tmp_path: Path) -> None:
    named = tmp_path / "connector.yml"
    named.write_text("Organization: acme-inc\ntask-concurrency: 7\nhealth-check: true\n")
    found = read(tmp_path, file="organization: other", BATON_CONFIG_PATH=str(named))
    assert (found.text("organization"), found.number("task-concurrency")) == ("acme-inc", 7)
    assert found.switch("health-check")
    with pytest.raises(SettingError, match=r"BATON_CONFIG_PATH: the file's name must end in \.yaml or \.yml"):
        read(tmp_path, BATON_CONFIG_PATH=str(tmp_path / "connector.json"))


def test_a_named_file_that_is_not_there_is_only_mentioned(tmp_path: Path) -> None:
    found = read(tmp_path, BATON_CONFIG_PATH=str(tmp_path / "none.yaml"))
    assert found.notes == ("BATON_CONFIG_PATH names a file that does not exist",)
    assert read(tmp_path).notes == ()


AS_WRITTEN = [
    "no",
    "on",
    "yes",
    "Off",
    "true",
    "y",
    "123",
    "007",
    "1e3",
    "0x1f",
    "1_000",
    "1:30",
    "2026-11-30",
    "1.50",
    ".5",
]
"""What YAML 1.1 takes for something else than text, and a slug or another text may be."""
TEXTS = [flag.name for flag in FLAGS if flag.kind is str and not flag.choices]
LISTS = [flag.name for flag in FLAGS if flag.kind is tuple and not flag.choices]


@pytest.mark.parametrize("quote", ["", "'"])
@pytest.mark.parametrize("text", AS_WRITTEN)
def test_a_text_in_the_file_is_what_is_written_there(tmp_path: Path, text: str, quote: str) -> None:
    found = read(tmp_path, file="".join(f"{name}: {quote}{text}{quote}\n" for name in TEXTS))
    assert {name: found.text(name) for name in TEXTS} == dict.fromkeys(TEXTS, text)


def test_so_are_the_items_of_a_list(tmp_path: Path) -> None:
    found = read(tmp_path, file="".join(f"{name}: [{', '.join(AS_WRITTEN)}]\n" for name in LISTS))
    assert {name: found.items(name) for name in LISTS} == dict.fromkeys(LISTS, tuple(AS_WRITTEN))


def test_no_source_repeats_a_value_that_cannot_be_used(tmp_path: Path) -> None:
    bounded = [flag for flag in FLAGS if flag.choices or flag.kind in {int, bool}]
    for flag in bounded:
        for flags, environment, file in (
            ({flag.name: SECRET}, {}, "x: y"),
            ({}, {flag.variable: SECRET}, "x: y"),
            ({}, {}, f"{flag.name}: {SECRET}"),
        ):
            with pytest.raises(SettingError, match="expected") as raised:
                read(tmp_path, flags, file, **environment)
            assert "abcdefgh" not in str(raised.value)
    others = read(tmp_path, {flag.name: SECRET for flag in FLAGS if flag not in bounded}, "x: y")
    assert "abcdefgh" not in repr(others)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (f"x: 1\nclient-secret: [{SECRET}", "line 2 is not YAML"),
        (f"client-secret: *{SECRET}", "is not YAML"),
        (f"- {SECRET}", "expected lines such as"),
        (f"client-id: [{SECRET}]", "expected one value"),
        (f"task-concurrency: {SECRET}", "expected a whole number"),
        (f"sync-resource-types: {{a: {SECRET}}}", "expected a list"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_without_a_word_of_it(
    tmp_path: Path, content: str, expected: str
) -> None:
    with pytest.raises(SettingError, match=expected) as raised:
        read(tmp_path, file=content)
    assert "abcdefgh" not in str(raised.value)


def test_what_the_file_says_beside_the_settings_is_mentioned(tmp_path: Path) -> None:
    assert read(tmp_path, file="organisation: acme").notes == (
        "organisation in the configuration file is not a setting of this connector",
    )


SERVING, ONE_FILE = True, False


@pytest.mark.parametrize(
    ("flags", "environment", "serving", "named"),
    [
        (
            {"workers": "4"},
            {"BATON_STORAGE_ENGINE": "pebble", "BATON_TICKETING": "true", "BATON_GET_TASKS": "1"},
            None,
            ["--ticketing", "--workers", "--storage-engine", "BATON_GET_TASKS"],
        ),
        (
            {"workers": "0", "get-ticket": False},
            {"BATON_STORAGE_ENGINE": "sqlite", "BATON_PROVISIONING": "false", "BATON_GET_TASKS": " "},
            None,
            [],
        ),
        ({"file": "sync.c1z", "health-check": True}, {"BATON_HEALTH_CHECK_PORT": "9"}, None, []),
        (
            {},
            {"BATON_FILE": "x.c1z", "BATON_SKIP_ENTITLEMENTS_AND_GRANTS": "true"},
            SERVING,
            ["--file", "--skip-entitlements-and-grants"],
        ),
        ({}, {"BATON_FILE": "x.c1z", "BATON_SKIP_ENTITLEMENTS_AND_GRANTS": "true"}, ONE_FILE, []),
        ({"provisioning": True, "otel-collector-endpoint": "c:1"}, {}, SERVING, []),
        (
            {"provisioning": True, "otel-collector-endpoint": "c:1"},
            {},
            ONE_FILE,
            ["--provisioning", "--otel-collector-endpoint"],
        ),
        ({"grant-entitlement": "x", "grant-principal": "y"}, {}, SERVING, ["--grant-entitlement", "--grant-principal"]),
    ],
)
def test_what_is_set_and_does_nothing_is_named(
    tmp_path: Path,
    flags: dict[str, object],
    environment: dict[str, str],
    serving: bool | None,
    named: list[str],
) -> None:
    """None: in both modes."""
    found = read(tmp_path, flags, **environment)
    for each in (SERVING, ONE_FILE) if serving is None else (serving,):
        assert list(found.without_effect(environment, serving=each)) == named


@pytest.mark.parametrize(
    ("flags", "serving", "rejected"),
    [
        ({"skip-full-sync": True}, SERVING, "--skip-full-sync: C1 would treat everyone in its empty snapshot"),
        ({"skip-full-sync": True}, ONE_FILE, "--skip-full-sync: C1 would treat everyone in its empty snapshot"),
        ({"skip-full-sync": False}, SERVING, ""),
        ({"grant-entitlement": "x"}, ONE_FILE, "--grant-entitlement: this connector does not change"),
        ({"get-ticket": False, "event-feed": ""}, ONE_FILE, ""),
        ({"grant-entitlement": "x"}, SERVING, ""),
    ],
)
def test_what_would_do_harm_or_something_else_is_rejected(
    tmp_path: Path, flags: dict[str, object], serving: bool, rejected: str
) -> None:
    found = read(tmp_path, flags)
    if not rejected:
        found.reject(serving=serving)
        return
    with pytest.raises(SettingError, match=rejected):
        found.reject(serving=serving)


def test_what_is_empty_counts_as_not_set(tmp_path: Path) -> None:
    for value in ("", " "):
        assert read(tmp_path, **{flag.variable: value for flag in FLAGS}).given == {}
    for value in ("", "~", "null"):
        assert read(tmp_path, file="".join(f"{flag.name}: {value}\n" for flag in FLAGS)).given == {}


@pytest.mark.parametrize(("name", "expected"), [("pod-1", "pod-1"), ("", "buildkite-connector")])
def test_a_machine_without_a_name_has_a_host_id_nevertheless(
    monkeypatch: pytest.MonkeyPatch, name: str, expected: str
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: name)
    assert default_host_id() == expected
