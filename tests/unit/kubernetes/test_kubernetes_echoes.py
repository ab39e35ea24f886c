"""What the API server says is shown on one bounded line, without the operator's own token."""

import base64
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
import trustme
import yaml

from buildkite_connector.kubernetes.client import KubernetesApi, connect
from buildkite_connector.kubernetes.client_config import KubeconfigLogin
from buildkite_connector.kubernetes.connection import ApiError
from buildkite_connector.model.failure import Failure
from buildkite_connector.timing.clock import SystemClock
from unit.hostile.http_server import HostileServer

TOKEN = "eyJhbGciOiJSUzI1NiJ9.service+account/token.signature0123456789"
ENCODINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "percent-encoded": lambda text: quote(text, safe=""),
    "in base64": lambda text: base64.b64encode(text.encode()).decode(),
}


@asynccontextmanager
async def api_that_says(status: int, body: bytes, reason: str, folder: Path) -> AsyncIterator[KubernetesApi]:
    """A client, with a token, of an API server that answers everything so."""
    head = f"HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    async with HostileServer({".*": lambda _: [head.encode(), body]}).running(tls) as origin:
        trusted = {"certificate-authority-data": base64.b64encode(authority.cert_pem.bytes()).decode()}
        kubeconfig = {
            "clusters": [{"name": "c", "cluster": {"server": origin, **trusted}}],
            "users": [{"name": "u", "user": {"token": TOKEN}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        path = folder / "kubeconfig"
        path.write_text(yaml.safe_dump(kubeconfig))
        async with connect(KubeconfigLogin(str(path)), SystemClock(), "pod-1") as api:
            yield api


async def said(status: int, body: bytes, reason: str, folder: Path) -> str:
    """What is shown of such an answer."""
    async with api_that_says(status, body, reason, folder) as api:
        with pytest.raises((ApiError, Failure)) as caught:
            await api.read_secret("default", "s")
    return f"{caught.value}"


@pytest.mark.parametrize("encoded", ENCODINGS.values(), ids=ENCODINGS.keys())
@pytest.mark.parametrize("status", [401, 403, 422, 429, 500])
async def test_a_token_that_the_api_server_repeats_is_taken_out(
    status: int, encoded: Callable[[str], str], tmp_path: Path
) -> None:
    repeated = f"no, {encoded(TOKEN)}"

    in_body = await said(status, json.dumps({"message": repeated}).encode(), "No", tmp_path)
    in_reason = await said(status, b"not JSON", repeated, tmp_path)

    for shown in (in_body, in_reason):
        assert "no, [redacted]" in shown
        assert encoded(TOKEN)[:20] not in shown


@pytest.mark.parametrize("status", [403, 500])
async def test_a_long_text_with_control_characters_becomes_one_short_line(status: int, tmp_path: Path) -> None:
    shown = await said(status, json.dumps({"message": "a\x1b[31m\n\u202eb" * 100_000}).encode(), "No", tmp_path)

    assert shown.isprintable()
    assert len(shown) < 700


async def test_deep_json_is_no_traceback(tmp_path: Path) -> None:
    assert "No" in await said(403, b"[" * 100_000, "No", tmp_path)
