"""The pages of a portal's listings: what contradicts itself, what is read again, and one item of each for a check."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from buildkite_connector.model.directory import (
    ALL_KINDS,
    DEFAULT_KINDS,
    AccessTokenID,
    AccountID,
    ResourceKind,
    SyncScope,
)
from buildkite_connector.model.failure import Reason, Remedy
from buildkite_connector.sync import portal as of_portals
from buildkite_connector.sync.collect import collect
from buildkite_connector.sync.listing import REREADS, Progress
from buildkite_connector.sync.portal import check_portal
from buildkite_connector.sync.ports import CursorPage
from fakes.organization_api import ACME, account, organization
from fakes.portal_api import FakePortal, details, portal_of
from unit.sync.test_portal import API_TOKEN, DEFAULT, TEAM, TOKENS, USER, USER_ID, detailed, failure_of, operations

# A listing that contradicts itself


def again(portal: FakePortal, times: int, spoil: Callable[[str | None, CursorPage[Any]], CursorPage[Any]]) -> None:
    """The first `times` readings are spoilt."""
    readings = 0

    def change(_operation: str, cursor: str | None, page: CursorPage[Any]) -> CursorPage[Any]:
        nonlocal readings
        readings += cursor is None
        return spoil(cursor, page) if readings <= times else page

    portal.spoil = change


def twice(cursor: str | None, page: CursorPage[Any]) -> CursorPage[Any]:
    return CursorPage((*page.items, page.items[0]), page.following)


def twice_later(cursor: str | None, page: CursorPage[Any]) -> CursorPage[Any]:
    return page if cursor is None else CursorPage(((account(0).id, details(0)),), None)


def back(cursor: str | None, page: CursorPage[Any]) -> CursorPage[Any]:
    return page if cursor != "6" else CursorPage(page.items, "3")


def here(cursor: str | None, page: CursorPage[Any]) -> CursorPage[Any]:
    return page if cursor != "3" else CursorPage(page.items, "3")


def empty(cursor: str | None, page: CursorPage[Any]) -> CursorPage[Any]:
    return page if cursor != "3" else CursorPage((), "6")


CONTRADICTIONS = pytest.mark.parametrize(
    ("spoil", "told", "pages"),
    [
        (twice, "page 1 repeats an id", 1),
        (twice_later, "page 2 repeats an id", 2),
        (back, "page 3 leads back to an earlier page", 3),
        (here, "page 2 leads back to an earlier page", 2),
        (empty, "page 2 is empty, and is not the last", 2),
    ],
)


@CONTRADICTIONS
async def test_a_listing_that_contradicts_itself_is_read_again(
    spoil: Callable[[str | None, CursorPage[Any]], CursorPage[Any]], told: str, pages: int
) -> None:
    api, portal = organization(accounts=7), portal_of(7)
    again(portal, REREADS, spoil)
    collection = await collect(api, ACME, DEFAULT, portal)
    assert collection.directory.accounts == detailed(*range(7))
    assert collection.report.rereads == REREADS
    assert len(portal.asked) == REREADS * pages + 3


@CONTRADICTIONS
async def test_one_that_never_holds_still_fails_the_sync(
    spoil: Callable[[str | None, CursorPage[Any]], CursorPage[Any]], told: str, pages: int
) -> None:
    api, portal = organization(accounts=7), portal_of(7)
    again(portal, REREADS + 1, spoil)
    failure = await failure_of(api, portal)
    assert (failure.reason, failure.remedy) == (Reason.ROSTER_UNSTABLE, Remedy.RETRY)
    assert failure.message.startswith(
        "Expected the members of acme in the portal not to change while they are read, but each of 4 readings"
        f" contradicted itself ({told})."
    )
    assert len(portal.asked) == (REREADS + 1) * pages


async def test_a_token_that_comes_twice_is_a_contradiction_too() -> None:
    api, portal = organization(accounts=1), portal_of(1, tokens=[0, 0])
    portal.listed_tokens.append(portal.listed_tokens[0])
    failure = await failure_of(api, portal, TOKENS)
    assert failure.reason is Reason.ROSTER_UNSTABLE
    assert failure.message.startswith("Expected the API tokens of acme in the portal not to change")


async def test_whatever_comes_with_its_id_in_two_forms_comes_twice() -> None:
    api, portal = organization(accounts=1), portal_of(1)
    portal.listed_members += [(AccountID(USER_ID), details(1)), (AccountID(USER_ID.upper()), details(2))]
    assert (await failure_of(api, portal)).reason is Reason.ROSTER_UNSTABLE
    portal = portal_of(0, tokens=[0, 0])
    portal.listed_tokens = [
        replace(each, id=AccessTokenID(form(USER_ID)))
        for each, form in zip(portal.listed_tokens, (str.lower, str.upper), strict=True)
    ]
    assert (await failure_of(api, portal, TOKENS)).reason is Reason.ROSTER_UNSTABLE


async def test_an_empty_page_at_the_end_is_an_end() -> None:
    api, portal = organization(), FakePortal()
    assert (await collect(api, ACME, TOKENS, portal)).directory.api_tokens == ()
    assert operations(portal) == [("tokens", None)]


async def test_a_listing_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_portals, "MOST_PAGES", 4)
    api, portal = organization(accounts=12), portal_of(12)
    assert (await collect(api, ACME, DEFAULT, portal)).directory.accounts == detailed(*range(12))
    portal = portal_of(13)
    failure = await failure_of(api, portal)
    assert "(it goes on after 4 pages)" in failure.message
    assert len(portal.asked) == 4 * (REREADS + 1)


async def test_progress_counts_each_page_and_after_a_contradiction_the_items_anew() -> None:
    seen: list[tuple[int, int, int]] = []

    def show(now: Progress) -> None:
        seen.append((now.pages_read, now.pages_known, now.api_tokens))

    api, portal = organization(), portal_of(0, tokens=[0] * 7)
    await collect(api, ACME, TOKENS, portal, progress=show)
    assert seen == [(1, 2, 3), (2, 3, 6), (3, 3, 7)]
    seen.clear()
    again(portal, 1, here)
    await collect(api, ACME, TOKENS, portal, progress=show)
    assert seen == [(1, 2, 3), (2, 3, 6), (3, 4, 3), (4, 5, 6), (5, 5, 7)]


async def test_progress_is_told_of_each_page_of_members() -> None:
    seen: list[int] = []
    api, portal = organization(accounts=2), portal_of(7)
    users = SyncScope(frozenset({USER}))
    await collect(api, ACME, users, portal, progress=lambda now: seen.append(now.pages_read))
    assert seen == [1, 2, 3, 4]


# The check


@pytest.mark.parametrize(
    ("kinds", "asked"),
    [
        (DEFAULT_KINDS, ["members"]),
        ({TEAM}, []),
        ({API_TOKEN}, ["tokens"]),
        (ALL_KINDS, ["members", "tokens"]),
    ],
    ids=lambda kinds: "+".join(sorted(kinds)),
)
async def test_a_check_asks_for_one_item_of_what_a_sync_needs(kinds: set[ResourceKind], asked: list[str]) -> None:
    portal = portal_of(9, tokens=[0, 1])
    await check_portal(portal, kinds)
    assert portal.asked == [(operation, None, 1) for operation in asked]
