"""A company's network: Buildkite and C1 are reached by their real names, and only through its proxy."""

import contextlib
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from harness.rig import API_TOKEN, GOLDEN
from harness.trust import NOBODY
from simulators.buildkite.api import Token
from simulators.buildkite.certificate import Certificate
from simulators.buildkite.organization import Organization
from simulators.buildkite.quota import Limits
from simulators.buildkite.server import BuildkiteSimulator, Config
from simulators.c1.policy import Policy
from simulators.c1.server import C1Simulator
from simulators.c1.token import Client
from simulators.forward_proxy import ForwardProxy

BUILDKITE, TENANT = "api.buildkite.com", "acme.conductor.one"
PASSWORD = "hunter22pass"
NO_PROXY = "localhost,127.0.0.1,::1/128,[::1],.svc,.cluster.local, 10.0.0.0/8,fd00::/8,fe80::/10"
"""As clusters have it."""


@dataclass
class CompanyNetwork:
    """`ca_file` has the authorities of Buildkite and C1, `proxy_ca_file` that of a proxy that looks into TLS.

    `confided`: the secrets in use.
    """

    buildkite: BuildkiteSimulator
    c1: C1Simulator
    proxy: ForwardProxy
    client: Client
    folder: Path
    ca_file: Path
    proxy_ca_file: Path
    confided: set[str]

    def environment(self, **changes: str) -> dict[str, str]:
        """The vendor's Deployment, with the proxy, and without any other address."""
        url = f"http://svc:{PASSWORD}@{self.proxy.address}"
        return {
            "BATON_API_TOKEN": API_TOKEN,
            "BATON_CLIENT_ID": self.client.client_id,
            "BATON_CLIENT_SECRET": self.client.client_secret,
            "BATON_HOST_ID": "a-host",
            "HTTPS_PROXY": url,
            "HTTP_PROXY": url,
            "NO_PROXY": NO_PROXY,
            "SSL_CERT_FILE": str(self.ca_file),
            "SSL_CERT_DIR": str(NOBODY.parent),
            "TMPDIR": str(self.folder),
            **changes,
        }


@contextlib.asynccontextmanager
async def company_network() -> AsyncIterator[CompanyNetwork]:
    organization = Organization.load(GOLDEN)
    config = Config((organization,), (Token(API_TOKEN),), Limits(user=None, organization=None), tls=Certificate.VALID)
    with tempfile.TemporaryDirectory(prefix="company-") as directory:
        folder = Path(directory)
        async with (
            BuildkiteSimulator(config) as buildkite,
            C1Simulator(Policy(next_poll=0.5, next_heartbeat=1.0)) as c1,
            ForwardProxy({}, login=f"svc:{PASSWORD}") as proxy,
        ):
            assert buildkite.authority is not None
            buildkite.behind_proxies = True
            proxy.routes = {BUILDKITE: int(buildkite.origin.rpartition(":")[2]), TENANT: c1.port}
            ca_file, proxy_ca_file = folder / "ca.pem", folder / "proxy.pem"
            ca_file.write_bytes(buildkite.authority.pem + c1.ca_file.read_bytes())
            proxy.ca.cert_pem.write_to_path(str(proxy_ca_file))
            client = c1.register_client(TENANT)
            confided = {API_TOKEN, client.client_secret, PASSWORD}
            yield CompanyNetwork(buildkite, c1, proxy, client, folder, ca_file, proxy_ca_file, confided)
            assert c1.violations == []
