"""Which hosts a client ID may lead to: whoever may write a Secret must not choose what this process connects to.

The operator's setting lists patterns. A pattern is a host name or `*.` and a domain, either with `:port`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from buildkite_connector.c1.endpoint import Endpoint, parse_endpoint
from buildkite_connector.c1.settings import HOST_VARIABLE

_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_ANY = "*."


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
