"""How the operator reaches the API server, read once into one value that every client is made from.

`client_config` reads it from files, `InClusterLogin` from the pod's service account; `connection` uses it.
"""

import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Never, Protocol
from urllib.parse import urlsplit

from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.network import Network, Proxy, Trust, parse_trust

REREAD_SECONDS = 60.0
"""Seconds after which files with tokens and certificates are read again, since they are rotated."""

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class AccessError(Exception):
    """A field or file that cannot be used. The sentence never contains its value."""


@dataclass(frozen=True, slots=True)
class Tls:
    """`trust`: the authorities, None to accept any server. `identity`: client certificate and key in PEM, or empty."""

    trust: Trust | None = None
    identity: bytes = field(default=b"", repr=False)

    @lru_cache(maxsize=2)  # noqa: B019 - the values are few and frozen
    def context(self) -> ssl.SSLContext:
        """The context for these values, cached. Raises AccessError when certificate and key do not match."""
        context = (self.trust or Trust()).ssl_context()
        if self.trust is None:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.identity:
            _load_identity(context, self.identity)
        return context


@dataclass(frozen=True, slots=True)
class Access:
    """The API server's address and the credentials for it.

    `headers` go with each request: Authorization and Impersonate-*. `proxy`: None for a direct connection.
    `secrets` must never be shown. `renew_after`: seconds after which to read it again; None: only after a 401.
    """

    server: str
    tls: Tls = Tls()
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    proxy: Proxy | None = None
    tls_server_name: str | None = None
    secrets: tuple[str, ...] = field(default=(), repr=False)
    renew_after: float | None = field(default=None, compare=False)


class ClientConfig(Protocol):
    async def load(self) -> Access:
        """Address, trust and credentials as they are now. Raises Failure (remedy: retry)."""
        ...


@dataclass(frozen=True, slots=True)
class InClusterLogin:
    """Logs in with the pod's service account. The token is read again every minute, as the kubelet rotates it."""

    environment: Mapping[str, str] = field(repr=False)
    network: Network = field(default_factory=Network, repr=False)
    directory: Path = SERVICE_ACCOUNT

    async def load(self) -> Access:
        try:
            return self._read()
        except AccessError as error:
            refuse("the pod's service account", error)

    def _read(self) -> Access:
        host, port = (self.environment.get(f"KUBERNETES_SERVICE_{part}", "") for part in ("HOST", "PORT"))
        if not host or not port:
            raise AccessError("KUBERNETES_SERVICE_HOST or KUBERNETES_SERVICE_PORT is not set")
        server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
        try:
            parts = urlsplit(server)
            usable = bool(parts.hostname) and bool(parts.port)
        except ValueError:
            usable = False
        if not usable:
            raise AccessError(
                "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not a valid address, such as 10.0.0.1 and 443"
            )
        token, authority = read_token(self.directory / "token"), self.directory / "ca.crt"
        return Access(
            server,
            Tls(certificates(read_file(authority), str(authority))),
            headers=(bearer(token),),
            proxy=self.network.proxy_for(server),
            secrets=(token,),
            renew_after=REREAD_SECONDS,
        )


def refuse(what: str, error: AccessError) -> Never:
    raise Failure(
        Reason.KUBERNETES_REFUSED,
        f"The Kubernetes API cannot be reached with {what}: {error}."
        " Set KUBECONFIG to a usable file, or run in a pod with a service account.",
    ) from None


def bearer(token: str) -> tuple[str, str]:
    return "Authorization", f"Bearer {token}"


def read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else None
        raise AccessError(f"{path} cannot be read ({why or 'no usable path'})") from None


def read_token(path: Path) -> str:
    """Return the token in a file, without surrounding white space."""
    try:
        token = read_file(path).decode("ascii").strip()
    except UnicodeDecodeError:
        raise AccessError(f"{path} does not contain a token: it is not ASCII") from None
    if not token:
        raise AccessError(f"{path} is empty; it must contain a token")
    return sendable(token, f"the token in {path}")


def sendable(value: str, what: str) -> str:
    """`value`, if an HTTP header can carry it: what cannot be sent must not end up in a library's error message."""
    if not value.isprintable():
        raise AccessError(f"{what} contains a line break or another character that is not allowed in HTTP headers")
    return value


def certificates(pem: bytes, what: str) -> Trust:
    """Trust in the certificates of a PEM file alone."""
    trust = parse_trust(pem)
    if not trust.certificates:
        raise AccessError(f"{what} does not contain a certificate in PEM")
    return trust


def _load_identity(context: ssl.SSLContext, identity: bytes) -> None:
    """Load the client certificate and key through a temporary file: the ssl module reads them only from files."""

    def no_password() -> Never:
        raise AccessError("the client key is encrypted; decrypt it, because the operator cannot ask for a password")

    try:
        with tempfile.NamedTemporaryFile(buffering=0) as file:  # of mode 0600
            file.write(identity)
            context.load_cert_chain(file.name, password=no_password)
    except ssl.SSLError:
        raise AccessError("the client certificate and the client key do not match, or are not in PEM") from None
    except OSError as error:
        raise AccessError(
            f"a temporary file cannot be created ({error.strerror}); set TMPDIR to a writable directory"
        ) from None
