"""What service mode works with: defaults, limits and sentences; two numbers that a restart goes by."""

import base64
import dataclasses
import logging
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from buildkite_connector.c1 import C1Settings
from buildkite_connector.cli.service_settings import (
    ServiceSettings,
    collector_variables,
    service_settings,
    start_logs,
    telemetry_variables,
)
from buildkite_connector.cli.settings import SettingError, Settings, is_serving, read_settings
from buildkite_connector.model.directory import ResourceKind, Role
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.spec import C1Access, C1Spec, Interval, Provisioning
from buildkite_connector.service.health import HealthAddress
from buildkite_connector.timing.clock import SystemClock
from simulators.c1.policy import Policy
from simulators.c1.token import Authority

REQUIRED = {"BATON_CLIENT_ID": "a@b.conductor.one/c", "BATON_CLIENT_SECRET": "s", "BATON_API_TOKEN": "t"}


@pytest.fixture
def client_secret() -> str:
    """Of the real form."""
    return Authority(Policy(), SystemClock()).register("acme.conductor.one").client_secret


def found_in(**environment: str) -> Settings:
    return read_settings({}, {**REQUIRED, **environment}, Path("/nonexistent"))


def settings(read: Callable[[], Settings] | None = None, /, **environment: str) -> ServiceSettings:
    found = found_in(**environment)
    return service_settings(read or (lambda: found), found, {**REQUIRED, **environment})


def test_the_vendors_secret_alone_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "pod-1")
    found = settings()
    assert found.spec.host_id == "pod-1"
    assert (found.spec.organization, found.spec.schedule) == (None, Interval(3600.0))
    assert (found.most_tasks, found.health, found.http_address) == (3, None, "")


def test_what_is_set_acts() -> None:
    found = settings(
        BATON_HOST_ID="h",
        BATON_ORGANIZATION="acme-inc",
        BATON_SYNC_RESOURCE_TYPES="user",
        BATON_TASK_CONCURRENCY="9",
        BATON_HTTP_TIMEOUT_SECONDS="40",
        BATON_HEALTH_CHECK="true",
        BATON_HEALTH_CHECK_BIND_ADDRESS="10.0.0.7",
        BATON_C1Z_TEMP_DIR="/volume",
        BUILDKITE_CONNECTOR_SYNC_INTERVAL="30m",
        BUILDKITE_CONNECTOR_MAX_SNAPSHOT_AGE="0s",
        BUILDKITE_CONNECTOR_MAX_DROP_PERCENT="10",
        BUILDKITE_CONNECTOR_ACCEPT_SHRINK="3MjX",
        BUILDKITE_CONNECTOR_HTTP_ADDRESS=":8080",
        BATON_C1_API_HOST="localhost:4",
    )
    spec = found.spec
    assert (spec.host_id, spec.organization, spec.kinds) == ("h", "acme-inc", frozenset({ResourceKind.USER}))
    assert (spec.schedule, spec.max_snapshot_age, spec.max_drop_percent) == (Interval(1800.0), 0.0, 10)
    assert (found.most_tasks, found.accept_shrink) == (9, "3MjX")
    assert (found.buildkite.timeouts.total, found.buildkite.timeouts.read) == (40.0, 40.0)
    assert found.health == HealthAddress("10.0.0.7", 8081)
    assert found.directories[0] == Path("/volume")
    assert (found.http_address, found.c1.api_host) == (":8080", "localhost:4")


