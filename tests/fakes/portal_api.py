"""A portal in memory, read page by page, whose organization may change meanwhile: a `sync.ports.PortalAPI`."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn, TypeVar

from buildkite_connector.model.directory import AccessToken, AccessTokenID, AccountDetails, AccountID
from buildkite_connector.model.failure import Failure
from buildkite_connector.sync.ports import PORTAL_PAGE, CursorPage

T = TypeVar("T")

START = datetime(2026, 3, 2, 9, tzinfo=UTC)


def details(number: int) -> AccountDetails:
    """Different for each number."""
    return AccountDetails(START + timedelta(days=number), two_factor=True, machine=False, member_since=START)


def token(number: int, owner: int | None = 0) -> AccessToken:
    of = None if owner is None else AccountID(f"account-{owner}")
    return AccessToken(AccessTokenID(f"token-{number}"), of, f"Token {number}", START, None, None, ("READ_USER",))


@dataclass
class FakePortal:
    """Serves what it holds at the time of each answer; a page has at most `page_size` items.

    `before` is called with (operation, cursor) before each answer and may change the organization or raise; `spoil` may
    change the page that is answered with. `failure` is raised while set.
    """

    listed_members: list[tuple[AccountID, AccountDetails]] = field(default_factory=list)
    listed_tokens: list[AccessToken] = field(default_factory=list)
    page_size: int = 3
    before: Callable[[str, str | None], None] = lambda _operation, _cursor: None
    spoil: Callable[[str, str | None, CursorPage[Any]], CursorPage[Any]] = lambda _operation, _cursor, page: page
    failure: Failure | None = None
    seconds: float = 0.0
    asked: list[tuple[str, str | None, int]] = field(default_factory=list)
    throttled_seconds: float = 0.25

    @property
    def requests(self) -> int:
        return len(self.asked)

    async def members(
        self, after: str | None = None, first: int = PORTAL_PAGE
    ) -> CursorPage[tuple[AccountID, AccountDetails]]:
        await self._answer("members", after, first)
        return self._page("members", self.listed_members, after, first)

    async def api_tokens(self, after: str | None = None, first: int = PORTAL_PAGE) -> CursorPage[AccessToken]:
        await self._answer("tokens", after, first)
        return self._page("tokens", self.listed_tokens, after, first)

    async def _answer(self, operation: str, after: str | None, first: int) -> None:
        self.asked.append((operation, after, first))
        await asyncio.sleep(self.seconds)
        self.before(operation, after)
        if self.failure is not None:
            raise self.failure

    def _page(self, operation: str, items: Sequence[T], after: str | None, first: int) -> CursorPage[T]:
        start = int(after or 0)
        end = start + min(first, self.page_size)
        following = str(end) if end < len(items) else None
        return self.spoil(operation, after, CursorPage(tuple(items[start:end]), following))


def portal_of(members: int, tokens: Sequence[int] = ()) -> FakePortal:
    """So many members (`organization_api.account`), and a token for each owner's number."""
    return FakePortal(
        [(AccountID(f"account-{number}"), details(number)) for number in range(members)],
        [token(number, owner) for number, owner in enumerate(tokens)],
    )


def no_portal(*asked: object, **how: object) -> NoReturn:
    """Where no connector has a portal, nobody makes a client of one."""
    raise AssertionError(f"nobody is to ask a portal: {asked}")
