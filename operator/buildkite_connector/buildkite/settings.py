"""How to reach Buildkite's REST API: read once at the entry point, never from a resource.

A person who can write a resource must not be able to send its token elsewhere.
"""

from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import urlsplit

import httpx

DEFAULT_API_URL = "https://api.buildkite.com/v2"
DEFAULT_EXCHANGE_URL = "https://buildkite.com/oauth/token"
DEFAULT_PORTAL_URL = "https://portal.buildkite.com"
API_VARIABLE = "BUILDKITE_API_URL"
EXCHANGE_VARIABLE = "BUILDKITE_TOKEN_EXCHANGE_URL"
PORTAL_VARIABLE = "BUILDKITE_PORTAL_URL"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds for the steps of one try, and for all of it (`total`)."""

    connect: float = 10.0
    read: float = 20.0
    write: float = 10.0
    total: float = 60.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one request is tried again when that can help.

    `tries` in all; between them jittered, doubling pauses from `first` to `longest` seconds. A server's
    Retry-After takes their place, up to `longest_retry_after` seconds: beyond that the sync fails, and
    the next one starts no earlier. `refusals`: how many 429s in a row one request waits out.
    `blind_pause`: seconds to wait after a 429 that does not say how long.
    """

    tries: int = 6
    first: float = 0.5
    longest: float = 15.0
    longest_retry_after: float = 120.0
    refusals: int = 30
    blind_pause: float = 5.0


@dataclass(frozen=True, slots=True)
class BuildkiteSettings:
    """`api_url`: https, or plain http to a loopback address (BUILDKITE_API_URL). `page_size`: 1–100.

    `exchange_url`: where tokens are exchanged, likewise (BUILDKITE_TOKEN_EXCHANGE_URL). `portal_url`: below which the
    organizations' portals are, likewise (BUILDKITE_PORTAL_URL).

    `most_pages`: of one listing; 10,000 are a million items, more than any organization has.
    `longest_window`: seconds; a rate-limit reset further ahead is not believed.
    Raises ValueError with a sentence for a person.
    """

    api_url: str = DEFAULT_API_URL
    exchange_url: str = DEFAULT_EXCHANGE_URL
    portal_url: str = DEFAULT_PORTAL_URL
    page_size: int = 100
    most_at_once: int = 32
    most_pages: int = 10_000
    longest_window: float = 60.0
    timeouts: Timeouts = field(default_factory=Timeouts)
    patience: Patience = field(default_factory=Patience)

    def __post_init__(self) -> None:
        _check_url(self.api_url, f"{API_VARIABLE} must be like {DEFAULT_API_URL}")
        _check_url(self.exchange_url, f"{EXCHANGE_VARIABLE} must be like {DEFAULT_EXCHANGE_URL}")
        _check_url(self.portal_url, f"{PORTAL_VARIABLE} must be like {DEFAULT_PORTAL_URL}")
        if not 1 <= self.page_size <= 100:
            raise ValueError(f"The page size must be 1 to 100, not {self.page_size}.")
        object.__setattr__(self, "api_url", self.api_url.rstrip("/"))
        object.__setattr__(self, "portal_url", self.portal_url.rstrip("/"))


def _check_url(url: str, expected: str) -> None:
    """Nothing that may be a password is quoted: of a URL with one that is not escaped, any part may be."""
    if "@" in url:
        raise ValueError(f"{expected}, without a user name or password in it.")
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port, httpx.URL(url).host  # which also reads a part that begins with xn--
    except (ValueError, httpx.InvalidURL):
        raise ValueError(f"{expected}, but it is not a URL: its host or port cannot be used.") from None
    if parts.query or parts.fragment:
        raise ValueError(f"{expected}, without a query or fragment.")
    if parts.scheme not in ("https", "http") or not host:
        raise ValueError(f"{expected}, but it is {url!r}.")
    if parts.scheme == "http" and not is_loopback(host):
        raise ValueError(
            f"{expected}: plain http would show the token to the network and is allowed only to a "
            f"loopback address, which {host!r} is not."
        )


def is_loopback(host: str) -> bool:
    """Whether a URL's host names this machine."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
