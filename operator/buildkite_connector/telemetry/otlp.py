"""OTLP exporters with the same proxies and authorities as every other client of the process.

An exporter reads its own variables; only a CA file of its own (OTEL_EXPORTER_OTLP_CERTIFICATE) takes the place of the
process's authorities. Each protocol's libraries are loaded where it is used.
"""

import logging
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import requests
from opentelemetry.sdk.metrics.export import MetricExporter
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.util.re import parse_env_headers
from requests.adapters import HTTPAdapter

from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.redactor import Redactor
from buildkite_connector.network import Network, Proxy
from buildkite_connector.network.connection_errors import ConnectionTrouble, refused_by_proxy, through, untrusted

# ruff: noqa: PLC0415  (see above)


def check_otlp(environment: Mapping[str, str], network: Network, signal: str) -> None:
    """Raises Failure naming the variable of a signal (METRICS or TRACES) that cannot be used."""
    logging.getLogger("opentelemetry.util.re").addFilter(_drop)  # it quotes headers, credentials and all
    variable, headers = _setting(environment, signal, "HEADERS")
    if not all(parse_env_headers(each, liberal=True) for each in headers.split(",") if each.strip()):
        raise _unusable(
            f"{variable} is not like name=value, with commas between several. Correct the variable; percent-encode"
            " special characters of a value (a comma as %2C)."
        )
    variable, protocol = _setting(environment, signal, "PROTOCOL")
    if protocol.strip() not in {"", "grpc", "http/protobuf"}:
        raise _unusable(f"{variable} is {protocol.strip()!r}; use grpc or http/protobuf.")
    variable, endpoint = _setting(environment, signal, "ENDPOINT")
    if _by_grpc(environment, signal):
        endpoint = f"https://{_grpc_target(endpoint)}"
    try:
        _ = urlsplit(endpoint).port
        network.proxy_for(endpoint)
    except ValueError:  # whose text may hold a part of a password
        raise _unusable(
            f"{variable} is not a URL like http://collector:4318: its host or port is invalid. Correct the variable."
        ) from None


def otlp_metrics(environment: Mapping[str, str], network: Network) -> MetricExporter:
    if _by_grpc(environment, "METRICS"):
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcExporter

        return GrpcExporter(**_grpc_arguments(environment, network, "METRICS"))
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

    return OTLPMetricExporter(session=otlp_session(network))


def otlp_spans(environment: Mapping[str, str], network: Network) -> SpanExporter:
    if _by_grpc(environment, "TRACES"):
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter

        return GrpcExporter(**_grpc_arguments(environment, network, "TRACES"))
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter(session=otlp_session(network))


def _drop(_: logging.LogRecord) -> bool:
    return False


def _unusable(sentence: str) -> Failure:
    return Failure(Reason.SPEC_INVALID, sentence, remedy=Remedy.EDIT)


def _setting(environment: Mapping[str, str], signal: str, name: str) -> tuple[str, str]:
    """The effective variable of the signal and its value, empty where neither its own nor the shared one is set."""
    own, shared = f"OTEL_EXPORTER_OTLP_{signal}_{name}", f"OTEL_EXPORTER_OTLP_{name}"
    return next(
        ((each, environment[each]) for each in (own, shared) if environment.get(each, "").strip()), (shared, "")
    )


def _by_grpc(environment: Mapping[str, str], signal: str) -> bool:
    return _setting(environment, signal, "PROTOCOL")[1].strip() == "grpc"


def _grpc_target(endpoint: str) -> str:
    return endpoint.rpartition("://")[2].partition("/")[0] or "localhost:4317"


def _grpc_arguments(environment: Mapping[str, str], network: Network, signal: str) -> dict[str, Any]:
    """Proxy and authorities of an exporter over gRPC; it reads its endpoint and its own certificates by itself."""
    import grpc

    target = _grpc_target(_setting(environment, signal, "ENDPOINT")[1])
    credentials = None
    if not _setting(environment, signal, "CERTIFICATE")[1]:
        credentials = grpc.ssl_channel_credentials(root_certificates=network.trust.pem)
    return {"credentials": credentials, "channel_options": network.grpc_options(target)}


def otlp_session(network: Network) -> requests.Session:
    """A session that reads no variable for proxies and authorities, and no netrc file."""
    session = requests.Session()
    session.trust_env = False
    adapter = _NetworkAdapter(network)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


class _NetworkAdapter(HTTPAdapter):
    """Chooses the proxy for each URL. `verify` True, the exporter's default, means the network's authorities; a file
    means that file alone."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._context = network.trust.ssl_context()
        super().__init__()

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: Any, cert: Any = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        host, pool = super().build_connection_pool_key_attributes(request, verify, cert)
        return host, {**pool, "ssl_context": self._context} if verify is True else pool

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        super().cert_verify(conn, url, verify, cert)
        if verify is True:
            conn.ca_certs = None  # certifi's, which the adapter adds

    def send(self, request: requests.PreparedRequest, *arguments: Any, **options: Any) -> requests.Response:
        """Raises what the exporter logs: a better sentence than urllib3's, where there is one.

        The exporter retries ConnectionError, but not RequestException.
        """
        url = request.url or ""
        try:
            proxy = self._network.proxy_for(url)
        except Failure as failure:  # for a redirect: the endpoint itself is asked for at the start
            raise requests.exceptions.RequestException(failure.message, request=request) from None
        options["proxies"] = {urlsplit(url).scheme: proxy.url} if proxy else {}
        try:
            return super().send(request, *arguments, **options)
        except requests.exceptions.ConnectionError as error:
            trouble = _trouble(error, urlsplit(url).hostname or "", proxy)
            if trouble is None:
                raise
            kind = type(error) if trouble.again else requests.exceptions.RequestException
            raise kind(f"{trouble.what}. {trouble.advice}", request=request) from None


def _trouble(error: Exception, host: str, proxy: Proxy | None) -> ConnectionTrouble | None:
    text = Redactor(proxy.secrets if proxy else ()).quote(str(error))
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return untrusted(text, host, proxy)
    if proxy is None:
        return None
    if status := re.search(r"Tunnel connection failed: ([1-5][0-9]{2})\b", text):
        return refused_by_proxy(proxy, int(status[1]), host)
    return through(proxy, f"the connection failed ({text})")
