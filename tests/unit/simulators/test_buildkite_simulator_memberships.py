"""What the Buildkite simulator lets be done to one team membership, what it refuses, and what it notes of it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

import httpx
import pytest

from harness.trust import plain_client
from simulators.buildkite import faults
from simulators.buildkite.api import ALL_SCOPES, WRITING_SCOPES, Token, User
from simulators.buildkite.listing import Record
from simulators.buildkite.made_organization import make_organization
from simulators.buildkite.organization import Organization
from simulators.buildkite.server import BuildkiteSimulator, Config
from simulators.buildkite.writes import UndeclaredWritesError

NOW = datetime(2026, 8, 1, 12, 0, 0, 5000, tzinfo=UTC)
TOKEN = Token(scopes=WRITING_SCOPES)
PLAIN = User("u-plain", "Pat", "pat@example.com", admin=False)


class Team:
    """The first team of an organization of four: two in the team, one maintainer, two outside of it."""

    def __init__(self, organization: Organization) -> None:
        self.id: str = organization.teams.records[0]["id"]
        self.members = f"/organizations/acme/teams/{self.id}/members"
        roster = organization.team_members[self.id].records
        self.maintainer, self.member = (self._user(roster, role) for role in ("maintainer", "member"))
        inside = {self.maintainer, self.member}
        self.outsider: str = next(each["id"] for each in organization.members.records if each["id"] not in inside)

    def row(self, user: str) -> str:
        return f"{self.members}/{user}"

    @staticmethod
    def _user(roster: Sequence[Record], role: str) -> str:
        return next(str(each["user_id"]) for each in roster if each["role"] == role)


@asynccontextmanager
async def serving(
    token: Token = TOKEN, *, expected: bool = True
) -> AsyncIterator[tuple[BuildkiteSimulator, httpx.AsyncClient, Team]]:
    organization = make_organization(4, 2, 3, slug="acme")
    team = Team(organization)
    authorization = {"Authorization": f"Bearer {token.value}"}
    async with (
        BuildkiteSimulator(Config([organization], [token], writes_expected=expected), now=lambda: NOW) as sim,
        plain_client(sim.url, headers=authorization) as client,
    ):
        yield sim, client, team


def added(user: str, role: str = "member") -> dict[str, str]:
    return {"user_id": user, "role": role}


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
async def test_a_write_wants_its_scope(method: str) -> None:
    async with serving(replace(TOKEN, scopes=ALL_SCOPES)) as (sim, client, team):
        path = team.members if method == "POST" else team.row(team.member)
        answer = await client.request(method, path, json=added(team.outsider))
        assert (answer.status_code, answer.json()) == (
            403,
            {"message": "Your access token doesn't have the write_teams scope"},
        )
        assert sim.writes[0].status == 403
        assert not sim.writes[0].effective


async def test_one_row_wants_the_scope_that_reads_teams() -> None:
    async with serving(replace(TOKEN, scopes=("write_teams",))) as (_, client, team):
        answer = await client.get(team.row(team.member))
    assert answer.json() == {"message": "Your access token doesn't have the read_teams scope"}


@pytest.mark.parametrize(("own_role", "status"), [(None, 403), ("member", 403), ("maintainer", 201)])
async def test_who_is_no_admin_writes_only_to_teams_that_they_maintain(own_role: str | None, status: int) -> None:
    async with serving(replace(TOKEN, user=PLAIN)) as (sim, client, team):
        if own_role:
            sim.organization.add_team_member(team.id, PLAIN.id, PLAIN.name, own_role)
        answer = await client.post(team.members, json=added(team.outsider))
        other = sim.organization.teams.records[1]["id"]
        elsewhere = await client.post(f"/organizations/acme/teams/{other}/members", json=added(team.outsider))
    assert (answer.status_code, elsewhere.status_code) == (status, 403)
    assert elsewhere.json() == {"message": "Forbidden"}


@pytest.mark.parametrize(
    ("method", "path", "message"),
    [
        ("POST", "/organizations/nobody/teams/{team}/members", "No organization found"),
        ("POST", "/organizations/acme/teams/gone/members", "No team found"),
        ("GET", "/organizations/acme/teams/gone/members/{member}", "No team found"),
        ("GET", "/organizations/acme/teams/{team}/members/{outsider}", "No team member found"),
        ("PATCH", "/organizations/acme/teams/{team}/members/{outsider}", "No team member found"),
        ("DELETE", "/organizations/acme/teams/{team}/members/{outsider}", "No team member found"),
        ("PUT", "/organizations/acme/teams/{team}/members/{member}", "Not Found"),
        ("POST", "/organizations/acme/teams/{team}/members/{member}", "Not Found"),
        ("DELETE", "/organizations/acme/teams/{team}/members", "Not Found"),
        ("DELETE", "/organizations/acme/teams/{team}/members/{member}/x", "Not Found"),
    ],
)
async def test_what_does_not_exist_gets_404(method: str, path: str, message: str) -> None:
    async with serving() as (sim, client, team):
        asked = path.format(team=team.id, member=team.member, outsider=team.outsider)
        body = None if method == "GET" else added(team.outsider)
        answer = await client.request(method, asked, json=body)
        assert (answer.status_code, answer.json()) == (404, {"message": message})
        assert not any(each.effective for each in sim.writes)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"user_id": "{member}", "role": "member"}, "User has already been taken"),
        ({"user_id": "{member}", "role": "maintainer"}, "User has already been taken"),
        ({"user_id": "nobody", "role": "member"}, "User must be a member of the organization"),
        ({"user_id": ["x"], "role": "member"}, "User must be a member of the organization"),
        ({"role": "member"}, "User can't be blank"),
        ({"user_id": "{outsider}"}, "Role is not included in the list"),
        ({"user_id": "{outsider}", "role": "MEMBER"}, "Role is not included in the list"),
    ],
)
async def test_a_membership_that_cannot_be_is_invalid(body: dict[str, object], reason: str) -> None:
    async with serving() as (sim, client, team):
        names = {"{member}": team.member, "{outsider}": team.outsider}
        told = {key: names.get(value, value) if isinstance(value, str) else value for key, value in body.items()}
        answer = await client.post(team.members, json=told)
        assert (answer.status_code, answer.json()) == (422, {"message": f"Validation failed: {reason}"})
        assert not sim.writes[0].effective


@pytest.mark.parametrize("body", [{}, {"role": "owner"}, {"role": None}])
async def test_a_role_that_does_not_exist_is_invalid(body: dict[str, object]) -> None:
    async with serving() as (_, client, team):
        answer = await client.patch(team.row(team.member), json=body)
    assert (answer.status_code, answer.json()["message"]) == (
        422,
        "Validation failed: Role is not included in the list",
    )


@pytest.mark.parametrize("headers", [{"Content-Type": "application/json"}, {"Content-Type": "text/plain"}])
async def test_a_body_that_is_no_json_object_is_refused(headers: dict[str, str]) -> None:
    async with serving() as (_, client, team):
        answer = await client.post(team.members, content=b"user_id=x&role=member", headers=headers)
    assert answer.status_code == 400


async def test_a_team_keeps_its_last_maintainer_where_that_is_switched_on() -> None:
    async with serving() as (sim, client, team):
        sim.api.last_maintainer_stays = True
        demoted = await client.patch(team.row(team.maintainer), json={"role": "member"})
        removed = await client.delete(team.row(team.maintainer))
        assert (demoted.status_code, removed.status_code) == (422, 422)
        await client.patch(team.row(team.member), json={"role": "maintainer"})
        assert (await client.delete(team.row(team.maintainer))).status_code == 204
        sim.api.last_maintainer_stays = False
        assert (await client.delete(team.row(team.member))).status_code == 204


async def test_every_write_and_reading_of_one_row_is_a_request_of_the_quota() -> None:
    async with serving() as (_, client, team):
        left = [
            (await client.post(team.members, json=added(team.outsider))).headers["RateLimit-User-Remaining"],
            (await client.get(team.row(team.outsider))).headers["RateLimit-User-Remaining"],
            (await client.patch(team.row("nobody"), json={"role": "member"})).headers["RateLimit-User-Remaining"],
            (await client.delete(team.row(team.outsider))).headers["RateLimit-User-Remaining"],
        ]
    assert left == ["49", "48", "47", "46"]


async def test_over_the_quota_nothing_is_written() -> None:
    async with serving() as (sim, client, team):
        sim.consume(user=50)
        assert (await client.delete(team.row(team.member))).status_code == 429
        assert (sim.writes[0].status, sim.writes[0].before, sim.writes[0].after) == (429, "member", "member")


@pytest.mark.parametrize("path", ["/user", "/organizations/acme/teams/any/members"])
async def test_a_write_that_nobody_declared_fails_the_test_at_its_end(path: str) -> None:
    with pytest.raises(UndeclaredWritesError, match=path):
        async with serving(expected=False) as (_, client, _team):
            await client.post(path, json={})


async def test_a_write_in_an_outage_is_noted_too() -> None:
    async with serving() as (sim, client, _team):
        sim.fault(faults.outage())
        with pytest.raises(httpx.TransportError):
            await client.post("/user", json={})
        assert [(each.method, each.path, each.status) for each in sim.writes] == [("POST", "/v2/user", None)]


async def test_writes_by_a_declared_token_are_no_failure_and_those_of_others_are() -> None:
    async with serving(expected=False) as (sim, client, team):
        sim.journal.expected_of.add(TOKEN.description)
        await client.delete(team.row(team.member))
        sim.journal.check()
        await client.delete("/user", headers={"Authorization": "Bearer unknown"})
        with pytest.raises(UndeclaredWritesError, match=r"but: DELETE /v2/user$"):
            sim.journal.check()
        sim.journal.expected = True