def test_the_client_ids_host_is_allowed_unless_others_are_listed(client_secret: str) -> None:
    client = {"BATON_CLIENT_ID": "a@c1.example.com:8443/c", "BATON_CLIENT_SECRET": client_secret}
    assert settings(**client).c1.allowed_hosts == "c1.example.com:8443"
    assert settings(**client, BUILDKITE_CONNECTOR_C1_HOSTS="*.example.org").c1.allowed_hosts == "*.example.org"
    for wrong in ("a@127.0.0.1/c", "a"):
        assert settings(**{**client, "BATON_CLIENT_ID": wrong}).c1 == C1Settings()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"BATON_CLIENT_ID": ""}, "--client-id: the client ID and the client secret must both be set"),
        ({"BATON_CLIENT_SECRET": ""}, "--client-secret: the client ID and the client secret must both be set"),
        ({"BATON_API_TOKEN": ""}, "BATON_API_TOKEN"),
        ({"BATON_API_TOKEN": "two words"}, "BATON_API_TOKEN.* not part of a credential"),
        ({"BATON_ORGANIZATION": "Acme Inc"}, "--organization: must be the slug from the organization's address"),
        (
            {"BATON_ORGANIZATION": "bkua_0123456789ab", "BATON_API_TOKEN": "bkua_0123456789ab"},
            "^--organization: it repeats a credential: write the slug of the organization$",
        ),
        ({"BATON_API_TOKEN": "t" * 8193}, "BATON_API_TOKEN.*: it has more than 8192 characters"),
        ({"BATON_HOST_ID": "h" * 257}, "BATON_HOST_ID: it has 257 characters"),
        ({"BUILDKITE_CONNECTOR_SYNC_INTERVAL": "1m"}, "^--sync-interval: must be at least 5m and at most 168h.$"),
        ({"BUILDKITE_CONNECTOR_SYNC_INTERVAL": "soon"}, "--sync-interval: is not a duration"),
        ({"BUILDKITE_CONNECTOR_SYNC_TIMEOUT": "25h"}, "--sync-timeout: must be at least 1m and at most 24h."),
        ({"BUILDKITE_CONNECTOR_MAX_SNAPSHOT_AGE": "x"}, "--max-snapshot-age: is not a duration"),
        ({"BUILDKITE_CONNECTOR_PROTECTED_TEAMS": "a,B C"}, "--protected-teams: must contain team slugs"),
        ({"BUILDKITE_CONNECTOR_PROTECTED_TEAMS": "a" * 256}, "--protected-teams: String should have at most 255"),
        ({"BUILDKITE_API_URL": "http://example.com"}, "--buildkite-api-url"),
    ],
)
def test_what_cannot_work_is_refused_by_its_name(environment: dict[str, str], expected: str) -> None:
    with pytest.raises(SettingError, match=expected):
        settings(**environment)


def test_a_secret_is_in_no_repr() -> None:
    found = settings(BATON_CLIENT_SECRET="zebra", BATON_API_TOKEN="lion")
    assert not {word for word in ("zebra", "lion") if word in repr(found)}


def test_without_client_id_and_secret_nothing_is_served() -> None:
    assert not is_serving(found_in(BATON_CLIENT_ID="", BATON_CLIENT_SECRET=""))


def test_credentials_are_read_again() -> None:
    now = {"token": "first"}
    found = settings(lambda: found_in(BATON_API_TOKEN=now["token"]))
    assert found.started_with.api_token == "t"
    now["token"] = "second"
    assert found.credentials().api_token == "second"


def test_a_file_that_cannot_be_read_now_stops_nothing_that_works() -> None:
    def broken() -> Settings:
        raise SettingError(".baton.yaml", "line 1 is not YAML")

    with pytest.raises(Failure) as raised:
        settings(broken).credentials()
    assert (raised.value.reason, raised.value.remedy) == (Reason.SECRET_KEY_INVALID, Remedy.RETRY)


def test_credentials_that_are_gone_stop_syncs() -> None:
    with pytest.raises(Failure) as raised:
        settings(lambda: found_in(BATON_CLIENT_ID="", BATON_CLIENT_SECRET="")).credentials()
    assert raised.value.remedy is Remedy.CREDENTIALS


def test_the_generation_is_the_same_for_the_same_settings_and_another_for_others() -> None:
    same = settings(BATON_HOST_ID="h").generation()
    assert settings(BATON_HOST_ID="h", BATON_TASK_CONCURRENCY="5").generation() == same
    others = [
        settings(BATON_HOST_ID="h", BATON_SYNC_RESOURCE_TYPES="user"),
        settings(BATON_HOST_ID="h", BATON_API_TOKEN="of-another-organization"),
        settings(BATON_HOST_ID="h", BATON_ORGANIZATION="other"),
    ]
    assert same not in [each.generation() for each in others]


