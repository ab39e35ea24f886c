"""Settings from flags, variables and a YAML file: which counts, what is refused, what is said of the rest."""

from pathlib import Path

import pytest

from buildkite_connector.cli.configuration import (
    Configuration,
    SettingError,
    asked_actions,
    idle_settings,
    read_configuration,
)
from buildkite_connector.cli.flags import Kind
from buildkite_connector.cli.service_flags import FLAGS

SECRET = "secret-token:conductorone.com:v1:abcdefgh"


def read(
    directory: Path, flags: dict[str, object] | None = None, /, file: str = "", **environment: str
) -> Configuration:
    if file:
        (directory / ".baton.yaml").write_text(file)
    return read_configuration(flags or {}, environment, directory)


def test_a_flag_goes_before_the_variable_and_the_variable_before_the_file(tmp_path: Path) -> None:
    file = "organization: of-file\nfile: of-file\nlog-level: error\n"
    found = read(
        tmp_path, {"organization": "of-flag"}, file, BATON_ORGANIZATION="of-variable", BATON_FILE="of-variable"
    )
    assert (found.text("organization"), found.text("file"), found.text("log-level")) == (
        "of-flag",
        "of-variable",
        "error",
    )


def test_what_nobody_set_has_its_default(tmp_path: Path) -> None:
    found = read(tmp_path)
    assert (found.text("file"), found.number("task-concurrency"), found.switch("health-check")) == (
        "sync.c1z",
        3,
        False,
    )
    assert found.items("log-path") == ()
    assert not found.is_set("file")


def test_a_blank_variable_counts_as_not_set(tmp_path: Path) -> None:
    assert not read(tmp_path, BATON_CLIENT_ID=" ").is_set("client-id")


@pytest.mark.parametrize("given", ["user,team", "user team", " user , team "])
def test_a_list_is_separated_by_commas_or_space(tmp_path: Path, given: str) -> None:
    assert read(tmp_path, BATON_SYNC_RESOURCE_TYPES=given).items("sync-resource-types") == ("user", "team")


def test_a_list_in_the_file_and_a_repeated_flag_are_lists(tmp_path: Path) -> None:
    assert read(tmp_path, file="sync-resource-types: [user, team]").items("sync-resource-types") == ("user", "team")
    assert read(tmp_path, {"log-path": ["a", "b,c"]}).items("log-path") == ("a", "b", "c")


@pytest.mark.parametrize(
    ("text", "value"), [("1", True), ("t", True), ("TRUE", True), ("0", False), ("False", False), ("f", False)]
)
def test_a_switch_takes_what_gos_does(tmp_path: Path, text: str, value: bool) -> None:
    assert read(tmp_path, BATON_HEALTH_CHECK=text).switch("health-check") is value


def test_a_flag_that_is_off_goes_before_a_variable_that_is_on(tmp_path: Path) -> None:
    assert not read(tmp_path, {"health-check": False}, BATON_HEALTH_CHECK="true").switch("health-check")


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
    assert found.notes == ("BATON_CONFIG_PATH names a file that is not there",)
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
TEXTS = [flag.name for flag in FLAGS if flag.kind is Kind.TEXT and not flag.choices]
LISTS = [flag.name for flag in FLAGS if flag.kind is Kind.LIST and not flag.choices]


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_in_the_file_is_what_is_written_there(tmp_path: Path, name: str) -> None:
    for text in AS_WRITTEN:
        assert read(tmp_path, file=f"{name}: {text}").text(name) == text
        assert read(tmp_path, file=f"{name}: '{text}'").text(name) == text


@pytest.mark.parametrize("name", LISTS)
def test_so_are_the_items_of_a_list(tmp_path: Path, name: str) -> None:
    assert read(tmp_path, file=f"{name}: [{', '.join(AS_WRITTEN)}]").items(name) == tuple(AS_WRITTEN)


@pytest.mark.parametrize("nothing", ["", "~", "null"])
def test_what_the_file_leaves_empty_is_not_set(tmp_path: Path, nothing: str) -> None:
    assert not read(tmp_path, file=f"organization: {nothing}").is_set("organization")


@pytest.mark.parametrize(
    ("text", "value"), [("yes", True), ("On", True), ("true", True), ("no", False), ("off", False), ("FALSE", False)]
)
def test_a_switch_in_the_file_takes_yamls_words_too(tmp_path: Path, text: str, value: bool) -> None:
    assert read(tmp_path, file=f"health-check: {text}").switch("health-check") is value


def test_a_number_in_the_file_is_a_number(tmp_path: Path) -> None:
    assert read(tmp_path, file="task-concurrency: 7").number("task-concurrency") == 7
    with pytest.raises(SettingError, match="expected a whole number"):
        read(tmp_path, file="task-concurrency: yes")


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
        "organisation in the configuration file is no setting of this connector",
    )


def warned(configuration: Configuration, *, serving: bool, **environment: str) -> list[str]:
    return [setting for setting, _ in idle_settings(configuration, environment, serving=serving)]


def test_each_setting_that_cannot_act_is_warned_of_once_in_either_mode(tmp_path: Path) -> None:
    found = read(tmp_path, {"workers": "4"}, BATON_STORAGE_ENGINE="pebble", BATON_TICKETING="true")
    for serving in (True, False):
        assert warned(found, serving=serving, BATON_GET_TASKS="1") == [
            "--ticketing",
            "--workers",
            "--storage-engine",
            "BATON_GET_TASKS",
        ]


def test_a_setting_at_its_default_or_one_that_suits_is_not_warned_of(tmp_path: Path) -> None:
    found = read(tmp_path, {"workers": "0"}, BATON_STORAGE_ENGINE="sqlite", BATON_PROVISIONING="false")
    assert warned(found, serving=True, BATON_GET_TASKS=" ") == []


def test_what_is_for_one_file_is_warned_of_in_service_mode_alone(tmp_path: Path) -> None:
    found = read(tmp_path, BATON_FILE="s3://bucket/x.c1z", BATON_SKIP_ENTITLEMENTS_AND_GRANTS="true")
    assert warned(found, serving=True) == ["--file", "--skip-entitlements-and-grants"]
    assert warned(found, serving=False) == []


def test_an_action_is_ignored_with_a_warning_in_service_mode(tmp_path: Path) -> None:
    found = read(tmp_path, {"grant-entitlement": "team:x:member", "get-ticket": False})
    assert warned(found, serving=True) == ["--grant-entitlement"]
    assert asked_actions(found) == ["--grant-entitlement"]


def test_no_value_is_in_the_configurations_repr(tmp_path: Path) -> None:
    assert "abcdefgh" not in repr(read(tmp_path, BATON_CLIENT_SECRET=SECRET))
