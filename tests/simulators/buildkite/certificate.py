"""Certificates for the Buildkite simulator: one that a client may trust, and ways to be wrong."""

import ssl
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import trustme


class Certificate(StrEnum):
    """What the server shows. VALID is for this machine and api.buildkite.com, by `Authority.pem`'s authority."""

    VALID = "valid"
    UNTRUSTED = "untrusted"
    """By an authority that nobody knows."""
    WRONG_NAME = "wrong-name"
    EXPIRED = "expired"


class Authority:
    """A certificate authority of its own for each simulator."""

    def __init__(self) -> None:
        self._authority = trustme.CA()

    @property
    def pem(self) -> bytes:
        """The CA certificate that clients are to trust."""
        return self._authority.cert_pem.bytes()

    def context(self, certificate: Certificate) -> ssl.SSLContext:
        """A server context that shows such a certificate; TLS 1.2 or newer, HTTP/1.1."""
        issuer = trustme.CA() if certificate is Certificate.UNTRUSTED else self._authority
        names = ("localhost", "127.0.0.1", "0.0.0.0", "api.buildkite.com")  # noqa: S104  (nothing listens there)
        now = datetime.now(UTC)
        expired = certificate is Certificate.EXPIRED
        leaf = issuer.issue_cert(
            *(["elsewhere.example"] if certificate is Certificate.WRONG_NAME else names),
            not_before=now - timedelta(days=2),
            not_after=now - timedelta(days=1) if expired else now + timedelta(days=1),
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(["http/1.1"])
        leaf.configure_cert(context)
        return context
