"""How OTLP over HTTP leaves the process: through the proxies and by the authorities that every other client has."""

import re
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

from buildkite_connector.model.failure import Failure
from buildkite_connector.model.redactor import Redactor
from buildkite_connector.network import Network, Proxy
from buildkite_connector.network.connection_errors import ConnectionTrouble, refused_by_proxy, through, untrusted


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
        """Raises what the exporter logs: a sentence in place of urllib3's words, where there is a better one.

        The exporter tries ConnectionError again and RequestException not.
        """
        url = request.url or ""
        try:
            proxy = self._network.proxy_for(url)
        except Failure as failure:  # for a redirect: the endpoint itself is asked for at the start
            raise requests.exceptions.RequestException(failure.message, request=request) from None
        options["proxies"] = {urlsplit(url).scheme: proxy.url} if proxy else {}
        try:
            return super().send(request, *arguments, **options)
        except requests.exceptions.ConnectionError as error:
            trouble = _trouble(error, urlsplit(url).hostname or "", proxy)
            if trouble is None:
                raise
            kind = type(error) if trouble.again else requests.exceptions.RequestException
            raise kind(f"{trouble.what}. {trouble.advice}", request=request) from None


def _trouble(error: Exception, host: str, proxy: Proxy | None) -> ConnectionTrouble | None:
    told = Redactor(proxy.secrets if proxy else ()).quote(str(error))
    if "CERTIFICATE_VERIFY_FAILED" in told:
        return untrusted(told, host, proxy)
    if proxy is None:
        return None
    if status := re.search(r"Tunnel connection failed: ([1-5][0-9]{2})\b", told):
        return refused_by_proxy(proxy, int(status[1]), host)
    return through(proxy, f"the connection failed ({told})")