def test_the_identity_is_another_for_another_client_organization_host_and_api() -> None:
    found = settings(BATON_HOST_ID="h")
    others = [
        settings(BATON_HOST_ID="h", BATON_CLIENT_ID="x@b.conductor.one/c"),
        settings(BATON_HOST_ID="h", BATON_ORGANIZATION="other"),
        settings(BATON_HOST_ID="i"),
        settings(BATON_HOST_ID="h", BUILDKITE_API_URL="https://example.com/v2"),
    ]
    digests = {each.identity(each.started_with).digest() for each in (found, *others)}
    assert len(digests) == len(others) + 1
    rotated = dataclasses.replace(found.started_with, api_token="new", client_secret="new")
    assert found.identity(rotated) == found.identity(found.started_with)


@pytest.mark.parametrize(
    ("environment", "terminal", "form", "level"),
    [
        ({}, False, "_JsonFormatter", "INFO"),
        ({}, True, "TextFormatter", "INFO"),
        ({"BATON_LOG_FORMAT": "json", "BATON_LOG_LEVEL": "warn"}, True, "_JsonFormatter", "WARNING"),
        ({"BATON_LOG_FORMAT": "console"}, False, "TextFormatter", "INFO"),
    ],
)
def test_logs_are_json_but_on_a_terminal(environment: dict[str, str], terminal: bool, form: str, level: str) -> None:
    start_logs(found_in(**environment), terminal=terminal)
    (handler,) = logging.root.handlers
    assert (type(handler.formatter).__name__, logging.getLevelName(logging.root.level)) == (form, level)


def test_debug_ends_at_a_time(tmp_path: Path) -> None:
    now, logs = datetime.now(UTC), [tmp_path / "past", tmp_path / "future"]
    for end, path in zip((now - timedelta(minutes=1), now + timedelta(minutes=1)), logs, strict=True):
        until = {"BATON_LOG_LEVEL": "debug", "BATON_LOG_LEVEL_DEBUG_EXPIRES_AT": end.isoformat()}
        start_logs(found_in(**until, BATON_LOG_PATH=str(path)), terminal=False)
        logging.getLogger("buildkite_connector").debug("a detail")
        logging.root.handlers[0].close()
    assert ["a detail" in path.read_text() for path in logs] == [False, True]
    for wrong in ("tomorrow", "2026-11-30T18:00:00"):
        with pytest.raises(SettingError, match="log-level-debug-expires-at"):
            start_logs(found_in(BATON_LOG_LEVEL_DEBUG_EXPIRES_AT=wrong), terminal=False)


def test_a_token_that_writes_is_told_from_the_one_that_reads() -> None:
    assert settings().started_with.write_api_token == ""
    found = settings(BATON_WRITE_API_TOKEN=" writes\n").started_with
    assert (found.api_token, found.write_api_token) == ("t", "writes")
    assert "writes" not in repr(settings(BATON_WRITE_API_TOKEN="writes"))
    with pytest.raises(SettingError, match=r"BATON_WRITE_API_TOKEN.* not part of a credential"):
        settings(BATON_WRITE_API_TOKEN="two words")


def test_provisioning_is_off_until_it_is_set_and_has_its_bounds() -> None:
    assert settings().spec.provisioning == Provisioning()
    assert settings(BATON_PROVISIONING="true").spec.provisioning == Provisioning(enabled=True)
    found = settings(
        BATON_PROVISIONING="true",
        BUILDKITE_CONNECTOR_PROVISIONING_ROLES="member",
        BUILDKITE_CONNECTOR_PROTECTED_TEAMS="release,on-call",
    )
    assert found.spec.provisioning == Provisioning(True, (Role.MEMBER,), ("release", "on-call"))


def test_a_change_of_provisioning_is_another_generation() -> None:
    found = settings(), settings(BATON_PROVISIONING="true"), settings(BUILDKITE_CONNECTOR_PROTECTED_TEAMS="release")
    assert len({each.generation() for each in found}) == 3


PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
ONLY_GRPC = {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"}


INSECURE = {"OTEL_EXPORTER_OTLP_TRACES_INSECURE": "true"}


def variables(directory: Path, environment: dict[str, str] | None = None, **flags: object) -> dict[str, str]:
    given = {name.replace("_", "-"): value for name, value in flags.items()}
    return collector_variables(read_settings(given, {}, directory), environment or {}, directory)


@pytest.mark.parametrize(
    ("flags", "environment", "expected"),
    [
        ({}, {}, {}),
        ({"otel_collector_endpoint": "c:1"}, {}, {ENDPOINT: "https://c:1", **ONLY_GRPC}),
        (
            {"otel_collector_endpoint": "c:1", "otel_collector_endpoint_tls_insecure": True},
            {},
            {ENDPOINT: "http://c:1", **INSECURE, **ONLY_GRPC},
        ),
        ({"otel_collector_endpoint": "http://c:1"}, {}, {ENDPOINT: "http://c:1", **ONLY_GRPC}),
        ({"otel_collector_endpoint": "c:1"}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://other:4318"}, {}),
        (
            {"otel_collector_endpoint": "c:1", "otel_tracing_disabled": True},
            {},
            {"OTEL_TRACES_EXPORTER": "none"},
        ),
        (
            {"otel_collector_endpoint": "c:1", "otel_collector_endpoint_tls_cert_path": "/etc/ca.pem"},
            {},
            {ENDPOINT: "https://c:1", "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE": "/etc/ca.pem", **ONLY_GRPC},
        ),
    ],
)
def test_the_vendors_flags_of_the_collector_become_opentelemetrys_variables(
    tmp_path: Path, flags: dict[str, object], environment: dict[str, str], expected: dict[str, str]
) -> None:
    assert variables(tmp_path, environment, **flags) == expected


@pytest.mark.parametrize("text", [PEM, base64.b64encode(PEM.encode()).decode()], ids=["PEM", "base64"])
def test_a_certificate_in_a_variable_becomes_a_file(tmp_path: Path, text: str) -> None:
    found = variables(tmp_path, otel_collector_endpoint="c:1", otel_collector_endpoint_tls_cert=text)
    assert Path(found["OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE"]).read_text().strip() == PEM.strip()


def test_a_certificate_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="otel-collector-endpoint-tls-cert: expected"):
        variables(tmp_path, otel_collector_endpoint="c:1", otel_collector_endpoint_tls_cert="neither")


def test_nothing_is_counted_where_nobody_reads_it() -> None:
    assert telemetry_variables(settings(), {})["OTEL_METRICS_EXPORTER"] == "none"
    chosen = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}
    assert telemetry_variables(settings(), chosen) == chosen
    assert telemetry_variables(settings(BUILDKITE_CONNECTOR_HTTP_ADDRESS=":8080"), {}) == {}


IDS = {"BUILDKITE_CONNECTOR_C1_APP_ID": "2abc", "BUILDKITE_CONNECTOR_C1_CONNECTOR_ID": "2def"}
REST = {"C1_CLIENT_ID": "a@b.conductor.one/spc", "C1_CLIENT_SECRET": "ostrich"}
WORKLOAD = {"BUILDKITE_CONNECTOR_C1_WORKLOAD_CLIENT_ID": "w@b.conductor.one/wfe"}


def test_without_c1s_ids_nothing_of_its_rest_api_is_used() -> None:
    found = settings()
    assert (found.spec.c1, found.c1_access) == (None, None)


@pytest.mark.parametrize(
    ("client", "access"),
    [
        (REST, C1Access("a@b.conductor.one/spc", "ostrich")),
        (WORKLOAD, C1Access("w@b.conductor.one/wfe")),
    ],
    ids=["a client", "workload identity"],
)
def test_the_connector_in_c1_is_named_with_a_client_of_its_rest_api(client: dict[str, str], access: C1Access) -> None:
    found = settings(**IDS, **client)
    assert found.spec.c1 == C1Spec("2abc", "2def", force_sync=True)
    assert found.c1_access is not None
    assert found.c1_access() == access
    assert "ostrich" not in repr((found, found.c1_access()))


