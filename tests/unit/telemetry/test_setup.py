"""Which exporters are used, and what metrics say of connectors."""

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import requests
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.util.re import parse_env_headers

from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.observer import Work
from buildkite_connector.model.status import ConnectorStatus
from buildkite_connector.network import Network, read_proxies
from buildkite_connector.telemetry import otlp, setup
from buildkite_connector.telemetry.gauges import ProcessGauges, Report
from buildkite_connector.telemetry.otlp import otlp_session
from buildkite_connector.telemetry.setup import choose_exporters, open_telemetry
from harness.trust import DIRECT

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.mark.parametrize(
    ("environment", "metrics", "traces"),
    [
        ({}, {"prometheus"}, set()),
        ({ENDPOINT: "http://c:4318"}, {"prometheus", "otlp"}, {"otlp"}),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, {"prometheus"}, {"otlp"}),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://c:4318/v1/metrics"}, {"prometheus", "otlp"}, set()),
        ({"OTEL_METRICS_EXPORTER": "none", ENDPOINT: "http://c"}, set(), {"otlp"}),
        ({"OTEL_METRICS_EXPORTER": "otlp, prometheus", "OTEL_TRACES_EXPORTER": "none"}, {"prometheus", "otlp"}, set()),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, {"prometheus"}, {"otlp"}),
        ({"OTEL_SDK_DISABLED": "TRUE", ENDPOINT: "http://c"}, set(), set()),
    ],
)
def test_exporters(environment: dict[str, str], metrics: set[str], traces: set[str]) -> None:
    assert choose_exporters(environment, "METRICS") == metrics
    assert choose_exporters(environment, "TRACES") == traces


@pytest.mark.parametrize(
    ("name", "value"),
    [("OTEL_METRICS_EXPORTER", "promtheus"), ("OTEL_TRACES_EXPORTER", "jaeger"), ("OTEL_TRACES_EXPORTER", "otlp,x")],
)
def test_an_exporter_that_there_is_not_is_named_with_its_variable(name: str, value: str) -> None:
    with pytest.raises(Failure, match=name):
        choose_exporters({name: value}, name.split("_")[1])


