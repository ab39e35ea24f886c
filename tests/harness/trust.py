"""Whom clients in tests trust, and how they reach others. By default each would read all public authorities."""

import ssl
from pathlib import Path
from typing import Any

import httpx

from buildkite_connector.network import Network, parse_trust, read_proxies

NOBODY = Path(__file__).parents[1] / "data" / "nobody" / "nobody.crt"
"""An authority whose key is gone, alone in its folder, for SSL_CERT_FILE and SSL_CERT_DIR: no test meets a public
server."""
DIRECT = Network()
"""For servers on loopback that speak plain http: no proxy, and nobody is trusted."""


def reaching(*ca_files: Path, **environment: str) -> Network:
    """A network that trusts these authorities; `environment` may name proxies."""
    return Network(parse_trust(*(each.read_bytes() for each in ca_files)), read_proxies(environment))


def plain_client(base_url: str = "", **options: Any) -> httpx.AsyncClient:
    """For servers on loopback that speak plain http: trusts nobody, and no proxy lies between. `options`: httpx's."""
    return httpx.AsyncClient(base_url=base_url, verify=_TRUSTS_NOBODY, trust_env=False, **options)


_TRUSTS_NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
