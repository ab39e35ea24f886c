"""The command as people run it: a process, its exit code, and what it prints."""

import io
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer.main
from rich.console import Console

from buildkite_connector.c1 import C1Settings
from buildkite_connector.c1z import read_sync_run, write_snapshot
from buildkite_connector.cli.app import HTTP_ADDRESS, app
from buildkite_connector.cli.sync import FinishedSync, print_result
from buildkite_connector.model.directory import (
    DEFAULT_KINDS,
    FULL_SCOPE,
    CollectionReport,
    Counts,
    ResourceKind,
    SyncScope,
)
from buildkite_connector.model.snapshot import StagedSnapshot, SyncID
from buildkite_connector.telemetry import server
from buildkite_connector.telemetry.logs import FORMATS, LEVELS
from fakes.organization_api import REST_KINDS
from harness.command import invoke, run, run_on_terminal
from harness.organization import ACME_ORG, ACME_REFERENCE, directory_of
from simulators.buildkite.api import ACCESS_SCOPES, Token
from simulators.buildkite.faults import server_error, stall
from simulators.buildkite.made_access import give_access
from simulators.buildkite.made_organization import make_organization
from simulators.buildkite.organization import Organization
from simulators.buildkite.quota import Limits
from simulators.buildkite.server import BuildkiteSimulator, Config

API_TOKEN = "bkua_" + "5ec4e7" * 6 + "abcd"
UNLIMITED = Limits(user=None, organization=None)


@pytest.fixture
async def buildkite() -> AsyncIterator[BuildkiteSimulator]:
    async with BuildkiteSimulator(Config((Organization.load(ACME_ORG),), (Token(API_TOKEN),), UNLIMITED)) as simulator:
        yield simulator


def of(buildkite: BuildkiteSimulator) -> dict[str, str]:
    return {"BUILDKITE_API_URL": buildkite.url, "BATON_API_TOKEN": API_TOKEN}


async def test_sync_writes_a_file_for_its_user_alone_and_says_what_is_in_it(
    buildkite: BuildkiteSimulator, tmp_path: Path
) -> None:
    buildkite.fault(server_error(), times=1)
    file = tmp_path / "sync.c1z"
    ended = await run("sync", **of(buildkite), BATON_FILE=str(file), BATON_ORGANIZATION="acme-inc")
    assert (ended.code, ended.err) == (0, "")
    assert "230 accounts, 9 teams, 450 memberships" in ended.out
    assert ended.out.count("\n") == 1
    assert file.read_bytes()[:5] == b"C1ZF\0"
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o444])
async def test_a_file_that_was_there_is_replaced_and_keeps_its_permissions(
    buildkite: BuildkiteSimulator, tmp_path: Path, mode: int
) -> None:
    file = tmp_path / "sync.c1z"
    file.write_bytes(b"old")
    file.chmod(mode)
    assert (await run("sync", "--file", str(file), **of(buildkite))).code == 0
    assert file.stat().st_mode & 0o777 == mode
    assert file.read_bytes()[:5] == b"C1ZF\0"


async def test_sync_shows_progress_and_a_table_on_a_terminal(buildkite: BuildkiteSimulator, tmp_path: Path) -> None:
    buildkite.latency = 0.1
    ended = await run_on_terminal("sync", "--file", str(tmp_path / "x.c1z"), **of(buildkite))
    assert ended.code == 0
    assert "pages" in ended.out
    assert "Acme-Inc" in ended.out
    assert "Memberships" in ended.out
    assert "│ 450" in ended.out


