"""The vendor's flags of the OTLP collector as OpenTelemetry's variables, which go before them.

The vendor's connector sends traces and logs over gRPC; this one sends traces.
"""

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path

from buildkite_connector.cli.configuration import Configuration, SettingError
from buildkite_connector.process.files import write_own

_PREFIX = "OTEL_EXPORTER_OTLP_TRACES_"
_BEGIN = b"-----BEGIN"


def collector_variables(
    configuration: Configuration, environment: Mapping[str, str], directory: Path
) -> dict[str, str]:
    """What to add to the environment. A certificate that was given as text is put into `directory`.

    Raises SettingError.
    """
    if configuration.switch("otel-tracing-disabled"):
        return {"OTEL_TRACES_EXPORTER": "none"}
    endpoint = configuration.text("otel-collector-endpoint")
    if not endpoint or environment.get("OTEL_EXPORTER_OTLP_ENDPOINT") or environment.get(_PREFIX + "ENDPOINT"):
        return {}
    insecure = configuration.switch("otel-collector-endpoint-tls-insecure")
    scheme = "http" if insecure else "https"
    certificate = None if insecure else _certificate(configuration, directory)
    variables = {
        _PREFIX + "ENDPOINT": endpoint if "://" in endpoint else f"{scheme}://{endpoint}",
        _PREFIX + "PROTOCOL": "grpc",
        **({_PREFIX + "INSECURE": "true"} if insecure else {}),
        **({_PREFIX + "CERTIFICATE": str(certificate)} if certificate is not None else {}),
    }
    return {name: value for name, value in variables.items() if not environment.get(name)}


def _certificate(configuration: Configuration, directory: Path) -> Path | None:
    if path := configuration.text("otel-collector-endpoint-tls-cert-path"):
        return Path(path)
    text = configuration.text("otel-collector-endpoint-tls-cert").encode()
    if not text:
        return None
    if not text.startswith(_BEGIN):
        try:
            text = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            text = b""
    if not text.startswith(_BEGIN):
        raise SettingError("--otel-collector-endpoint-tls-cert", "expected a certificate in PEM, or base64 of it")
    file = directory / "collector-ca.pem"
    write_own(file, text)
    return file
