"""The vendor's flags and variables, copied from its SDK v0.25, against what this command takes, shows and documents."""

import re
from pathlib import Path

import pytest
import typer.main

from buildkite_connector.buildkite import settings
from buildkite_connector.cli.app import app
from buildkite_connector.cli.flags import (
    BY_NAME,
    DEFAULT_API_URL,
    FLAGS,
    IDLE_VARIABLES,
    OWN,
    Effect,
    config_schema,
    from_go,
    given_flags,
)
from harness.command import invoke
from harness.yaml_text import parsed

VISIBLE = {
    "client-id": None,
    "client-secret": None,
    "file": "sync.c1z",
    "log-level": "info",
    "log-format": None,
    "log-path": None,
    "log-level-debug-expires-at": None,
    "provisioning": False,
    "ticketing": False,
    "skip-full-sync": False,
    "workers": 0,
    "parallel-sync": False,
    "sync-resources": None,
    "sync-resource-types": None,
    "skip-entitlements-and-grants": False,
    "external-resource-c1z": None,
    "external-resource-entitlement-id-filter": None,
    "external-resource-traits": None,
    "keep-previous-sync-c1z": False,
    "storage-engine": None,
    "task-concurrency": 3,
    "http-timeout-seconds": 300,
    "otel-collector-endpoint": None,
    "health-check": False,
    "health-check-port": 8081,
    "auth-method": None,
}
"""With the vendor's defaults; None: it has none."""
VARIABLES = ("BATON_HOST_ID", "BATON_C1_API_HOST", "BATON_CONFIG_PATH")
"""Settings that have a variable and no flag, and act here."""
OF_BUILDKITE = {"api-token", "organization"}
_HIDDEN = """
    c1z-temp-dir health-check-bind-address otel-collector-endpoint-tls-cert
    otel-collector-endpoint-tls-cert-path otel-collector-endpoint-tls-insecure otel-tracing-disabled
    otel-logging-disabled session-store-maximum-size skip-grants grant-entitlement grant-principal
    grant-principal-type revoke-grant create-account-login create-account-email create-account-profile
    create-account-resource-type delete-resource delete-resource-type rotate-credentials rotate-credentials-type
    event-feed event-feed-id event-feed-start-at event-feed-cursor invoke-action invoke-action-args
    invoke-action-resource-type list-action-schemas list-action-schemas-resource-type list-resource-actions
    invoke-resource-action invoke-resource-action-resource-type invoke-resource-action-args diff-syncs
    base-sync-id applied-sync-id compact-syncs compact-file-paths compact-sync-ids compact-output-path
    create-ticket bulk-create-ticket bulk-ticket-template-path get-ticket list-ticket-schemas ticket-id
    ticket-template-path
"""
HIDDEN = frozenset(_HIDDEN.split())
_ENVIRONMENT_ONLY = """
    BATON_HOST_ID BATON_C1_API_HOST BATON_GET_TASKS BATON_CONFIG_PATH BATON_DECODER_MAX_DECODED_SIZE_MB
    BATON_DECODER_MAX_MEMORY_MB BATON_KEEP_SYNC_COUNT BATON_SKIP_CLEANUP BATON_HTTP_CACHE_BACKEND
    BATON_HTTP_CACHE_TTL BATON_HTTP_CACHE_MAX_SIZE BATON_DISABLE_HTTP_CACHE BATON_DEBUG_PRINT_RESPONSE_BODY
    BATON_C1Z_FINALIZE_TIMEOUT
"""
ENVIRONMENT_ONLY = frozenset(_ENVIRONMENT_ONLY.split())
ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "migration.md").read_text()


EFFECTS = {"works", "warning", "refused"}


def said_of(name: str) -> list[str]:
    """What the page's tables say in the column beside this name."""
    rows = [line.split("|") for line in PAGE.splitlines() if line.startswith("|")]
    return [row[2].strip() for row in rows if f"`{name}`" in row[1]]


def shown(*arguments: str) -> set[str]:
    """The flags that a help text names."""
    return set(re.findall(r"(?m)^[^\w-]*--([a-z0-9-]+)", invoke(*arguments, "--help").out))


def test_every_flag_of_the_vendors_is_there_with_its_default() -> None:
    assert {name: BY_NAME[name].default for name in VISIBLE} == VISIBLE
    assert {flag.name for flag in FLAGS if flag.hidden} == HIDDEN


def test_no_other_flag_is_there_but_buildkites_and_this_connectors_own() -> None:
    own = {flag.name for flag in OWN}
    assert {flag.name for flag in FLAGS} == VISIBLE.keys() | OF_BUILDKITE | HIDDEN | own
    assert {flag.variable for flag in OWN if flag.variable.startswith("BATON_")} == {"BATON_WRITE_API_TOKEN"}


