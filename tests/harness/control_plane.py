"""A real Kubernetes API for the end-to-end suite and the demo: etcd and kube-apiserver, nothing else.

No controller runs: a namespace that is deleted stays in `Terminating`, no Pod starts, nothing is
garbage-collected. What this project needs of Kubernetes is all in the API server: CRDs with CEL, server-side
apply, watches, RBAC. Where no binaries are, `simulators.kubernetes` stands in; `E2E_KUBECONFIG` names an
existing cluster to use instead.

Everything here blocks: call it through `asyncio.to_thread` where an event loop must go on.
"""

import json
import os
import shutil
import signal
import ssl
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import trustme
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from harness.control_plane_process import ServerProcess, free_port

DEFAULT_ASSETS = Path("/usr/local/kubebuilder/bin")
ASSETS_VARIABLE = "KUBEBUILDER_ASSETS"
CLUSTER_VARIABLE = "E2E_KUBECONFIG"


class KubectlError(Exception):
    """kubectl refused; `stderr` is what it said, as a person would read it."""

    def __init__(self, args: Sequence[str], code: int, stderr: str) -> None:
        super().__init__(f"kubectl {' '.join(args)} exited with {code}: {stderr.strip()}")
        self.stderr = stderr


@dataclass(frozen=True, slots=True)
class Assets:
    """The binaries of a control plane, as `setup-envtest` lays them out."""

    etcd: Path
    kube_apiserver: Path
    kubectl: Path


def _assets_directory() -> Path:
    return Path(os.environ.get(ASSETS_VARIABLE) or DEFAULT_ASSETS)


def _find_kubectl() -> Path | None:
    beside = _assets_directory() / "kubectl"
    if beside.exists():
        return beside
    found = shutil.which("kubectl")
    return Path(found) if found else None


def find_assets() -> Assets | None:
    """The binaries to run a control plane with, or None when one is missing."""
    directory = _assets_directory()
    etcd, apiserver, kubectl = directory / "etcd", directory / "kube-apiserver", _find_kubectl()
    if not etcd.exists() or not apiserver.exists() or kubectl is None:
        return None
    return Assets(etcd, apiserver, kubectl)


def missing_assets() -> str:
    """What stands in the way of a real API server, and how to get one; empty when nothing does."""
    directory = _assets_directory()
    missing = [name for name in ("etcd", "kube-apiserver") if not (directory / name).exists()]
    if os.environ.get(CLUSTER_VARIABLE):
        missing = []
    if _find_kubectl() is None:
        missing.append("kubectl")
    if not missing:
        return ""
    return (
        f"No real Kubernetes API server: {', '.join(missing)} not found in {directory}. Either run "
        f"`setup-envtest use` and set {ASSETS_VARIABLE} to what `setup-envtest use -p path` prints, or use a "
        f"cluster: `kind create cluster`, `kind get kubeconfig > kubeconfig`, {CLUSTER_VARIABLE}=kubeconfig "
        "(kubectl must be on the PATH)."
    )


