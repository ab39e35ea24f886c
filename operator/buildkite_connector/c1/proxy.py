"""Whether a C1 host is reached through a proxy: one decision for HTTPS and gRPC alike.

gRPC's core reads only the lower-case variables, and HTTP clients read NO_PROXY each in their own way;
so the decision is made here and handed to both.
"""

from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

from buildkite_connector.c1.endpoint import Endpoint
from buildkite_connector.c1.settings import PROXY_VARIABLE, C1Settings
from buildkite_connector.model.failure import Failure, Reason


def proxy_for(endpoint: Endpoint, settings: C1Settings) -> str | None:
    """The proxy's URL (`http://…`), or None where the endpoint is reached directly.

    Raises Failure C1_UNREACHABLE for a proxy that gRPC cannot use; the message never quotes the URL,
    which may hold a password.
    """
    if not settings.https_proxy or _bypassed(endpoint, settings.no_proxy):
        return None
    url = settings.https_proxy if "://" in settings.https_proxy else f"http://{settings.https_proxy}"
    try:
        parts = urlsplit(url)
        usable = parts.scheme == "http" and bool(parts.hostname) and parts.port is not None
    except ValueError:
        usable = False
    if not usable:
        raise Failure(
            Reason.C1_UNREACHABLE,
            f"{PROXY_VARIABLE} must be http://[user:password@]host:port, as gRPC knows no other kind of "
            "proxy; correct it.",
        )
    return url


def _bypassed(endpoint: Endpoint, no_proxy: str) -> bool:
    return any(_matches(endpoint, entry.strip()) for entry in no_proxy.split(","))


def _matches(endpoint: Endpoint, entry: str) -> bool:
    if entry in {"", "*"}:
        return entry == "*"
    try:
        return ip_address(endpoint.host) in ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        pass
    name, _, port = entry.lower().partition(":")
    if port and port != str(endpoint.port):
        return False
    name = name.removeprefix("*").lstrip(".")
    host = endpoint.host.lower()
    return host == name or host.endswith(f".{name}")
