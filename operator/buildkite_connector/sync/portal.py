"""Reads what a portal shows of an organization, page by page: its members and people's API tokens.

Each page says at which cursor the next one begins. A listing that contradicts itself is read again: an id that comes
twice, a cursor that comes again, an end that does not come. `collect` compares members and owners with the accounts.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Container, Iterable
from dataclasses import replace
from typing import Generic, TypeVar

from buildkite_connector.model.canonical_id import canonical_id
from buildkite_connector.model.directory import (
    AccessToken,
    Account,
    AccountDetails,
    AccountID,
    Directory,
    OrganizationSlug,
    ResourceKind,
)
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.sync.listing import ListingChanged, Progress, read_whole
from buildkite_connector.sync.ports import CursorPage, PortalAPI

T = TypeVar("T")

THROUGH_A_PORTAL = frozenset({ResourceKind.USER, ResourceKind.API_TOKEN})
"""The types of which a portal shows something."""
MOST_PAGES = 2000
"""Pages of one listing: a million items, as many as the pages of the REST API may have (`BuildkiteSettings`)."""
_AT_ONCE = 1000
"""Items that are changed before the event loop has its turn."""


def portal_missing() -> Failure:
    """API tokens are to be synced, and there is no portal."""
    return Failure(
        Reason.SPEC_INVALID,
        "The resource type api_token is read through a portal: set spec.portal.slug, or remove api_token from"
        " spec.sync.resourceTypes.",
        remedy=Remedy.EDIT,
    )


async def check_portal(portal: PortalAPI, kinds: Collection[ResourceKind]) -> None:
    """Run each operation that a sync of these kinds needs, for one item. Raises Failure as the portal does."""
    if ResourceKind.USER in kinds:
        await portal.members(first=1)
    if ResourceKind.API_TOKEN in kinds:
        await portal.api_tokens(first=1)


class PortalListings:
    """What a portal shows of an organization, for one collection. Its methods raise as `CursorListing.read`.

    `on_page` is called for each page as it comes.
    """

    def __init__(
        self, portal: PortalAPI, slug: OrganizationSlug, progress: Progress, on_page: Callable[[object], None]
    ) -> None:
        self.api = portal
        self._progress = progress
        self._on_page = on_page
        self._members: CursorListing[tuple[AccountID, AccountDetails]] = CursorListing(
            f"the members of {slug} in the portal",
            portal.members,
            lambda member: canonical_id(member[0]),
            progress=progress,
            on_page=on_page,
        )
        self._token_listing: CursorListing[AccessToken] = CursorListing(
            f"the API tokens of {slug} in the portal",
            portal.api_tokens,
            lambda token: canonical_id(token.id),
            progress=progress,
            on_page=self._tokens_arrived,
        )
        self._details: dict[str, AccountDetails] = {}
        """By the canonical id of the account."""
        self._tokens: Iterable[AccessToken] = ()

    def keep(self, directory: Directory) -> set[AccountID]:
        """Go on from what was collected before. Returns the accounts that had left by then."""
        self._details = {canonical_id(each.id): each.details for each in directory.accounts if each.details is not None}
        self._tokens = directory.api_tokens
        return {each.id for each in directory.accounts if each.details is None}

    async def read_members(self) -> None:
        """Those who were read before and have left are kept."""
        self._details |= {id_: details for id_, (_, details) in (await self._members.read()).items()}

    async def read_api_tokens(self) -> None:
        self._tokens = (await self._token_listing.read()).values()

    def lacking(self, accounts: Iterable[AccountID], left: Container[AccountID]) -> list[AccountID]:
        """Those of the accounts that the portal did not list, but for those that are known to have `left`."""
        found = self._details
        return [id_ for id_ in accounts if not (id_ in found or canonical_id(id_) in found or id_ in left)]

    async def add_details(self, accounts: dict[AccountID, Account]) -> None:
        """Give each of the accounts its details where the portal has them: one by one, as there may be many."""
        for number, (id_, account) in enumerate(accounts.items()):
            accounts[id_] = replace(account, details=self._details.get(canonical_id(id_)))
            if number % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)  # many items must not hold up the event loop

    async def with_owners(self, accounts: Iterable[AccountID] | None) -> tuple[AccessToken, ...]:
        """The API tokens. Owners are named as the accounts are, and left out where they are not among them.

        None: accounts are not in scope, and owners stay as the portal has them.
        """
        if accounts is None:
            return tuple(self._tokens)
        listed = {canonical_id(id_): id_ for id_ in accounts}
        found: list[AccessToken] = []
        for token in self._tokens:
            owner = listed.get(canonical_id(token.owner or ""))
            found.append(token if owner == token.owner else replace(token, owner=owner))
            if len(found) % _AT_ONCE == 0:
                await asyncio.sleep(0)
        return tuple(found)

    def _tokens_arrived(self, items: int) -> None:
        self._progress.api_tokens = items
        self._on_page(items)


class CursorListing(Generic[T]):
    """One listing, named `what` in errors.

    `ask` fetches the page at a cursor (None: the first), `id_of` names an item. `on_page` is called for each page as it
    comes, with the number of items that this reading has found.
    """

    def __init__(
        self,
        what: str,
        ask: Callable[[str | None], Awaitable[CursorPage[T]]],
        id_of: Callable[[T], str],
        *,
        progress: Progress,
        on_page: Callable[[int], None],
    ) -> None:
        self._what = what
        self._ask = ask
        self._id_of = id_of
        self._progress = progress
        self._on_page = on_page

    async def read(self) -> dict[str, T]:
        """The items by id, in the listing's order. Raises as `read_whole`, and whatever `ask` raises."""
        return await read_whole(self._what, self._read_once, self._progress)

    async def _read_once(self) -> dict[str, T]:
        """Raises ListingChanged."""
        found: dict[str, T] = {}
        asked: set[str | None] = set()
        cursor: str | None = None
        while True:
            if len(asked) == MOST_PAGES:
                raise ListingChanged(f"it goes on after {MOST_PAGES} pages")
            asked.add(cursor)
            page = await self._ask(cursor)
            for item in page.items:
                id_ = self._id_of(item)
                if id_ in found:
                    raise ListingChanged(f"page {len(asked)} repeats an id")
                found[id_] = item
            cursor = page.following
            self._arrived(len(found), more=cursor is not None)
            if cursor is None:
                return found
            if not page.items:
                raise ListingChanged(f"page {len(asked)} is empty, and is not the last")
            if cursor in asked:
                raise ListingChanged(f"page {len(asked)} leads back to an earlier page")

    def _arrived(self, items: int, *, more: bool) -> None:
        progress = self._progress
        progress.pages_read += 1
        progress.pages_known = max(progress.pages_known + more, progress.pages_read)
        self._on_page(items)
