"""The vendor's command line within this process: what is refused, and what needs no connection."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from buildkite_connector.cli.flags import config_schema
from buildkite_connector.cli.settings import read_settings
from buildkite_connector.cli.vendor import one_file_settings, process_network
from buildkite_connector.model.directory import DEFAULT_KINDS, FULL_SCOPE, ResourceKind, SyncScope
from buildkite_connector.model.status import ConnectorStatus
from buildkite_connector.service.health import Health, HealthAddress, serve_health
from harness.command import invoke

TOKEN = ("--api-token", "bkua_x")


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A working directory without a configuration."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "BATON_API_TOKEN"),
        (("service",), "BATON_CLIENT_ID, BATON_CLIENT_SECRET"),
        ((*TOKEN, "--file", "s3://bucket/sync.c1z"), "--file: the snapshot is written to a local file only"),
        ((*TOKEN, "--grant-entitlement", "x"), "--grant-entitlement: this connector does not change"),
        ((*TOKEN, "--skip-full-sync"), "--skip-full-sync: C1 would treat everyone in its empty snapshot"),
        (("service", *TOKEN, "--client-id", "a", "--client-secret", "b", "--skip-full-sync"), "--skip-full-sync: C1"),
        ((*TOKEN, "--sync-timeout", "3s"), "--sync-timeout: must be at least 1m and at most 24h"),
        ((*TOKEN, "--log-path", "/nonexistent/x.log"), "--log-path: /nonexistent/x.log cannot be written"),
        ((*TOKEN, "sync"), "put the flags of sync after it"),
        (("--no-such-flag",), "No such option"),
    ],
)
def test_what_cannot_be_done_ends_with_2_and_one_sentence(arguments: tuple[str, ...], expected: str) -> None:
    ended = invoke(*arguments)
    assert ended.code == 2
    assert expected in ended.err
    assert "Traceback" not in ended.err
    assert ended.err.count("error: ") <= 1


def test_what_is_set_acts_when_one_file_is_written(tmp_path: Path) -> None:
    flags = {"api-token": "t", "file": "x.c1z", "sync-timeout": "5m", "quota-percent": "70", "organization": "acme-inc"}
    found = one_file_settings(read_settings({**flags, "http-timeout-seconds": "40"}, {}, tmp_path))
    assert (found.credentials.api_token, found.organization, found.file) == ("t", "acme-inc", Path("x.c1z"))
    assert (found.timeout, found.quota_percent, found.buildkite.timeouts.total) == (300.0, 70, 40.0)
    assert found.scope == FULL_SCOPE
    fewer = {"skip-entitlements-and-grants": True, "sync-resource-types": "user"}
    users = frozenset({ResourceKind.USER})
    found = one_file_settings(read_settings({**flags, **fewer}, {}, tmp_path))
    assert found.scope == SyncScope(users, entitlements=False, grants=False)
    more = {"sync-resource-types": "user,team,pipeline"}
    found = one_file_settings(read_settings({**flags, **more}, {}, tmp_path))
    assert found.scope == SyncScope(DEFAULT_KINDS | {ResourceKind.PIPELINE}, expanded=True), (
        "as the vendor's SDK writes"
    )


@pytest.mark.parametrize(
    ("client_id", "secret", "expected"),
    [("a@b.conductor.one/c", "s3cret", "The client secret has"), ("brave-otter", "s3cret", "client ID")],
)
def test_a_malformed_client_ends_the_service_before_it_asks_anybody(client_id: str, secret: str, expected: str) -> None:
    ended = invoke("service", *TOKEN, "--client-id", client_id, "--client-secret", secret)
    assert (ended.code, ended.err.count("error: ")) == (3, 1)
    assert expected in ended.err
    assert "s3cret" not in ended.err
    assert "the service is ready" not in ended.err


def test_the_flags_may_stand_before_the_commands_name() -> None:
    assert "--client-secret: the client" in invoke("--client-id", "a@b/c", "service").err
    assert "--client-secret: the client" in invoke("service", "--client-id", "a@b/c").err


def test_capabilities_are_what_c1_is_told() -> None:
    document = json.loads(invoke("capabilities", "--api-token", "unused").out)
    assert document["@type"] == "type.googleapis.com/c1.connector.v2.ConnectorCapabilities"
    assert document["connectorCapabilities"] == ["CAPABILITY_SYNC"]
    types = [each["resourceType"]["id"] for each in document["resourceTypeCapabilities"]]
    assert types == ["user", "team", "organization", "pipeline", "cluster", "api_token"]
    pipeline = document["resourceTypeCapabilities"][3]
    assert pipeline["optInRequired"] is True
    assert pipeline["permissions"] == {"permissions": [{"permission": "read_pipelines"}, {"permission": "read_teams"}]}
    annotations = [each["@type"].rpartition(".")[2] for each in pipeline["resourceType"]["annotations"]]
    assert annotations == ["OptInRequired", "CapabilityPermissions"]


@pytest.mark.parametrize(
    "arguments",
    [("capabilities", "--provisioning"), ("-p", "capabilities"), ()],
    ids=["flag", "before the command", "variable"],
)
def test_capabilities_with_provisioning_have_it_for_teams_alone(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not arguments:
        monkeypatch.setenv("BATON_PROVISIONING", "true")
    document = json.loads(invoke(*(arguments or ("capabilities",))).out)
    assert document["connectorCapabilities"] == ["CAPABILITY_PROVISION", "CAPABILITY_SYNC"]
    found = {each["resourceType"]["id"]: each["capabilities"] for each in document["resourceTypeCapabilities"]}
    plain = {key: ["CAPABILITY_SYNC"] for key in ("user", "organization", "pipeline", "cluster", "api_token")}
    assert found == {**plain, "team": ["CAPABILITY_PROVISION", "CAPABILITY_SYNC"]}


def test_the_schema_is_printed() -> None:
    assert json.loads(invoke("config").out) == config_schema()


def test_what_has_no_effect_is_named_in_one_warning() -> None:
    client = ("--client-id", "malformed", "--client-secret", "s")
    ended = invoke("service", *TOKEN, *client, "--workers=3", "--ticketing", BATON_GET_TASKS="1", BATON_FILE="x")
    (warning,) = [json.loads(line) for line in ended.err.splitlines() if '"WARNING"' in line]
    assert warning["message"] == "settings have no effect"
    assert warning["settings"] == "--file, --ticketing, --workers, BATON_GET_TASKS"


@pytest.mark.parametrize("flag", ["--version", "-v"])
def test_the_version_is_told(flag: str) -> None:
    assert invoke(flag).out.strip() == "0.1.0"


@pytest.mark.parametrize(
    ("shell", "word"), [("bash", "complete -o"), ("zsh", "compdef"), ("fish", "complete --command")]
)
def test_a_shell_gets_its_completion(shell: str, word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_BUILDKITE_CONNECTOR_COMPLETE", "")  # so that it is as before afterwards
    ended = invoke("completion", shell)
    assert ended.code == 0
    assert word in ended.out
    assert "_BUILDKITE_CONNECTOR_COMPLETE" in ended.out


async def test_the_health_check_asks_the_server_that_the_settings_name() -> None:
    health = Health(ConnectorStatus, lambda: None, lambda: datetime.now(UTC))
    async with serve_health(HealthAddress("127.0.0.1", 0), health) as port:
        named = {"BATON_HEALTH_CHECK_PORT": str(port), "BATON_HEALTH_CHECK_BIND_ADDRESS": "0.0.0.0"}  # noqa: S104
        answers = [
            await asyncio.to_thread(invoke, "health-check", "--endpoint", endpoint, **named)
            for endpoint in ("live", "ready", "health")
        ]
    assert [answer.code for answer in answers] == [0, 0, 2]
    assert json.loads(answers[0].out)["status"] == "alive"
    assert "unhealthy" in answers[2].err
    nobody = await asyncio.to_thread(invoke, "health-check", "--timeout", "1", **named)
    assert nobody.code == 2
    assert "did not answer" in nobody.err


def test_a_variable_that_is_not_read_is_warned_of_once_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://svc:hunter22pass@proxy.example:1080")
    network = process_network()
    assert network.proxy_for("https://api.buildkite.com/v2") is None
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.__dict__["detail"].startswith("ALL_PROXY is not supported: set HTTPS_PROXY")
    assert "hunter22pass" not in str(record.__dict__)
