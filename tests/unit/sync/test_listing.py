"""A listing that changes while it is read is read again, or given up; never taken as it came."""

from collections.abc import Callable

import pytest

from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.scope import FULL_SCOPE, ResourceKind, SyncScope
from buildkite_connector.sync.collect import collect
from buildkite_connector.sync.listing import MAX_CONCURRENCY, REREADS, Page
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
        api.listed_members[team(99).id] = [member(1)]

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


async def test_an_id_on_two_pages_of_a_listing_that_stands_still_counts_once() -> None:
    api = organization(accounts=8)
    api.listed_accounts.append(account(0))
    collection = await collect(api, ACME, USERS_ONLY)
    assert collection.directory.accounts == tuple(account(number) for number in range(8))
    assert (collection.report.duplicates, collection.report.rereads) == (1, 1)


async def test_a_listing_that_never_holds_still_fails_with_its_reason() -> None:
    api = organization(accounts=8)

    def before(_listing: str, page: int) -> None:
        if page == 2:
            api.listed_accounts.insert(0, account(1000 + api.requests))

    api.before = before
    with pytest.raises(Failure, match=r"accounts of acme to hold still .* \(an id came on two pages\)") as failed:
        await collect(api, ACME, USERS_ONLY)
    assert failed.value.reason is Reason.ROSTER_UNSTABLE
    assert failed.value.remedy is Remedy.RETRY
    assert len([1 for listing, page in api.asked if page == 1]) == 1 + REREADS


@pytest.mark.parametrize(
    ("sizes", "complaint"),
    [
        ((3, 2, 3), "page 2 of 3 held 2 instead of 3"),
        ((3, 4, 3), "page 2 of 3 held 4 instead of 3"),
        ((2, 3), "page 1 of 2 held 2 instead of 3"),
        ((3, 0), "the last page, 2, held 0"),
        ((3, 4), "the last page, 2, held 4"),
        ((4,), "the last page, 1, held 4"),
    ],
)
async def test_pages_that_never_are_what_was_promised_fail_the_listing(sizes: tuple[int, ...], complaint: str) -> None:
    api = FakeOrganizationAPI()
    api.spoil = lambda _, number, __: Page(
        [account(100 * number + each) for each in range(sizes[number - 1])], len(sizes)
    )
    with pytest.raises(Failure, match=complaint) as failed:
        await collect(api, ACME, USERS_ONLY)
    assert failed.value.reason is Reason.ROSTER_UNSTABLE


@pytest.mark.parametrize("last", [None, 10_000])
async def test_a_listing_that_brings_the_same_page_for_ever_fails_after_few_requests(last: int | None) -> None:
    api = FakeOrganizationAPI()
    api.spoil = lambda _listing, number, _page: Page(
        [account(each) for each in range(3)], last if number < 500 else 500
    )
    with pytest.raises(Failure, match=r"hold still .* told of more to follow and brought no new id") as failed:
        await collect(api, ACME, USERS_ONLY)
    assert failed.value.reason is Reason.ROSTER_UNSTABLE
    assert api.requests <= (1 + REREADS) * (1 + MAX_CONCURRENCY)


async def test_a_listing_of_empty_pages_fails() -> None:
    api = FakeOrganizationAPI()
    api.spoil = lambda _listing, number, _page: Page([], None if number < 500 else 500)
    with pytest.raises(Failure, match="page 1 told of more to follow and brought no new id"):
        await collect(api, ACME, USERS_ONLY)


async def test_a_last_page_of_known_ids_in_a_listing_that_stands_still_counts_once() -> None:
    api = organization(accounts=9)
    api.listed_accounts.append(account(0))
    collection = await collect(api, ACME, USERS_ONLY)
    assert collection.directory.accounts == tuple(account(number) for number in range(9))
    assert (collection.report.duplicates, collection.report.rereads) == (1, 1)


async def test_a_page_of_known_ids_once_is_a_listing_that_moved() -> None:
    api = organization(accounts=9)
    once(api, 2, lambda: api.listed_accounts.__setitem__(slice(0, 0), [account(90), account(91), account(92)]))
    collection = await collect(api, ACME, USERS_ONLY)
    assert collection.directory.accounts == tuple(api.listed_accounts)
