"""Collecting an organization: what is asked, what comes out, and what stops it."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from buildkite_connector.model.directory import (
    FULL_SCOPE,
    Account,
    AccountID,
    Counts,
    Membership,
    ResourceKind,
    Role,
    SyncScope,
)
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.sync.collect import collect
from buildkite_connector.sync.incomplete import MOST_LEAVERS
from buildkite_connector.sync.listing import MAX_CONCURRENCY, Page, Progress
from fakes.organization_api import ACME, FakeOrganizationAPI, account, organization, team

USERS_ONLY = SyncScope(kinds=frozenset({ResourceKind.USER}))
TEAMS_ONLY = SyncScope(kinds=frozenset({ResourceKind.TEAM}))


async def test_everything_is_collected_in_the_order_of_the_listings() -> None:
    api = organization(accounts=7, members=[[0, 1, 2, 3], [], [6]])
    collection = await collect(api, ACME, FULL_SCOPE)
    directory = collection.directory
    assert directory.organization == ACME
    assert directory.accounts == tuple(account(number) for number in range(7))
    assert directory.teams == (team(0), team(1), team(2))
    assert directory.memberships == tuple(
        Membership(team(number).id, account(who).id, Role.MEMBER)
        for number, who in [(0, 0), (0, 1), (0, 2), (0, 3), (2, 6)]
    )


async def test_the_fewest_possible_requests_are_made_and_none_twice() -> None:
    api = organization(accounts=31, members=[list(range(size)) for size in (0, 1, 3, 4, 9, 10)])
    collection = await collect(api, ACME, FULL_SCOPE)
    assert api.requests == api.minimum == 11 + 2 + (1 + 1 + 2 + 2 + 3 + 4), "one full page is asked on"
    assert not api.repeats
    assert collection.report.requests == api.requests


async def test_an_organization_without_teams_takes_two_requests() -> None:
    api = organization(accounts=1)
    collection = await collect(api, ACME, FULL_SCOPE)
    assert api.requests == 2
    assert collection.directory.counts == Counts(1, 0, 0)


async def test_a_list_of_members_that_is_empty_lacks_at_least_the_tokens_owner() -> None:
    with pytest.raises(Failure, match="at least one account, but the list is empty") as failed:
        await collect(organization(members=[[]]), ACME, FULL_SCOPE)
    assert (failed.value.reason, failed.value.remedy) == (Reason.LIST_INCOMPLETE, Remedy.RETRY)


async def test_without_users_in_scope_no_accounts_are_asked_for_or_added() -> None:
    api = organization(accounts=4, members=[[0, 99]])
    collection = await collect(api, ACME, TEAMS_ONLY)
    assert not [page for listing, page in api.asked if listing == "accounts"]
    assert collection.directory.accounts == ()
    assert len(collection.directory.memberships) == 2
    assert collection.report.accounts_added == 0


async def test_without_teams_in_scope_only_accounts_are_asked_for() -> None:
    api = organization(accounts=4, members=[[0]])
    collection = await collect(api, ACME, USERS_ONLY)
    assert {listing for listing, _ in api.asked} == {"accounts"}
    assert collection.directory.scope == USERS_ONLY
    assert collection.directory.teams == ()
    assert collection.directory.memberships == ()


@pytest.mark.parametrize("scope", [SyncScope(entitlements=False), SyncScope(grants=False)])
async def test_without_grants_in_scope_no_members_of_teams_are_asked_for(scope: SyncScope) -> None:
    api = organization(accounts=4, members=[[0], [1]])
    collection = await collect(api, ACME, scope)
    assert {listing for listing, _ in api.asked} == {"accounts", "teams"}
    assert len(collection.directory.teams) == 2
    assert collection.directory.memberships == ()


async def test_pages_after_the_first_are_asked_for_together() -> None:
    api = organization(accounts=30)
    await collect(api, ACME, USERS_ONLY)
    assert api.most_out == 9


async def test_members_of_teams_are_asked_for_while_other_pages_are_on_their_way() -> None:
    api = organization(accounts=6, members=[[0]] * 9)
    held = asyncio.Event()
    answer = api._answer

    async def hold_back_the_last_pages(listing: str, page: int) -> None:
        if listing in ("accounts", "teams") and page > 1:
            await held.wait()
        await answer(listing, page)
        if listing == team(2).id:
            held.set()

    api._answer = hold_back_the_last_pages  # type: ignore[method-assign]
    async with asyncio.timeout(5):
        collection = await collect(api, ACME, FULL_SCOPE)
    assert collection.directory.counts.teams == 9


async def test_pages_are_followed_one_by_one_where_their_number_is_not_told() -> None:
    api = organization(accounts=10, members=[list(range(7))])
    api.tells_last = False
    collection = await collect(api, ACME, FULL_SCOPE)
    assert (collection.directory.counts.accounts, collection.directory.counts.memberships) == (10, 7)
    assert api.requests == api.minimum


async def test_the_calls_that_are_out_at_once_are_bounded() -> None:
    api = organization(accounts=3000, members=[[1]] * 500)
    await collect(api, ACME, FULL_SCOPE)
    assert api.most_out <= 3 * MAX_CONCURRENCY


def when(api: FakeOrganizationAPI, listing: str, change: Callable[[], None], page: int = 1) -> None:
    """Lets something happen just before that page is answered for the first time."""
    asked: list[None] = []

    def before(found: str, number: int) -> None:
        if (found, number) == (listing, page) and not asked:
            asked.append(None)
            change()

    api.before = before


def delete(api: FakeOrganizationAPI, *numbers: int) -> None:
    for number in numbers:
        api.listed_teams.remove(team(number))
        del api.listed_members[team(number).id]


async def test_teams_deleted_after_they_were_listed_are_left_out_and_counted() -> None:
    api = organization(accounts=2, members=[[0], [1], [99], [1]])
    api.page_size = 10
    when(api, team(0).id, lambda: delete(api, 2, 3))
    collection = await collect(api, ACME, FULL_SCOPE)
    assert collection.directory.teams == (team(0), team(1))
    assert (collection.report.teams_gone, collection.report.accounts_added) == (2, 0)
    assert api.requests == 2 + 4 + 1, "the list of teams is read again"


async def test_a_team_that_moves_up_unseen_into_the_place_of_a_deleted_one_is_there() -> None:
    api = organization(accounts=2, members=[[0], [1], [0], [1], [0]])
    api.before = lambda listing, page: (
        delete(api, 0)
        if (listing, page) != ("teams", 1) and listing != "accounts" and len(api.listed_teams) == 5
        else None
    )
    collection = await collect(api, ACME, FULL_SCOPE)
    assert collection.directory.teams == tuple(team(number) for number in range(1, 5))
    assert collection.directory.counts.memberships == 4
    assert collection.report.teams_gone == 1


async def test_teams_that_are_in_no_list_once_it_held_still_are_not_counted_as_gone() -> None:
    api = organization(accounts=2, members=[[0]] * 9)
    when(api, team(0).id, lambda: delete(api, 0, 1, 2, 3))
    collection = await collect(api, ACME, FULL_SCOPE)
    assert collection.directory.teams == tuple(team(number) for number in range(4, 9))
    assert collection.report.teams_gone == 0


async def test_a_team_that_comes_and_goes_while_others_are_looked_for_is_left_out() -> None:
    api = organization(accounts=2, members=[[0], [1]])

    def change() -> None:
        delete(api, 0)
        api.listed_teams.append(team(99))

    when(api, team(0).id, change)
    collection = await collect(api, ACME, FULL_SCOPE)
    assert (collection.directory.teams, collection.report.teams_gone) == ((team(1),), 2)


async def test_a_team_that_is_listed_and_cannot_be_found_is_not_taken_for_deleted() -> None:
    api = organization(accounts=2, members=[[0], [1]])
    del api.listed_members[team(1).id]
    with pytest.raises(Failure, match="members of team team-1, which the list of teams still has") as failed:
        await collect(api, ACME, FULL_SCOPE)
    assert (failed.value.reason, failed.value.remedy) == (Reason.LIST_INCOMPLETE, Remedy.RETRY)


async def test_a_team_that_cannot_be_found_once_is_read_again() -> None:
    api = organization(accounts=2, members=[[0], [1]])
    members = api.listed_members.pop(team(1).id)
    asked = api.before

    def before(listing: str, page: int) -> None:
        asked(listing, page)
        if api.asked.count(("teams", 1)) == 2:
            api.listed_members[team(1).id] = members

    api.before = before
    collection = await collect(api, ACME, FULL_SCOPE)
    assert collection.directory.counts == Counts(2, 2, 2)
    assert collection.report.teams_gone == 0


async def test_a_team_deleted_between_two_pages_of_its_members_is_left_out() -> None:
    api = organization(accounts=9, members=[list(range(9))])

    when(api, team(0).id, lambda: delete(api, 0), page=3)
    collection = await collect(api, ACME, FULL_SCOPE)
    assert collection.directory.counts.teams == collection.directory.counts.memberships == 0


async def test_an_organization_lost_on_the_way_is_not_taken_for_teams_deleted() -> None:
    api = organization(accounts=2, members=[[0], [1]])

    def lose(listing: str, _page: int) -> None:
        if listing.startswith("team-"):
            api.listed_members.clear()
        if listing == "teams" and not api.listed_members:
            raise Failure(Reason.ORGANIZATION_NOT_FOUND, "gone", remedy=Remedy.EDIT)

    api.before = lose
    with pytest.raises(Failure) as failed:
        await collect(api, ACME, FULL_SCOPE)
    assert failed.value.reason is Reason.ORGANIZATION_NOT_FOUND


async def test_somebody_who_left_while_the_lists_were_read_is_added_and_counted() -> None:
    api = organization(accounts=2, members=[[0, 99], [99]])
    collection = await collect(api, ACME, FULL_SCOPE)
    assert collection.directory.accounts == (
        account(0),
        account(1),
        Account(AccountID("account-99"), "Ann 99", ""),
    )
    assert collection.report.accounts_added == 1
    assert api.requests == 1 + 1 + 2 + 1, "one question about the person"


async def test_people_who_joined_while_the_lists_were_read_are_there_as_the_organization_has_them() -> None:
    api = organization(accounts=4, members=[[0, 99], [98, 99]])
    when(api, team(0).id, lambda: api.listed_accounts.extend([account(98), account(99)]))
    collection = await collect(api, ACME, FULL_SCOPE)
    assert collection.directory.accounts == tuple(api.listed_accounts)
    assert collection.report.accounts_added == 0


async def test_somebody_who_joins_and_somebody_who_leaves() -> None:
    api = organization(accounts=4, members=[[0, 98, 99]])
    when(api, team(0).id, lambda: api.listed_accounts.append(account(99)))
    collection = await collect(api, ACME, FULL_SCOPE)
    assert collection.directory.accounts == (*api.listed_accounts, Account(AccountID("account-98"), "Ann 98", ""))
    assert collection.report.accounts_added == 1


async def test_the_event_loop_runs_between_any_two_teams_that_are_looked_through() -> None:
    api, turns = organization(accounts=1, members=[[0]] * 50), 0
    collecting = asyncio.create_task(collect(api, ACME, FULL_SCOPE))
    while not collecting.done():
        await asyncio.sleep(0)
        turns += api.requests == api.minimum
    assert (await collecting).directory.counts == Counts(1, 50, 50)
    assert turns >= 2 * 50, "once for strangers and once to put them together"


async def test_as_many_strangers_as_can_have_left_are_asked_for() -> None:
    api = organization(accounts=2, members=[list(range(2 + MOST_LEAVERS))])
    collection = await collect(api, ACME, FULL_SCOPE)
    assert collection.report.accounts_added == MOST_LEAVERS
    assert api.requests == 1 + 1 + 4 + MOST_LEAVERS


async def test_more_strangers_than_can_have_left_are_not_asked_for_one_by_one() -> None:
    api = organization(accounts=4, members=[list(range(MOST_LEAVERS + 5))])
    when(api, team(0).id, lambda: api.listed_accounts.extend(map(account, range(4, MOST_LEAVERS + 5))))
    collection = await collect(api, ACME, FULL_SCOPE)
    assert collection.directory.accounts == tuple(api.listed_accounts)
    assert not [listing for listing, _ in api.asked if listing.startswith("account ")]


@pytest.mark.parametrize("missing", [1, 3, 4, MOST_LEAVERS, MOST_LEAVERS + 1])
async def test_a_list_that_lacks_members_is_not_delivered(missing: int) -> None:
    api = organization(accounts=20, members=[list(range(20))])
    lacking = api.listed_accounts[:-missing]
    api.spoil = lambda listing, number, page: (
        Page(lacking[3 * number - 3 : 3 * number], -(-len(lacking) // 3)) if listing == "accounts" else page
    )
    with pytest.raises(Failure, match=f"it lacks {missing} of them, also when it is read again") as failed:
        await collect(api, ACME, FULL_SCOPE)
    assert (failed.value.reason, failed.value.remedy) == (Reason.LIST_INCOMPLETE, Remedy.RETRY)
    assert failed.value.message.count("account-") == min(missing, 3)
    assert ("…" in failed.value.message) is (missing > 3)
    assert len(failed.value.message) < 500


async def test_more_leavers_than_can_be_are_not_delivered() -> None:
    api = organization(accounts=2, members=[list(range(MOST_LEAVERS + 3))])
    with pytest.raises(Failure, match=f"lacks {MOST_LEAVERS + 1} of them"):
        await collect(api, ACME, FULL_SCOPE)


async def test_a_directory_that_removes_many_at_once_fails_no_sync_of_a_large_organization() -> None:
    """Each of them is asked for, once the list of members was read again."""
    left = range(1000, 1000 + MOST_LEAVERS + 5)
    api = organization(accounts=1000, members=[[0, *left]])
    collection = await collect(api, ACME, FULL_SCOPE)
    assert collection.report.accounts_added == len(left)
    assert len({listing for listing, _ in api.asked if listing.startswith("account ")}) == len(left)


async def test_the_first_failure_cancels_what_is_on_its_way_and_is_raised_as_it_is() -> None:
    api = organization(accounts=3000, members=[[0]] * 9)
    revoked = Failure(Reason.TOKEN_REJECTED, "revoked")

    def revoke(listing: str, page: int) -> None:
        if (listing, page) == ("accounts", 50):
            raise revoked

    api.before = revoke
    with pytest.raises(Failure) as failed:
        await collect(api, ACME, FULL_SCOPE)
    assert failed.value is revoked
    assert api.out == 0
    assert api.requests < api.minimum


async def test_a_cancelled_collection_leaves_nothing_behind() -> None:
    api = organization(accounts=300, members=[[0]] * 9)
    both_out = asyncio.Event()

    async def never() -> None:
        if api.out == 2:
            both_out.set()
        await asyncio.Event().wait()

    api.wait = never
    collecting = asyncio.create_task(collect(api, ACME, FULL_SCOPE))
    await both_out.wait()
    collecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await collecting
    assert (api.out, api.cancelled) == (0, 2)


async def test_progress_grows_to_what_was_collected() -> None:
    seen: list[Progress] = []
    api = organization(accounts=20, members=[[0, 1, 2, 3], [4]])
    await collect(api, ACME, FULL_SCOPE, progress=lambda progress: seen.append(replace(progress)))
    assert [step.pages_read for step in seen] == list(range(1, api.minimum + 1))
    assert all(step.pages_read <= step.pages_known for step in seen)
    assert seen[-1].pages_known == api.minimum
    assert seen[0].pages_known >= 2, "the other listing has a first page too"
    assert next(step for step in seen if step.teams == 2).pages_known >= 2 + 2, "a page for each team"
    assert (seen[-1].accounts, seen[-1].teams) == (20, 2)
    assert seen[-1].memberships in {1, 4}, "one team's are not counted yet"


async def test_progress_counts_the_members_of_all_teams_and_knows_of_a_page_for_each_at_once() -> None:
    api, seen = organization(accounts=4, members=[[0, 1], [2, 3], [0, 1, 2, 3]]), list[Progress]()
    await collect(api, ACME, FULL_SCOPE, progress=lambda progress: seen.append(replace(progress)))
    assert seen[-1].memberships == 4, "the last team's are not counted yet"
    assert next(each.pages_known for each in seen if each.teams) == 2 + 1 + 3


async def test_the_report_has_how_long_the_client_waited_for_its_quota() -> None:
    collection = await collect(organization(accounts=1), ACME, FULL_SCOPE)
    assert collection.report.throttled_seconds == 1.5
