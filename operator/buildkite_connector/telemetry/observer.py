"""Makes logs, metrics and spans of what the connectors of the process do (`model.observer`)."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from opentelemetry import trace

from buildkite_connector.model.failure import Failure
from buildkite_connector.model.observer import Fact, Operation, Result, Work

logger = logging.getLogger(__name__)

Record = Callable[[Work, float, dict[str, Fact]], None]
"""Takes a piece of work that has ended: its kind, its seconds, its facts."""

_ROOTS = frozenset({Work.SYNC, Work.TASK})
"""What has a span of its own; other work has one only within these, so that idle polls have none."""
_CLIENT_CALLS = frozenset({Work.BUILDKITE_REQUEST, Work.C1_CALL, Work.C1_TOKEN})
_PREFIX = "buildkite_connector."
_ATTRIBUTES = {
    "method": "http.request.method",
    "status": "http.response.status_code",
    "path": "url.path",
    "error": "error.type",
}
"""Facts of requests that OpenTelemetry's conventions have a name for."""


class _Told:
    __slots__ = ("facts",)

    def __init__(self, facts: dict[str, Fact]) -> None:
        self.facts = facts

    def tell(self, **facts: Fact) -> None:
        self.facts.update(facts)


class Telemetry:
    """The process's observer. `record` takes what metrics are made of; `tracer` None: there are no spans."""

    def __init__(self, record: Record | None = None, tracer: trace.Tracer | None = None) -> None:
        self._record = record
        self._tracer = tracer

    @contextmanager
    def operation(self, work: Work, **facts: Fact) -> Iterator[Operation]:
        told = _Told(facts)
        begun = time.perf_counter()
        try:
            tracer = self._tracer
            if tracer is not None and (work in _ROOTS or trace.get_current_span().get_span_context().is_valid):
                with _span(tracer, work, told):
                    yield told
            else:
                yield told
        except asyncio.CancelledError:
            told.facts.setdefault("result", Result.CANCELLED.value)
            raise
        except Exception as error:
            told.facts.setdefault("error", _kind(error))
            told.facts.setdefault("result", Result.FAILED.value)
            raise
        finally:
            seconds = time.perf_counter() - begun
            if logger.isEnabledFor(logging.DEBUG):
                logger.debug("%s", work.value, extra={**told.facts, "milliseconds": round(seconds * 1000)})
            if self._record is not None:
                self._record(work, seconds, told.facts)


@contextmanager
def _span(tracer: trace.Tracer, work: Work, told: _Told) -> Iterator[None]:
    """The facts as the span's attributes; an error by its kind alone, since its text may repeat a server's."""
    kind = trace.SpanKind.CLIENT if work in _CLIENT_CALLS else trace.SpanKind.INTERNAL
    with tracer.start_as_current_span(
        work.value, kind=kind, record_exception=False, set_status_on_exception=False
    ) as span:
        try:
            yield
        except asyncio.CancelledError:
            told.facts.setdefault("result", Result.CANCELLED.value)
            raise
        except Exception as error:
            told.facts.setdefault("error", _kind(error))
            raise
        finally:
            for name, fact in told.facts.items():
                span.set_attribute(_attribute(work, name), fact)
            if "error" in told.facts or told.facts.get("result") == Result.FAILED.value:
                span.set_status(trace.Status(trace.StatusCode.ERROR))


def _attribute(work: Work, fact: str) -> str:
    if work is Work.C1_CALL:
        return {"method": "rpc.method", "code": "rpc.response.status_code", "error": "error.type"}.get(
            fact, _PREFIX + fact
        )
    return _ATTRIBUTES.get(fact, _PREFIX + fact)


def _kind(error: Exception) -> str:
    return error.reason.value if isinstance(error, Failure) else type(error).__name__
