"""What a person reads when a collection or its preflight fails, in all its words."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from buildkite_connector.model.directory import DEFAULT_KINDS, FULL_SCOPE, Organization, OrganizationSlug, TokenFacts
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.spec import OrganizationChoice
from buildkite_connector.sync.collect import collect
from buildkite_connector.sync.listing import Page
from buildkite_connector.sync.preflight import find_organization, preflight, write_scope_missing
from fakes.buildkite_api import SilentBuildkite
from fakes.organization_api import ACME, FakeOrganizationAPI, organization


def moving() -> FakeOrganizationAPI:
    """Its first page of accounts has one too few, always."""
    api = organization(accounts=5)
    api.spoil = lambda listing, number, page: (
        Page(page.items[1:], page.last, page.more) if (listing, number) == ("accounts", 1) else page
    )
    return api


def lacking(missing: int) -> FakeOrganizationAPI:
    """Its list of members lacks so many members of the team, who are still members when one asks for them by id."""
    api = organization(accounts=1 + missing, members=[list(range(1 + missing))])
    api.spoil = lambda listing, _, page: Page(page.items[:1], 1) if listing == "accounts" else page
    return api


def without(team: str) -> FakeOrganizationAPI:
    api = organization(accounts=1, members=[[0], [0]])
    del api.listed_members[api.listed_teams[1].id]
    assert api.listed_teams[1].id == team
    return api


MOVING = (
    "Expected the accounts of acme not to change while they are read, but each of 4 readings contradicted"
    " itself (page 1 of 2 has 2 items instead of 3). The next sync tries again. If this persists, check what"
    " changes the organization so often, and whether a gateway between here and Buildkite changes or caches"
    " its answers."
)
EMPTY = (
    "Expected acme to have at least one account, but the list is empty. Check"
    " for a gateway between here and Buildkite that changes or caches answers; the next sync tries again."
)
GONE = (
    "Expected the members of team team-1, which the list of teams still has, but Buildkite answers that the"
    " team does not exist. Nothing is delivered, because C1 would treat it as deleted. Check whether the"
    " token can see the team, and check for a gateway between here and Buildkite that changes or"
    " caches answers; the next sync tries again."
)
GATEWAY = "Check for a gateway between here and Buildkite that changes or caches answers; the next sync tries again."


def lacks(number: int, named: str) -> str:
    return (
        "Expected the organization's list of members to contain every member of a team, but it lacks"
        f" {number} of them, also when it is read again ({named}). Nothing is delivered, because"
        f" C1 would treat them as deleted. {GATEWAY}"
    )


@pytest.mark.parametrize(
    ("api", "reason", "message"),
    [
        (
            moving(),
            Reason.ROSTER_UNSTABLE,
            MOVING,
        ),
        (
            organization(),
            Reason.LIST_INCOMPLETE,
            EMPTY,
        ),
        (lacking(3), Reason.LIST_INCOMPLETE, lacks(3, "account-1, account-2, account-3")),
        (lacking(4), Reason.LIST_INCOMPLETE, lacks(4, "account-1, account-2, account-3, …")),
        (
            without("team-1"),
            Reason.LIST_INCOMPLETE,
            GONE,
        ),
    ],
    ids=["moving", "empty", "three missing", "four missing", "a team"],
)
async def test_a_collection_that_fails(api: FakeOrganizationAPI, reason: Reason, message: str) -> None:
    with pytest.raises(Failure) as failed:
        await collect(api, ACME, FULL_SCOPE)
    assert (failed.value.reason, failed.value.message) == (reason, message)


@dataclass
class Reaching(SilentBuildkite):
    """What a token of these scopes reaches."""

    scopes: Sequence[str]
    slugs: Sequence[str] = ()
    page_size: int = 100

    async def token(self) -> TokenFacts:
        return TokenFacts("b63254c0", frozenset(self.scopes))

    async def organization(self, choice: OrganizationChoice) -> Organization:
        raise Failure(Reason.ORGANIZATION_NOT_FOUND, "404", remedy=Remedy.EDIT)

    async def organizations(self, page: int) -> Page[Organization]:
        return Page([Organization(f"id-{slug}", OrganizationSlug(slug), slug) for slug in self.slugs], 1)


NEW_TOKEN = "Create a new API token with access to it: Buildkite cannot add a removed organization back to a token."
SET = "Set the organization (spec.organization, BATON_ORGANIZATION) to one that it can access: "
MISSING = "If yours is missing, create a new API token with access to it."
LONG = [f"{number}{'s' * 96}" for number in range(10, 15)]
"""Three of them take 300 characters."""
SHORTER = [f"{number}{'s' * 73}" for number in range(10, 14)]
"""Three of them take 231 characters, four 308."""
SEVERAL = "No organization is chosen, and the API token can access"
UNKNOWN = "Buildkite knows no organization 'acme' that the API token can access."


@pytest.mark.parametrize(
    ("choice", "slugs", "reason", "message"),
    [
        ("acme", ["b", "a"], Reason.ORGANIZATION_NOT_FOUND, f"{UNKNOWN} {SET}a, b. {MISSING}"),
        (
            "acme",
            [],
            Reason.ORGANIZATION_NOT_FOUND,
            f"{UNKNOWN} The token cannot access any organization. {NEW_TOKEN}",
        ),
        (
            None,
            ["b", "a"],
            Reason.ORGANIZATION_AMBIGUOUS,
            f"{SEVERAL} 2. {SET}a, b. {MISSING}",
        ),
        (
            None,
            [],
            Reason.ORGANIZATION_NOT_FOUND,
            f"No organization is chosen. The token cannot access any organization. {NEW_TOKEN}",
        ),
        (
            None,
            LONG,
            Reason.ORGANIZATION_AMBIGUOUS,
            f"{SEVERAL} 5. {SET}{', '.join(LONG[:3])} and 2 more. {MISSING}",
        ),
        (
            None,
            SHORTER,
            Reason.ORGANIZATION_AMBIGUOUS,
            f"{SEVERAL} 4. {SET}{', '.join(SHORTER[:3])} and 1 more. {MISSING}",
        ),
        (
            None,
            LONG[:3],
            Reason.ORGANIZATION_AMBIGUOUS,
            f"{SEVERAL} 3. {SET}{', '.join(LONG[:3])}. {MISSING}",
        ),
    ],
)
async def test_an_organization_that_is_not_clear(
    choice: str | None, slugs: list[str], reason: Reason, message: str
) -> None:
    chosen = None if choice is None else OrganizationChoice(choice)
    with pytest.raises(Failure) as failed:
        await find_organization(Reaching((), slugs), chosen)
    assert (failed.value.reason, failed.value.message, failed.value.remedy) == (reason, message, Remedy.EDIT)


async def test_a_choice_as_long_as_a_slug_may_be_is_shown_and_a_longer_one_cut() -> None:
    for length in (200, 201):
        with pytest.raises(Failure) as failed:
            await find_organization(Reaching((), ["a"]), OrganizationChoice("x" * length))
        assert f"no organization '{'x' * 200}' that" in failed.value.message


async def test_scopes_that_a_token_lacks() -> None:
    with pytest.raises(Failure) as failed:
        await preflight(Reaching(("read_user",)), None, DEFAULT_KINDS)
    assert failed.value.message == (
        "The Buildkite API token needs the scopes read_organizations, read_teams, but lacks read_organizations,"
        " read_teams. Edit the token in Buildkite (Personal Settings, API Access Tokens) or use another one."
    )


def test_the_scope_that_changes_need() -> None:
    failure = write_scope_missing()
    assert failure.message == (
        "Provisioning is enabled and needs the scope write_teams, which the Buildkite API token lacks: no membership"
        " is changed; syncs go on. Edit the token in Buildkite, or set a second one for writing"
        " (BATON_WRITE_API_TOKEN)."
    )
    assert (failure.missing, failure.token) == (("write_teams",), None)


async def test_the_organizations_of_a_token_that_never_hold_still() -> None:
    with pytest.raises(Failure, match=r"^Expected the organizations of the API token not to change") as failed:
        await find_organization(Reaching((), ["a", "a"]), None)
    assert "page 1 repeats an id of an earlier page" in failed.value.message
