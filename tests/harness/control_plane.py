"""A real Kubernetes API for the end-to-end suite and the demo: etcd and kube-apiserver, nothing else.

No controller runs: a namespace that is deleted stays in `Terminating`, no Pod starts, nothing is
garbage-collected. What this project needs of Kubernetes is all in the API server: CRDs with CEL, server-side
apply, watches, RBAC. Where no binaries are, `simulators.kubernetes` stands in; `E2E_KUBECONFIG` names an
existing cluster to use instead.

Everything here blocks, as in `harness.cluster`.
"""

import os
import shutil
import signal
import ssl
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import trustme
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from harness.cluster import Cluster, write_private
from harness.control_plane_process import ServerProcess, free_port

DEFAULT_ASSETS = Path("/usr/local/kubebuilder/bin")
ASSETS_VARIABLE = "KUBEBUILDER_ASSETS"
CLUSTER_VARIABLE = "E2E_KUBECONFIG"

AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata", "userGroups": ["system:serviceaccounts"]}, {"level": "None"}],
}


@dataclass(frozen=True, slots=True)
class Assets:
    """The binaries of a control plane, as `setup-envtest` lays them out."""

    etcd: Path
    kube_apiserver: Path
    kubectl: Path


def _assets_directory() -> Path:
    return Path(os.environ.get(ASSETS_VARIABLE) or DEFAULT_ASSETS)


def find_kubectl() -> Path | None:
    beside = _assets_directory() / "kubectl"
    if beside.exists():
        return beside
    found = shutil.which("kubectl")
    return Path(found) if found else None


def find_assets() -> Assets | None:
    """The binaries to run a control plane with, or None when one is missing."""
    directory = _assets_directory()
    etcd, apiserver, kubectl = directory / "etcd", directory / "kube-apiserver", find_kubectl()
    if not etcd.exists() or not apiserver.exists() or kubectl is None:
        return None
    return Assets(etcd, apiserver, kubectl)


def missing_assets() -> str:
    """What stands in the way of a real API server, and how to get one; empty when nothing does."""
    directory = _assets_directory()
    missing = [name for name in ("etcd", "kube-apiserver") if not (directory / name).exists()]
    if os.environ.get(CLUSTER_VARIABLE):
        missing = []
    if find_kubectl() is None:
        missing.append("kubectl")
    if not missing:
        return ""
    return (
        f"No real Kubernetes API server: {', '.join(missing)} not found in {directory}. Either run "
        f"`setup-envtest use` and set {ASSETS_VARIABLE} to what `setup-envtest use -p path` prints, or use a "
        f"cluster: `kind create cluster`, `kind get kubeconfig > kubeconfig`, {CLUSTER_VARIABLE}=kubeconfig "
        "(kubectl must be on the PATH)."
    )


class ControlPlane(Cluster):
    """etcd and kube-apiserver on free ports of 127.0.0.1, with RBAC, gone without a trace at the end.

    `audit_log` gets a line for each request of a service account, by the API server itself.
    """

    def __init__(self, assets: Assets) -> None:
        super().__init__(Path(), assets.kubectl)
        self._assets = assets
        self._starts: list[tuple[datetime, datetime]] = []

    def _start(self, opening: ExitStack) -> None:
        super()._start(opening)
        self.kubeconfig = self.directory / "admin.kubeconfig"
        # gcloud's and other wrappers of kubectl keep files of their own in HOME.
        self._environment = {**self._environment, "HOME": str(self.directory)}
        self._port = free_port()
        self._issue_credentials()

        self._etcd_url = f"http://127.0.0.1:{free_port()}"
        self._etcd = ServerProcess(self._etcd_command(self._etcd_url), self.directory / "etcd.log")
        opening.callback(self._etcd.stop)
        self._start_etcd()

        self._apiserver = ServerProcess(self._apiserver_command(self._etcd_url), self.directory / "kube-apiserver.log")
        opening.callback(self._apiserver.stop)
        self.start_apiserver()

    def _start_etcd(self) -> None:
        self._etcd.start()
        self._etcd.wait_until_healthy(f"{self._etcd_url}/health")

    @property
    def url(self) -> str:
        """Where the API server listens."""
        return f"https://127.0.0.1:{self._port}"

    @property
    def audit_log(self) -> Path:
        """One JSON object a line: audit.k8s.io/v1 Event."""
        return self.directory / "audit.log"

    def start_apiserver(self) -> None:
        """Start the API server (again), on the same port and data, and wait until it is ready."""
        began = datetime.now(UTC)
        self._apiserver.start()
        for path in ("readyz", "api/v1/namespaces/default"):  # ready before it has made its namespaces
            self._apiserver.wait_until_healthy(f"{self.url}/{path}", self.tls())
        self._starts.append((began, datetime.now(UTC)))

    def was_starting(self, moment: datetime) -> bool:
        """Whether the API server had been started and was not ready: it has not read the roles yet and refuses all."""
        return any(began <= moment <= ready for began, ready in self._starts)

    def stop_apiserver(self) -> None:
        """End the API server: watches break, and connections are refused until `start_apiserver`."""
        self._apiserver.stop()

    def back_up(self) -> None:
        """Keep all that there is for `restore`. The API server and etcd are down meanwhile."""
        self.stop_apiserver()
        self._etcd.stop()
        shutil.copytree(self._data, self._data.with_suffix(".backup"))
        self._start_etcd()
        self.start_apiserver()

    def restore(self) -> None:
        """Set everything back to the backup, resource versions included, as a restore of etcd's data does."""
        self.stop_apiserver()
        self._etcd.stop()
        shutil.rmtree(self._data)
        shutil.copytree(self._data.with_suffix(".backup"), self._data)
        self._start_etcd()
        self.start_apiserver()

    @property
    def _data(self) -> Path:
        return self.directory / "etcd"

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
            write_private(self.directory / f"{name}.key", leaf.private_key_pem.bytes().decode())
        signing_key = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
        write_private(self.directory / "service-accounts.key", signing_key.decode())
        write_private(self.kubeconfig, yaml.safe_dump(self._admin_config()))

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
            f"--data-dir={self._data}",
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
            *self._audit_options(),
        ]

    def _audit_options(self) -> list[str]:
        policy = self.directory / "audit-policy.yaml"
        policy.write_text(yaml.safe_dump(AUDIT_POLICY))
        return [f"--audit-policy-file={policy}", f"--audit-log-path={self.audit_log}"]


def find_cluster() -> Cluster | None:
    """The cluster to test on, not yet entered: `E2E_KUBECONFIG`'s, else an own control plane, else None."""
    kubectl = find_kubectl()
    existing = os.environ.get(CLUSTER_VARIABLE)
    if existing and kubectl is not None:
        return Cluster(Path(existing).resolve(), kubectl)
    assets = find_assets()
    return None if assets is None else ControlPlane(assets)
