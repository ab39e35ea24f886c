"""What the preflight finds out, in how many questions, and what it says when something is wrong."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pytest

from buildkite_connector.model.directory import (
    ALL_KINDS,
    DEFAULT_KINDS,
    Account,
    AccountID,
    Organization,
    OrganizationSlug,
    ResourceKind,
    TokenFacts,
)
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.spec import OrganizationChoice
from buildkite_connector.sync.listing import Page
from buildkite_connector.sync.preflight import (
    Preflight,
    ScopesMissing,
    owner_is_administrator,
    preflight,
    required_scopes,
)
from fakes.buildkite_api import SilentBuildkite

USER, TEAM = ResourceKind.USER, ResourceKind.TEAM
ACME = OrganizationChoice("acme")
TOKEN = TokenFacts(
    "b63254c0", frozenset({"read_organizations", "read_teams"}), datetime(2025, 7, 23, 6, 7, 42, tzinfo=UTC)
)


def organization(slug: str) -> Organization:
    return Organization(f"id-{slug}", OrganizationSlug(slug), slug.title())


@dataclass
class FakeAccess(SilentBuildkite):
    """A token and what it reaches; `asked` tells what it was asked."""

    facts: TokenFacts = TOKEN
    reached: Sequence[str] = ("acme",)
    failure: Failure | None = None
    asked: list[str] = field(default_factory=list)

    async def token(self) -> TokenFacts:
        self.asked.append("token")
        return self.facts

    async def organization(self, choice: OrganizationChoice) -> Organization:
        self.asked.append("organization")
        if self.failure is not None:
            raise self.failure
        if choice.slug not in self.reached:
            raise Failure(Reason.ORGANIZATION_NOT_FOUND, "404", remedy=Remedy.EDIT)
        return organization(choice.slug)

    async def organizations(self, page: int) -> Page[Organization]:
        self.asked.append("organizations")
        return Page([organization(slug) for slug in self.reached], 1)


async def test_the_chosen_organization_takes_two_questions() -> None:
    access = FakeAccess(reached=("acme", "umbrella"))
    assert await preflight(access, OrganizationChoice("umbrella"), DEFAULT_KINDS) == Preflight(
        TOKEN, organization("umbrella")
    )
    assert access.asked == ["token", "organization"]


async def test_the_only_organization_that_the_token_reaches_need_not_be_chosen() -> None:
    access = FakeAccess()
    assert (await preflight(access, None, DEFAULT_KINDS)).organization == organization("acme")
    assert access.asked == ["token", "organizations"]


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (DEFAULT_KINDS, ("read_organizations", "read_teams")),
        ({USER}, ("read_organizations",)),
        ({TEAM}, ("read_organizations", "read_teams")),
        ({ResourceKind.ORGANIZATION}, ("read_organizations",)),
        ({ResourceKind.PIPELINE}, ("read_organizations", "read_pipelines")),
        ({ResourceKind.CLUSTER}, ("read_organizations", "read_clusters")),
        (ALL_KINDS, ("read_organizations", "read_teams", "read_pipelines", "read_clusters")),
    ],
)
def test_only_the_scopes_are_required_that_are_needed(kinds: set[ResourceKind], expected: tuple[str, ...]) -> None:
    assert required_scopes(kinds) == expected


@pytest.mark.parametrize(
    ("scopes", "missing"),
    [
        ((), ("read_organizations", "read_teams")),
        (("read_organizations", "read_user"), ("read_teams",)),
        (("read_teams",), ("read_organizations",)),
    ],
)
async def test_each_missing_scope_is_named(scopes: tuple[str, ...], missing: tuple[str, ...]) -> None:
    access = FakeAccess(TokenFacts("b63254c0", frozenset(scopes)))
    with pytest.raises(ScopesMissing, match=f"lacks {', '.join(missing)}") as failed:
        await preflight(access, ACME, DEFAULT_KINDS)
    assert failed.value.missing == missing
    assert failed.value.reason is Reason.TOKEN_SCOPE_MISSING
    assert failed.value.remedy is Remedy.CREDENTIALS
    assert failed.value.token == access.facts
    assert access.asked == ["token"]


async def test_the_scopes_of_the_chosen_types_are_named() -> None:
    access = FakeAccess()
    with pytest.raises(ScopesMissing) as failed:
        await preflight(access, ACME, ALL_KINDS)
    assert failed.value.missing == ("read_pipelines", "read_clusters")
    assert failed.value.message == (
        "The Buildkite API token needs the scopes read_organizations, read_teams, read_pipelines, read_clusters, but"
        " lacks read_pipelines, read_clusters. Edit the token in Buildkite (Personal Settings, API Access Tokens) or"
        " use another one."
    )


async def test_a_token_without_read_teams_will_do_for_accounts() -> None:
    access = FakeAccess(TokenFacts("b63254c0", frozenset({"read_organizations"})))
    assert (await preflight(access, ACME, {USER})).organization == organization("acme")


async def test_an_unknown_organization_is_answered_with_the_slugs_to_choose_from() -> None:
    access = FakeAccess(reached=("umbrella", "acme"))
    with pytest.raises(Failure, match=r"'acmee' .* acme, umbrella") as failed:
        await preflight(access, OrganizationChoice("acmee"), DEFAULT_KINDS)
    assert failed.value.reason is Reason.ORGANIZATION_NOT_FOUND
    assert failed.value.remedy is Remedy.EDIT


@pytest.mark.parametrize("slug", ["bkua_0123456789", "x" * 1_000])
async def test_an_unknown_organization_that_only_the_secret_names_is_not_quoted_but_its_key_is(slug: str) -> None:
    choice = OrganizationChoice(slug, "BATON_ORGANIZATION")
    with pytest.raises(
        Failure, match=r"no organization with the slug in the Secret's key BATON_ORGANIZATION"
    ) as failed:
        await preflight(FakeAccess(), choice, DEFAULT_KINDS)
    assert slug not in f"{failed.value!r} {choice!r} {choice}"


async def test_a_text_too_long_for_a_slug_is_not_asked_about() -> None:
    access = FakeAccess()
    with pytest.raises(Failure, match="acme") as failed:
        await preflight(access, OrganizationChoice("x" * 1_000_000), DEFAULT_KINDS)
    assert failed.value.reason is Reason.ORGANIZATION_NOT_FOUND
    assert len(failed.value.message) < 1000
    assert access.asked == ["token", "organizations"]
    longest = FakeAccess()
    with pytest.raises(Failure, match="acme"):
        await preflight(longest, OrganizationChoice("x" * 200), DEFAULT_KINDS)
    assert longest.asked == ["token", "organization", "organizations"]


async def test_a_choice_that_was_not_made_lists_what_there_is() -> None:
    with pytest.raises(Failure, match=r"can access 2.* acme, umbrella") as failed:
        await preflight(FakeAccess(reached=("umbrella", "acme")), None, DEFAULT_KINDS)
    assert failed.value.reason is Reason.ORGANIZATION_AMBIGUOUS
    assert failed.value.remedy is Remedy.EDIT


async def test_a_long_list_is_cut() -> None:
    with pytest.raises(Failure, match=r"org-19 and 5 more\."):
        await preflight(FakeAccess(reached=[f"org-{n:02}" for n in range(25)]), None, DEFAULT_KINDS)


async def test_long_slugs_do_not_make_a_long_sentence() -> None:
    reached = [f"{number}{'s' * 190}" for number in range(10, 40)]
    with pytest.raises(Failure, match=r"it can access: 10s{190} and 29 more\.") as failed:
        await preflight(FakeAccess(reached=reached), None, DEFAULT_KINDS)
    assert len(failed.value.message) < 600


@pytest.mark.parametrize("choice", [None, OrganizationChoice("acme")])
async def test_a_token_that_reaches_nothing_is_told_so(choice: OrganizationChoice | None) -> None:
    with pytest.raises(Failure, match="cannot access any organization") as failed:
        await preflight(FakeAccess(reached=()), choice, DEFAULT_KINDS)
    assert failed.value.reason is Reason.ORGANIZATION_NOT_FOUND


async def test_what_keeps_buildkite_from_answering_is_told_as_it_is() -> None:
    down = Failure(Reason.BUILDKITE_UNAVAILABLE, "down")
    with pytest.raises(Failure) as failed:
        await preflight(FakeAccess(failure=down), ACME, DEFAULT_KINDS)
    assert failed.value is down


def person(number: int, role: str | None = None, sso_mode: str | None = None) -> Account:
    return Account(AccountID(f"u-{number}"), f"Person {number}", f"Person{number}@example.com", role, sso_mode)


@pytest.mark.parametrize(
    ("accounts", "administrator"),
    [
        ([person(0, "admin", "optional"), person(1, "member", "required")], True),
        ([person(0, "admin"), person(1, "member")], True),
        ([person(0, "member", "optional"), person(1, "admin")], False),
        ([person(0, "member", "optional"), person(1, "admin", "optional")], False),
        ([person(0, None, "optional"), person(1)], None),
        ([person(0, None, "optional"), person(1, None, "required")], True),
        ([person(1, "admin"), person(2, "member")], False),
        ([person(1, "admin", "optional"), person(2, "member")], False),
        ([person(1, "admin", "optional"), person(2, "member", "required")], True),
        ([person(1, "admin", "optional")], True),
        ([person(1), person(2)], None),
        ([], None),
    ],
    ids=[
        "an administrator",
        "an administrator where no SSO mode is told",
        "a member who is told their own SSO mode",
        "a member, whatever else is told",
        "no roles, the own SSO mode",
        "no roles, others' SSO mode",
        "not listed, no SSO mode",
        "not listed, one SSO mode, which may be the own",
        "not listed, several SSO modes",
        "alone",
        "neither roles nor SSO modes",
        "no accounts",
    ],
)
def test_whether_the_tokens_owner_is_an_administrator(accounts: list[Account], administrator: bool | None) -> None:
    token = replace(TOKEN, owner_email="person0@Example.com")
    assert owner_is_administrator(accounts, token) is administrator
