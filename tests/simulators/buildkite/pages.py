"""Which page a request asks for, and the Link header that leads to the others."""

from collections.abc import Mapping
from urllib.parse import urlencode

from simulators.buildkite.listing import LARGEST_PAGE

DEFAULT_PAGE = 30


def page_asked(query: Mapping[str, str]) -> tuple[int, int]:
    """Page and size. What is no positive number counts as absent; more than 100 a page gives 100."""
    number = _positive(query.get("page", ""), 1)
    return number, min(_positive(query.get("per_page", ""), DEFAULT_PAGE), LARGEST_PAGE)


def _positive(text: str, default: int) -> int:
    """Digits only, and not so many that reading them would be the work."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0 else default


def link_header(url: str, query: Mapping[str, str], number: int, last: int) -> dict[str, str]:
    """The Link header of page `number`, each relation only where it applies; none for what fits one page."""
    rels: dict[str, int] = {}
    if number < last:
        rels["next"] = number + 1
    if number > 1 and last > 0:
        rels["prev"] = min(number - 1, last)
        rels["first"] = 1
    if number < last:
        rels["last"] = last
    targets = {rel: f"{url}?{urlencode(sorted({**query, 'page': page}.items()))}" for rel, page in rels.items()}
    return {"Link": format_links(targets)} if targets else {}


def format_links(targets: Mapping[str, str]) -> str:
    """A Link header's value from its addresses by relation."""
    return ", ".join(f'<{url}>; rel="{rel}"' for rel, url in targets.items())
