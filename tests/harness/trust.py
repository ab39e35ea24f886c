"""Whom clients in tests trust. By default each would read all public authorities: 45 ms of processor time a client."""

import ssl
from pathlib import Path
from typing import Any

import httpx

NOBODY = Path(__file__).parents[1] / "data" / "nobody.crt"
"""An authority whose key is gone, for SSL_CERT_FILE: no test meets a public server."""


def plain_client(base_url: str = "", **options: Any) -> httpx.AsyncClient:
    """For servers on loopback that speak plain http: trusts nobody, and no proxy lies between. `options`: httpx's."""
    return httpx.AsyncClient(base_url=base_url, verify=_TRUSTS_NOBODY, trust_env=False, **options)


_TRUSTS_NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