@pytest.mark.parametrize(
    ("breaks", "arguments", "says"),
    [
        (lambda buildkite: buildkite.revoke(), (), "API token"),
        (lambda buildkite: buildkite.fault(stall(after=None), times=None), ("--timeout", "1s"), "--timeout 1s"),
    ],
    ids=["a revoked token", "no response in time"],
)
async def test_a_failed_sync_says_one_sentence_and_leaves_the_old_file(
    buildkite: BuildkiteSimulator,
    tmp_path: Path,
    breaks: Callable[[BuildkiteSimulator], None],
    arguments: tuple[str, ...],
    says: str,
) -> None:
    file = tmp_path / "sync.c1z"
    file.write_bytes(b"old")
    breaks(buildkite)
    ended = await run("sync", "--file", str(file), *arguments, **of(buildkite))
    assert (ended.code, ended.out, ended.err.count("\n")) == (1, "", 1)
    assert ended.err.startswith("error: ")
    assert says in ended.err
    assert API_TOKEN not in ended.err
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("types", "scope", "says"),
    [
        (
            ",".join(sorted(REST_KINDS)),
            SyncScope(REST_KINDS, expanded=True),
            " 20 pipelines, 60 pipeline access grants, 4 clusters,",
        ),
        ("team,pipeline", SyncScope(frozenset({ResourceKind.TEAM, ResourceKind.PIPELINE})), " 20 pipelines, 60 "),
        ("user,team", FULL_SCOPE, "450 memberships; "),
    ],
)
async def test_a_file_of_chosen_types_is_expanded_as_the_vendors_sdk_writes_it(
    buildkite: BuildkiteSimulator, tmp_path: Path, types: str, scope: SyncScope, says: str
) -> None:
    give_access(buildkite.organization, pipelines=20, clusters=4)
    buildkite.grant(Token(API_TOKEN, scopes=ACCESS_SCOPES))
    file = tmp_path / "x.c1z"
    ended = await run("sync", "--file", str(file), "--sync-resource-types", types, **of(buildkite))
    assert (ended.code, ended.err) == (0, "")
    assert says in ended.out
    assert read_sync_run(file).scope == scope


@pytest.mark.parametrize("types", ["user,team,pipeline", "user team pipeline", " user , team, pipeline "])
async def test_the_types_come_from_the_variable_of_service_mode_unless_an_option_has_them(
    buildkite: BuildkiteSimulator, tmp_path: Path, types: str
) -> None:
    give_access(buildkite.organization, pipelines=20, clusters=4)
    buildkite.grant(Token(API_TOKEN, scopes=ACCESS_SCOPES))
    file, given = tmp_path / "x.c1z", {**of(buildkite), "BATON_SYNC_RESOURCE_TYPES": types}
    ended = await run("sync", "--file", str(file), **given)
    assert (ended.code, ended.err) == (0, "")
    assert read_sync_run(file).scope.kinds == DEFAULT_KINDS | {ResourceKind.PIPELINE}
    assert "Pipelines" in (await run("check", **given)).out
    ended = await run("sync", "--file", str(file), "--resource-type", "user", **given)
    assert (ended.code, ended.err) == (0, "")
    assert read_sync_run(file).scope.kinds == {ResourceKind.USER}


async def test_types_whose_grants_cannot_exist_are_warned_of_and_no_others(
    buildkite: BuildkiteSimulator, tmp_path: Path
) -> None:
    buildkite.revoke()
    for types, warning in ((("--sync-resource-types", "user,pipeline"), True), (("--resource-type", "user"), False)):
        ended = await run("sync", "--file", str(tmp_path / "x.c1z"), *types, **of(buildkite))
        assert ("Check the resource types: pipeline has no grants without team." in ended.err) is warning


@pytest.mark.parametrize(
    ("counts", "line", "rows"),
    [
        (Counts(1_230, 9, 450), "1230 accounts, 9 teams, 450 memberships; 7", ["Accounts", "Teams", "Memberships"]),
        (
            Counts(1_230, 9, 450, pipelines=12, pipeline_access=30),
            "1230 accounts, 9 teams, 450 memberships, 12 pipelines, 30 pipeline access grants; 7 requests",
            ["Accounts", "Teams", "Memberships", "Pipelines", "Pipeline access grants"],
        ),
    ],
)
def test_what_was_written_is_counted_by_type(counts: Counts, line: str, rows: list[str]) -> None:
    snapshot = StagedSnapshot(SyncID("s"), Path("x.c1z"), "ab", 1, counts, FULL_SCOPE)
    report = CollectionReport(requests=7, pipelines_added=2)
    printed = {}
    for terminal in (False, True):
        console = Console(file=io.StringIO(), force_terminal=terminal, width=100, color_system=None)
        print_result(FinishedSync("Acme", report, snapshot, 1.0), console)
        printed[terminal] = console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
    assert line in printed[False]
    assert printed[False].count("\n") == 1
    shown = [each.strip("│ ").split("  ")[0] for each in printed[True].splitlines() if each.startswith("│")]
    assert shown[: len(rows) + 1] == [*rows, "Requests"]
    assert "1,230" in printed[True]
    assert any(each.startswith("Pipelines known only from a team, added") for each in shown)