class Cluster:
    """An existing cluster, reached through a kubeconfig file; `with` gives kubectl a place for its cache."""

    def __init__(self, kubeconfig: Path, kubectl: Path) -> None:
        self.kubeconfig = kubeconfig
        self._kubectl = kubectl
        self._environment: Mapping[str, str] = {}
        self._open = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opening:
            self._start(opening)
            self._open = opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def _start(self, opening: ExitStack) -> None:
        self.directory = Path(opening.enter_context(TemporaryDirectory(prefix="control-plane-")))
        self._environment = {"KUBECACHEDIR": str(self.directory / "kubectl-cache")}

    def kubectl(
        self,
        *args: str,
        input: str | None = None,  # noqa: A002 - as subprocess.run calls it
        check: bool = True,
        timeout: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl as the administrator and give its output, as text.

        `input` goes to its standard input (`apply -f -`). Raises KubectlError when kubectl exits with
        another code than 0, unless `check` is False, and TimeoutExpired after `timeout` seconds.
        """
        done = subprocess.run(  # noqa: S603 - the binary that find_assets found, no shell
            [self._kubectl, *args],
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env={**os.environ, **self._environment, "KUBECONFIG": str(self.kubeconfig)},
        )
        if check and done.returncode != 0:
            raise KubectlError(args, done.returncode, done.stderr)
        return done

    def kubectl_json(self, *args: str) -> Any:
        """The parsed output of `kubectl <args> -o json`."""
        return json.loads(self.kubectl(*args, "-o", "json").stdout)

    @contextmanager
    def proxy(self) -> Iterator[str]:
        """A plain HTTP address on loopback that leads to the API server as the administrator."""
        process = subprocess.Popen(  # noqa: S603 - as in `kubectl`
            [self._kubectl, "proxy", "--port=0"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **self._environment, "KUBECONFIG": str(self.kubeconfig)},
        )
        with process:
            try:
                assert process.stdout is not None
                yield "http://" + process.stdout.readline().split()[-1]
            finally:
                process.terminate()

    def create_namespace(self) -> str:
        """A new, empty namespace."""
        name = f"test-{uuid4().hex[:12]}"
        self.kubectl("create", "namespace", name)
        return name

    def delete_namespace(self, name: str) -> None:
        """Start a namespace's deletion, after that of the custom resources in it.

        Without a namespace controller they would stay, in sight of whoever watches the whole cluster.
        """
        definitions = self.kubectl_json("get", "customresourcedefinitions")["items"]
        kinds = [crd["metadata"]["name"] for crd in definitions if crd["spec"]["scope"] == "Namespaced"]
        if kinds:
            self.kubectl("delete", ",".join(kinds), "--all", "--namespace", name, "--wait=false")
        self.kubectl("delete", "namespace", name, "--wait=false")

    def service_account_kubeconfig(self, namespace: str, name: str) -> Path:
        """A kubeconfig file that acts as this service account, which must exist; its token lives an hour."""
        token = self.kubectl("create", "token", name, "--namespace", namespace).stdout.strip()
        config = self.kubectl_json("config", "view", "--raw", "--minify", "--flatten")
        config["users"] = [{"name": name, "user": {"token": token}}]
        config["contexts"][0]["context"].update(user=name, namespace=namespace)
        path = self.directory / f"{namespace}.{name}.kubeconfig"
        _write_private(path, yaml.safe_dump(config))
        return path


class ControlPlane(Cluster):
    """etcd and kube-apiserver on free ports of 127.0.0.1, with RBAC, gone without a trace at the end."""

    def __init__(self, assets: Assets) -> None:
        super().__init__(Path(), assets.kubectl)
        self._assets = assets

    def _start(self, opening: ExitStack) -> None:
        super()._start(opening)
        self.kubeconfig = self.directory / "admin.kubeconfig"
        # gcloud's and other wrappers of kubectl keep files of their own in HOME.
        self._environment = {**self._environment, "HOME": str(self.directory)}
        self._port = free_port()
        self._issue_credentials()

        etcd_url = f"http://127.0.0.1:{free_port()}"
        etcd = ServerProcess(self._etcd_command(etcd_url), self.directory / "etcd.log")
        opening.callback(etcd.stop)
        etcd.start()
        etcd.wait_until_healthy(f"{etcd_url}/health")

        self._apiserver = ServerProcess(self._apiserver_command(etcd_url), self.directory / "kube-apiserver.log")
        opening.callback(self._apiserver.stop)
        self.start_apiserver()

    @property
    def url(self) -> str:
        """Where the API server listens."""
        return f"https://127.0.0.1:{self._port}"

    def start_apiserver(self) -> None:
        """Start the API server (again), on the same port and data, and wait until it is ready."""
        self._apiserver.start()
        self._apiserver.wait_until_healthy(f"{self.url}/readyz", self.tls())

    def stop_apiserver(self) -> None:
        """End the API server: watches break, and connections are refused until `start_apiserver`."""
        self._apiserver.stop()

    def pause(self) -> None:
        """Freeze the API server: connections open and requests hang, until `resume`."""
        self._apiserver.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen API server go on."""
        self._apiserver.signal(signal.SIGCONT)

    def tls(self) -> ssl.SSLContext:
        """The administrator's side of a TLS connection."""
        context = ssl.create_default_context(cafile=self.directory / "ca.crt")
        context.load_cert_chain(self.directory / "admin.crt", self.directory / "admin.key")
        return context

    def _issue_credentials(self) -> None:
        authority = trustme.CA()
        server = authority.issue_cert("127.0.0.1", "localhost")
        admin = authority.issue_cert("admin.test", common_name="admin", organization_name="system:masters")
        authority.cert_pem.write_to_path(self.directory / "ca.crt")
        for name, leaf in (("server", server), ("admin", admin)):
            leaf.cert_chain_pems[0].write_to_path(self.directory / f"{name}.crt")
            _write_private(self.directory / f"{name}.key", leaf.private_key_pem.bytes().decode())
        signing_key = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
        _write_private(self.directory / "service-accounts.key", signing_key.decode())
        _write_private(self.kubeconfig, yaml.safe_dump(self._admin_config()))

    def _admin_config(self) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "admin",
            "clusters": [
                {
                    "name": "control-plane",
                    "cluster": {"server": self.url, "certificate-authority": str(self.directory / "ca.crt")},
                }
            ],
            "users": [
                {
                    "name": "admin",
                    "user": {
                        "client-certificate": str(self.directory / "admin.crt"),
                        "client-key": str(self.directory / "admin.key"),
                    },
                }
            ],
            "contexts": [{"name": "admin", "context": {"cluster": "control-plane", "user": "admin"}}],
        }

    def _etcd_command(self, url: str) -> list[str]:
        return [
            str(self._assets.etcd),
            f"--data-dir={self.directory / 'etcd'}",
            f"--listen-client-urls={url}",
            f"--advertise-client-urls={url}",
            "--listen-peer-urls=http://127.0.0.1:0",
        ]

    def _apiserver_command(self, etcd_url: str) -> list[str]:
        return [
            str(self._assets.kube_apiserver),
            f"--etcd-servers={etcd_url}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self._port}",
            # A machine without a default route has no address to advertise, and nobody here asks for it.
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            f"--cert-dir={self.directory}",
            f"--tls-cert-file={self.directory / 'server.crt'}",
            f"--tls-private-key-file={self.directory / 'server.key'}",
            f"--client-ca-file={self.directory / 'ca.crt'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self.directory / 'service-accounts.key'}",
            f"--service-account-signing-key-file={self.directory / 'service-accounts.key'}",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--authorization-mode=RBAC",
            # Needs the controller that makes a `default` service account in each namespace.
            "--disable-admission-plugins=ServiceAccount",
        ]


def find_cluster() -> Cluster | None:
    """The cluster to test on, not yet entered: `E2E_KUBECONFIG`'s, else an own control plane, else None."""
    kubectl = _find_kubectl()
    existing = os.environ.get(CLUSTER_VARIABLE)
    if existing and kubectl is not None:
        return Cluster(Path(existing).resolve(), kubectl)
    assets = find_assets()
    return None if assets is None else ControlPlane(assets)


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)
