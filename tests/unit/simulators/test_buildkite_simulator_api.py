"""What the Buildkite simulator answers over its socket: tokens, scopes, payloads and pages."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

import httpx
import pytest

from harness.trust import plain_client
from simulators.buildkite.api import Token, User
from simulators.buildkite.made_organization import make_organization
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
        "/organizations/acme/suites",
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