TOKEN = "bkua_0123456789ab"


@pytest.mark.parametrize(
    ("arguments", "environment", "named"),
    [
        (("sync",), {}, "--api-token"),
        (("sync",), {"BATON_API_TOKEN": TOKEN, "BATON_ORGANIZATION": TOKEN}, "--organization"),
        (("sync", "--timeout", "3x"), {"BATON_API_TOKEN": TOKEN}, "--timeout"),
        (("sync",), {"BATON_API_TOKEN": TOKEN, "BUILDKITE_API_URL": "http://example.com/v2"}, "BUILDKITE_API_URL"),
        (("operator",), {"BUILDKITE_API_URL": "ftp://example.com"}, "BUILDKITE_API_URL"),
        (("sync", "--quota-percent", "5"), {}, "--quota-percent"),
        (("sync", "--resource-type", "role"), {}, "--resource-type"),
        (("check", "--resource-type", ","), {}, "write any of user, team"),
        (("sync",), {"BATON_SYNC_RESOURCE_TYPES": "user,role"}, "BATON_SYNC_RESOURCE_TYPES"),
        (("sync", "--sync-resource-types", "user,role"), {}, "write any of user, team, organization, pipeline"),
        (("check", "--resource-type", "user,,team"), {}, "write any of user, team"),
        (("inspect", "x", "--output", "xml"), {}, "--output"),
        (("access", "x"), {}, "exactly one"),
        (("access", "x", "--user", " "), {}, "exactly one"),
        (("access", "x", "--user", "a", "--team", "b"), {}, "--user, --team, --pipeline, --cluster"),
        (("sync",), {"BATON_LOG_LEVEL": "loud"}, "write one of debug, info, warning, error, warn"),
        (("operator",), {"BATON_LOG_LEVEL": "loud"}, "BATON_LOG_LEVEL"),
    ],
)
def test_bad_input_is_refused_by_its_name(arguments: tuple[str, ...], environment: dict[str, str], named: str) -> None:
    ended = invoke(*arguments, **environment)
    assert ended.code == 2
    assert named in ended.err


def test_inspect_shows_tables(tmp_path: Path) -> None:
    ended = invoke("inspect", str(ACME_REFERENCE), "--limit", "2")
    assert ended.code == 0
    assert "Accounts (2 of 230)" in ended.out
    assert "Teams (2 of 9)" in ended.out
    assert "Memberships (2 of 450)" in ended.out


def test_inspect_gives_all_of_it_as_json() -> None:
    ended = invoke("inspect", str(ACME_REFERENCE), "--output", "json")
    document = json.loads(ended.out)
    assert document["counts"] == {"accounts": 230, "teams": 9, "memberships": 450}
    assert len(document["accounts"]) == 230
    assert len(document["memberships"]) == 450
    assert {each["role"] for each in document["memberships"]} == {"member", "maintainer"}