def test_a_forced_sync_can_be_left_out() -> None:
    spec = settings(**IDS, **REST, BUILDKITE_CONNECTOR_C1_FORCE_SYNC="false").spec
    assert spec.c1 == C1Spec("2abc", "2def", force_sync=False)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (
            {"BUILDKITE_CONNECTOR_C1_APP_ID": "2abc", **REST},
            "^--c1-connector-id: C1's REST API needs the app ID, .*; set this one, or .*_C1_CONNECTOR_ID$",
        ),
        (
            {"BUILDKITE_CONNECTOR_C1_CONNECTOR_ID": "2def", **REST},
            "^--c1-app-id: C1's REST API needs the .*_C1_APP_ID$",
        ),
        (REST, "^--c1-app-id: C1's REST API needs the app ID"),
        (IDS, "^--c1-app-id: it needs a client of C1's REST API: set C1_CLIENT_ID and C1_CLIENT_SECRET, or --c1-work"),
        ({**IDS, "C1_CLIENT_ID": "a@b/c"}, "^--c1-client-secret: .* must both be set; set it, or C1_CLIENT_SECRET$"),
        ({**IDS, "C1_CLIENT_SECRET": "s"}, "^--c1-client-id: .* must both be set; set it, or C1_CLIENT_ID$"),
        ({**IDS, **REST, **WORKLOAD}, "^--c1-workload-client-id: C1_CLIENT_ID or C1_CLIENT_SECRET is set too"),
        ({**IDS, **REST, "BUILDKITE_CONNECTOR_C1_APP_ID": "a/b"}, "^--c1-app-id: must be an ID .*letters, digits"),
        ({**IDS, **REST, "BUILDKITE_CONNECTOR_C1_CONNECTOR_ID": "x y"}, "^--c1-connector-id: must be an ID"),
        (
            {**IDS, "BUILDKITE_CONNECTOR_C1_WORKLOAD_CLIENT_ID": "a@b.conductor.one/spc"},
            "^--c1-workload-client-id: must have the form NAME@HOST/wfe",
        ),
        ({**IDS, **REST, "C1_CLIENT_SECRET": "two words"}, "C1_CLIENT_SECRET.* not part of a credential"),
    ],
)
def test_half_of_the_connector_in_c1_is_refused_by_its_name(environment: dict[str, str], expected: str) -> None:
    with pytest.raises(SettingError, match=expected):
        settings(**environment)


def test_the_access_to_c1_is_read_again_with_a_sentence_for_what_is_missing() -> None:
    now = found_in(**IDS, **REST)
    found = settings(lambda: now, **IDS, **REST)
    assert found.c1_access is not None
    now = found_in(**IDS, **REST | {"C1_CLIENT_SECRET": "heron"})
    assert found.c1_access().client_secret == "heron"
    now = found_in(**IDS)
    with pytest.raises(Failure, match=r"no longer has a client of C1's REST API") as gone:
        found.c1_access()
    assert (gone.value.reason, gone.value.remedy) == (Reason.SECRET_KEY_MISSING, Remedy.CREDENTIALS)
    now = found_in(**IDS, C1_CLIENT_ID="a@b/c")
    with pytest.raises(Failure, match="C1_CLIENT_SECRET") as half:
        found.c1_access()
    assert half.value.reason is Reason.SECRET_KEY_INVALID


def test_the_host_of_the_rest_apis_client_is_allowed_too(client_secret: str) -> None:
    client = {"BATON_CLIENT_ID": "a@acme.conductor.one/ccc", "BATON_CLIENT_SECRET": client_secret}
    other = {**IDS, "BUILDKITE_CONNECTOR_C1_WORKLOAD_CLIENT_ID": "w@acme.conductorone.com/wfe"}
    assert settings(**client, **IDS, **REST).c1.allowed_hosts == "acme.conductor.one:443,b.conductor.one:443"
    assert settings(**client, **other).c1.allowed_hosts == "acme.conductor.one:443,acme.conductorone.com:443"
    same = {**REST, "C1_CLIENT_ID": "s@acme.conductor.one/spc"}
    assert settings(**client, **IDS, **same).c1.allowed_hosts == "acme.conductor.one:443"
    for wrong in ("a@127.0.0.1/spc", "a@*.example.com/spc", "a"):
        assert settings(**client, **IDS, **REST | {"C1_CLIENT_ID": wrong}).c1.allowed_hosts == "acme.conductor.one:443"
