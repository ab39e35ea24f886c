"""What a page says of the others of its listing, by its Link header (RFC 8288).

Links are read, never followed: pages are asked for by number, so the token goes nowhere but to the
API. A link that leads elsewhere is refused all the same, for then something is wrong with the answer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, urljoin, urlsplit

from buildkite_connector.buildkite.settings import API_VARIABLE
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.redactor import Redactor

LONGEST_ADDRESS = 200
"""Characters of a link's scheme and host that an error shows."""


@dataclass(frozen=True, slots=True)
class Told:
    """What the links of a page say: of how many pages (`last`) it is one, and whether another follows (`more`).

    Neither: it came without any link, as the only page of a listing does, and as one whose links a gateway dropped.
    """

    last: int | None = None
    more: bool = False


def read_links(
    links: Mapping[str | None, Mapping[str, str]], *, page: int, most: int, url: str, call: str, redactor: Redactor
) -> Told:
    """What the links of `page` say of the listing.

    `links`: by relation, each with its `url`, as httpx parses them. `most`: how many pages a listing may have.
    `url`: what was asked. `call`: its name in errors. A page whose links lead back (`prev`, `first`) and not on is the
    last: that they came proves that none was dropped. On a page beyond the end of a listing that has become shorter,
    `prev` leads to the last.

    Raises Failure BUILDKITE_LINK_REFUSED (another scheme, host or port) or BUILDKITE_RESPONSE_INVALID
    (a loop, links that contradict one another, numbers that make no sense, or a listing without an end).
    """
    following, last, previous, first = (
        _number(links, rel, url, call, redactor) for rel in ("next", "last", "prev", "first")
    )
    if first not in (None, 1):
        raise _invalid(call, f"the first page to be 1, but its link leads to {first}")
    if previous is not None and not 0 < previous < page:
        raise _invalid(call, f"on page {page} a page before it, but its link leads to {previous}")
    if following is None:
        if last is not None and last > page:
            following = page + 1  # the last link says so
        elif previous is not None and previous < page - 1:
            return Told(last=previous)
        elif previous is None and first is None:
            return Told(last)
        else:
            return Told(last or page)
    if following != page + 1:
        raise _invalid(call, f"on page {page} the next page to be {page + 1}, but its link leads to {following}")
    if previous not in (None, page - 1):
        raise _invalid(call, f"on page {page} the page before to be {page - 1}, but its link leads to {previous}")
    if page >= most:
        raise _invalid(call, f"at most {most} pages, but page {page} links to another")
    if last is not None and not page < last <= most:
        raise _invalid(call, f"on page {page} a last page from {page + 1} to {most}, but it is {last}")
    return Told(last, more=True)


def same_origin(one: str, other: str) -> bool:
    """Whether two URLs have the same scheme, host and port."""
    return _origin(one) == _origin(other)


def refused(call: str, what: str, target: str, redactor: Redactor, variable: str = API_VARIABLE) -> Failure:
    """The failure for an answer that points elsewhere; names scheme and host only."""
    try:
        parts = urlsplit(target)
        address = redactor.quote(f"{parts.scheme}://{parts.netloc}", LONGEST_ADDRESS)
    except ValueError:
        address = "an invalid URL"
    return Failure(
        Reason.BUILDKITE_LINK_REFUSED,
        f"{call}: expected a response from the API itself, but {what} leads to {address}. "
        f"The token was not sent there. Check {variable} and the proxies in between.",
    )


def _number(
    links: Mapping[str | None, Mapping[str, str]], rel: str, url: str, call: str, redactor: Redactor
) -> int | None:
    if rel not in links:
        return None
    try:
        target = urljoin(url, links[rel]["url"])
        elsewhere = not same_origin(target, url)
        pages = parse_qs(urlsplit(target).query).get("page", [])
    except ValueError:
        raise _invalid(call, f"a URL in the {rel!r} link") from None
    if elsewhere:
        raise refused(call, f"its {rel!r} link", target, redactor)
    if len(pages) != 1 or not (pages[0].isascii() and pages[0].isdigit() and len(pages[0]) < 10):
        raise _invalid(call, f"a page number in the {rel!r} link")
    return int(pages[0])


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    return parts.scheme, parts.hostname, port or {"https": 443, "http": 80}.get(parts.scheme)


def _invalid(call: str, expected: str) -> Failure:
    return Failure(
        Reason.BUILDKITE_RESPONSE_INVALID,
        f"{call}: expected {expected}. Check the proxies and gateways in between.",
    )