def test_inspect_shows_what_buildkite_told_of_roles_and_rights(tmp_path: Path) -> None:
    told = make_organization(1, 2, 1)
    now = datetime(2026, 8, 1, tzinfo=UTC)
    directory = directory_of(told.document())
    write_snapshot(directory, tmp_path / "x.c1z", sync_id=SyncID("s" * 27), started_at=now, finished_at=now)
    ended = invoke("inspect", str(tmp_path / "x.c1z"), "--output", "json")
    document = json.loads(ended.out)
    assert (document["accounts"][0]["role"], document["accounts"][0]["ssoMode"]) == ("admin", "optional")
    silent, talkative = document["teams"]
    settings = {
        "defaultMemberRole": "member",
        "membersCanCreatePipelines": True,
        "membersCanCreateSuites": False,
        "membersCanCreateRegistries": False,
        "membersCanDestroyRegistries": False,
        "membersCanDestroyPackages": True,
    }
    assert {name: talkative[name] for name in settings} == settings
    assert {silent[name] for name in settings} == {None}


@pytest.mark.parametrize(("content", "says"), [(b"PK\3\4", "not a supported .c1z"), (None, "x.c1z")])
def test_inspect_of_something_else_or_of_no_file_says_so(tmp_path: Path, content: bytes | None, says: str) -> None:
    file = tmp_path / "x.c1z"
    if content is not None:
        file.write_bytes(content)
    ended = invoke("inspect", str(file))
    assert (ended.code, ended.err.count("\n")) == (1, 1)
    assert says in ended.err


def test_crd_prints_the_definition_that_is_checked_in() -> None:
    ended = invoke("crd")
    checked_in = Path(__file__).parents[3] / "crds" / "buildkiteconnectors.yaml"
    assert ended.out == checked_in.read_text()


def test_the_operator_without_a_cluster_says_what_to_set() -> None:
    ended = invoke("operator", HOME="/nonexistent", KUBECONFIG="")
    assert ended.code == 1
    assert "KUBECONFIG" in ended.err
    assert "Traceback" not in ended.err


COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]  # it is a group
REQUIRED = {"inspect": ["x.c1z"], "access": ["x.c1z"], "diff": ["x.c1z", "y.c1z"], "completion": ["bash"]}
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


@pytest.mark.parametrize(
    ("variable", "parameter"), [("BATON_LOG_LEVEL", "log_level"), ("BATON_LOG_FORMAT", "log_format")]
)
@pytest.mark.parametrize("command", ["operator", "sync"])
def test_commands_take_the_vendors_words_for_the_log_in_any_case(
    monkeypatch: pytest.MonkeyPatch, command: str, variable: str, parameter: str
) -> None:
    words: dict[str, object] = {**LEVELS} if parameter == "log_level" else {**FORMATS}
    for word, meant in words.items():
        for written in (word, word.upper(), f" {word.title()} "):
            monkeypatch.setenv(variable, written)
            assert parsed(command)[parameter] is meant
    assert {"warn", "console"} & words.keys()


def test_a_variable_that_is_empty_counts_as_not_set_unless_it_is_documented_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for _, _, each in VARIABLES:
        monkeypatch.delenv(each, raising=False)
    without = {command: parsed(command) for command in COMMANDS}
    for command, parameter, variable in VARIABLES:
        monkeypatch.setenv(variable, "")
        changed = {parameter: EMPTY_MEANS[variable]} if variable in EMPTY_MEANS else {}
        assert parsed(command) == {**without[command], **changed}, variable
        monkeypatch.delenv(variable)


def test_the_table_of_variables_has_what_the_operator_takes() -> None:
    assert {"BUILDKITE_CONNECTOR_HTTP_ADDRESS", "WATCH_NAMESPACE", "BUILDKITE_CONNECTOR_DATA_DIR"} <= {
        variable for command, _, variable in VARIABLES if command == "operator"
    }


def test_an_empty_flag_is_an_empty_address_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HTTP_ADDRESS, ":9")
    found = COMMANDS["operator"].make_context("operator", ["--http-address", ""]).params
    assert found["http_address"] == ""
    assert HTTP_ADDRESS == server.VARIABLE


@pytest.mark.parametrize("value", ["", " "])
def test_c1s_variables_that_are_empty_count_as_not_set(value: str) -> None:
    variables = {"BATON_C1_API_HOST": value, "BUILDKITE_CONNECTOR_C1_HOSTS": value}
    assert C1Settings.from_environment(variables) == C1Settings.from_environment({})
