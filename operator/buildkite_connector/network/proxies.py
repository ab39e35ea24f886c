"""Which proxy a connection goes through: the rules of Go's golang.org/x/net/http/httpproxy.

HTTPS_PROXY is for https and for gRPC, HTTP_PROXY for plain http; NO_PROXY lists what is reached without one. The
variable in capitals counts before the one in small letters. ALL_PROXY is not read.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NoReturn
from urllib.parse import quote, unquote, urlsplit

from buildkite_connector.model.failure import Failure, Reason, Remedy

HTTPS_VARIABLE = "HTTPS_PROXY"
HTTP_VARIABLE = "HTTP_PROXY"
NO_PROXY_VARIABLE = "NO_PROXY"
UNREAD_VARIABLE = "ALL_PROXY"

_Address = IPv4Address | IPv6Address
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_AUTHORITY = re.compile(
    # As Go's url.Parse has it: the last @ ends the user's part, in which %, if any, begins an escape.
    r"(?:(?P<user>(?:[A-Za-z0-9._~!$&'()*+,;=@-]|%[0-9A-Fa-f]{2})*)"
    r"(?::(?P<password>(?:[A-Za-z0-9._~!$&'()*+,;=@:-]|%[0-9A-Fa-f]{2})*))?@)?"
    r"(?:(?P<name>[A-Za-z0-9._-]+)|\[(?P<ipv6>[0-9A-Fa-f:.]+)\])(?::(?P<port>[0-9]{1,5})?)?"
    # A path means nothing. With an @ it is part of a password that is not escaped.
    r"(?:/[^@?#\s]*)?"
)
_NAMED_SCHEMES = frozenset({"https", "socks", "socks4", "socks4a", "socks5", "socks5h"})
"""Other schemes are not shown, not even by name: they may be part of a password."""
PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy that supports CONNECT. As text it is `host:port`, without user name and password."""

    variable: str
    """The variable that names it."""
    host: str
    port: int
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """`http://[user:password@]host:port` with user name and password, percent-encoded: never to be shown."""
        if not (self.user or self.password):
            return f"http://{self}"
        return f"http://{quote(self.user, safe='')}:{quote(self.password, safe='')}@{self}"

    @property
    def secrets(self) -> tuple[str, ...]:
        """The parts that must not be shown, for a Redactor."""
        return (self.password, f"{self.user}:{self.password}") if self.password else ()


@dataclass(frozen=True, slots=True)
class _Entry:
    """One entry of NO_PROXY. `suffix`: a domain with its leading dot; `port`: None for all."""

    network: IPv4Network | IPv6Network | None = None
    suffix: str = ""
    itself: bool = False
    port: int | None = None

    def matches(self, host: str, address: _Address | None, port: int) -> bool:
        if self.port is not None and self.port != port:
            return False
        if address is not None:
            return self.network is not None and address.version == self.network.version and address in self.network
        return bool(self.suffix) and (host.endswith(self.suffix) or (self.itself and host == self.suffix[1:]))


@dataclass(frozen=True, slots=True)
class Proxies:
    """`warnings`: sentences about settings that are ignored.

    `http` may be the Failure of an unusable HTTP_PROXY, which matters only to plain http.
    """

    https: Proxy | None = None
    http: Proxy | Failure | None = None
    everything_direct: bool = False
    direct: tuple[_Entry, ...] = ()
    warnings: tuple[str, ...] = ()

    def proxy_for(self, url: str) -> Proxy | None:
        """The proxy for a URL; None where its host is reached directly, as this machine always is.

        For gRPC ask with https, whether the connection is encrypted or not, as grpc-go does. Raises Failure
        SPEC_INVALID for a proxy that cannot be used, and ValueError for what is no URL.
        """
        parts = urlsplit(url)
        proxy = {"https": self.https, "http": self.http}.get(parts.scheme)
        host = _ascii(parts.hostname or "")
        if proxy is None or self.everything_direct or host == "localhost":
            return None
        address = _address(host)
        if address is not None and address.is_loopback:
            return None
        port = parts.port or PORTS[parts.scheme]
        if any(entry.matches(host, address, port) for entry in self.direct):
            return None
        if isinstance(proxy, Failure):
            raise proxy.without_traceback()
        return proxy