@pytest.mark.parametrize("command", [(), ("service",)], ids=["no sub-command", "service"])
def test_the_help_shows_the_visible_flags_and_hides_the_hidden(command: tuple[str, ...]) -> None:
    flags = shown(*command)
    assert VISIBLE.keys() | OF_BUILDKITE <= flags
    assert flags.isdisjoint(HIDDEN)
    assert not {flag for flag in flags if flag.startswith("no-")}


def test_the_variables_follow_the_vendors_rule() -> None:
    assert {flag.variable for flag in FLAGS if flag not in OWN} == {
        "BATON_" + name.upper().replace("-", "_") for name in VISIBLE.keys() | OF_BUILDKITE | HIDDEN
    }


def test_every_variable_that_is_no_flag_is_known() -> None:
    assert {*VARIABLES, *IDLE_VARIABLES} == ENVIRONMENT_ONLY


def test_the_flags_have_the_vendors_limits_and_short_forms() -> None:
    limits = {flag.name: (flag.least, flag.most) for flag in FLAGS if flag.most is not None and flag not in OWN}
    assert limits == {
        "task-concurrency": (1, 100),
        "http-timeout-seconds": (1, 1800),
        "health-check-port": (0, 65535),
    }
    assert {flag.name: flag.short for flag in FLAGS if flag.short} == {"file": "-f", "provisioning": "-p"}


def test_the_vendors_sub_commands_are_there() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]  # a group has them
    assert {"service", "capabilities", "config", "health-check", "completion"} <= commands.keys()


SAID = {Effect.NONE: "warning", Effect.ACTION: "refused", Effect.REJECTED: "refused"}


def test_the_page_says_of_every_flag_and_variable_what_it_does_here() -> None:
    expected = {flag.name: [SAID.get(flag.effect, "works")] for flag in FLAGS}
    expected |= {name: ["works"] for name in VARIABLES} | {name: ["warning"] for name in IDLE_VARIABLES}
    assert {name: said_of(name) for name in expected} == expected


def test_the_page_names_no_flag_that_is_not_there() -> None:
    rows = [line.split("|") for line in PAGE.splitlines() if line.startswith("|")]
    named = {name for row in rows if row[2].strip() in EFFECTS for name in re.findall(r"`([^`]+)`", row[1])}
    assert named == {flag.name for flag in FLAGS} | ENVIRONMENT_ONLY


def test_the_manifests_of_the_page_set_what_the_service_needs_and_nothing_else() -> None:
    secret, deployment = (parsed(block.split("```")[0]) for block in PAGE.split("```yaml")[1:3])
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert not {"command", "args"} & container.keys()
    assert container["envFrom"] == [{"secretRef": {"name": secret["metadata"]["name"]}}]
    assert [each["name"] for each in container["env"]] == ["BATON_HOST_ID"]
    assert secret["stringData"].keys() == {
        BY_NAME[name].variable for name in ("api-token", "organization", "client-id", "client-secret")
    }


def test_the_image_has_no_default_argument_so_that_the_vendors_deployment_serves() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert [line for line in lines if line.startswith("CMD")] == []
    assert "--cmd" not in (ROOT / "tools" / "image.py").read_text()


def test_the_schema_has_every_setting_with_its_limits() -> None:
    schema = config_schema()
    assert schema["properties"].keys() == {flag.name for flag in FLAGS}
    concurrency = schema["properties"]["task-concurrency"]
    assert (concurrency["type"], concurrency["minimum"], concurrency["maximum"]) == ("integer", 1, 100)
    assert (concurrency["default"], concurrency["x-env"]) == (3, "BATON_TASK_CONCURRENCY")
    assert schema["properties"]["sync-resource-types"]["items"]["enum"] == [
        "user",
        "team",
        "organization",
        "pipeline",
        "cluster",
        "api_token",
    ]
    assert schema["properties"]["c1z-temp-dir"]["x-hidden"] is True
    assert schema["dependentRequired"]["client-id"] == ["client-secret"]


def test_switches_are_taken_as_go_writes_them() -> None:
    given = ["--provisioning=true", "--health-check=false", "-p", "--file=x", "--unknown=true", "--ticketing=perhaps"]
    assert from_go(given) == [
        "--provisioning",
        "--no-health-check",
        "-p",
        "--file=x",
        "--unknown=true",
        "--ticketing=perhaps",
    ]


def test_what_was_not_given_is_no_flag() -> None:
    values: dict[str, object] = {
        "file": "x",
        "health_check": None,
        "no_health_check": True,
        "log_path": [],
        "provisioning": True,
    }
    assert given_flags(values) == {"file": "x", "health-check": False, "provisioning": True}


def test_the_flags_ask_where_the_adapter_does() -> None:
    assert DEFAULT_API_URL == settings.DEFAULT_API_URL
