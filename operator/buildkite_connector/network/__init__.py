"""Proxies and certificate authorities of this process, read from the environment once at the start.

Every client gets the one `Network` and reads no variable of its own: httpx and aiohttp with trust_env off, gRPC by
`grpc_options`. Start at `proxies` (HTTPS_PROXY, HTTP_PROXY, NO_PROXY) and `trust` (SSL_CERT_FILE, SSL_CERT_DIR).
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookiejar import CookieJar

from buildkite_connector.network.proxies import Proxies, Proxy, read_proxies
from buildkite_connector.network.trust import Trust, parse_trust, read_trust

__all__ = [
    "Network",
    "NoCookies",
    "Proxies",
    "Proxy",
    "Trust",
    "parse_trust",
    "read_network",
    "read_proxies",
    "read_trust",
]


@dataclass(frozen=True, slots=True)
class Network:
    """By default there is no proxy, and no server is trusted."""

    trust: Trust = field(default_factory=Trust)
    proxies: Proxies = field(default_factory=Proxies)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences about variables that are ignored, wholly or in part."""
        return (*self.proxies.warnings, *self.trust.warnings)

    def proxy_for(self, url: str) -> Proxy | None:
        """See `Proxies.proxy_for`."""
        return self.proxies.proxy_for(url)

    def grpc_options(self, target: str) -> tuple[tuple[str, int | str], ...]:
        """Options of a gRPC channel to `host:port`, so that it takes this proxy or none.

        gRPC reads no_grpc_proxy or no_proxy even where it is given a proxy, by rules that are not Go's: any name with
        such a suffix is reached directly. An empty no_grpc_proxy keeps it from reading either.
        """
        proxy = self.proxy_for(f"https://{target}")
        if proxy is None:
            return (("grpc.enable_http_proxy", 0),)
        os.environ["no_grpc_proxy"] = ""  # noqa: SIM112  (it reads the small letters alone)
        return (("grpc.http_proxy", proxy.url),)


class NoCookies(CookieJar):
    """Keeps nothing. Connectors share a client: no cookie may pass from one to another, nor may cookies grow in it."""

    def extract_cookies(self, response: object, request: object) -> None: ...


def read_network(environment: Mapping[str, str]) -> Network:
    """Blocking. Raises Failure SPEC_INVALID with a sentence that names the variable."""
    return Network(proxies=read_proxies(environment), trust=read_trust(environment))
