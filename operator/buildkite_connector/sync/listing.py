"""Reads one paginated listing that may change while it is read, through whatever stands in between.

Pages after the first are asked for side by side. People who join or leave meanwhile shift items from
page to page, so that one comes twice and another not at all; a gateway may cut the links that lead on.
`Listing` sees each contradiction in a page or between pages and reads again: what it returns is whole as far as its
pages can tell. `collect` puts the listings of an organization together and compares them with one another.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from buildkite_connector.model.failure import Failure, Reason

K = TypeVar("K", bound=str)
T = TypeVar("T")

REREADS = 3
"""How often one listing is read again because it moved, before it is given up."""

MAX_CONCURRENCY = 64
"""How many calls stand side by side: bounds the tasks and the answers in memory.

Enough to keep the client's own, adaptive concurrency busy.
"""


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a listing, counted from 1.

    `last` is how many pages the listing has, as this very page says; None where it only says that another follows
    (`more`), and where it is full and came without any link: then the links may have been lost on the way.
    """

    items: Sequence[T]
    last: int | None
    more: bool = False


@dataclass(slots=True)
class Progress:
    """How far a collection is, over all its listings. `pages_known` grows as pages tell of others.

    `rereads`: listings read again because they moved.
    """

    pages_read: int = 0
    pages_known: int = 0
    rereads: int = 0
    accounts: int = 0
    teams: int = 0
    memberships: int = 0
    pipelines: int = 0
    clusters: int = 0
    api_tokens: int = 0


class ListingChanged(Exception):  # noqa: N818
    """The pages read so far cannot be one listing at one time."""


async def read_whole(what: str, read: Callable[[], Awaitable[T]], progress: Progress) -> T:
    """What `read` gives once it does not raise ListingChanged. `what` is read is named in the failure.

    Raises Failure ROSTER_UNSTABLE after REREADS further readings, and whatever else `read` raises.
    """
    contradiction: object = ""
    for reading in range(1 + REREADS):
        progress.rereads += reading > 0
        try:
            return await read()
        except ListingChanged as error:
            contradiction = error
    raise Failure(
        Reason.ROSTER_UNSTABLE,
        f"Expected {what} not to change while they are read, but each of {1 + REREADS} readings contradicted"
        f" itself ({contradiction}). The next sync tries again. If this persists, check what changes the"
        " organization so often, and whether a gateway between here and Buildkite changes or caches its answers.",
    )


class Listing(Generic[K, T]):
    """One listing, named `what` in errors.

    `ask` fetches a page, `id_of` names an item, `page_size` is what every page but the last holds.
    `on_page` is called with each page as it comes, also with pages that are read again.
    """

    def __init__(
        self,
        what: str,
        ask: Callable[[int], Awaitable[Page[T]]],
        id_of: Callable[[T], K],
        *,
        page_size: int,
        progress: Progress,
        on_page: Callable[[Page[T]], None] = lambda _: None,
    ) -> None:
        self._what = what
        self._ask = ask
        self._id_of = id_of
        self._page_size = page_size
        self._progress = progress
        self._on_page = on_page
        self._seen: set[K] = set()
        self.items = 0
        """How many items have come, in the reading under way or the last one."""

    async def read(self) -> dict[K, T]:
        """The items by id, in the listing's order.

        An id that comes twice is a contradiction even in a listing that stands still: whatever put it there twice may
        have left another one out.

        Raises as `read_whole`, and whatever `ask` raises.
        """
        return await read_whole(self._what, self._read_once, self._progress)

    async def _read_once(self) -> dict[K, T]:
        """Raises ListingChanged."""
        self.items = 0
        self._seen = set()
        pages: dict[int, Page[T]] = {}
        last: int | None = None
        while last is None:
            number = len(pages) + 1
            page = await self._fetch(number)
            if number > 1 and not page.items and not pages[number - 1].more and not page.more:
                last = number - 1  # the full page before it, which came without links, is the last
            else:
                pages[number] = page
                last = page.last
        for number, page in pages.items():
            self._expect(number, page, last)
        self._progress.pages_known += last - len(pages)

        async def fetch(number: int) -> None:
            pages[number] = page = await self._fetch(number)
            self._expect(number, page, last)

        await run_concurrently([partial(fetch, number) for number in range(len(pages) + 1, last + 1)])
        found: dict[K, T] = {}
        for number in range(1, last + 1):
            for item in pages[number].items:
                id_ = self._id_of(item)
                if id_ in found:
                    raise ListingChanged(f"page {number} repeats an id of an earlier page")
                found[id_] = item
            await asyncio.sleep(0)  # a long listing must not hold up the event loop
        return found

    async def _fetch(self, number: int) -> Page[T]:
        """Raises ListingChanged when a page that others follow brings nothing that was not on one before."""
        page = await self._ask(number)
        progress, known = self._progress, len(self._seen)
        self.items += len(page.items)
        progress.pages_read += 1
        progress.pages_known = max(progress.pages_known, progress.pages_read)
        self._seen.update(map(self._id_of, page.items))
        if number != page.last and len(self._seen) == known:
            raise ListingChanged(f"page {number} is not the last and has no new id")
        self._on_page(page)
        return page

    def _expect(self, number: int, page: Page[T], last: int) -> None:
        """Raises ListingChanged when a page is not what the listing's number of pages promises."""
        if number > last or page.last not in (None, last):
            raise ListingChanged(f"page {number} announces {page.last} pages, other pages {last}")
        if number == last and page.more:
            raise ListingChanged(f"page {number} announces a next page, other pages only {last} pages")
        if number < last and len(page.items) != self._page_size:
            raise ListingChanged(f"page {number} of {last} has {len(page.items)} items instead of {self._page_size}")
        if number == last and (len(page.items) > self._page_size or (number > 1 and not page.items)):
            raise ListingChanged(f"the last page, {number}, has {len(page.items)} items")


async def run_concurrently(calls: Sequence[Callable[[], Awaitable[None]]], width: int = MAX_CONCURRENCY) -> None:
    """Run calls, at most `width` at a time, in order of start.

    The first that fails cancels the others, and its exception is raised as it is. No TaskGroup: one whose task is
    cancelled as a call fails raises what failed and forgets the cancellation, and who catches that goes on for ever.
    """
    remaining = iter(calls)

    async def work() -> None:
        for call in remaining:
            await call()

    workers = [asyncio.create_task(work()) for _ in range(min(width, len(calls)))]
    if not workers:
        return
    try:
        await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
        failed = [worker for worker in workers if worker.done() and not worker.cancelled()]
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    for worker in failed:
        if (error := worker.exception()) is not None:
            raise error
