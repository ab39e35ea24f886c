"""Sets up OpenTelemetry as its environment variables say.

Metrics go to `/metrics` (the Prometheus exporter) unless OTEL_METRICS_EXPORTER says otherwise. OTLP (see `otlp`) is
used for metrics and traces where an endpoint is named (OTEL_EXPORTER_OTLP_ENDPOINT, or the one of the signal) or where
the exporter is named (OTEL_TRACES_EXPORTER=otlp). A signal without an exporter is not recorded.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from opentelemetry import trace
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider, ObservableGauge
from opentelemetry.sdk.metrics.export import CardinalityLimits, MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

from buildkite_connector import __version__
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.observer import Observer
from buildkite_connector.network import Network
from buildkite_connector.telemetry.gauges import ProcessGauges, StatusCollector, observe, observe_process
from buildkite_connector.telemetry.observer import Metrics, Telemetry

_SCOPE = "buildkite_connector"
_LIMITS: CardinalityLimits = {ObservableGauge: 200_000}
"""Series of one gauge; the SDK's default of 2,000 would merge those of a large fleet."""
FLUSH_SECONDS = 2.0
"""Seconds for the last export at shutdown, which may take 10 s altogether."""


@dataclass(frozen=True, slots=True)
class Exported:
    """The process's observer, and what `/metrics` answers; None without a Prometheus exporter."""

    observer: Observer
    scrape: Callable[[], bytes] | None


def choose_exporters(environment: Mapping[str, str], signal: str) -> frozenset[str]:
    """Return which of `prometheus` and `otlp` export METRICS or TRACES.

    Raises Failure SPEC_INVALID naming the variable with a value that cannot be used.
    """
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return frozenset()
    known = {"METRICS": ("prometheus", "otlp", "none"), "TRACES": ("otlp", "none")}[signal]
    variable = f"OTEL_{signal}_EXPORTER"
    names = {each.strip().lower() for each in environment.get(variable, "").split(",")} - {""}
    if not names:
        endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
        names = {"otlp"} if any(environment.get(each) for each in endpoints) else set()
        return frozenset(names | ({"prometheus"} & set(known)))
    if unknown := names - set(known):
        raise Failure(
            Reason.SPEC_INVALID,
            f"{variable} names {', '.join(sorted(unknown))!r}; use {', '.join(known)}.",
            remedy=Remedy.EDIT,
        )
    return frozenset(names - {"none"})


@contextmanager
def open_telemetry(environment: Mapping[str, str], network: Network, gauges: ProcessGauges) -> Iterator[Exported]:
    """Telemetry for as long as the context lasts; what is not exported yet is flushed at its end.

    Raises Failure as `choose_exporters` and `check_otlp` do, before anything is opened.
    """
    chosen = {signal: choose_exporters(environment, signal) for signal in ("METRICS", "TRACES")}
    for signal, exporters in chosen.items():
        if "otlp" in exporters:
            from buildkite_connector.telemetry.otlp import check_otlp  # noqa: PLC0415  (its libraries take a while)

            check_otlp(environment, network, signal)
    ours = Resource({"service.name": "buildkite-connector", "service.version": __version__})
    resource = Resource.create().merge(ours).merge(OTELResourceDetector().detect())
    endings: list[Callable[[], object]] = []
    record, scrape, tracer = None, None, None

    def provider(*readers: MetricReader) -> MeterProvider:
        made = MeterProvider(readers, resource, exemplar_filter=AlwaysOffExemplarFilter(), shutdown_on_exit=False)
        endings.append(made.shutdown)
        return made

    def exporting() -> MetricReader:
        from buildkite_connector.telemetry.otlp import otlp_metrics  # noqa: PLC0415  (as above)

        return PeriodicExportingMetricReader(otlp_metrics(environment, network), cardinality_limits=_LIMITS)

    if chosen["METRICS"]:
        readers: list[MetricReader] = []
        if "otlp" in chosen["METRICS"]:
            readers.append(exporting())
            observe(provider(exporting()).get_meter(_SCOPE, __version__), gauges.reports)
        if "prometheus" in chosen["METRICS"]:
            registry = CollectorRegistry()
            ProcessCollector(registry=registry)
            readers.append(PrometheusMetricReader(scope_info_enabled=False, registry=registry))
            registry.register(StatusCollector(gauges.reports))
            scrape = lambda: generate_latest(registry)  # noqa: E731
        meter = provider(*readers).get_meter(_SCOPE, __version__)
        record = Metrics(meter).record
        observe_process(meter, gauges)
    with ExitStack() as stack:
        if chosen["TRACES"]:
            from buildkite_connector.telemetry.otlp import otlp_spans  # noqa: PLC0415  (as above)

            tracing = TracerProvider(resource=resource, shutdown_on_exit=False)
            tracing.add_span_processor(BatchSpanProcessor(otlp_spans(environment, network)))
            endings.append(tracing.shutdown)
            tracer = tracing.get_tracer(_SCOPE, __version__)
            stack.enter_context(_trace_ids_in_logs())
        try:
            yield Exported(Telemetry(record, tracer), scrape)
        finally:
            _end(endings)


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


def _end(endings: list[Callable[[], object]]) -> None:
    """Flush with a time limit: an endpoint that does not answer must not delay the shutdown."""

    def flush() -> None:
        for each in endings:
            each()

    thread = threading.Thread(target=flush, name="telemetry flush", daemon=True)
    thread.start()
    thread.join(FLUSH_SECONDS)
