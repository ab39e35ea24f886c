"""Where a C1 tenant answers: one host and port serve the token endpoint and gRPC alike."""

import re
from dataclasses import dataclass
from ipaddress import IPv6Address

import httpx

DEFAULT_PORT = 443

_HOST_PORT = re.compile(
    r"(?:(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?)|\[(?P<ipv6>[0-9A-Fa-f:.]+)\])"
    r"(?::(?P<port>[0-9]{1,5}))?"
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`host` is a name or an address, an IPv6 address without its brackets."""

    host: str
    port: int = DEFAULT_PORT

    def __str__(self) -> str:
        """`host:port`, as it stands in a URL and in a gRPC target."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_endpoint(text: str) -> Endpoint:
    """Read `host` or `host:port` (default port 443); an IPv6 address stands in brackets.

    Raises ValueError with the end of a sentence ("a host that …"); it never quotes `text`, which may
    hold anything that was pasted into a Secret.
    """
    match = _HOST_PORT.fullmatch(text)
    if match is None:
        raise ValueError("is not a host name such as acme.conductor.one, with or without :port")
    port = int(match["port"] or DEFAULT_PORT)
    if not 1 <= port <= 65535:
        raise ValueError("has a port that is not between 1 and 65535")
    if match["ipv6"] is None:
        return _checked(Endpoint(match["name"], port))
    try:
        return Endpoint(str(IPv6Address(match["ipv6"])), port)
    except ValueError:
        raise ValueError("is not an IPv6 address, though it stands in brackets") from None


def _checked(endpoint: Endpoint) -> Endpoint:
    """The HTTP client reads parts that begin with xn--, and addresses, only when a request is made."""
    try:
        _ = httpx.URL(f"https://{endpoint}").host
    except (httpx.InvalidURL, UnicodeError):
        raise ValueError(
            "is not the name of a host: a part that begins with xn-- must be Punycode of a name that IDNA allows, and"
            " an address has four numbers up to 255"
        ) from None
    return endpoint
