"""The simulators of Buildkite and C1, and the environment of the vendor's Deployment on them."""

import contextlib
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.rig import API_TOKEN, COMMAND, GOLDEN, OperatorProcess
from harness.trust import NOBODY
from simulators.buildkite.api import Token
from simulators.buildkite.organization import Organization
from simulators.buildkite.quota import Limits
from simulators.buildkite.server import BuildkiteSimulator, Config
from simulators.c1.policy import Policy
from simulators.c1.server import C1Simulator
from simulators.c1.token import Client

HOST_ID = "baton-buildkite"
TENANT = "acme.conductor.one"


@dataclass
class ServiceRig:
    """`temporary`: the process's TMPDIR, the only place that it has to write to. `confided`: the secrets in use.
    `forks`: how the service begins (`harness.forked_command`)."""

    buildkite: BuildkiteSimulator
    c1: C1Simulator
    client: Client
    temporary: Path
    confided: set[str]
    processes: list[OperatorProcess] = field(default_factory=list)
    forks: bool = False

    def environment(self, **changes: str) -> dict[str, str]:
        """What the vendor's Deployment sets (`envFrom` its Secret, and the host ID), and where the simulators are."""
        coverage = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
        return {
            **coverage,
            "PATH": os.environ["PATH"],
            "BATON_API_TOKEN": API_TOKEN,
            "BATON_ORGANIZATION": "acme-inc",
            "BATON_CLIENT_ID": self.client.client_id,
            "BATON_CLIENT_SECRET": self.client.client_secret,
            "BATON_HOST_ID": HOST_ID,
            "BATON_C1_API_HOST": self.c1.address,
            "SSL_CERT_FILE": str(self.c1.ca_file),
            "SSL_CERT_DIR": str(NOBODY.parent),
            "BUILDKITE_API_URL": self.buildkite.url,
            "BUILDKITE_TOKEN_EXCHANGE_URL": self.buildkite.exchange_url,
            "BUILDKITE_PORTAL_URL": self.buildkite.portal_url,
            "TMPDIR": str(self.temporary),
            **changes,
        }

    def service(self, *command: str, **changes: str) -> OperatorProcess:
        """The command without a sub-command, or `command` in its place; enter it to start it."""
        process = OperatorProcess(
            self.environment(**changes),
            command=command or (COMMAND,),
            ready="the service is ready",
            inherits=False,
            forked=self.forks,
        )
        self.processes.append(process)
        return process

    @property
    def kept(self) -> list[str]:
        """The names of the files that wait for the next start."""
        return sorted(path.name for path in self.temporary.rglob("*") if path.is_file())


@contextlib.asynccontextmanager
async def service_rig(*, strict: bool = True) -> AsyncIterator[ServiceRig]:
    """The simulators for as long as the context lasts. `strict`: C1 must have seen no breach of its contract."""
    organization = Config((Organization.load(GOLDEN),), (Token(API_TOKEN),), Limits(user=None, organization=None))
    policy = Policy(next_poll=0.5, next_heartbeat=1.0)
    with tempfile.TemporaryDirectory(prefix="service-") as directory:
        async with BuildkiteSimulator(organization) as buildkite, C1Simulator(policy) as c1:
            client = c1.register_client(TENANT)
            confided = {API_TOKEN, client.client_secret}
            exchange = c1.authority.exchange

            def listen(form: Mapping[str, str]) -> dict[str, object]:
                confided.add(form["client_assertion"])
                answer = exchange(form)
                confided.add(str(answer["access_token"]))
                return answer

            c1.authority.exchange = listen  # type: ignore[method-assign]  # what it hands out is kept nowhere else
            yield ServiceRig(buildkite, c1, client, Path(directory), confided)
            assert not strict or c1.violations == []


def free_port() -> int:
    """A port on loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
