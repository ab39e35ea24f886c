"""A listing that changes while it is read is read again, or given up; never taken as it came."""

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from buildkite_connector.model.directory import FULL_SCOPE, ResourceKind, Role, SyncScope
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.sync.collect import collect
from buildkite_connector.sync.listing import MAX_CONCURRENCY, REREADS, ListingChanged, Page, run_concurrently
from fakes.organization_api import ACME, FakeOrganizationAPI, account, member, organization, team

USERS_ONLY = SyncScope(kinds=frozenset({ResourceKind.USER}))


def once(api: FakeOrganizationAPI, page: int, change: Callable[[], None], listing: str = "accounts") -> None:
    """Lets something happen just before that page is answered for the first time."""
    done: list[None] = []

    def before(asked: str, number: int) -> None:
        if (asked, number) == (listing, page) and not done:
            done.append(None)
            change()

    api.before = before


async def test_someone_who_joins_at_the_front_shifts_the_pages_and_the_listing_is_read_again() -> None:
    api = organization(accounts=8)
    once(api, 2, lambda: api.listed_accounts.insert(0, account(99)))
    collection = await collect(api, ACME, USERS_ONLY)
    assert collection.directory.accounts == tuple(api.listed_accounts)
    assert collection.report.rereads == 1


async def test_a_number_of_pages_that_changes_is_noticed() -> None:
    api = organization(accounts=9)
    once(api, 3, lambda: api.listed_accounts.append(account(99)))
    collection = await collect(api, ACME, USERS_ONLY)
    assert collection.directory.accounts == tuple(api.listed_accounts)
    assert collection.report.rereads == 1


async def test_a_page_shorter_than_promised_is_noticed() -> None:
    api = organization(accounts=9)
    once(api, 3, lambda: api.listed_accounts.__delitem__(slice(4, None)))
    collection = await collect(api, ACME, USERS_ONLY)
    assert collection.directory.accounts == tuple(account(number) for number in range(4))
    assert collection.report.rereads == 1


async def test_a_last_page_that_has_become_empty_is_noticed() -> None:
    api = organization(accounts=7)
    once(api, 3, lambda: api.listed_accounts.__delitem__(slice(0, 4)))
    collection = await collect(api, ACME, USERS_ONLY)
    assert collection.directory.accounts == tuple(api.listed_accounts)


async def test_only_the_listing_that_moved_is_read_again() -> None:
    api = organization(accounts=8, members=[[0, 1, 2, 3], [4]])
    once(api, 2, lambda: api.listed_members[team(0).id].insert(0, member(7)), listing=team(0).id)
    collection = await collect(api, ACME, FULL_SCOPE)
    assert collection.directory.counts.memberships == 6
    assert api.repeats == {(team(0).id, 1), (team(0).id, 2)}


async def test_when_the_teams_moved_no_team_is_asked_twice_for_its_members() -> None:
    api = organization(accounts=2, members=[[0]] * 8)

    def add() -> None:
        api.listed_teams.insert(0, team(99))
        api.listed_members[team(99).id] = [member(1, 99)]

    once(api, 2, add, listing="teams")
    collection = await collect(api, ACME, FULL_SCOPE)
    assert collection.directory.teams == tuple(api.listed_teams)
    assert collection.directory.counts.memberships == 9
    assert {listing for listing, _ in api.repeats} == {"teams"}


async def test_a_team_that_is_gone_when_the_teams_are_read_again_is_no_team_of_the_directory() -> None:
    api = organization(accounts=9, members=[[0]] * 9)

    def delete() -> None:
        del api.listed_teams[0:4]

    once(api, 3, delete, listing="teams")
    collection = await collect(api, ACME, FULL_SCOPE)
    assert collection.directory.teams == tuple(team(number) for number in range(4, 9))
    assert {membership.team for membership in collection.directory.memberships} == {
        team(number).id for number in range(4, 9)
    }
    assert collection.report.teams_gone == 0


