"""Sets OpenTelemetry up as its environment variables say; its libraries are loaded only where something is exported.

Metrics go to `/metrics` (the Prometheus exporter) unless OTEL_METRICS_EXPORTER says otherwise. OTLP is used for metrics
and traces where an endpoint is named (OTEL_EXPORTER_OTLP_ENDPOINT, or the one of the signal) or where the exporter is
named (OTEL_TRACES_EXPORTER=otlp). Without an exporter for a signal nothing of it is made.

An endpoint is reached as every other host of the process is (`otlp_session`, `_grpc_arguments`); only a CA file of its
own (OTEL_EXPORTER_OTLP_CERTIFICATE) takes the place of the authorities.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider, ObservableGauge
from opentelemetry.sdk.metrics.export import (
    CardinalityLimits,
    MetricExporter,
    MetricReader,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.util.re import parse_env_headers
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

from buildkite_connector import __version__
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.observer import Observer
from buildkite_connector.network import Network
from buildkite_connector.telemetry.metrics import Metrics, ProcessGauges
from buildkite_connector.telemetry.observer import Telemetry
from buildkite_connector.telemetry.status_gauges import StatusText, observe

_SCOPE = "buildkite_connector"
_LIMITS: CardinalityLimits = {ObservableGauge: 200_000}
"""Series of one gauge; the SDK's own limit of 2,000 would fold a fleet's into one."""
FLUSH_SECONDS = 2.0
"""How long the last export may take at shutdown, which has 10 s in all."""
_KNOWN = {"METRICS": ("prometheus", "otlp", "none"), "TRACES": ("otlp", "none")}


@dataclass(frozen=True, slots=True)
class Exports:
    """Which exporters are used: `prometheus`, `otlp`."""

    metrics: frozenset[str]
    traces: frozenset[str]


@dataclass(frozen=True, slots=True)
class Exported:
    """The process's observer, and what `/metrics` answers; None where there is no such exporter."""

    observer: Observer
    scrape: Callable[[], bytes] | None


