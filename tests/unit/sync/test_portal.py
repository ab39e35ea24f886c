"""A portal that is read beside the REST listings: what is asked, whom it lacks, and whose tokens it shows."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from buildkite_connector.model.directory import (
    ALL_KINDS,
    DEFAULT_KINDS,
    Account,
    AccountDetails,
    AccountID,
    Collection,
    Directory,
    ResourceKind,
    SyncScope,
    TeamID,
)
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.sync.collect import collect, reread
from buildkite_connector.sync.incomplete import MOST_LEAVERS
from buildkite_connector.sync.listing import Progress
from buildkite_connector.sync.portal import PortalListings
from buildkite_connector.sync.ports import PORTAL_PAGE
from fakes.organization_api import ACME, REST_KINDS, FakeOrganizationAPI, account, member, organization
from fakes.portal_api import FakePortal, details, portal_of, token
from harness.examples import some

USER, TEAM, API_TOKEN = ResourceKind.USER, ResourceKind.TEAM, ResourceKind.API_TOKEN
DEFAULT = SyncScope()
WITH_TOKENS = SyncScope(DEFAULT_KINDS | {API_TOKEN})
TOKENS = SyncScope(frozenset({API_TOKEN}))


def detailed(*numbers: int) -> tuple[Account, ...]:
    return tuple(replace(account(number), details=details(number)) for number in numbers)


def operations(portal: FakePortal) -> list[tuple[str, str | None]]:
    return [(operation, after) for operation, after, _ in portal.asked]


async def waited(event: asyncio.Event) -> None:
    await event.wait()


async def failure_of(api: FakeOrganizationAPI, portal: FakePortal | None, scope: SyncScope = DEFAULT) -> Failure:
    with pytest.raises(Failure) as failed:
        await collect(api, ACME, scope, portal)
    return failed.value


# What is asked, and what comes out


async def test_each_account_has_what_the_portal_shows_of_it_whatever_the_order() -> None:
    api, portal = organization(accounts=7, members=[[0, 6]]), portal_of(7)
    portal.listed_members.reverse()
    collection = await collect(api, ACME, DEFAULT, portal)
    assert collection.directory.accounts == detailed(*range(7))
    assert portal.asked == [("members", after, PORTAL_PAGE) for after in (None, "3", "6")]
    assert collection.report.requests == api.minimum_of(DEFAULT) + 3
    assert collection.report.throttled_seconds == api.throttled_seconds + portal.throttled_seconds
    assert not api.repeats


@pytest.mark.parametrize(
    ("kinds", "asked"),
    [
        ({USER}, {"members"}),
        ({TEAM}, set()),
        (REST_KINDS, {"members"}),
        ({API_TOKEN}, {"tokens"}),
        ({TEAM, API_TOKEN}, {"tokens"}),
        (ALL_KINDS, {"members", "tokens"}),
    ],
    ids=lambda kinds: "+".join(sorted(kinds)),
)
async def test_only_what_is_in_scope_is_asked_for(kinds: set[ResourceKind], asked: set[str]) -> None:
    api, portal = organization(accounts=2, members=[[0]]), portal_of(2, tokens=[1])
    directory = (await collect(api, ACME, SyncScope(frozenset(kinds)), portal)).directory
    assert {operation for operation, _ in operations(portal)} == asked
    assert directory.accounts == (detailed(0, 1) if USER in kinds else ())
    assert directory.api_tokens == ((token(0, 1),) if API_TOKEN in kinds else ())
    assert directory.counts.api_tokens == (1 if API_TOKEN in kinds else None)


async def test_without_a_portal_there_are_no_details_and_no_owner_is_looked_up() -> None:
    api = organization(accounts=2)
    assert (await collect(api, ACME, DEFAULT)).directory.accounts == (account(0), account(1))


async def test_tokens_without_a_portal_are_refused_before_anything_is_asked() -> None:
    api = organization(accounts=2)
    failure = await failure_of(api, None, WITH_TOKENS)
    assert (failure.reason, failure.remedy, api.asked) == (Reason.SPEC_INVALID, Remedy.EDIT, [])
    assert failure.message == (
        "The resource type api_token is read through a portal: set spec.portal.slug, or remove api_token from"
        " spec.sync.resourceTypes."
    )


async def test_the_portal_is_read_while_the_other_lists_are() -> None:
    api, portal, held = organization(accounts=2), portal_of(2, tokens=[0]), asyncio.Event()
    api.wait = lambda: waited(held)
    portal.before = lambda operation, _: held.set() if len(portal.asked) == 2 else None
    async with asyncio.timeout(5):
        await collect(api, ACME, WITH_TOKENS, portal)


async def test_a_failure_of_the_portal_ends_the_other_listings() -> None:
    api, portal = organization(accounts=9, members=[[0]]), portal_of(9)
    refused = portal.failure = Failure(Reason.PORTAL_REJECTED, "no such token", remedy=Remedy.CREDENTIALS)
    api.wait = lambda: waited(asyncio.Event())
    async with asyncio.timeout(5):
        assert await failure_of(api, portal) is refused
    assert (api.out, api.cancelled) == (0, 2)


async def test_progress_counts_the_pages_of_the_portal_and_the_tokens() -> None:
    seen: list[Progress] = []
    api, portal = organization(accounts=2), portal_of(4, tokens=[0] * 7)
    await collect(api, ACME, WITH_TOKENS, portal, progress=lambda now: seen.append(replace(now)))
    assert [now.api_tokens for now in seen] == sorted(now.api_tokens for now in seen)
    last = seen[-1]
    assert (last.accounts, last.api_tokens, last.rereads) == (2, 7, 0)
    assert (last.pages_read, last.pages_known) == (2 + 2 + 3, 2 + 2 + 3)
    assert any(now.pages_known > now.pages_read for now in seen)
    assert all(now.pages_known >= now.pages_read for now in seen)


# Whose token it is


async def test_an_owner_who_is_no_account_is_left_out_and_the_token_stays() -> None:
    api, portal = organization(accounts=1), portal_of(1)
    portal.listed_tokens = [token(0, 0), token(1, 7), token(2, None)]
    collection = await collect(api, ACME, WITH_TOKENS, portal)
    assert collection.directory.api_tokens == (token(0, 0), token(1, None), token(2, None))
    assert collection.report.accounts_added == 0
    collection = await collect(api, ACME, TOKENS, portal)
    assert collection.directory.api_tokens == (token(0, 0), token(1, 7), token(2, None)), "nobody to compare with"


USER_ID = "0da645b7-9840-428f-bd80-0b92ee274480"


@pytest.mark.parametrize("listed", [str.lower, str.upper])
@pytest.mark.parametrize("named", [str.lower, str.upper])
async def test_accounts_are_matched_whatever_the_case_of_their_ids_and_named_as_the_list_does(
    listed: Callable[[str], str], named: Callable[[str], str]
) -> None:
    api, portal = organization(), portal_of(0)
    id_, other = AccountID(listed(USER_ID)), AccountID(named(USER_ID))
    api.listed_accounts = [Account(id_, "Ann", "")]
    portal.listed_members = [(other, details(1))]
    portal.listed_tokens = [replace(token(0), owner=other)]
    directory = (await collect(api, ACME, WITH_TOKENS, portal)).directory
    assert directory.accounts == (Account(id_, "Ann", "", details=details(1)),)
    assert directory.api_tokens == (replace(token(0), owner=id_),)
    assert len(portal.asked) == 2


@pytest.mark.parametrize("number", [0, 999, 1000, 1001, 2500])
async def test_many_accounts_and_tokens_do_not_hold_up_the_event_loop(number: int) -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    accounts = tuple(account(each) for each in range(number))
    with_details = tuple(replace(each, details=details(0)) for each in accounts)
    tokens = tuple(token(each, each) for each in range(number))
    listings = PortalListings(FakePortal(), ACME.slug, Progress(), lambda _: None)
    listings.keep(Directory(ACME, with_details, (), (), WITH_TOKENS, api_tokens=tokens))
    counting = asyncio.create_task(count())
    found = {each.id: each for each in accounts}
    await listings.add_details(found)
    assert turns == number // 1000
    owned = await listings.with_owners(each.id for each in accounts)
    counting.cancel()
    assert turns == 2 * (number // 1000)
    assert tuple(found.values()) == with_details
    assert owned == tokens


async def test_of_many_accounts_and_tokens_each_is_in_memory_once() -> None:
    """What was read stays as long as the garbage collector lets it, while the snapshot is written."""
    accounts = {each.id: each for each in map(account, range(3))}
    tokens = tuple(token(each, each) for each in range(3))
    listings = PortalListings(FakePortal(), ACME.slug, Progress(), lambda _: None)
    listings.keep(Directory(ACME, detailed(0, 1, 2), (), (), WITH_TOKENS, api_tokens=tokens))
    await listings.add_details(accounts)
    assert accounts == {each.id: each for each in detailed(0, 1, 2)}
    assert [a is b for a, b in zip(await listings.with_owners(accounts), tokens, strict=True)] == [True] * 3


# An account that the portal does not list


async def test_somebody_who_joined_meanwhile_is_found_when_the_portal_is_read_again() -> None:
    api, portal = organization(accounts=3), portal_of(2)

    def join(_operation: str, _cursor: str | None) -> None:
        if len(portal.asked) == 2:
            portal.listed_members.append((account(2).id, details(2)))

    portal.before = join
    collection = await collect(api, ACME, DEFAULT, portal)
    assert collection.directory.accounts == detailed(0, 1, 2)
    assert operations(portal) == [("members", None)] * 2
    assert not [listing for listing, _ in api.asked if listing.startswith("account ")], "the portal has said it"


async def test_somebody_who_left_meanwhile_is_asked_for_by_id_and_stays_without_details() -> None:
    api, portal = organization(accounts=5, members=[[0]]), portal_of(3)
    gone = [account(3), account(4)]

    def leave(listing: str, _page: int) -> None:
        if listing == team_id(0):
            api.listed_accounts = [each for each in api.listed_accounts if each not in gone]

    api.before = leave
    portal.seconds = 0.01
    collection = await collect(api, ACME, DEFAULT, portal)
    assert collection.directory.accounts == (*detailed(0, 1, 2), *gone)
    assert [each for each in api.asked if each[0].startswith("account ")] == [
        ("account account-3", 1),
        ("account account-4", 1),
    ]
    assert len(portal.asked) == 2
    assert collection.report.accounts_added == 0


def team_id(number: int) -> TeamID:
    return TeamID(f"team-{number}")


async def test_details_of_the_first_reading_hold_when_the_second_lacks_them() -> None:
    api, portal = organization(accounts=3), portal_of(2)

    def change(_operation: str, _cursor: str | None) -> None:
        if len(portal.asked) == 2:
            portal.listed_members = [(account(2).id, details(2)), (account(1).id, details(9))]

    portal.before = change
    collection = await collect(api, ACME, DEFAULT, portal)
    assert collection.directory.accounts == (
        *detailed(0),
        replace(account(1), details=details(9)),
        *detailed(2),
    )


async def test_an_account_that_the_portal_lacks_and_buildkite_still_has_fails_the_sync() -> None:
    api, portal = organization(accounts=6), portal_of(2)
    failure = await failure_of(api, portal)
    assert (failure.reason, failure.remedy) == (Reason.LIST_INCOMPLETE, Remedy.RETRY)
    assert failure.message == (
        "Expected the portal to list every account of acme, but it lacks 4 of them, also when it is read again"
        " (account-2, account-3, account-4, …). Nothing is delivered, because C1 would treat these accounts as never"
        " used. Check for a gateway between here and Buildkite that changes or caches answers; the next sync tries"
        " again."
    )
    assert operations(portal) == [("members", None)] * 2


async def test_of_those_that_it_lacks_the_ones_that_are_still_there_are_named() -> None:
    api, portal = organization(accounts=3), portal_of(1)
    asked = api.account

    async def gone(slug: Any, account: AccountID) -> Account | None:
        return None if account == "account-1" else await asked(slug, account)

    api.account = gone  # type: ignore[method-assign]
    assert "lacks 1 of them, also when it is read again (account-2)." in (await failure_of(api, portal)).message


@pytest.mark.parametrize(("accounts", "most"), [(12, MOST_LEAVERS), (1000, 20)])
async def test_more_than_leavers_explain_are_not_asked_for(accounts: int, most: int) -> None:
    api, portal = organization(accounts=accounts), portal_of(accounts - most - 1)
    api.page_size = portal.page_size = 10_000
    failure = await failure_of(api, portal)
    assert failure.reason is Reason.LIST_INCOMPLETE
    assert f"it lacks {most + 1} of them" in failure.message
    assert api.requests == 2, "of the listings of accounts and teams"

    def gone(listing: str, _page: int) -> None:
        if listing.startswith("account "):
            api.listed_accounts = api.listed_accounts[: accounts - most]

    portal = portal_of(accounts - most)
    portal.page_size = 10_000
    api.before = gone
    await collect(api, ACME, DEFAULT, portal)
    assert api.requests == 2 + 2 + most


async def test_somebody_known_from_a_team_alone_is_not_looked_for_in_the_portal() -> None:
    api, portal = organization(accounts=1, members=[[0, 7, 8]]), portal_of(1)
    portal.listed_members.append((account(8).id, details(8)))
    collection = await collect(api, ACME, DEFAULT, portal)
    assert [(each.id, each.details) for each in collection.directory.accounts] == [
        ("account-0", details(0)),
        ("account-7", None),
        ("account-8", details(8)),
    ]
    assert collection.report.accounts_added == 2
    assert len(portal.asked) == 1


async def test_whoever_the_portal_alone_has_is_no_account() -> None:
    api, portal = organization(accounts=1), portal_of(5)
    assert (await collect(api, ACME, DEFAULT, portal)).directory.accounts == detailed(0)
    assert operations(portal) == [("members", None), ("members", "3")]


# After a change of memberships


async def collected(scope: SyncScope = WITH_TOKENS) -> tuple[Collection, FakeOrganizationAPI, FakePortal]:
    """Two accounts with details, one that left, one token; the counts of requests start anew."""
    api, portal = organization(accounts=2, members=[[0, 7], [1]]), portal_of(2, tokens=[1])
    collection = await collect(api, ACME, scope, portal)
    api.asked.clear()
    portal.asked.clear()
    return collection, api, portal


async def test_reading_a_team_again_keeps_details_and_tokens_and_asks_the_portal_nothing() -> None:
    before, api, portal = await collected()
    found = await reread(api, before, frozenset({team_id(1)}), portal)
    assert found.directory == before.directory
    assert (portal.asked, api.requests) == ([], 1)
    assert (found.report.requests, found.report.throttled_seconds) == (1, 1.75)


async def test_somebody_who_joined_since_is_looked_for_in_the_portal() -> None:
    before, api, portal = await collected()
    api.listed_accounts.append(account(2))
    portal.listed_members.append((account(2).id, details(2)))
    api.listed_members[team_id(0)].append(member(2))
    found = await reread(api, before, frozenset({team_id(0)}), portal)
    assert found.directory.accounts[:3] == detailed(0, 1, 2)
    assert operations(portal) == [("members", None)]
    assert found.directory.api_tokens == before.directory.api_tokens


async def test_somebody_who_came_back_since_is_looked_for_in_the_portal() -> None:
    before, api, portal = await collected()
    api.listed_accounts += [account(2), account(7)]
    portal.listed_members.append((account(2).id, details(2)))
    api.listed_members[team_id(0)].append(member(2))
    with pytest.raises(Failure, match=r"lacks 1 of them, also when it is read again \(account-7\)"):
        await reread(api, before, frozenset({team_id(0)}), portal)


async def test_somebody_who_alone_came_back_into_a_team_has_details() -> None:
    before, api, portal = await collected()
    assert before.directory.accounts[2].details is None
    api.listed_accounts.append(account(7))
    portal.listed_members.append((account(7).id, details(7)))
    found = await reread(api, before, frozenset({team_id(0)}), portal)
    assert [each.details for each in found.directory.accounts] == [details(0), details(1), details(7)]


async def test_somebody_who_left_and_is_still_in_a_team_stays_without_details() -> None:
    before, api, portal = await collected()
    found = await reread(api, before, frozenset({team_id(0)}), portal)
    assert found.directory == before.directory
    assert operations(portal) == [("members", None)]
    assert ("account account-7", 1) in api.asked


# Random lives


@pytest.mark.parametrize("number", some(range(60), 12))
async def test_whatever_happens_meanwhile_no_account_that_stays_is_without_its_details(number: int) -> None:
    """People join and leave at random answers. Who was there all the time has details and every token an owner who is
    an account, or the sync fails and says why."""
    chance = random.Random(number)
    size = chance.randrange(1, 25)
    api = organization(accounts=size, members=[[*range(0, size, 3)]])
    portal = portal_of(size, tokens=[chance.randrange(size + 2) for _ in range(chance.randrange(6))])
    stayed = {each.id for each in api.listed_accounts}
    born = size

    def live(*_: object) -> None:
        nonlocal born
        if chance.random() < 0.15 and len(api.listed_accounts) > 1:
            gone = chance.choice(api.listed_accounts)
            api.listed_accounts.remove(gone)
            portal.listed_members[:] = [each for each in portal.listed_members if each[0] != gone.id]
            stayed.discard(gone.id)
        if chance.random() < 0.15:
            api.listed_accounts.append(account(born))
            portal.listed_members.insert(
                chance.randrange(len(portal.listed_members) + 1), (account(born).id, details(born))
            )
            born += 1

    api.before = portal.before = live
    try:
        directory = (await collect(api, ACME, WITH_TOKENS, portal)).directory
    except Failure as failure:
        if failure.reason not in {Reason.ROSTER_UNSTABLE, Reason.LIST_INCOMPLETE}:
            raise
        return
    found: dict[AccountID, AccountDetails | None] = {each.id: each.details for each in directory.accounts}
    assert {
        each for each in stayed & found.keys() if found[each] != details(int(each.removeprefix("account-")))
    } == set()
    still = {each.id for each in api.listed_accounts}
    assert not {id_ for id_, shown in found.items() if shown is None} & still, "without details is only who left"
    assert {each.owner for each in directory.api_tokens} <= {None, *found}
