"""Reads one paginated listing that may change while it is read.

Pages after the first are asked for side by side. People who join or leave meanwhile shift items from
page to page, so that one comes twice and another not at all; `Listing` notices and reads again.
`collect` puts the listings of an organization together.
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

Enough to keep the api's own, adaptive concurrency busy.
"""


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a listing, counted from 1.

    `last` is how many pages the listing has, as this very page tells it; None where the page only
    tells that more follow.
    """

    items: Sequence[T]
    last: int | None


@dataclass(slots=True)
class ReadStatistics:
    """What reading took, over all listings of a collection. `pages_known` grows as pages tell of others."""

    pages_read: int = 0
    pages_known: int = 0
    duplicates: int = 0
    rereads: int = 0


class ListingChanged(Exception):  # noqa: N818
    """The pages read so far cannot be one listing at one time."""


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
        statistics: ReadStatistics,
        on_page: Callable[[Page[T]], None] = lambda _: None,
    ) -> None:
        self._what = what
        self._ask = ask
        self._id_of = id_of
        self._page_size = page_size
        self._statistics = statistics
        self._arrived = on_page
        self._seen: set[K] = set()
        self.items = 0
        """How many items have come, in the reading under way or the last one."""

    async def read(self) -> dict[K, T]:
        """The items by id, in the listing's order, each once.

        An id on two pages is taken for a shift, unless reading again gives the very same ids: then
        the listing stands still and holds the id twice. A page before the last on which every id is known
        already is never taken for that: a listing of such pages has no end.

        Raises Failure ROSTER_UNSTABLE after REREADS further readings, and whatever `ask` raises.
        """
        before: list[K] = []
        moved: object = ""
        for reading in range(1 + REREADS):
            self._statistics.rereads += reading > 0
            try:
                pages = await self._read_pages()
            except ListingChanged as error:
                moved = error
                continue
            ids: list[K] = []
            unique: dict[K, T] = {}
            repeated = 0
            for page in pages:
                known = len(unique)
                here = [self._id_of(item) for item in page.items]
                for id_, item in zip(here, page.items, strict=True):
                    unique.setdefault(id_, item)
                repeated += len(set(here)) - (len(unique) - known)
                ids += here
                await asyncio.sleep(0)  # a long listing must not hold up the event loop
            if not repeated or ids == before:
                self._statistics.duplicates += len(ids) - len(unique)
                return unique
            before = ids
            moved = "an id came on two pages"
        raise Failure(
            Reason.ROSTER_UNSTABLE,
            f"Expected {self._what} to hold still while they are read, but they changed in each of "
            f"{1 + REREADS} readings ({moved}). The next sync tries again; if this stays, see what "
            f"changes the organization so often.",
        )

    async def _read_pages(self) -> list[Page[T]]:
        self.items = 0
        self._seen = set()
        read: dict[int, Page[T]] = {}
        last: int | None = None
        while last is None:
            number = len(read) + 1
            read[number] = await self._fetch(number)
            last = read[number].last
        for number, page in read.items():
            self._expect(number, page, last)
        self._statistics.pages_known += last - len(read)

        async def fetch(number: int) -> None:
            read[number] = page = await self._fetch(number)
            self._expect(number, page, last)

        await run_concurrently([partial(fetch, number) for number in range(len(read) + 1, last + 1)])
        return [read[number] for number in range(1, last + 1)]

    async def _fetch(self, number: int) -> Page[T]:
        page = await self._ask(number)
        self.items += len(page.items)
        self._statistics.pages_read += 1
        self._statistics.pages_known = max(self._statistics.pages_known, self._statistics.pages_read)
        if number != page.last:
            self._expect_news(number, page)
        self._arrived(page)
        return page

    def _expect_news(self, number: int, page: Page[T]) -> None:
        """Raises ListingChanged when a page that others follow brings nothing that was not on one before."""
        known = len(self._seen)
        self._seen.update(map(self._id_of, page.items))
        if len(self._seen) == known:
            raise ListingChanged(f"page {number} told of more to follow and brought no new id")

    def _expect(self, number: int, page: Page[T], last: int) -> None:
        """Raises ListingChanged when a page is not what the listing's number of pages promises."""
        if number > last or page.last not in (None, last):
            raise ListingChanged(f"page {number} told of {page.last} pages, others of {last}")
        if number == last and page.last is None:
            raise ListingChanged(f"page {number} told of more to follow, others of {last} pages")
        if number < last and len(page.items) != self._page_size:
            raise ListingChanged(f"page {number} of {last} held {len(page.items)} instead of {self._page_size}")
        if number == last and (len(page.items) > self._page_size or (number > 1 and not page.items)):
            raise ListingChanged(f"the last page, {number}, held {len(page.items)}")


async def run_concurrently(calls: Sequence[Callable[[], Awaitable[None]]], width: int = MAX_CONCURRENCY) -> None:
    """Run calls, at most `width` at a time, in order of start.

    The first that fails cancels the others, and its exception is raised as it is.
    """
    remaining = iter(calls)

    async def work() -> None:
        for call in remaining:
            await call()

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(width, len(calls))):
                group.create_task(work())
    except BaseExceptionGroup as failed:
        first = failed.exceptions[0]
    else:
        return
    raise first  # out of the except clause, so that it keeps the cause it was raised with