def choose_exports(environment: Mapping[str, str]) -> Exports:
    """Raises Failure SPEC_INVALID naming the variable with a value that cannot be used."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return Exports(frozenset(), frozenset())
    return Exports(
        _chosen(environment, "METRICS", {"prometheus"}),
        _chosen(environment, "TRACES", set()),
    )


@contextmanager
def open_telemetry(environment: Mapping[str, str], network: Network, gauges: ProcessGauges) -> Iterator[Exported]:
    """Telemetry for as long as the context lasts; what is not exported yet is flushed at its end.

    Raises Failure as `choose_exports` does, before anything is opened.
    """
    exports = choose_exports(environment)
    for signal, chosen in (("METRICS", exports.metrics), ("TRACES", exports.traces)):
        if "otlp" in chosen:
            _check_headers(environment, signal)
            _check_endpoint(environment, network, signal)
    ours = Resource({"service.name": "buildkite-connector", "service.version": __version__})
    resource = Resource.create().merge(ours).merge(OTELResourceDetector().detect())
    endings: list[Callable[[], object]] = []
    record, scrape, tracer = None, None, None
    if exports.metrics:
        registry = CollectorRegistry()
        readers: list[MetricReader] = []
        if "prometheus" in exports.metrics:
            ProcessCollector(registry=registry)
            readers.append(PrometheusMetricReader(scope_info_enabled=False, registry=registry))
            statuses = StatusText(gauges.reports)
            scrape = lambda: generate_latest(registry) + statuses()  # noqa: E731
        if "otlp" in exports.metrics:
            readers.append(_otlp_metrics(environment, network))
            fleet = _meter_provider([_otlp_metrics(environment, network)], resource)
            observe(fleet.get_meter(_SCOPE, __version__), gauges.reports)
            endings.append(fleet.shutdown)
        provider = _meter_provider(readers, resource)
        record = Metrics(provider.get_meter(_SCOPE, __version__), gauges).record
        endings.append(provider.shutdown)
    if exports.traces:
        tracing = TracerProvider(resource=resource, shutdown_on_exit=False)
        tracing.add_span_processor(_otlp_traces(environment, network))
        tracer = tracing.get_tracer(_SCOPE, __version__)
        endings.append(tracing.shutdown)
    with _trace_ids_in_logs() if tracer is not None else _nothing():
        try:
            yield Exported(Telemetry(record, tracer), scrape)
        finally:
            _end(endings)


def _meter_provider(readers: list[MetricReader], resource: Resource) -> MeterProvider:
    return MeterProvider(readers, resource, exemplar_filter=AlwaysOffExemplarFilter(), shutdown_on_exit=False)


def _chosen(environment: Mapping[str, str], signal: str, default: set[str]) -> frozenset[str]:
    variable = f"OTEL_{signal}_EXPORTER"
    names = {each.strip().lower() for each in environment.get(variable, "").split(",")} - {""}
    if not names:
        endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
        return frozenset(default | ({"otlp"} if any(environment.get(each) for each in endpoints) else set()))
    if unknown := names - set(_KNOWN[signal]):
        raise Failure(
            Reason.SPEC_INVALID,
            f"{variable} names {', '.join(sorted(unknown))!r}; use {', '.join(_KNOWN[signal])}.",
            remedy=Remedy.EDIT,
        )
    return frozenset(names - {"none"})


def _protocol(environment: Mapping[str, str], signal: str) -> str:
    """Raises Failure."""
    variables = (f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    for variable in variables:
        if chosen := environment.get(variable, "").strip():
            if chosen in {"grpc", "http/protobuf"}:
                return chosen
            raise Failure(
                Reason.SPEC_INVALID, f"{variable} is {chosen!r}; use grpc or http/protobuf.", remedy=Remedy.EDIT
            )
    return "http/protobuf"


def _setting(environment: Mapping[str, str], signal: str, name: str) -> tuple[str, str]:
    """The variable that counts for the signal, and its value; empty where neither its own nor the shared one is set."""
    own, shared = f"OTEL_EXPORTER_OTLP_{signal}_{name}", f"OTEL_EXPORTER_OTLP_{name}"
    return next(((each, environment[each]) for each in (own, shared) if environment.get(each)), (shared, ""))


def _check_headers(environment: Mapping[str, str], signal: str) -> None:
    """Raises Failure for headers that the exporter would leave out and log, with the credentials that they hold."""
    logging.getLogger("opentelemetry.util.re").addFilter(_drop)
    variable, headers = _setting(environment, signal, "HEADERS")
    if not all(parse_env_headers(each, liberal=True) for each in headers.split(",") if each.strip()):
        raise Failure(
            Reason.SPEC_INVALID,
            f"{variable} is not like name=value, with commas between several. Correct the variable; special characters"
            " of a value are written as percent escapes there (a comma as %2C).",
            remedy=Remedy.EDIT,
        )


def _drop(_: logging.LogRecord) -> bool:
    return False


def _check_endpoint(environment: Mapping[str, str], network: Network, signal: str) -> None:
    """Raises Failure for an endpoint that is no URL, and for one whose proxy cannot be used."""
    variable, endpoint = _setting(environment, signal, "ENDPOINT")
    if _protocol(environment, signal) == "grpc":
        endpoint = f"https://{_grpc_target(endpoint)}"
    try:
        _ = urlsplit(endpoint).port
        network.proxy_for(endpoint)
    except ValueError:  # whose text may hold a part of a password
        raise Failure(
            Reason.SPEC_INVALID,
            f"{variable} is no URL like http://collector:4318: its host or port cannot be used. Correct the variable.",
            remedy=Remedy.EDIT,
        ) from None


def _grpc_target(endpoint: str) -> str:
    return endpoint.rpartition("://")[2].partition("/")[0] or "localhost:4317"


# ruff: noqa: PLC0415  (an exporter's libraries are loaded where it is used)


def _otlp_metrics(environment: Mapping[str, str], network: Network) -> MetricReader:
    if _protocol(environment, "METRICS") == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcExporter

        exporter: MetricExporter = GrpcExporter(**_grpc_arguments(environment, network, "METRICS"))
    else:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

        from buildkite_connector.telemetry.otlp_session import otlp_session

        exporter = OTLPMetricExporter(session=otlp_session(network))
    return PeriodicExportingMetricReader(exporter, cardinality_limits=_LIMITS)


def _otlp_traces(environment: Mapping[str, str], network: Network) -> BatchSpanProcessor:
    if _protocol(environment, "TRACES") == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter

        return BatchSpanProcessor(GrpcExporter(**_grpc_arguments(environment, network, "TRACES")))
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    from buildkite_connector.telemetry.otlp_session import otlp_session

    return BatchSpanProcessor(OTLPSpanExporter(session=otlp_session(network)))


def _grpc_arguments(environment: Mapping[str, str], network: Network, signal: str) -> dict[str, Any]:
    """Proxy and authorities of an exporter over gRPC; it reads its endpoint and its own certificates by itself."""
    import grpc

    target = _grpc_target(_setting(environment, signal, "ENDPOINT")[1])
    credentials = None
    if not _setting(environment, signal, "CERTIFICATE")[1]:
        credentials = grpc.ssl_channel_credentials(root_certificates=network.trust.pem)
    return {"credentials": credentials, "channel_options": network.grpc_options(target)}


@contextmanager
def _trace_ids_in_logs() -> Iterator[None]:
    """Each record made within a span carries `trace_id` and `span_id`, as W3C writes them."""

    def add(record: logging.LogRecord) -> bool:
        context = trace.get_current_span().get_span_context()
        if context.is_valid:
            record.trace_id = trace.format_trace_id(context.trace_id)
            record.span_id = trace.format_span_id(context.span_id)
        return True

    handlers = list(logging.getLogger().handlers)
    for handler in handlers:
        handler.addFilter(add)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(add)


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def _end(endings: list[Callable[[], object]]) -> None:
    """Flush, but not for ever: an endpoint that does not answer must not hold up the shutdown."""

    def flush() -> None:
        for each in endings:
            each()

    thread = threading.Thread(target=flush, name="telemetry flush", daemon=True)
    thread.start()
    thread.join(FLUSH_SECONDS)