@pytest.mark.parametrize("place", [0, 1, 5, 8], ids=["first page", "same page", "middle page", "last page"])
@pytest.mark.parametrize("name", ["Ann 0", "Ann again"])
async def test_an_id_that_comes_twice_may_have_another_ones_place_and_fails_the_listing(place: int, name: str) -> None:
    api = organization(accounts=9)
    api.listed_accounts.insert(place, account(0, name))
    with pytest.raises(
        Failure, match=r"accounts of acme .* contradicted itself .* repeats an id of an earlier page"
    ) as failed:
        await collect(api, ACME, USERS_ONLY)
    assert failed.value.reason is Reason.ROSTER_UNSTABLE


async def test_an_id_that_comes_twice_once_is_a_listing_that_moved() -> None:
    api = organization(accounts=8)
    pages = iter([Page([account(3), account(4), account(2)], 3, more=True)])
    api.spoil = lambda _, number, page: next(pages, page) if number == 2 else page
    collection = await collect(api, ACME, USERS_ONLY)
    assert collection.directory.accounts == tuple(api.listed_accounts)
    assert collection.report.rereads == 1


async def test_a_team_that_is_listed_twice_fails_the_listing() -> None:
    api = organization(accounts=1, members=[[0], [0]])
    api.listed_teams.append(team(0))
    with pytest.raises(Failure, match=r"teams of acme .* repeats an id of an earlier page"):
        await collect(api, ACME, FULL_SCOPE)


async def test_somebody_who_has_both_roles_in_a_team_fails_the_listing() -> None:
    api = organization(accounts=2, members=[[0, 1]])
    api.listed_members[team(0).id].append(member(0, role=Role.MAINTAINER))
    with pytest.raises(Failure, match=r"members of team team-0 .* repeats an id of an earlier page"):
        await collect(api, ACME, FULL_SCOPE)


def without_links(*pages: int) -> Callable[[str, int, Page[Any]], Page[Any]]:
    """What a gateway that cuts the Link header leaves of these pages, as the client reads them."""

    def spoil(_listing: str, number: int, page: Page[Any]) -> Page[Any]:
        if pages and number not in pages:
            return page
        return Page(page.items, None if len(page.items) == 3 else number)

    return spoil


