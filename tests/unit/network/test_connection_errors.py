"""What gRPC says of a connection that did not come about, in the words of the product."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest
import trustme

from buildkite_connector.network import read_proxies
from buildkite_connector.network.connection_errors import EGRESS, ConnectionTrouble, from_grpc
from simulators.sockets import stop_listening

CA = trustme.CA()
PROXY = read_proxies({"HTTPS_PROXY": "http://proxy.example:3128"}).proxy_for("https://acme.conductor.one")
ANSWERS = {
    "plain HTTP on the port": (b"HTTP/1.1 400 Bad Request\r\n\r\n", "WRONG_VERSION_NUMBER"),
    "the alert handshake_failure": (b"\x15\x03\x03\x00\x02\x02\x28", "HANDSHAKE_FAILURE"),
    "the alert unrecognized_name": (b"\x15\x03\x03\x00\x02\x02\x70", "UNRECOGNIZED_NAME"),
    "the alert bad_certificate": (b"\x15\x03\x03\x00\x02\x02\x2a", "BAD_CERTIFICATE"),
    "the alert unknown_ca": (b"\x15\x03\x03\x00\x02\x02\x30", "UNKNOWN_CA"),
}


@asynccontextmanager
async def listening(answer: bytes, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A port that gives this to whoever has sent something, and closes."""

    async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(5000)
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(answered, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        stop_listening(server)


async def details_of_grpc(port: int) -> str:
    credentials = grpc.ssl_channel_credentials(CA.cert_pem.bytes())
    options = (("grpc.enable_http_proxy", 0),)
    async with grpc.aio.secure_channel(f"dns:///localhost:{port}", credentials, options=options) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/a/b")(b"", timeout=30)
    return caught.value.details() or ""


@pytest.mark.parametrize("answer", ANSWERS)
async def test_a_handshake_that_fails_is_not_called_an_untrusted_certificate(answer: str) -> None:
    sent, named = ANSWERS[answer]
    async with listening(sent) as port:
        details = await details_of_grpc(port)
    trouble = from_grpc(details, "localhost", None, str)
    by_proxy = from_grpc(details, "localhost", PROXY, str)

    assert trouble == ConnectionTrouble(f"TLS failed ({details})", EGRESS)
    assert named in trouble.what
    assert by_proxy is not None
    assert by_proxy.what == f"TLS failed ({details}), through the proxy proxy.example:3128 (HTTPS_PROXY)"
    assert by_proxy.advice.startswith("Check HTTPS_PROXY and NO_PROXY")


@pytest.mark.parametrize(
    ("authority", "name", "said"),
    [
        (trustme.CA(), "localhost", "CERTIFICATE_VERIFY_FAILED"),
        (CA, "other.example", "Hostname Verification Check failed"),
    ],
)
async def test_a_certificate_that_does_not_verify_is_called_that(authority: trustme.CA, name: str, said: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["h2"])
    authority.issue_cert(name).configure_cert(context)
    async with listening(b"", context) as port:
        trouble = from_grpc(await details_of_grpc(port), "localhost", None, str)

    assert trouble is not None
    assert "the TLS certificate of localhost could not be verified: " in trouble.what
    assert said in trouble.what
    assert "SSL_CERT_FILE" in trouble.advice


@pytest.mark.parametrize("host", ["ssl.acme.example", "certificate.acme.example", "handshake.acme.example"])
def test_a_host_that_dns_does_not_know_is_no_trouble_with_tls_whatever_its_name(host: str) -> None:
    details = f"errors resolving {host}:443: [field:hostname lookup error:Domain name not found]"
    through = from_grpc(details, host, PROXY, str)

    assert from_grpc(details, host, None, str) is None
    assert through is not None
    assert through.what.startswith("the connection failed (errors resolving ")
