"""Receivers of OpenTelemetry's OTLP on loopback: over HTTP, keeping spans and the names of metrics, and over gRPC."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import grpc
from aiohttp import web
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


@dataclass(frozen=True)
class ReceivedSpan:
    """Ids in hex, as logs have them."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]
    failed: bool


@dataclass
class OtlpReceiver:
    """Enter it to serve; `url` is what OTEL_EXPORTER_OTLP_ENDPOINT takes."""

    spans: list[ReceivedSpan] = field(default_factory=list)
    metrics: set[str] = field(default_factory=set)
    resources: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    url: str = ""
    tls: ssl.SSLContext | None = None

    async def __aenter__(self) -> Self:
        self._changed = asyncio.Condition()
        app = web.Application()
        app.router.add_post("/v1/traces", self._traces)
        app.router.add_post("/v1/metrics", self._metrics)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self.tls)
        await site.start()
        self.port: int = self._runner.addresses[0][1]
        self.url = f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def until(self, holds: Callable[["OtlpReceiver"], object], seconds: float = 30.0) -> None:
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(lambda: holds(self))

    def named(self, name: str) -> list[ReceivedSpan]:
        return [span for span in self.spans if span.name == name]

    async def _traces(self, request: web.Request) -> web.Response:
        body = await self._body(request)
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resources.append(_attributes(group.resource.attributes))
            for scope in group.scope_spans:
                self.spans += [
                    ReceivedSpan(
                        span.name,
                        span.trace_id.hex(),
                        span.span_id.hex(),
                        span.parent_span_id.hex(),
                        _attributes(span.attributes),
                        span.status.code == 2,
                    )
                    for span in scope.spans
                ]
        return await self._answer()

    async def _metrics(self, request: web.Request) -> web.Response:
        body = await self._body(request)
        for group in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            self.metrics.update(metric.name for scope in group.scope_metrics for metric in scope.metrics)
        return await self._answer()

    async def _body(self, request: web.Request) -> bytes:
        body = await request.read()
        self.headers.append(dict(request.headers))
        self.bodies.append(body)
        return body

    async def _answer(self) -> web.Response:
        async with self._changed:
            self._changed.notify_all()
        return web.Response(body=b"", content_type="application/x-protobuf")


@contextlib.asynccontextmanager
async def grpc_receiver(credentials: grpc.ServerCredentials | None = None) -> AsyncIterator[tuple[int, list[str]]]:
    """Its port, and the names of the spans that it received. Without `credentials` it speaks no TLS."""
    names: list[str] = []

    async def export(request: ExportTraceServiceRequest, _: object) -> ExportTraceServiceResponse:
        names.extend(span.name for group in request.resource_spans for each in group.scope_spans for span in each.spans)
        return ExportTraceServiceResponse()

    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(
        export, ExportTraceServiceRequest.FromString, ExportTraceServiceResponse.SerializeToString
    )
    name = "opentelemetry.proto.collector.trace.v1.TraceService"
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(name, {"Export": handler})])
    port = (
        server.add_insecure_port("127.0.0.1:0")
        if credentials is None
        else server.add_secure_port("127.0.0.1:0", credentials)
    )
    await server.start()
    try:
        yield port, names
    finally:
        await server.stop(0)


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
