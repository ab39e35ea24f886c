"""What the Buildkite simulator answers over its socket: tokens, scopes, payloads and pages."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

import httpx
import pytest

from harness.trust import plain_client
from simulators.buildkite.api import Token, User
from simulators.buildkite.made_organization import TEAM_SETTINGS, make_organization
from simulators.buildkite.organization import Organization
from simulators.buildkite.server import BuildkiteSimulator, Config

NOW = datetime(2026, 8, 1, 12, tzinfo=UTC)
TOKEN = Token()


@asynccontextmanager
async def serving(
    *organizations: Organization, tokens: Sequence[Token] = (TOKEN,)
) -> AsyncIterator[tuple[BuildkiteSimulator, httpx.AsyncClient]]:
    """A running simulator and a client with the first of its tokens."""
    served = organizations or [make_organization(250, 3, 140, slug="acme")]
    async with (
        BuildkiteSimulator(Config(served, tokens), now=lambda: NOW) as sim,
        plain_client(sim.url, headers=bearer(tokens[0])) as client,
    ):
        yield sim, client


def bearer(token: Token) -> dict[str, str]:
    return {"Authorization": f"Bearer {token.value}"}


def page_numbers(answer: httpx.Response) -> dict[str, str]:
    """The page that each relation of the Link header leads to."""
    return {str(rel): httpx.URL(link["url"]).params["page"] for rel, link in answer.links.items()}


async def test_a_token_is_described_to_itself_without_any_scope() -> None:
    expiry = datetime(2026, 9, 2, 6, 7, 42, tzinfo=UTC)
    token = replace(TOKEN, scopes=(), expires_at=expiry, user=User(name="Zoë", email="zoe@example.com"))
    async with serving(tokens=[token]) as (_, client):
        answer = await client.get("/access-token")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert answer.json() == {
        "uuid": token.uuid,
        "scopes": [],
        "description": "C1 connector",
        "created_at": "2025-07-16 06:07:42 UTC",
        "expires_at": "2026-09-02 06:07:42 UTC",
        "user": {"name": "Zoë", "email": "zoe@example.com"},
    }


async def test_a_token_without_expiry_says_null() -> None:
    async with serving() as (_, client):
        assert (await client.get("/access-token")).json()["expires_at"] is None


async def test_the_user_is_the_tokens() -> None:
    async with serving() as (_, client):
        user = (await client.get("/user")).json()
    assert user.keys() == {"id", "graphql_id", "name", "email", "avatar_url", "created_at"}
    assert user["id"] == TOKEN.user.id


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer bkua_unknown", f"Basic {TOKEN.value}", f"bearer {TOKEN.value}", TOKEN.value],
)
async def test_no_good_bearer_token_gets_401(authorization: str) -> None:
    async with serving() as (_, client):
        answer = await client.get("/organizations", headers={"Authorization": authorization})
    assert answer.status_code == 401
    assert answer.json() == {
        "message": "Authentication required. Please supply a valid API Access Token: "
        "https://buildkite.com/docs/apis/rest-api#authentication"
    }


async def test_a_revoked_token_gets_401_until_it_is_granted_again() -> None:
    async with serving() as (sim, client):
        sim.revoke()
        assert (await client.get("/access-token")).status_code == 401
        sim.grant()
        assert (await client.get("/access-token")).status_code == 200


async def test_an_expired_token_gets_401() -> None:
    async with serving(tokens=[replace(TOKEN, expires_at=NOW)]) as (_, client):
        assert (await client.get("/access-token")).status_code == 401


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        ("/user", "read_user"),
        ("/organizations", "read_organizations"),
        ("/organizations/acme", "read_organizations"),
        ("/organizations/acme/members", "read_organizations"),
        ("/organizations/acme/teams", "read_teams"),
        ("/organizations/acme/teams/any/members", "read_teams"),
    ],
)
async def test_each_endpoint_names_the_scope_that_is_missing(path: str, scope: str) -> None:
    others = tuple({"read_user", "read_organizations", "read_teams"} - {scope})
    async with serving(tokens=[replace(TOKEN, scopes=others)]) as (_, client):
        answer = await client.get(path)
    assert answer.status_code == 403
    assert answer.json() == {"message": f"Your access token doesn't have the {scope} scope"}


async def test_a_token_sees_the_organizations_that_it_reaches_and_no_other() -> None:
    acme, other = make_organization(1, 0, 0, slug="acme"), make_organization(1, 0, 0, 1, slug="other")
    token = replace(TOKEN, organizations=frozenset({"acme"}))
    async with serving(acme, other, tokens=[token]) as (sim, client):
        listed = (await client.get("/organizations")).json()
        one = (await client.get("/organizations/acme")).json()
        hidden = await client.get("/organizations/other/members")
        unknown = await client.get("/organizations/nobody")
        assert listed == [one]
        assert one == {
            "id": acme.id,
            "graphql_id": one["graphql_id"],
            "url": f"{sim.url}/organizations/acme",
            "web_url": "https://buildkite.com/acme",
            "name": acme.name,
            "slug": "acme",
            "pipelines_url": f"{sim.url}/organizations/acme/pipelines",
            "agents_url": f"{sim.url}/organizations/acme/agents",
            "emojis_url": f"{sim.url}/organizations/acme/emojis",
            "created_at": "2015-05-09T21:05:59.874Z",
        }
    assert (hidden.status_code, unknown.status_code) == (404, 404)
    assert hidden.json() == unknown.json() == {"message": "No organization found"}


async def test_tokens_differ_in_scopes_and_users() -> None:
    plain = Token("bkua_" + "f" * 40, ("read_user",), user=User("u2", "Pat", "pat@example.com"))
    async with serving(tokens=[TOKEN, plain]) as (_, client):
        assert (await client.get("/user", headers=bearer(plain))).json()["name"] == "Pat"
        assert (await client.get("/organizations", headers=bearer(plain))).status_code == 403
        assert (await client.get("/organizations")).status_code == 200


async def test_rosters_are_served_field_by_field() -> None:
    organization = make_organization(2, 2, 3, slug="acme")
    async with serving(organization) as (_, client):
        members = (await client.get("/organizations/acme/members")).json()
        teams = (await client.get("/organizations/acme/teams")).json()
        roster = (await client.get(f"/organizations/acme/teams/{teams[0]['id']}/members")).json()
    assert members == list(organization.members.records)
    assert [each.keys() for each in members] == [{"id", "name", "email", "role", "sso_mode"}] * 2
    told = {"id", "graphql_id", "name", "slug", "description", "created_at", "privacy", "default", "created_by"}
    assert [each.keys() for each in teams] == [told, told | TEAM_SETTINGS.keys()]
    assert teams[0]["created_by"] is None
    assert teams[1]["created_by"]["name"] == members[1]["name"]
    assert [each.keys() for each in roster] == [{"role", "created_at", "user_id", "user_name"}] * 2
    assert {each["role"] for each in roster} == {"maintainer", "member"}


async def test_only_an_admins_token_sees_the_sso_mode() -> None:
    plain = Token("bkua_" + "f" * 40, user=User("u2", "Pat", "pat@example.com", admin=False))
    async with serving(tokens=[TOKEN, plain]) as (_, client):
        seen = (await client.get("/organizations/acme/members")).json()
        hidden = (await client.get("/organizations/acme/members", headers=bearer(plain))).json()
    assert {each["role"] for each in hidden} == {"admin", "member"}
    assert {each.get("sso_mode") for each in hidden} == {None}
    assert [{**each, "sso_mode": "required" if each["role"] == "member" else "optional"} for each in hidden] == seen


@pytest.mark.parametrize(
    "path",
    [
        "/organizations/acme/teams/gone/members",
        "/organizations/acme/pipelines",
        "/organizations/acme/teams/gone",
        "/nothing",
        "/",
    ],
)
async def test_what_does_not_exist_gets_404(path: str) -> None:
    async with serving() as (_, client):
        answer = await client.get(path)
    assert answer.status_code == 404
    assert answer.json()["message"] in ("Not Found", "No team found")


async def test_a_path_outside_the_base_url_gets_404() -> None:
    async with serving() as (sim, client):
        assert (await client.get(f"{sim.origin}/organizations")).status_code == 404


async def test_only_memberships_can_be_written() -> None:
    async with serving() as (sim, client):
        sim.journal.expected = True
        assert (await client.delete("/access-token")).status_code == 404
        assert (await client.post("/organizations/acme/teams", json={})).status_code == 404


@pytest.mark.parametrize(
    ("query", "first", "count"),
    [
        ("", 0, 30),
        ("per_page=100", 0, 100),
        ("per_page=101", 0, 100),
        ("per_page=1000000", 0, 100),
        ("page=3&per_page=100", 200, 50),
        ("page=9&per_page=30", 240, 10),
        ("page=4&per_page=100", 250, 0),
        ("page=0", 0, 30),
        ("page=-1&per_page=-1", 0, 30),
        ("page=x&per_page=", 0, 30),
        ("per_page=0", 0, 30),
        ("page=99999999999999999999", 0, 30),
    ],
)
async def test_a_page_holds_what_was_asked_for_within_the_limits(query: str, first: int, count: int) -> None:
    async with serving() as (sim, client):
        answer = await client.get(f"/organizations/acme/members?{query}")
        assert answer.json() == list(sim.organization.members.records[first : first + count])


@pytest.mark.parametrize(
    ("page", "links"),
    [
        (1, {"next": "2", "last": "3"}),
        (2, {"next": "3", "prev": "1", "first": "1", "last": "3"}),
        (3, {"prev": "2", "first": "1"}),
        (4, {"prev": "3", "first": "1"}),
        (9, {"prev": "3", "first": "1"}),
    ],
)
async def test_links_stand_only_where_they_apply(page: int, links: dict[str, str]) -> None:
    async with serving() as (_, client):
        answer = await client.get(f"/organizations/acme/members?page={page}&per_page=100")
    assert page_numbers(answer) == links


async def test_a_link_is_absolute_and_keeps_the_query() -> None:
    async with serving() as (sim, client):
        answer = await client.get("/organizations/acme/members?per_page=100")
        base = f"{sim.url}/organizations/acme/members"
        assert answer.headers["Link"] == (
            f'<{base}?page=2&per_page=100>; rel="next", <{base}?page=3&per_page=100>; rel="last"'
        )


async def test_following_next_reads_every_member_once() -> None:
    async with serving() as (sim, client):
        read: list[dict[str, str]] = []
        url: str | None = "/organizations/acme/members"
        while url is not None:
            answer = await client.get(url)
            read += answer.json()
            url = answer.links.get("next", {}).get("url")
        assert read == list(sim.organization.members.records)
        assert len(sim.requests) == 9


@pytest.mark.parametrize(("accounts", "pages"), [(0, 0), (1, 1), (100, 1), (101, 2), (200, 2)])
async def test_what_fits_one_page_has_no_links(accounts: int, pages: int) -> None:
    async with serving(make_organization(accounts, 0, 0, slug="acme")) as (_, client):
        answer = await client.get("/organizations/acme/members?per_page=100")
    assert ("Link" in answer.headers) == (pages > 1)
    assert page_numbers(answer).get("last", "1") == str(max(1, pages))


async def test_organizations_and_team_members_have_pages_too() -> None:
    organizations = [make_organization(40, 1, 40, seed, f"org-{seed}") for seed in range(3)]
    async with serving(*organizations) as (_, client):
        listed = await client.get("/organizations?per_page=2")
        team = organizations[0].teams.records[0]["id"]
        roster = await client.get(f"/organizations/org-0/teams/{team}/members")
    assert [each["slug"] for each in listed.json()] == ["org-0", "org-1"]
    assert page_numbers(listed) == {"next": "2", "last": "2"}
    assert len(roster.json()) == 30
    assert page_numbers(roster) == {"next": "2", "last": "2"}


async def test_the_transcript_tells_requests_and_repeats_but_no_token() -> None:
    async with serving() as (sim, client):
        await client.get("/organizations/acme/members?page=1&per_page=30")
        await client.get("/organizations/acme/members?per_page=30&page=1")
        await client.get("/user", headers={"Authorization": "Bearer bkua_stolen"})
        told = [(each.method, each.path, dict(each.query), each.status, each.token) for each in sim.requests]
        asked = ("GET", "/v2/organizations/acme/members", {"page": "1", "per_page": "30"}, 200)
        assert told == 2 * [(*asked, "C1 connector")] + [("GET", "/v2/user", {}, 401, "")]
        assert list(sim.transcript.repeats.values()) == [2]
        assert "bkua_" not in repr(sim.requests) + repr(sim.token)
        sim.reset_counts()
        assert sim.requests == []