def read_proxies(environment: Mapping[str, str]) -> Proxies:
    """Raises Failure SPEC_INVALID for an HTTPS_PROXY that cannot be used; nothing of the variable's text is in it.

    An HTTP_PROXY that cannot be used is a warning, and a Failure for those who ask for it.
    """
    https = _read_proxy(environment, HTTPS_VARIABLE)
    http: Proxy | Failure | None
    warnings: list[str] = []
    try:
        http = _read_proxy(environment, HTTP_VARIABLE)
    except Failure as failure:
        http = failure.without_traceback()
        warnings.append(f"{failure.message} Until then no plain http URL can be reached through a proxy.")
    if _value(environment, UNREAD_VARIABLE) and https is None:
        warnings.append(f"{UNREAD_VARIABLE} is not supported: set {HTTPS_VARIABLE} to go through a proxy.")
    entries = [each.strip().lower() for each in _value(environment, NO_PROXY_VARIABLE).split(",")]
    read = tuple(entry for entry in map(_entry, entries) if entry is not None)
    return Proxies(https, http, "*" in entries, read, tuple(warnings))


def _value(environment: Mapping[str, str], name: str) -> str:
    return environment.get(name) or environment.get(name.lower()) or ""


def _read_proxy(environment: Mapping[str, str], variable: str) -> Proxy | None:
    text = _value(environment, variable).strip()
    if not text:
        return None
    name = variable if environment.get(variable) else variable.lower()
    scheme = _SCHEME.match(text)
    kind = scheme[1].lower() if scheme else "http"
    if kind in _NAMED_SCHEMES:
        _refuse(name, f"starts with {kind}://, but only HTTP proxies (http://) are supported")
    match = _AUTHORITY.fullmatch(text[scheme.end() :] if scheme else text) if kind == "http" else None
    if match is None:
        _refuse(name, "is not like http://[user:password@]host:port")
    port = int(match["port"] or PORTS["http"])
    if not 1 <= port <= 65535:
        _refuse(name, "has a port that is not between 1 and 65535")
    if match["ipv6"] and _address(match["ipv6"]) is None:
        _refuse(name, "has an invalid IPv6 address")
    host = (match["name"] or match["ipv6"]).lower()
    return Proxy(name, host, port, unquote(match["user"] or ""), unquote(match["password"] or ""))


def _refuse(variable: str, what: str) -> NoReturn:
    raise Failure(
        Reason.SPEC_INVALID,
        f"{variable} {what}. Correct the variable; percent-encode special characters of its user name and password"
        " (/ as %2F).",
        remedy=Remedy.EDIT,
    )


def _entry(text: str) -> _Entry | None:
    """What an entry of NO_PROXY, in small letters, means; None for nothing, as in Go."""
    if re.search(r"/[0-9]+$", text):
        try:
            return _Entry(network=ip_network(text, strict=False))
        except ValueError:
            pass  # a name that nothing has
    split = re.fullmatch(r"(?:\[(?P<bracketed>[^\[\]]*)\]|(?P<plain>[^:]*))(?::(?P<port>[^:]*))?", text)
    host = (split["bracketed"] or split["plain"] or "") if split else text
    port = split["port"] if split else None
    if not host:
        return None
    if port and not port.isdecimal():
        return None
    number = int(port) if port else None
    address = _address(host)
    if address is not None:
        return _Entry(network=ip_network(address), port=number)
    name = _ascii(host.removeprefix("*") if host.startswith("*.") else host)
    return _Entry(suffix=name if name.startswith(".") else f".{name}", itself=not name.startswith("."), port=number)


def _address(text: str) -> _Address | None:
    """Parse an address without its zone; an IPv4-mapped IPv6 address becomes IPv4. None for another text."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address


def _ascii(name: str) -> str:
    """A host's name as DNS knows it."""
    if name.isascii():
        return name
    try:
        return name.encode("idna").decode()
    except UnicodeError:
        return name
