"""What the Buildkite simulator's portals show of an organization, and their pages while it changes."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import pytest

from buildkite_connector.buildkite.portal_document import API_TOKENS
from fakes.portal_setup import PORTAL_PATH, shown_details, shown_tokens
from simulators.buildkite.api import Api
from simulators.buildkite.faults import change
from simulators.buildkite.portal_sdl import SCOPES
from simulators.buildkite.portal_view import PersonsToken, PortalView
from unit.simulators.portal_bench import Bench, portal_bench

EVERYTHING = """
query Members {
  organization(slug: "acme") {
    members {
      count
      edges {
        cursor
        node {
          id uuid role organization { uuid } security { passwordProtected }
          user { id uuid name email bot machineUser }
        }
      }
      pageInfo { startCursor endCursor hasNextPage hasPreviousPage }
    }
  }
}

query Tokens {
  organization(slug: "acme") {
    id
    name
    apiAccessTokens(last: 2) {
      edges { cursor node { id uuid ipAddress owner { uuid email } } }
      nodes { uuid }
      pageInfo { startCursor endCursor hasNextPage hasPreviousPage }
    }
  }
}
"""


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with portal_bench(14) as made:
        yield made


async def members(bench: Bench, size: int = 500) -> list[str]:
    """The users' IDs, read page by page as a client does."""
    found: list[str] = []
    bench.variables |= {"first": size, "after": None}
    while True:
        page = (await bench.data())["members"]
        found += [edge["node"]["user"]["uuid"] for edge in page["edges"]]
        if not page["pageInfo"]["hasNextPage"]:
            return found
        bench.variables["after"] = page["pageInfo"]["endCursor"]


async def tokens(bench: Bench) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    bench.variables |= {"first": 5, "after": None}
    while True:
        page = (await bench.data(API_TOKENS))["apiAccessTokens"]
        found |= {node["uuid"]: node for node in page["nodes"]}
        if not page["pageInfo"]["hasNextPage"]:
            return found
        bench.variables["after"] = page["pageInfo"]["endCursor"]


def moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def roster(bench: Bench) -> set[str]:
    return {record["id"] for record in bench.sim.organization.members.records}


async def test_members_are_shown_as_they_are_made_up_and_a_bot_with_them(bench: Bench) -> None:
    view = bench.sim.portals.view()
    nodes = [edge["node"] for edge in (await bench.data())["members"]["edges"]]
    told = {
        node["user"]["uuid"]: (
            moment(node["lastSeenAt"]),
            node["security"]["twoFactorEnabled"],
            node["user"]["machineUser"],
            moment(node["createdAt"]),
        )
        for node in nodes
    }
    assert told.keys() == {*roster(bench), view.bots[0].user_id}
    assert told == {
        user: (each.last_seen_at, each.two_factor, each.machine, each.member_since)
        for user, each in shown_details(view).items()
    }


async def test_tokens_are_shown_as_they_are_made_up_without_their_secret(bench: Bench) -> None:
    told = await tokens(bench)
    expected = shown_tokens(bench.sim.portals.view())
    assert told.keys() == expected.keys()
    for uuid, token in expected.items():
        node = told[uuid]
        assert (node["owner"] or {}).get("uuid") == token.owner
        assert (node["description"] or "", [each.lower() for each in node["scopes"]]) == (
            token.description,
            list(token.scopes),
        )
        assert (moment(node["createdAt"]), moment(node["expiresAt"]), moment(node["lastAccessedAt"])) == (
            token.created_at,
            token.expires_at,
            token.last_used_at,
        )


async def test_every_kind_of_member_and_token_is_there_and_always_the_same(bench: Bench) -> None:
    view, now = bench.sim.portals.view(), bench.time.now()
    people, secrets = view.members(), view.tokens()
    assert {each.last_seen_at is None for each in people if not each.bot} == {True, False}
    assert {(each.two_factor, each.machine) for each in people} == {
        (a, b) for a in (True, False) for b in (True, False)
    }
    assert all(each.since < each.last_seen_at < now for each in people if each.last_seen_at)
    assert {each.expires_at and each.expires_at < now for each in secrets} == {None, True, False}
    assert {each.last_used_at is None for each in secrets} == {True, False}
    assert {each.owner is None for each in secrets} == {True, False}
    assert {each.description is None for each in secrets} == {True, False}
    assert max((each.scopes for each in secrets), key=len) == SCOPES
    used = [(each.created_at, each.last_used_at, each.expires_at or now) for each in secrets if each.last_used_at]
    assert all(created < last < end for created, last, end in used)
    again = PortalView(bench.sim.organization, bench.time.now)
    assert (again.members(), again.tokens()) == (people, secrets)


async def test_the_other_fields_are_the_rest_apis_and_the_portals_own(bench: Bench) -> None:
    bench.portal.document = EVERYTHING
    found = (await bench.data("Members"))["members"]
    assert found["count"] == len(found["edges"]) == 15
    records = {record["id"]: record for record in bench.sim.organization.members.records}
    for edge in found["edges"]:
        node, user = edge["node"], edge["node"]["user"]
        record = records.get(user["uuid"])
        assert user["bot"] == (record is None)
        assert node["uuid"] != user["uuid"]
        if record is not None:
            assert (user["name"], user["email"], node["role"].lower()) == (
                record["name"],
                record["email"],
                record["role"],
            )
    cursors = [edge["cursor"] for edge in found["edges"]]
    assert found["pageInfo"] == {
        "startCursor": cursors[0],
        "endCursor": cursors[-1],
        "hasNextPage": False,
        "hasPreviousPage": False,
    }
    oldest = (await bench.data("Tokens"))["apiAccessTokens"]
    assert [node["uuid"] for node in oldest["nodes"]] == [edge["node"]["uuid"] for edge in oldest["edges"]]
    assert (len(oldest["nodes"]), oldest["pageInfo"]["hasPreviousPage"]) == (2, True)
    assert all(edge["node"]["ipAddress"].startswith("203.0.113.") for edge in oldest["edges"])