@pytest.mark.parametrize("accounts", range(1, 14))
@pytest.mark.parametrize("pages", [(), (1,), (2,), (1, 2), (1, 3), (2, 3)], ids=str)
@pytest.mark.parametrize("tells_last", [True, False])
async def test_full_pages_without_links_are_asked_on(accounts: int, pages: tuple[int, ...], tells_last: bool) -> None:
    api = organization(accounts=accounts)
    api.tells_last = tells_last
    api.spoil = without_links(*pages)
    collection = await collect(api, ACME, USERS_ONLY)
    assert collection.directory.accounts == tuple(api.listed_accounts)
    assert api.requests <= -(-accounts // 3) + 1
    assert collection.report.rereads == 0


async def test_a_full_last_page_whose_links_lead_back_is_not_asked_on() -> None:
    api = organization(accounts=9)
    await collect(api, ACME, USERS_ONLY)
    assert api.asked == [("accounts", 1), ("accounts", 2), ("accounts", 3)]


async def test_an_empty_page_after_one_that_said_another_follows_is_a_contradiction() -> None:
    api = organization(accounts=3)
    api.spoil = lambda _, number, page: Page(page.items, None, more=True) if number == 1 else page
    with pytest.raises(Failure, match="the last page, 2, has 0 items"):
        await collect(api, ACME, USERS_ONLY)


@pytest.mark.parametrize("first_says", [2, None])
async def test_a_last_page_that_announces_another_is_a_contradiction(first_says: int | None) -> None:
    api = organization(accounts=6)
    pages = {1: (first_says, True), 2: (2, True)}
    api.spoil = lambda _, number, page: Page(page.items, *pages[number])
    with pytest.raises(Failure, match="page 2 announces a next page, other pages only 2 pages"):
        await collect(api, ACME, USERS_ONLY)


@pytest.mark.parametrize("says", [2, 4])
async def test_pages_that_do_not_agree_on_their_number_are_a_contradiction(says: int) -> None:
    api = organization(accounts=9)
    api.spoil = lambda _, number, page: Page(page.items, says, more=True) if number == 2 else page
    with pytest.raises(Failure, match=f"page 2 announces {says} pages, other pages 3"):
        await collect(api, ACME, USERS_ONLY)


async def test_a_listing_that_never_holds_still_fails_with_its_reason() -> None:
    api = organization(accounts=8)

    def before(_listing: str, page: int) -> None:
        if page == 2:
            api.listed_accounts.insert(0, account(1000 + api.requests))

    api.before = before
    with pytest.raises(Failure, match=r"accounts of acme not to change .* repeats an id of an earlier page") as failed:
        await collect(api, ACME, USERS_ONLY)
    assert failed.value.reason is Reason.ROSTER_UNSTABLE
    assert failed.value.remedy is Remedy.RETRY
    assert len([1 for listing, page in api.asked if page == 1]) == 1 + REREADS


@pytest.mark.parametrize(
    ("sizes", "complaint"),
    [
        ((3, 2, 3), "page 2 of 3 has 2 items instead of 3"),
        ((3, 4, 3), "page 2 of 3 has 4 items instead of 3"),
        ((2, 3), "page 1 of 2 has 2 items instead of 3"),
        ((3, 0), "the last page, 2, has 0 items"),
        ((3, 4), "the last page, 2, has 4 items"),
        ((4,), "the last page, 1, has 4 items"),
    ],
)
async def test_pages_that_never_are_what_was_promised_fail_the_listing(sizes: tuple[int, ...], complaint: str) -> None:
    api = FakeOrganizationAPI()
    api.spoil = lambda _, number, __: Page(
        [account(100 * number + each) for each in range(sizes[number - 1])], len(sizes), more=number < len(sizes)
    )
    with pytest.raises(Failure, match=complaint) as failed:
        await collect(api, ACME, USERS_ONLY)
    assert failed.value.reason is Reason.ROSTER_UNSTABLE


@pytest.mark.parametrize("last", [None, 10_000])
async def test_a_listing_that_brings_the_same_page_for_ever_fails_after_few_requests(last: int | None) -> None:
    api = FakeOrganizationAPI()
    api.spoil = lambda _listing, number, _page: Page(
        [account(each) for each in range(3)], last if number < 500 else 500, more=number < 500
    )
    with pytest.raises(Failure, match=r"not to change .* is not the last and has no new id") as failed:
        await collect(api, ACME, USERS_ONLY)
    assert failed.value.reason is Reason.ROSTER_UNSTABLE
    assert api.requests <= (1 + REREADS) * (1 + MAX_CONCURRENCY)


async def test_a_listing_of_empty_pages_fails() -> None:
    api = FakeOrganizationAPI()
    api.spoil = lambda _listing, number, _page: Page([], None if number < 500 else 500, more=number < 500)
    with pytest.raises(Failure, match="page 1 is not the last and has no new id"):
        await collect(api, ACME, USERS_ONLY)


async def test_a_page_of_known_ids_once_is_a_listing_that_moved() -> None:
    api = organization(accounts=9)
    once(api, 2, lambda: api.listed_accounts.__setitem__(slice(0, 0), [account(90), account(91), account(92)]))
    collection = await collect(api, ACME, USERS_ONLY)
    assert collection.directory.accounts == tuple(api.listed_accounts)


async def test_a_call_that_fails_as_its_task_is_cancelled_does_not_keep_the_task_alive() -> None:
    """As one listing fails for good, another has moved; it must not be read again, or nothing ends."""
    now = asyncio.Event()

    async def fail(error: Exception) -> None:
        await now.wait()
        raise error

    async def read_again() -> None:
        with contextlib.suppress(ListingChanged):
            await run_concurrently([partial(fail, ListingChanged("moved")), forever])
        await forever()

    async def forever() -> None:
        await asyncio.Event().wait()

    reading = asyncio.create_task(run_concurrently([partial(fail, LookupError("for good")), read_again]))
    for _ in range(5):
        await asyncio.sleep(0)
    now.set()
    ended, _ = await asyncio.wait({reading}, timeout=5)
    assert ended
    assert isinstance(reading.exception(), LookupError)


async def test_when_a_call_fails_the_others_have_ended_before_it_is_raised() -> None:
    ended: list[str] = []

    async def fail() -> None:
        await asyncio.sleep(0)
        raise LookupError

    async def end_slowly() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(5):
                await asyncio.sleep(0)
            ended.append("slowly")

    with pytest.raises(LookupError):
        await run_concurrently([fail, end_slowly])
    assert ended == ["slowly"]
