"""The proxy that stands between here and Buildkite, named without its password."""

from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from buildkite_connector.buildkite.settings import is_loopback
from buildkite_connector.model.failure import Failure, Reason, Remedy


def buildkite_proxy(api_url: str) -> str:
    """`host:port` of the proxy that HTTPS_PROXY and NO_PROXY choose for this URL; empty without one.

    Raises Failure SPEC_INVALID for a value that is no proxy's address.
    """
    url = urlsplit(api_url)
    host = url.hostname or ""
    proxies = getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all") or ""
    if not proxy or is_loopback(host) or proxy_bypass(host):
        return ""
    return address_of(proxy)


def address_of(proxy: str) -> str:
    """`host:port` of a proxy's URL, which may hold a password. Raises Failure SPEC_INVALID."""
    try:
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        if parts.scheme in {"http", "https"} and parts.hostname:
            return f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname
    except ValueError:
        pass  # its text may hold the password
    raise Failure(
        Reason.SPEC_INVALID,
        "HTTPS_PROXY must be like http://[user:password@]host:port. Correct the variable.",
        remedy=Remedy.EDIT,
    )