@contextmanager
def opened(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, network: Network = DIRECT) -> Iterator[None]:
    """Telemetry; the exporters read the variables of the process by themselves."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with open_telemetry(environment, network, NONE):
        yield


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_EXPORTER_OTLP_HEADERS", "api-key hunter2"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "tenant=a,hunter2"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "api-key: hunter2"),
        ("OTEL_EXPORTER_OTLP_HEADERS", 'api-key="hunter2"'),
        ("OTEL_EXPORTER_OTLP_HEADERS", "=hunter2"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "Bearer hunter2"),
        ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "Bearer hunter2"),
    ],
)
def test_headers_that_are_none_are_refused_and_neither_shown_nor_logged(
    variable: str, value: str, protocol: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    environment = {ENDPOINT: "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_PROTOCOL": protocol, variable: value}
    with (
        pytest.raises(Failure, match=f"^{variable} is not like name=value") as caught,
        opened(environment, monkeypatch),
    ):
        pass
    assert caught.value.reason is Reason.SPEC_INVALID
    assert "hunter2" not in str(caught.value) + caplog.text


@pytest.mark.parametrize("value", ["api-key=hunter2", " a=b , Authorization=Bearer hunter2,", "a=%2C%20b==", "a="])
def test_headers_that_the_exporters_can_read_are_taken(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {ENDPOINT: "http://127.0.0.1:1", "OTEL_METRICS_EXPORTER": "none", "OTEL_EXPORTER_OTLP_HEADERS": value}
    with opened(environment, monkeypatch):
        pass


def test_the_logger_that_quotes_headers_is_silent(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with opened({ENDPOINT: "http://127.0.0.1:1", "OTEL_METRICS_EXPORTER": "none"}, monkeypatch):
        parse_env_headers("hunter2", liberal=True)
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize("network", [DIRECT, Network(proxies=read_proxies({"HTTPS_PROXY": "http://proxy:3128"}))])
@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize(
    "variable", [ENDPOINT, "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"]
)
@pytest.mark.parametrize("endpoint", ["http://collector:hunter2", "http://[::1", "http://collector:99999"])
def test_an_endpoint_that_is_no_url_is_refused_by_its_variable(
    endpoint: str, variable: str, protocol: str, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {variable: endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
    with pytest.raises(Failure, match=f"^{variable} is not a URL") as caught, opened(environment, monkeypatch, network):
        pass
    assert caught.value.reason is Reason.SPEC_INVALID
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_http_proxy_must_be_usable_only_where_otlp_goes_through_it(
    protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Network(proxies=read_proxies({"HTTP_PROXY": "socks5://proxy:1080"}))
    common = {"OTEL_METRICS_EXPORTER": "none", "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
    with opened({**common, ENDPOINT: "https://collector.example:4318"}, monkeypatch, network):
        pass
    through_it = {**common, ENDPOINT: "http://collector.example:4318"}
    if protocol == "grpc":  # which asks for HTTPS_PROXY
        with opened(through_it, monkeypatch, network):
            pass
    else:
        with (
            pytest.raises(Failure, match=r"^HTTP_PROXY starts with socks5://"),
            opened(through_it, monkeypatch, network),
        ):
            pass


def test_a_redirect_to_plain_http_is_an_error_that_the_exporter_logs() -> None:
    session = otlp_session(Network(proxies=read_proxies({"HTTP_PROXY": "socks5://proxy:1080"})))
    with pytest.raises(requests.exceptions.RequestException, match=r"^HTTP_PROXY starts with socks5://"):
        session.post("http://collector.example:4318", timeout=1.0)


FLEET = [Report("ns", f"c{number}", ConnectorStatus(), suspended=False) for number in range(2_001)]
GAUGES = ProcessGauges(lambda: FLEET, lambda: None, lambda: 0.25, lambda: 1.5)
NONE = ProcessGauges(list, lambda: None, lambda: 0.0, lambda: None)


def scraped(gauges: ProcessGauges) -> str:
    with open_telemetry({}, DIRECT, gauges) as telemetry:
        assert telemetry.scrape is not None
        return telemetry.scrape().decode()


def test_thousands_of_connectors_have_a_series_each() -> None:
    text = scraped(GAUGES)
    assert text.count("buildkite_connector_suspended{") == len(FLEET)
    assert "otel_metric_overflow" not in text


def test_the_process_shows_itself() -> None:
    text = scraped(GAUGES)
    assert "buildkite_connector_event_loop_lag_seconds 0.25" in text
    assert "buildkite_connector_kubernetes_watch_age_seconds 1.5" in text
    assert "buildkite_connector_leader " not in text
    assert "process_cpu_seconds_total" in text


def test_a_process_that_watches_nothing_has_no_age_of_a_watch() -> None:
    assert "watch_age" not in scraped(NONE)


def test_without_an_exporter_nothing_is_scraped_and_work_goes_on() -> None:
    with open_telemetry({"OTEL_SDK_DISABLED": "true"}, DIRECT, NONE) as telemetry:
        assert telemetry.scrape is None
        with telemetry.observer.operation(Work.DELIVERY):
            pass


def test_the_count_of_work_carries_result_and_reason() -> None:
    gauges = ProcessGauges(list, lambda: True, lambda: 0.0, lambda: 0.0)
    with open_telemetry({}, DIRECT, gauges) as telemetry:
        with telemetry.observer.operation(Work.SYNC, connector="ns.a", sync_id="s", trigger="Schedule") as operation:
            operation.tell(result="success", reason="SyncSucceeded", throttled_seconds=2.5)
        with pytest.raises(Failure), telemetry.observer.operation(Work.C1_CALL, method="Hello"):
            raise Failure(Reason.C1_UNREACHABLE, "no")
        with pytest.raises(Failure), telemetry.observer.operation(Work.DELIVERY, bytes=1):
            raise Failure(Reason.C1_UNREACHABLE, "no")
        with telemetry.observer.operation(Work.BUILDKITE_REQUEST, method="GET", path="/secret/path") as request:
            request.tell(status=200)
        with telemetry.observer.operation(Work.C1_REST, method="POST", call="force_sync") as request:
            request.tell(status=403)
        assert telemetry.scrape is not None
        text = telemetry.scrape().decode()
    assert 'syncs_total{reason="SyncSucceeded",result="success",trigger="Schedule"} 1.0' in text
    assert "buildkite_connector_buildkite_quota_wait_seconds_total 2.5" in text
    assert 'deliveries_total{result="failed"} 1.0' in text
    assert (
        'rpc_client_call_duration_seconds_count{rpc_method="Hello",rpc_response_status_code="C1Unreachable"} 1' in text
    )
    assert 'http_response_status_code="200",server="buildkite"' in text
    assert 'http_response_status_code="403",server="c1"' in text
    assert "buildkite_connector_leader 1.0" in text
    assert "/secret/path" not in text


def test_an_export_that_hangs_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "FLUSH_SECONDS", 0.05)
    gate, flushed = threading.Event(), list[str]()

    def hang(_: object) -> None:
        gate.wait(30)
        flushed.append("after the end")

    monkeypatch.setattr(MeterProvider, "shutdown", hang)
    with open_telemetry({}, DIRECT, NONE):
        pass
    assert flushed == []
    gate.set()


class Kept(MetricExporter):
    """A fake exporter that keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.points: dict[str, list[Mapping[str, Any]]] = {}

    def export(self, metrics_data: MetricsData, timeout_millis: float = 0, **_: Any) -> MetricExportResult:
        for resource in metrics_data.resource_metrics:
            for metric in (metric for scope in resource.scope_metrics for metric in scope.metrics):
                self.points[metric.name] = [dict(point.attributes or {}) for point in metric.data.data_points]
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 0) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 0, **_: Any) -> None: ...


