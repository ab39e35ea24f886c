"""Whatever the organization, its pages, the order of answers and the faults that end: it is collected whole."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buildkite_connector.model.directory import FULL_SCOPE, Account, AccountID, Membership, Role, Team, TeamID
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.sync.collect import collect
from buildkite_connector.sync.listing import REREADS, Page
from fakes.organization_api import ACME, FakeOrganizationAPI
from harness.examples import examples

Spoil = Callable[[Page[Any]], Page[Any]]

ids = st.text(min_size=1, max_size=6)
texts = st.text(max_size=12)


def shorten(page: Page[Any]) -> Page[Any]:
    return replace(page, items=page.items[:-1])


def empty(page: Page[Any]) -> Page[Any]:
    return replace(page, items=[])


def grow(page: Page[Any]) -> Page[Any]:
    return replace(page, last=None if page.last is None else page.last + 2, more=True)


def shrink(page: Page[Any]) -> Page[Any]:
    return replace(page, last=None if page.last is None else page.last - 1)


@dataclass(frozen=True)
class Fault:
    """Spoils one answer about a page of a listing, both counted around what there is."""

    listing: int
    page: int
    spoil: Spoil


@st.composite
def organizations(draw: st.DrawFn) -> FakeOrganizationAPI:
    account_ids = draw(st.lists(ids, min_size=1, max_size=12, unique=True))
    team_ids = draw(st.lists(ids, max_size=5, unique=True))
    members = {
        TeamID(f"t-{team}"): [
            Membership(TeamID(f"t-{team}"), AccountID(f"a-{who}"), draw(st.sampled_from(Role)), draw(texts))
            for who in draw(st.lists(st.sampled_from(account_ids), unique=True))
        ]
        for team in team_ids
    }
    return FakeOrganizationAPI(
        listed_accounts=[Account(AccountID(f"a-{each}"), draw(texts), draw(texts)) for each in account_ids],
        listed_teams=[
            Team(TeamID(f"t-{each}"), draw(texts), draw(texts), draw(texts), "secret", draw(st.booleans()), "2023")
            for each in team_ids
        ],
        listed_members=members,
        page_size=draw(st.integers(1, 5)),
        tells_last=draw(st.booleans()),
    )


faults = st.lists(
    st.builds(Fault, st.integers(0, 50), st.integers(0, 50), st.sampled_from([shorten, empty, grow, shrink])),
    max_size=REREADS,
)
turns = st.lists(st.integers(0, 4), min_size=1, max_size=20)
"""How many turns of the event loop the answers take, one after the other."""


def shuffle(api: FakeOrganizationAPI, waits: Sequence[int]) -> None:
    def forever() -> Iterator[int]:
        while True:
            yield from waits

    turns_of_answers = forever()

    async def wait() -> None:
        for _ in range(next(turns_of_answers)):
            await asyncio.sleep(0)

    api.wait = wait


def spoil(api: FakeOrganizationAPI, to_come: list[Fault]) -> None:
    """Lets each fault happen once. What nobody could see (a shorter last page) does not happen."""
    listings: dict[str, int] = {"accounts": len(api.listed_accounts), "teams": len(api.listed_teams)}
    listings |= {team: len(members) for team, members in api.listed_members.items()}

    def spoiled(listing: str, number: int, page: Page[Any]) -> Page[Any]:
        last = max(1, -(-listings[listing] // api.page_size))
        for fault in to_come:
            if list(listings)[fault.listing % len(listings)] != listing or fault.page % last + 1 != number:
                continue
            unseen = number == last and (fault.spoil is shorten or (fault.spoil is empty and last == 1))
            unseen |= fault.spoil in (grow, shrink) and page.last is None
            unseen |= fault.spoil is shrink and number == 1 and page.last in (1, 2)
            if unseen:
                continue
            to_come.remove(fault)
            return fault.spoil(page)
        return page

    api.spoil = spoiled


@settings(max_examples=examples(100))
@given(api=organizations(), waits=turns, to_come=faults)
async def test_the_directory_is_the_organization(
    api: FakeOrganizationAPI, waits: list[int], to_come: list[Fault]
) -> None:
    shuffle(api, waits)
    spoil(api, to_come)
    collection = await collect(api, ACME, FULL_SCOPE)
    directory = collection.directory
    assert directory.organization == ACME
    assert directory.accounts == tuple(api.listed_accounts)
    assert directory.teams == tuple(api.listed_teams)
    assert directory.memberships == tuple(member for members in api.listed_members.values() for member in members)
    assert collection.report.requests == api.requests


@settings(max_examples=examples(50))
@given(api=organizations(), waits=turns)
async def test_an_organization_that_stands_still_takes_the_fewest_requests(
    api: FakeOrganizationAPI, waits: list[int]
) -> None:
    shuffle(api, waits)
    await collect(api, ACME, FULL_SCOPE)
    assert api.requests == api.minimum


@settings(max_examples=examples(50))
@given(api=organizations(), waits=turns, at=st.integers(0, 30))
async def test_a_page_that_fails_for_good_fails_the_whole_and_leaves_nothing_on_its_way(
    api: FakeOrganizationAPI, waits: list[int], at: int
) -> None:
    shuffle(api, waits)
    last = Failure(Reason.BUILDKITE_UNAVAILABLE, "down")
    answers = iter(range(1_000_000))
    failing = at % api.minimum

    def before(_listing: str, _page: int) -> None:
        if next(answers) == failing:
            raise last

    api.before = before
    with pytest.raises(Failure) as failed:
        await collect(api, ACME, FULL_SCOPE)
    assert failed.value is last
    assert api.out == 0
