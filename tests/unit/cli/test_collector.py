"""The vendor's flags of the collector become OpenTelemetry's variables, which go before them."""

import base64
from pathlib import Path

import pytest

from buildkite_connector.cli.collector import collector_variables
from buildkite_connector.cli.configuration import SettingError, read_configuration

PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
ONLY_GRPC = {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"}


def variables(directory: Path, environment: dict[str, str] | None = None, **flags: object) -> dict[str, str]:
    given = {name.replace("_", "-"): value for name, value in flags.items()}
    return collector_variables(read_configuration(given, {}, directory), environment or {}, directory)


def test_nothing_is_set_where_nothing_is_named(tmp_path: Path) -> None:
    assert variables(tmp_path) == {}


def test_an_endpoint_gets_traces_over_grpc_and_tls(tmp_path: Path) -> None:
    found = variables(tmp_path, otel_collector_endpoint="collector:4317")
    assert found == {ENDPOINT: "https://collector:4317", **ONLY_GRPC}


def test_an_insecure_one_gets_them_in_the_clear(tmp_path: Path) -> None:
    found = variables(tmp_path, otel_collector_endpoint="collector:4317", otel_collector_endpoint_tls_insecure=True)
    assert found == {ENDPOINT: "http://collector:4317", "OTEL_EXPORTER_OTLP_TRACES_INSECURE": "true", **ONLY_GRPC}


def test_a_url_is_taken_as_it_is(tmp_path: Path) -> None:
    assert variables(tmp_path, otel_collector_endpoint="http://c:1")[ENDPOINT] == "http://c:1"


def test_opentelemetrys_own_variables_go_before(tmp_path: Path) -> None:
    own = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://other:4318"}
    assert variables(tmp_path, own, otel_collector_endpoint="collector:4317") == {}


def test_tracing_that_is_disabled_stays_off_whatever_else_is_set(tmp_path: Path) -> None:
    found = variables(tmp_path, otel_collector_endpoint="collector:4317", otel_tracing_disabled=True)
    assert found == {"OTEL_TRACES_EXPORTER": "none"}


@pytest.mark.parametrize("text", [PEM, base64.b64encode(PEM.encode()).decode()], ids=["PEM", "base64"])
def test_a_certificate_in_a_variable_becomes_a_file(tmp_path: Path, text: str) -> None:
    found = variables(tmp_path, otel_collector_endpoint="c:1", otel_collector_endpoint_tls_cert=text)
    assert Path(found["OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE"]).read_text().strip() == PEM.strip()


def test_a_certificate_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="otel-collector-endpoint-tls-cert: expected"):
        variables(tmp_path, otel_collector_endpoint="c:1", otel_collector_endpoint_tls_cert="neither")


def test_a_certificates_path_is_handed_on(tmp_path: Path) -> None:
    found = variables(tmp_path, otel_collector_endpoint="c:1", otel_collector_endpoint_tls_cert_path="/etc/ca.pem")
    assert found["OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE"] == "/etc/ca.pem"
