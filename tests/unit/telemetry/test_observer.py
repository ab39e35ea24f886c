"""What is logged, counted and traced of a piece of work."""

import asyncio
import logging
from collections.abc import Callable, Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.observer import SILENT, Fact, Observer, Work
from buildkite_connector.telemetry.observer import Telemetry

Recorded = list[tuple[Work, dict[str, Fact]]]


class Ears:
    """An observer with everything it hears."""

    def __init__(self) -> None:
        self.recorded: Recorded = []
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

        def record(work: Work, seconds: float, facts: dict[str, Fact]) -> None:
            assert seconds >= 0
            self.recorded.append((work, facts))

        self.observer = Telemetry(record, self.provider.get_tracer("test"))

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())


@pytest.fixture
def ears() -> Iterator[Ears]:
    ears = Ears()
    yield ears
    ears.provider.shutdown()


def sync(observer: Observer) -> None:
    with observer.operation(Work.SYNC, connector="ns.a", sync_id="s1", trigger="Schedule") as operation:
        with observer.operation(Work.BUILDKITE_REQUEST, method="GET", path="/x") as request:
            request.tell(status=200)
        with observer.operation(Work.C1_CALL, method="Heartbeat") as call:
            call.tell(code="OK")
        operation.tell(result="success")


def test_work_within_a_sync_is_a_child_of_its_span(ears: Ears) -> None:
    sync(ears.observer)
    request, call, parent = ears.spans
    assert [request.name, call.name, parent.name] == ["request to Buildkite", "call to C1", "sync"]
    for child in (request, call):
        assert child.parent is not None
        assert child.parent.span_id == parent.context.span_id
    assert dict(request.attributes or {}) == {
        "http.request.method": "GET",
        "url.path": "/x",
        "http.response.status_code": 200,
    }
    assert dict(call.attributes or {}) == {"rpc.method": "Heartbeat", "rpc.response.status_code": "OK"}
    assert (parent.attributes or {})["buildkite_connector.result"] == "success"
    assert parent.status.is_ok


def test_a_request_to_c1s_rest_api_has_the_name_of_its_call(ears: Ears) -> None:
    with (
        ears.observer.operation(Work.SYNC, connector="ns.a"),
        ears.observer.operation(Work.C1_REST, method="POST", call="force_sync") as request,
    ):
        request.tell(status=403)
    assert (ears.spans[0].name, ears.spans[0].kind) == ("request to C1's REST API", SpanKind.CLIENT)
    assert dict(ears.spans[0].attributes or {}) == {
        "http.request.method": "POST",
        "http.response.status_code": 403,
        "buildkite_connector.call": "force_sync",
    }


def test_a_call_outside_of_any_work_is_counted_and_no_span(ears: Ears) -> None:
    with ears.observer.operation(Work.C1_CALL, method="GetTask") as call:
        call.tell(code="OK")
    assert ears.spans == []
    assert ears.recorded == [(Work.C1_CALL, {"method": "GetTask", "code": "OK"})]


@pytest.mark.parametrize(
    ("error", "facts"),
    [
        (Failure(Reason.TOKEN_REJECTED, "the token bkua_5ec4e7 is refused"), {"error": "TokenRejected"}),
        (ValueError("bkua_5ec4e7"), {"error": "ValueError"}),
        (asyncio.CancelledError("bkua_5ec4e7"), {"result": "cancelled"}),
    ],
)
def test_an_error_is_told_by_its_kind_and_never_by_its_text(
    ears: Ears, caplog: pytest.LogCaptureFixture, error: BaseException, facts: dict[str, Fact]
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(type(error)), ears.observer.operation(Work.SYNC, connector="ns.a"):
        raise error
    [(_, recorded)] = ears.recorded
    assert facts.items() <= recorded.items()
    [span] = ears.spans
    told = f"{span.to_json()} {caplog.text} {[vars(record) for record in caplog.records]}"
    assert "5ec4e7" not in told
    assert span.status.is_ok == (not isinstance(error, Exception))


def test_each_piece_of_work_is_a_line_at_debug_level_and_none_above(
    ears: Ears, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        sync(ears.observer)
    assert caplog.records == []
    with caplog.at_level(logging.DEBUG):
        sync(ears.observer)
    request = caplog.records[0]
    assert request.getMessage() == "request to Buildkite"
    assert (vars(request)["status"], vars(request)["path"]) == (200, "/x")
    assert vars(request)["milliseconds"] >= 0


@pytest.mark.parametrize("make", [lambda: SILENT, Telemetry])
def test_where_nobody_listens_work_goes_on(make: Callable[[], Observer]) -> None:
    sync(make())
