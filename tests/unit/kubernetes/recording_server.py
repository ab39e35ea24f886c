"""An API server on loopback that keeps who asked and how: by TLS, the headers and the client certificate."""

import asyncio
import base64
import json
import ssl
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import trustme
import yaml

from buildkite_connector.kubernetes.access import Access
from buildkite_connector.kubernetes.client import KubernetesApi, connect
from buildkite_connector.kubernetes.client_config import ClientConfig
from buildkite_connector.kubernetes.informer import Informer, WatchSettings
from buildkite_connector.kubernetes.watch import Pulse, WatchSession
from buildkite_connector.model.failure import Failure
from buildkite_connector.timing.clock import SystemClock

TOKEN = "token-of-the-file"
EXEC_EXTENSIONS = [{"name": "client.authentication.k8s.io/exec", "extension": {"audience": "a"}}]
"""What of a cluster's extensions is for plugins."""
SECRET_PATH = "/api/v1/namespaces/default/secrets/s"


@dataclass(frozen=True)
class Seen:
    """One request. `name`: what TLS was asked for (SNI), None for an address; `client`: of the client certificate."""

    name: str | None
    client: str | None
    target: str
    headers: tuple[tuple[str, str], ...]

    def all(self, name: str) -> list[str]:
        return [value for each, value in self.headers if each == name.lower()]

    def one(self, name: str) -> str | None:
        values = self.all(name)
        return values[0] if len(values) == 1 else None


@dataclass
class RecordingServer:
    """Answers each request with an empty object, or with 401 where `accepts` says no. Plain http without `ca`."""

    ca: trustme.CA | None = field(default_factory=trustme.CA)
    host: str = "127.0.0.1"
    names: tuple[str, ...] = ("127.0.0.1", "::1")
    accepts: Callable[[Seen], bool] = lambda _: True
    seen: list[Seen] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.ca else 'http'}://{host}:{self.port}"

    @property
    def authority(self) -> bytes:
        assert self.ca is not None
        return self.ca.cert_pem.bytes()

    def client(self, name: str) -> tuple[bytes, bytes]:
        """Certificate and key of a client of this name."""
        assert self.ca is not None
        leaf = self.ca.issue_cert(f"{name}.test", common_name=name)
        return leaf.cert_chain_pems[0].bytes(), leaf.private_key_pem.bytes()

    async def __aenter__(self) -> Self:
        self._writers: list[asyncio.StreamWriter] = []
        self._server = await asyncio.start_server(self._accept, self.host, 0, ssl=self._context())
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    def _context(self) -> ssl.SSLContext | None:
        self._name: str | None = None
        if self.ca is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(*self.names).configure_cert(context)
        self.ca.configure_trust(context)
        context.verify_mode = ssl.CERT_OPTIONAL

        def keep(_: object, name: str | None, __: object) -> None:
            self._name = name

        context.sni_callback = keep
        return context

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        name, peer = self._name, writer.get_extra_info("peercert") or {}
        client = next((value for part in peer.get("subject", ()) for key, value in part if key == "commonName"), None)
        with suppress(asyncio.IncompleteReadError, OSError):
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                lines = head.split("\r\n")[:-2]
                pairs = (line.split(": ", 1) for line in lines[1:])
                seen = Seen(name, client, lines[0].split(" ")[1], tuple((key.lower(), value) for key, value in pairs))
                self.seen.append(seen)
                line = b"200 OK" if self.accepts(seen) else b"401 Unauthorized"
                writer.write(b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}" % line)
                await writer.drain()


@dataclass
class Kubeconfig:
    """A file that leads to the server with a token; `cluster`, `user`, `top` change it: None takes a field away."""

    server: RecordingServer
    path: Path

    @property
    def folder(self) -> Path:
        return self.path.parent

    def write(
        self,
        cluster: Mapping[str, Any] | None = None,
        user: Mapping[str, Any] | None = None,
        top: Mapping[str, Any] | None = None,
    ) -> Path:
        trusted = {"certificate-authority-data": base64_of(self.server.authority)} if self.server.ca else {}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "x",
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": _changed({"server": self.server.url, **trusted}, cluster)}],
            "users": [{"name": "u", "user": _changed({"token": TOKEN}, user)}],
        }
        self.path.write_text(yaml.safe_dump(_changed(config, top)))
        return self.path

    def keep(self, name: str, content: bytes | str) -> str:
        """A file beside the kubeconfig; its relative name."""
        (self.folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return name


def base64_of(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _changed(fields: dict[str, Any], changes: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in {**fields, **(changes or {})}.items() if value is not None}


class Accesses:
    """A login that gives one access or failure after the other, the last one for ever; while `may_end` is set."""

    def __init__(self, *given: Access | Failure) -> None:
        self.loads = 0
        self.loading, self.may_end = asyncio.Event(), asyncio.Event()
        self.may_end.set()
        self._left = list(given)

    async def load(self) -> Access:
        self.loads += 1
        self.loading.set()
        await self.may_end.wait()
        now = self._left.pop(0) if len(self._left) > 1 else self._left[0]
        if isinstance(now, Failure):
            raise now
        return now


async def ask(login: ClientConfig, server: RecordingServer) -> list[Seen]:
    """What the server sees of one call of the operator, and of one by the session that kopf gets."""
    began = len(server.seen)
    async with connect(login, SystemClock(), "pod-1", request_seconds=10.0) as api:
        await read(api)
        session = kopf_session(api)
        await session.request("get", f"{api.connection.access.server}{SECRET_PATH}")
    return server.seen[began:]


def kopf_session(api: KubernetesApi) -> WatchSession:
    """The session that kopf gets, of an operator with no resources."""
    informer = Informer(unexpected, unexpected, asyncio.Event())
    return WatchSession(api, informer, WatchSettings(), Pulse())


def unexpected(*what: object) -> None:
    raise AssertionError(what)


async def read(api: KubernetesApi) -> None:
    await api.read_secret("default", "s")


def plugin(kubeconfig: Kubeconfig, status: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """An `exec` whose program gives this status, and writes what it was told and its arguments beside itself."""
    credential = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}
    script = (
        f"#!{sys.executable} -I\n"
        "import json, os, pathlib, sys\n"
        "here = pathlib.Path(__file__).parent\n"
        "told = {name: os.environ.get(name) for name in ('KUBERNETES_EXEC_INFO', 'PROFILE', 'PATH')}\n"
        "with (here / 'runs').open('a') as runs:\n"
        "    print(json.dumps({'arguments': sys.argv[1:], **told}), file=runs)\n"
        f"print({json.dumps(credential)!r})\n"
    )
    (kubeconfig.folder / "plugin").write_text(script)
    (kubeconfig.folder / "plugin").chmod(0o755)
    fields = {
        "command": "./plugin",
        "apiVersion": "client.authentication.k8s.io/v1",
        "interactiveMode": "IfAvailable",
        **changes,
    }
    return {name: value for name, value in fields.items() if value is not None}


def runs(kubeconfig: Kubeconfig) -> list[dict[str, Any]]:
    """Each run of the program, with what it was told."""
    return [json.loads(line) for line in (kubeconfig.folder / "runs").read_text().splitlines()]


def with_plugin(status: Mapping[str, Any] | None = None, **changes: Any) -> Callable[[Kubeconfig], None]:
    def write(kubeconfig: Kubeconfig) -> None:
        made = plugin(kubeconfig, {"token": "of-the-plugin"} if status is None else status, **changes)
        kubeconfig.write(user={"token": None, "exec": made})

    return write
