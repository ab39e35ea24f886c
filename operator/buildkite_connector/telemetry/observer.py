"""Turns the work of the process's connectors (`model.observer`) into logs, metrics and spans."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from opentelemetry import trace
from opentelemetry.metrics import Histogram, Meter
from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer

from buildkite_connector.model.failure import Failure
from buildkite_connector.model.observer import Fact, Observer, Operation, Result, Work
from buildkite_connector.telemetry.gauges import PREFIX

logger = logging.getLogger(__name__)

Record = Callable[[Work, float, dict[str, Fact]], None]

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Bounds of the histograms of calls."""
LONG_SECONDS = (1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0)
"""Bounds of the histograms of syncs and deliveries."""

_ROOTS = frozenset({Work.SYNC, Work.TASK})
"""Work with a span of its own. Other work has one only within these, so that idle polls have none."""
_CLIENT_CALLS = frozenset({Work.BUILDKITE_REQUEST, Work.C1_CALL, Work.C1_TOKEN, Work.C1_REST})
_HTTP = {
    "method": "http.request.method",
    "status": "http.response.status_code",
    "path": "url.path",
    "error": "error.type",
}
_RPC = {"method": "rpc.method", "code": "rpc.response.status_code", "error": "error.type"}
"""Facts that OpenTelemetry's conventions name; the others are attributes with PREFIX."""


class Metrics:
    """Counts work that has ended."""

    def __init__(self, meter: Meter) -> None:
        def histogram(name: str, text: str, *bounds: float) -> Histogram:
            return meter.create_histogram(name, "s", text, explicit_bucket_boundaries_advisory=bounds)

        self._syncs = meter.create_counter(PREFIX + "syncs", "{sync}", "Syncs that ended.")
        self._sync_seconds = histogram(
            PREFIX + "sync.duration",
            "How long syncs took, from their first request to the staged snapshot.",
            *LONG_SECONDS,
        )
        self._quota_wait = meter.create_counter(
            PREFIX + "buildkite.quota.wait", "s", "How long syncs waited for Buildkite's rate-limit windows."
        )
        self._deliveries = meter.create_counter(PREFIX + "deliveries", "{delivery}", "Uploads to C1 that ended.")
        self._delivery_seconds = histogram(PREFIX + "delivery.duration", "How long uploads to C1 took.", *LONG_SECONDS)
        self._tasks = meter.create_counter(PREFIX + "c1.tasks", "{task}", "C1's tasks that ended.")
        self._changes = meter.create_counter(
            PREFIX + "membership.changes", "{task}", "C1's grant and revoke tasks that ended, by what came of them."
        )
        self._http_seconds = histogram(
            "http.client.request.duration", "Requests to Buildkite, and to C1's token endpoint and REST API.", *SECONDS
        )
        self._rpc_seconds = histogram("rpc.client.call.duration", "Calls to C1.", *SECONDS, 60.0, 300.0)

    def record(self, work: Work, seconds: float, facts: dict[str, Fact]) -> None:
        result = facts.get("result", Result.FAILED.value if "error" in facts else Result.SUCCESS.value)
        match work:
            case Work.SYNC:
                labels = {"result": result, "trigger": facts["trigger"], "reason": facts.get("reason", "")}
                self._syncs.add(1, labels)
                self._sync_seconds.record(seconds, {"result": result})
                self._quota_wait.add(float(facts.get("throttled_seconds", 0.0)))
            case Work.DELIVERY:
                self._deliveries.add(1, {"result": result})
                self._delivery_seconds.record(seconds, {"result": result})
            case Work.TASK:
                self._tasks.add(1, {"kind": facts["kind"], "result": result})
            case Work.CHANGE:
                self._changes.add(1, {"action": facts["action"], "result": result})
            case Work.C1_CALL:
                code = facts.get("code", facts.get("error", ""))
                self._rpc_seconds.record(seconds, {"rpc.method": facts["method"], "rpc.response.status_code": code})
            case Work.BUILDKITE_REQUEST | Work.C1_TOKEN | Work.C1_REST:
                labels = {_HTTP[fact]: facts[fact] for fact in ("method", "status", "error") if fact in facts}
                labels["server"] = "buildkite" if work is Work.BUILDKITE_REQUEST else "c1"
                self._http_seconds.record(seconds, labels)


class Telemetry(Observer):
    """The process's observer. `record` takes work that has ended: its kind, its seconds, its facts.

    `record` None: nothing is counted; `tracer` None: there are no spans.
    """

    def __init__(self, record: Record | None = None, tracer: Tracer | None = None) -> None:
        self._record = record
        self._tracer = tracer

    @contextmanager
    def operation(self, work: Work, **facts: Fact) -> Iterator[Operation]:
        begun = time.perf_counter()
        with self._span(work, facts):
            try:
                yield Operation(facts)
            except asyncio.CancelledError:
                facts.setdefault("result", Result.CANCELLED.value)
                raise
            except Exception as error:
                # By its kind alone: its text may repeat a server's.
                kind = error.reason.value if isinstance(error, Failure) else type(error).__name__
                facts.setdefault("error", kind)
                raise
            finally:
                seconds = time.perf_counter() - begun
                if logger.isEnabledFor(logging.DEBUG):
                    logger.debug("%s", work.value, extra={**facts, "milliseconds": round(seconds * 1000)})
                if self._record is not None:
                    self._record(work, seconds, facts)

    def _span(self, work: Work, facts: dict[str, Fact]) -> AbstractContextManager[None]:
        tracer = self._tracer
        if tracer is None or not (work in _ROOTS or trace.get_current_span().get_span_context().is_valid):
            return nullcontext()
        return _span(tracer, work, facts)


@contextmanager
def _span(tracer: Tracer, work: Work, facts: dict[str, Fact]) -> Iterator[None]:
    """A span whose attributes are the facts that are known at its end."""
    kind = SpanKind.CLIENT if work in _CLIENT_CALLS else SpanKind.INTERNAL
    names = _RPC if work is Work.C1_CALL else _HTTP
    with tracer.start_as_current_span(
        work.value, kind=kind, record_exception=False, set_status_on_exception=False
    ) as span:
        try:
            yield
        finally:
            span.set_attributes({names.get(fact, PREFIX + fact): value for fact, value in facts.items()})
            if "error" in facts or facts.get("result") == Result.FAILED.value:
                span.set_status(Status(StatusCode.ERROR))
