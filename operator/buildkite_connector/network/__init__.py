"""How this process reaches others: proxies and certificate authorities, read once from the environment at the start.

Every client gets the one `Network` and reads no variable of its own: httpx and aiohttp with trust_env off, gRPC by
`grpc_options`. Start at `proxies` (HTTPS_PROXY, HTTP_PROXY, NO_PROXY) and `trust` (SSL_CERT_FILE, SSL_CERT_DIR).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from buildkite_connector.network.proxies import Proxies, Proxy, read_proxies
from buildkite_connector.network.trust import Trust, parse_trust, read_trust

__all__ = ["Network", "Proxies", "Proxy", "Trust", "parse_trust", "read_network", "read_proxies", "read_trust"]


@dataclass(frozen=True, slots=True)
class Network:
    """Without arguments: no proxy, and no server is trusted."""

    trust: Trust = field(default_factory=Trust)
    proxies: Proxies = field(default_factory=Proxies)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences about variables that count in part or not at all."""
        return (*self.proxies.warnings, *self.trust.warnings)

    def proxy_for(self, url: str) -> Proxy | None:
        """See `Proxies.proxy_for`."""
        return self.proxies.proxy_for(url)


def read_network(environment: Mapping[str, str]) -> Network:
    """Blocking. Raises Failure SPEC_INVALID with a sentence that names the variable."""
    return Network(proxies=read_proxies(environment), trust=read_trust(environment))