@pytest.mark.parametrize("size", [1, 4, 5, 15, 500])
async def test_pages_show_everybody_once_the_newest_first(bench: Bench, size: int) -> None:
    found = await members(bench, size)
    newest = sorted(bench.sim.portals.view().members(), key=lambda each: each.since, reverse=True)
    assert found == [each.user_id for each in newest]
    assert len(bench.sim.requests) == -(-15 // size)


async def test_cursors_stay_good_while_members_join_and_leave(bench: Bench) -> None:
    """The last of the first page leaves, and so does one of a later page; two join."""
    before = await members(bench)

    def edit(api: Api) -> None:
        organization = api.organizations["acme"]
        organization.remove_member(before[4])
        organization.remove_member(before[9])
        for name in ("early", "late"):
            organization.add_member(name, name, f"{name}@example.com", at=0)

    bench.sim.fault(change(edit), path=PORTAL_PATH, skip=1)
    assert await members(bench, 5) == before[:9] + before[10:]
    fresh = await members(bench)
    assert (fresh[:2], fresh[2:]) == (["early", "late"], before[:4] + before[5:9] + before[10:])
    joined = bench.sim.portals.view().member("early")
    assert (joined.since, joined.last_seen_at) == (bench.time.now(), bench.time.now())


async def test_a_token_ends_with_its_owners_membership(bench: Bench) -> None:
    view = bench.sim.portals.view()
    owner = next(each for each in view.members() if len(each.tokens) == 2)
    gone = {token.uuid for token in owner.tokens}
    before = await tokens(bench)
    bench.sim.organization.remove_member(owner.user_id)
    assert (await tokens(bench)).keys() == before.keys() - gone


async def test_who_is_omitted_is_missing_in_the_portal_alone(bench: Bench) -> None:
    view, user = bench.sim.portals.view(), next(iter(roster(bench)))
    whole = await members(bench)
    view.omitted.add(user)
    assert set(whole) - set(await members(bench)) == {user}
    assert user in roster(bench)
    view.omitted.clear()
    assert await members(bench) == whole


async def test_members_bots_and_tokens_are_open_to_edits(bench: Bench) -> None:
    view = bench.sim.portals.view()
    user = next(iter(roster(bench)))
    member = view.member(user)
    member.last_seen_at, member.two_factor, member.machine = None, not member.two_factor, True
    view.bots.clear()
    stranger = "a0000000-0000-4000-a000-000000000000"
    member.tokens[:] = [PersonsToken("token-of-member", user)]
    view.unowned[:] = [PersonsToken("token-of-a-stranger", stranger), PersonsToken("token-of-nobody", None)]
    node = next(
        edge["node"] for edge in (await bench.data())["members"]["edges"] if edge["node"]["user"]["uuid"] == user
    )
    assert (node["lastSeenAt"], node["user"]["machineUser"]) == (None, True)
    assert node["security"]["twoFactorEnabled"] == member.two_factor
    assert set(await members(bench)) == roster(bench)
    owners = {uuid: node["owner"] and node["owner"]["uuid"] for uuid, node in (await tokens(bench)).items()}
    assert owners["token-of-member"] == user
    assert (owners["token-of-a-stranger"], owners["token-of-nobody"]) == (stranger, None)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"first": 501}, "`first` must be between 0 and 500"),
        ({"first": -1}, "`first` must be between 0 and 500"),
        ({"after": "nonsense"}, "Invalid cursor: 'nonsense'"),
        ({"after": ""}, "Invalid cursor: ''"),
        ({"after": "WzEyXQ=="}, "Invalid cursor: 'WzEyXQ=='"),
    ],
)
async def test_a_page_that_makes_no_sense_is_an_error_beside_what_may_be_null(
    bench: Bench, asked: dict[str, Any], says: str
) -> None:
    """Members may be null, tokens may not, so that their organization is."""
    bench.variables |= asked
    answer = (await bench.call()).json()
    assert answer["data"]["organization"] == {"members": None}
    assert [(error["message"], error["path"]) for error in answer["errors"]] == [(says, ["organization", "members"])]
    answer = (await bench.call(API_TOKENS)).json()
    assert answer["data"]["organization"] is None
    assert [error["message"] for error in answer["errors"]] == [says]


async def test_pages_lead_backwards_too(bench: Bench) -> None:
    newest = await members(bench)
    bench.portal.document = """
      query Back($before: String, $last: Int) { organization(slug: "acme") { members(last: $last, before: $before) {
        edges { node { user { uuid } } } pageInfo { startCursor hasPreviousPage hasNextPage } } } }
    """
    found: list[str] = []
    bench.variables = {"last": 4}
    while True:
        page = (await bench.data("Back"))["members"]
        found = [edge["node"]["user"]["uuid"] for edge in page["edges"]] + found
        assert page["pageInfo"]["hasNextPage"] == (len(found) > 4)
        if not page["pageInfo"]["hasPreviousPage"]:
            break
        bench.variables["before"] = page["pageInfo"]["startCursor"]
    assert found == newest


async def test_a_member_who_comes_back_is_a_new_one(bench: Bench) -> None:
    organization, view = bench.sim.organization, bench.sim.portals.view()
    record = organization.members.records[0]
    long_ago = view.member(record["id"]).since
    organization.remove_member(record["id"])
    assert record["id"] not in await members(bench)
    organization.add_member(record["id"], record["name"], record["email"])
    assert (await members(bench))[0] == record["id"]
    assert view.member(record["id"]).since > long_ago
