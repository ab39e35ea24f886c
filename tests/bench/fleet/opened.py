"""Many connectors before their operator starts: an API server, the resources with their Secrets, Buildkite and C1."""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.fleet.cluster import FleetCluster, Manifest, open_cluster
from buildkite_connector.kubernetes.schema import API_VERSION, KIND
from buildkite_connector.kubernetes.schema.crd import definition
from harness.control_plane import Assets, ControlPlane
from harness.rig import OperatorProcess
from harness.service_account import ServiceAccount, service_account
from harness.trust import plain_client
from simulators.buildkite.api import Token
from simulators.buildkite.control import BuildkiteProcess
from simulators.c1.process import C1Process
from simulators.c1.token import Role

SLUG = "synthetic"
ORGANIZATION = ("--accounts=20", "--teams=4", "--memberships=40", f"--organization={SLUG}")
NO_LIMITS = ("--user-limit=none", "--organization-limit=none")

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class OpenFleet:
    """`environment`: what an operator needs, with leader election and `/metrics`."""

    control_plane: ControlPlane
    account: ServiceAccount
    buildkite: BuildkiteProcess
    c1: C1Process
    cluster: FleetCluster
    names: Sequence[str]
    environment: Mapping[str, str]


@contextlib.asynccontextmanager
async def open_fleet(
    assets: Assets, connectors: int, tell: Tell, *c1_arguments: str, in_c1: bool = False
) -> AsyncIterator[OpenFleet]:
    """All resources and their Secrets are there; their statuses are watched for as long as the context lasts.

    `in_c1`: each has `spec.c1`, with a connector and a client of C1's of its own; they share a client of C1's REST API.
    """
    async with contextlib.AsyncExitStack() as opened:
        directory = Path(opened.enter_context(TemporaryDirectory(prefix="fleet-")))
        control_plane = opened.enter_context(ControlPlane(assets))
        control_plane.define(json.dumps(definition()))
        namespace = control_plane.create_namespace()
        account = opened.enter_context(service_account(control_plane, namespace, "cluster"))
        buildkite = await opened.enter_async_context(BuildkiteProcess(*ORGANIZATION, *NO_LIMITS))
        c1 = await opened.enter_async_context(C1Process(*c1_arguments))
        cluster = await opened.enter_async_context(open_cluster(control_plane.url, control_plane.tls(), namespace))
        names = [f"team-{number:04}" for number in range(connectors)]
        tell(f"applying {connectors} Secrets and resources")
        known = [await c1.control("register_connector") if in_c1 else {} for _ in names]
        if in_c1:
            rest_client = await c1.control("register_rest_client", roles=[Role.CONNECTOR_ADMINISTRATOR])
            await cluster.apply_all([_rest_secret(rest_client)])
        await cluster.apply_all(map(_secret, names, itertools.repeat(c1), known))
        await cluster.apply_all(map(_connector, names, known))
        watching = asyncio.create_task(cluster.watch())
        opened.callback(watching.cancel)
        environment = {
            "KUBECONFIG": str(account.login.path),
            "BUILDKITE_API_URL": buildkite.url,
            "SSL_CERT_FILE": str(c1.ca_file),
            "BUILDKITE_CONNECTOR_C1_HOSTS": c1.address,
            "BUILDKITE_CONNECTOR_HTTP_ADDRESS": "127.0.0.1:0",
            "BUILDKITE_CONNECTOR_LEADER_ELECTION": "true",
            "BUILDKITE_CONNECTOR_LEASE_NAMESPACE": account.namespace,
            "BUILDKITE_CONNECTOR_DATA_DIR": str(directory / "snapshots"),
            "HOME": str(directory),
        }
        yield OpenFleet(control_plane, account, buildkite, c1, cluster, names, environment)


async def scrape(operator: OperatorProcess) -> str:
    """The operator's metrics, as Prometheus asks for them."""
    [port] = [each["port"] for each in operator.records() if each["message"] == "serving health and metrics"]
    async with plain_client() as http:
        return (await http.get(f"http://127.0.0.1:{port}/metrics", timeout=30.0)).text


REST_SECRET = "c1-api"


def _secret(name: str, c1: C1Process, known: Mapping[str, str]) -> Manifest:
    """`known`: what C1 says of the connector that is registered there, if any."""
    client_id, client_secret = known.get("client_id", c1.client_id), known.get("client_secret", c1.client_secret)
    values = {"BATON_CLIENT_ID": client_id, "BATON_CLIENT_SECRET": client_secret, "BATON_API_TOKEN": Token().value}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values}


def _rest_secret(client: Mapping[str, str]) -> Manifest:
    values = {"C1_CLIENT_ID": client["client_id"], "C1_CLIENT_SECRET": client["client_secret"]}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": REST_SECRET}, "stringData": values}


def _connector(name: str, known: Mapping[str, str]) -> Manifest:
    spec: Manifest = {"credentialsSecretRef": {"name": name}}
    if known:
        ids = {"appID": known["app_id"], "connectorID": known["connector_id"]}
        spec["c1"] = {**ids, "auth": {"secretRef": {"name": REST_SECRET}}}
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "spec": spec}
