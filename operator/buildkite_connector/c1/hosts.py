"""The address of a C1 tenant, and the hosts that a client ID may name.

One host and port serve the token endpoint and gRPC. A person who can write a Secret must not choose what this process
connects to: the operator's setting lists patterns, each a host name or `*.` and a domain, either with `:port`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address

import httpx

from buildkite_connector.c1.settings import HOST_VARIABLE

DEFAULT_PORT = 443

_HOST_PORT = re.compile(
    r"(?:(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?)|\[(?P<ipv6>[0-9A-Fa-f:.]+)\])"
    r"(?::(?P<port>[0-9]{1,5}))?"
)
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_ANY = "*."


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


@dataclass(frozen=True, slots=True)
class HostPattern:
    """`below`: the hosts one or more labels below `name`, and not `name` itself. `name` is in lower case."""

    name: str
    port: int
    below: bool

    def admits(self, endpoint: Endpoint) -> bool:
        """Whether calls may go to `endpoint`; never true for an address in any notation."""
        host = endpoint.host.lower()
        if endpoint.port != self.port or not _is_name(host):
            return False
        return host.endswith(f".{self.name}") if self.below else host == self.name


def parse_patterns(text: str) -> tuple[HostPattern, ...]:
    """Read a comma-separated list of patterns; port 443 where none is given.

    Raises ValueError with the end of a sentence ("BUILDKITE_CONNECTOR_C1_HOSTS …").
    """
    patterns = tuple(_patterns(text))
    if not patterns:
        raise ValueError("names no host; write one such as acme.conductor.one or *.conductor.one")
    return patterns


def _patterns(text: str) -> Iterator[HostPattern]:
    for entry in filter(None, map(str.strip, text.split(","))):
        try:
            endpoint = parse_endpoint(entry.removeprefix(_ANY))
        except ValueError as error:
            raise ValueError(f"has the entry {entry!r}, which {error}") from None
        name = endpoint.host.lower()
        if not _is_name(name):
            raise ValueError(
                f"has the entry {entry!r}, which is an address and not a name; to send all calls to an address, set "
                f"{HOST_VARIABLE}"
            )
        yield HostPattern(name, endpoint.port, entry.startswith(_ANY))


def _is_name(host: str) -> bool:
    """Whether it is a host name: labels, the last of which is no number.

    A host that ends in a number is an IPv4 address in one of its notations (127.1, 0x7f.1, 2130706433), which
    resolvers accept (WHATWG URL, "ends in a number").
    """
    labels = host.split(".")
    return all(map(_LABEL.fullmatch, labels)) and _NUMBER.fullmatch(labels[-1]) is None
