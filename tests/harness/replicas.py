"""Several operator processes that compete for the same resources, each with ways of its own to what it talks to.

What each sends to Buildkite and to C1 is recorded apart, so that a test sees which process acted when.
"""

import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import yaml

from harness.cluster import write_private
from harness.rig import OperatorProcess, Rig
from harness.tcp_proxy import TcpProxy
from simulators.buildkite.transcript import Request

ACTS = "this process became the leader"


@dataclass(frozen=True)
class Replica:
    """`api`, `buildkite` and `c1`: its ways to them."""

    name: str
    operator: OperatorProcess
    api: TcpProxy
    buildkite: TcpProxy
    c1: TcpProxy

    def acts_since(self, moment: float) -> list[float]:
        """When it sent something to Buildkite or C1, from this moment (monotonic seconds) on."""
        return sorted(self.buildkite.sent_since(moment) + self.c1.sent_since(moment))

    @property
    def first_act(self) -> float:
        return self.acts_since(0.0)[0]

    @property
    def last_act(self) -> float:
        return self.acts_since(0.0)[-1]

    def made(self, request: Request) -> bool:
        """Whether a request to Buildkite came from it."""
        return request.host == f"127.0.0.1:{self.buildkite.port}"

    @property
    def terms(self) -> int:
        return sum(ACTS in line for line in self.operator.lines)


@contextlib.asynccontextmanager
async def replica(rig: Rig, name: str, *, everywhere: bool = False, **environment: str) -> AsyncIterator[Replica]:
    """One that has started and stands by or acts; `name` is its pod's. It ends with the context."""
    config = yaml.safe_load(rig.kubernetes.kubeconfig.read_text())
    server = urlsplit(config["clusters"][0]["cluster"]["server"])
    buildkite = urlsplit(rig.buildkite.url)
    rig.buildkite.behind_proxies = True
    async with (
        TcpProxy(str(server.hostname), server.port or 443) as api,
        TcpProxy(str(buildkite.hostname), buildkite.port or 80) as to_buildkite,
        TcpProxy("127.0.0.1", rig.c1.port) as to_c1,
    ):
        config["clusters"][0]["cluster"]["server"] = f"{server.scheme}://127.0.0.1:{api.port}"
        kubeconfig = rig.directory / f"{name}-{time.monotonic_ns()}.kubeconfig"
        write_private(kubeconfig, yaml.safe_dump(config))
        c1_name = rig.c1.address.rpartition(":")[0]
        settings = {
            "KUBECONFIG": str(kubeconfig),
            "BUILDKITE_API_URL": f"http://127.0.0.1:{to_buildkite.port}{buildkite.path}",
            "BATON_C1_API_HOST": f"{c1_name}:{to_c1.port}",
            "BUILDKITE_CONNECTOR_C1_HOSTS": f"{c1_name}:{to_c1.port},{rig.c1.address}",
            "BUILDKITE_CONNECTOR_DATA_DIR": str(kubeconfig.with_suffix(".snapshots")),
            "BUILDKITE_CONNECTOR_LEADER_ELECTION": "true",
            "BUILDKITE_CONNECTOR_LEASE_NAMESPACE": rig.namespace,
            "POD_NAME": name,
            **environment,
        }
        async with rig.operator(everywhere=everywhere, **settings) as operator:
            yield Replica(name, operator, api, to_buildkite, to_c1)