def test_thousands_of_connectors_have_a_series_each_by_otlp_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "FLUSH_SECONDS", 30.0)
    exporter = Kept()
    monkeypatch.setattr(otlp, "otlp_metrics", lambda *_: exporter)
    gauges = replace(GAUGES, leader=lambda: True)
    with open_telemetry({"OTEL_METRICS_EXPORTER": "otlp"}, DIRECT, gauges) as telemetry:
        assert telemetry.scrape is None
    names = {point.get("name") for point in exporter.points["buildkite_connector.suspended"]}
    assert names == {report.name for report in FLEET}
    assert exporter.points["buildkite_connector.leader"] == [{}]


def test_the_process_is_named_as_opentelemetrys_variables_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "bkc-east")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "team=a")
    [line] = [line for line in scraped(NONE).splitlines() if line.startswith("target_info{")]
    assert 'service_name="bkc-east"' in line
    assert 'service_version="' in line
    assert 'team="a"' in line


def test_what_is_logged_within_a_sync_carries_its_trace(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    exporter = InMemorySpanExporter()
    monkeypatch.setattr(otlp, "otlp_spans", lambda *_: exporter)
    handlers = logging.getLogger().handlers
    before = [list(handler.filters) for handler in handlers]
    environment = {"OTEL_METRICS_EXPORTER": "none", "OTEL_TRACES_EXPORTER": "otlp"}
    with open_telemetry(environment, DIRECT, NONE) as telemetry:
        with telemetry.observer.operation(Work.SYNC, connector="ns.a"):
            logging.getLogger("test").warning("within")
        logging.getLogger("test").warning("without")
    [span] = exporter.get_finished_spans()
    assert [getattr(record, "trace_id", "") for record in caplog.records] == [f"{span.context.trace_id:032x}", ""]
    assert [list(handler.filters) for handler in handlers] == before
