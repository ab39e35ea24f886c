"""How OTLP over HTTP leaves the process: through the proxies and by the authorities that every other client has."""

import re
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

from buildkite_connector.model.untrusted_text import Redactor
from buildkite_connector.network import Network, Proxy
from buildkite_connector.network.connection_errors import named, refused_by_proxy, untrusted


def otlp_session(network: Network) -> requests.Session:
    """A session that reads no variable, neither for proxies and authorities nor for a netrc file."""
    session = requests.Session()
    session.trust_env = False
    adapter = _NetworkAdapter(network)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


class _NetworkAdapter(HTTPAdapter):
    """Chooses the proxy for each URL. `verify` True, the exporter's default, means the network's authorities; a file
    means that file alone."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._context = network.trust.ssl_context()
        super().__init__()

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: Any, cert: Any = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        host, pool = super().build_connection_pool_key_attributes(request, verify, cert)
        return host, {**pool, "ssl_context": self._context} if verify is True else pool

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        super().cert_verify(conn, url, verify, cert)
        if verify is True:
            conn.ca_certs = None  # certifi's, which the adapter adds

    def send(self, request: requests.PreparedRequest, *arguments: Any, **options: Any) -> requests.Response:
        """Raises ProxyError and SSLError with a sentence for the exporter's log; its own text stays behind it."""
        url = request.url or ""
        proxy = self._network.proxy_for(url)
        options["proxies"] = {urlsplit(url).scheme: proxy.url} if proxy else {}
        try:
            return super().send(request, *arguments, **options)
        except requests.exceptions.ProxyError as error:
            raise requests.exceptions.ProxyError(_proxy_sentence(error, url, proxy), request=request) from None
        except requests.exceptions.SSLError as error:
            host = urlsplit(url).hostname or ""
            trouble = untrusted(Redactor(proxy.secrets if proxy else ()).quote(str(error)), host, proxy)
            raise requests.exceptions.SSLError(f"{trouble.what}. {trouble.advice}", request=request) from None


def _proxy_sentence(error: Exception, url: str, proxy: Proxy | None) -> str:
    if proxy is None:
        return str(error)
    status = re.search(r"Tunnel connection failed: ([1-5][0-9]{2})\b", str(error))
    if status is None:
        return f"the proxy {named(proxy)} gave no connection ({Redactor(proxy.secrets).quote(str(error))})"
    trouble = refused_by_proxy(proxy, int(status[1]), urlsplit(url).hostname or "")
    return f"{trouble.what}. {trouble.advice}"
