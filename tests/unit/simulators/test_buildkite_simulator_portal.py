"""Whom the Buildkite simulator's portals answer, how often, and what of a stored document they refuse."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from buildkite_connector.buildkite.portal_document import API_TOKENS, MARK, MEMBERS, portal_document
from fakes.portal_setup import PORTAL, PORTAL_PATH, open_portal
from simulators.buildkite.api import Token
from simulators.buildkite.faults import (
    bad_gateway,
    disconnect,
    drop_at,
    graphql_errors,
    no_rate_limit_headers,
    outage,
    revoke_token,
    set_at,
    truncated_json,
)
from simulators.buildkite.made_organization import make_organization
from simulators.buildkite.portal import DocumentRefusedError
from simulators.buildkite.quota import Limits, OtherUse
from unit.simulators.portal_bench import Bench, portal_bench

PAGE = "edges { node { user { uuid } security { twoFactorEnabled } } } pageInfo { endCursor }"
WRONG_FIELD = 'query Wrong { organization(slug: "acme") { members(first: 1) { nodes { uuid } } } }'


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with portal_bench() as made:
        yield made


async def test_a_portal_runs_the_operation_named_of_its_document(bench: Bench) -> None:
    for operation, connection in ((MEMBERS, "members"), (API_TOKENS, "apiAccessTokens")):
        answer = await bench.call(operation)
        assert answer.json()["data"].keys() == {MARK, "organization"}
        assert answer.json()["data"]["organization"].keys() == {connection}
    assert [(call.portal, call.operation, call.variables["first"]) for call in bench.sim.portals.calls] == [
        (PORTAL, MEMBERS, 500),
        (PORTAL, API_TOKENS, 500),
    ]
    assert {request.token for request in bench.sim.requests} == {f"portal {PORTAL}"}
    assert not bench.sim.writes


async def test_one_operation_needs_no_name_and_several_do(bench: Bench) -> None:
    assert await bench.refused(None) == ["An operation name is required"]
    assert await bench.refused("Other") == ['No operation named "Other"']
    bench.portal.document = 'query One { organization(slug: "acme") { slug } }'
    assert (await bench.call(None)).json() == {"data": {"organization": {"slug": "acme"}}}
    assert await bench.refused("Other") == ['No operation named "Other"']


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"token": "another"}, 401),
        ({"headers": {"Authorization": ""}}, 401),
        ({"token": Token().value}, 401),
        ({"slug": "other"}, 404),
        ({"organization": "globex"}, 404),
        ({"organization": "nobody"}, 404),
        ({"method": "GET"}, 404),
        ({"content": b"{", "headers": {"Content-Type": "application/json"}}, 400),
        ({"content": b"[]", "headers": {"Content-Type": "application/json"}}, 400),
        ({"content": b"{}", "headers": {"Content-Type": "text/plain"}}, 400),
    ],
)
async def test_a_call_needs_the_portals_token_its_address_and_an_object_of_variables(
    bench: Bench, request_: dict[str, Any], status: int
) -> None:
    assert (await bench.call(**request_)).status_code == status


async def test_a_token_is_good_for_its_own_portal_until_it_is_revoked(bench: Bench) -> None:
    other = open_portal(bench.sim, "other", token="a" * 40)
    assert (await bench.call(slug="other")).status_code == 401
    assert (await bench.call(slug="other", token=other.token)).status_code == 200
    assert (await bench.call(headers={"Authorization": f"Token {bench.portal.token}"})).status_code == 401
    bench.portal.revoke()
    assert [(await bench.call()).status_code, (await bench.call(token="None")).status_code] == [401, 401]
    bench.portal.token = "b" * 40
    assert (await bench.call()).status_code == 200
    bench.sim.fault(revoke_token(), path=PORTAL_PATH)
    assert [(await bench.call()).status_code, (await bench.call(slug="other", token=other.token)).status_code] == [
        401,
        200,
    ]
    bench.sim.portals.delete(bench.portal)
    assert (await bench.call()).status_code == 404


async def test_a_portal_of_another_organization_shows_that_one_and_no_other(bench: Bench) -> None:
    portal = open_portal(bench.sim, "theirs", organization="globex")

    async def shown() -> Any:
        answer = await bench.call(slug="theirs", organization="globex", token=portal.token)
        return answer.json()["data"]["organization"]

    assert await shown() is None
    bench.variables["organization"] = "globex"
    edges = (await shown())["members"]["edges"]
    theirs = {record["id"] for record in bench.sim.api.organizations["globex"].members.records}
    assert theirs < {edge["node"]["user"]["uuid"] for edge in edges}
    bench.sim.api.organizations["globex"] = make_organization(1, 0, 0, 7, "globex")
    assert len((await shown())["members"]["edges"]) == 2
    del bench.sim.api.organizations["globex"]
    answer = await bench.call(slug="theirs", organization="globex", token=portal.token)
    assert answer.status_code == 404


async def test_only_the_addresses_allowed_may_call(bench: Bench) -> None:
    bench.portal.allowed_ip_addresses = "192.0.2.0/24 198.51.100.7"
    assert (await bench.call()).status_code == 403
    bench.portal.allowed_ip_addresses = "192.0.2.0/24 127.0.0.0/8"
    assert (await bench.call()).status_code == 200


@pytest.mark.parametrize(
    ("variables", "wrong"),
    [
        ({}, ["organization of type ID!", "first of type Int!"]),
        ({"query": "query { __typename }", "variables": {}}, ["organization of type ID!", "first of type Int!"]),
        ({"organization": "acme", "first": None}, ["first of type Int!"]),
        ({"organization": "acme", "first": "many"}, ["first of type Int!"]),
        ({"organization": "acme", "first": 1, "after": 7}, ["after of type String"]),
    ],
)
async def test_the_body_is_the_object_of_variables_itself(
    bench: Bench, variables: dict[str, Any], wrong: list[str]
) -> None:
    bench.variables = variables
    assert await bench.refused() == [f"Variable ${each} was provided invalid value" for each in wrong]


async def test_a_document_that_the_schema_refuses_cannot_be_stored(bench: Bench) -> None:
    for document in (WRONG_FIELD, "query {", "mutation { revoke }", "query One($first: Int!) { __typename }"):
        with pytest.raises(DocumentRefusedError):
            bench.sim.portals.store(bench.portal, document)
        with pytest.raises(DocumentRefusedError):
            bench.sim.portals.create("new", document)
    assert (await bench.call()).status_code == 200
    assert (await bench.call(slug="new")).status_code == 404


async def test_a_schema_without_machine_users_refuses_the_document_that_names_them_as_a_whole(bench: Bench) -> None:
    message = "Field 'machineUser' doesn't exist on type 'User'"
    bench.sim.portals.machine_users = False
    assert (await bench.refused(MEMBERS), await bench.refused(API_TOKENS)) == ([message], [message])
    with pytest.raises(DocumentRefusedError, match=message):
        open_portal(bench.sim)
    bench.sim.portals.store(bench.portal, portal_document(machine_users=False))
    assert "machineUser" not in (await bench.call()).text
    assert len((await bench.data())["members"]["edges"]) == 5


async def test_members_have_no_nodes_and_unknown_arguments_are_named(bench: Bench) -> None:
    bench.portal.document = WRONG_FIELD
    answer = (await bench.call(None)).json()
    assert answer["errors"][0]["message"] == "Field 'nodes' doesn't exist on type 'OrganizationMemberConnection'"
    assert answer["errors"][0]["extensions"] == {"code": "undefinedField"}
    bench.portal.document = WRONG_FIELD.replace("nodes { uuid }", "count").replace("first", "most")
    assert await bench.refused(None) == ["Field 'members' doesn't accept argument 'most'"]


@pytest.mark.parametrize("status", [400, 422])
async def test_a_refused_operation_may_have_a_status_of_its_own(bench: Bench, status: int) -> None:
    bench.sim.portals.invalid_status = status
    answer = await bench.call("Other")
    assert (answer.status_code, list(answer.json())) == (status, ["errors"])
    assert (await bench.call()).status_code == 200


@pytest.mark.parametrize(
    ("selected", "complexity"),
    [
        ("slug", 1),
        ("members { edges { node { uuid } } }", 503),
        (f"members(first: 500) {{ {PAGE} }}", 4 + 3 * 500),
        (f"members(last: 20) {{ {PAGE} }}", 4 + 3 * 20),
        (f"... {{ members {{ ... {{ {PAGE} }} }} }}", 4 + 3 * 500),
        ("apiAccessTokens { nodes { owner { uuid } } pageInfo { endCursor } }", 4 + 2 * 500),
        (
            f"members(first: 10) {{ edges {{ node {{ organization {{ members(first: 5) {{ {PAGE} }} }} }} }} }}",
            3 + 10 + 10 * (4 + 3 * 5),
        ),
    ],
)
async def test_an_operation_costs_what_it_may_bring(
    bench: Bench, selected: str, complexity: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The facts' figures: 503, 1,504 and 1,004 are those of the documentation."""
    bench.portal.document = f'{{ organization(slug: "acme") {{ {selected} }} }}'
    monkeypatch.setattr("simulators.buildkite.portal_operations.MOST_COMPLEXITY", complexity)
    assert (await bench.call(None)).json().keys() == {"data"}
    monkeypatch.setattr("simulators.buildkite.portal_operations.MOST_COMPLEXITY", complexity - 1)
    assert await bench.refused(None) == [
        f"Query has complexity of {complexity}, which exceeds max complexity of {complexity - 1}"
    ]


async def test_the_limits_of_complexity_and_depth_are_buildkites(bench: Bench) -> None:
    nested = "members(first: 500) { edges { node { organization { members(first: 500) { count } } } } }"
    bench.portal.document = f'query Costly {{ organization(slug: "acme") {{ {nested} }} }}'
    assert (await bench.call(None)).json().keys() == {"data"}
    bench.portal.document = bench.portal.document.replace("count", PAGE)
    assert await bench.refused(None) == ["Query has complexity of 752503, which exceeds max complexity of 50000"]
    for levels, depth in ((3, 14), (4, 18)):
        step = "members(first: 1) { edges { node { organization { "
        bench.portal.document = f'{{ organization(slug: "acme") {{ {step * levels} slug {" } } } }" * levels} }} }}'
        if depth <= 15:
            assert (await bench.call(None)).json().keys() == {"data"}
        else:
            assert await bench.refused(None) == [f"Query has depth of {depth}, which exceeds max depth of 15"]


def limit_of(answer: httpx.Response) -> dict[str, str]:
    """The rate-limit headers as they were written."""
    return {name.decode(): text.decode() for name, text in answer.headers.raw if name.lower().startswith(b"ratelimit")}


async def test_an_organization_has_two_hundred_calls_a_minute_over_all_portals_and_tokens(bench: Bench) -> None:
    other = open_portal(bench.sim, "other")
    told = {"RateLimit-Limit": "200", "RateLimit-Reset": "60", "Ratelimit-Scope": "portal"}
    assert limit_of(await bench.call()) == {**told, "RateLimit-Remaining": "199"}
    bench.time.passed += 20
    assert limit_of(await bench.call(slug="other", token=other.token))["RateLimit-Remaining"] == "198"
    assert not limit_of(await bench.call(token="wrong"))
    bench.sim.consume(portal=197)
    assert limit_of(await bench.call("Other"))["RateLimit-Remaining"] == "0"
    for _ in range(2):
        refused = await bench.call(slug="other", token=other.token)
        assert (refused.status_code, refused.json().keys()) == (429, {"message"})
        assert limit_of(refused) == {**told, "RateLimit-Reset": "40", "RateLimit-Remaining": "0"}
    theirs = open_portal(bench.sim, "theirs", organization="globex")
    assert (await bench.call(slug="theirs", organization="globex", token=theirs.token)).status_code == 200
    rest = await bench.client.get(bench.sim.url + "/user", headers={"Authorization": f"Bearer {Token().value}"})
    assert limit_of(rest)["RateLimit-Remaining"] == "199"
    bench.time.passed += 40
    assert limit_of(await bench.call()) == {**told, "RateLimit-Remaining": "199"}


async def test_the_limit_of_portals_may_be_set_and_used_by_others() -> None:
    async with portal_bench(limits=Limits(portal=3), other_use=OtherUse(portal=1)) as bench:
        assert [(await bench.call()).status_code for _ in range(3)] == [200, 200, 429]
        bench.sim.quota.limits = Limits(portal=None)
        assert (await bench.call()).status_code == 200


async def test_the_faults_of_the_server_meet_portals_too(bench: Bench) -> None:
    def fault(effect: Any) -> None:
        bench.sim.fault(effect, path=PORTAL_PATH)

    fault(bad_gateway())
    answer = await bench.call()
    assert (answer.status_code, limit_of(answer)) == (502, {})
    fault(truncated_json())
    with pytest.raises(ValueError, match="line 1 column"):
        (await bench.call()).json()
    fault(no_rate_limit_headers())
    assert not limit_of(await bench.call())
    for effect in (disconnect(), outage()):
        fault(effect)
        with pytest.raises(httpx.TransportError):
            await bench.call()
    await bench.sim.resume()
    assert limit_of(await bench.call())["RateLimit-Remaining"] == "196"
    assert not bench.sim.writes


async def test_answers_go_out_changed_at_a_path_and_with_errors(bench: Bench) -> None:
    def fault(effect: Any) -> None:
        bench.sim.fault(effect, path=PORTAL_PATH)

    whole = (await bench.call()).json()["data"]
    fault(graphql_errors(["Something went wrong"]))
    assert await bench.refused() == ["Something went wrong"]
    fault(graphql_errors(["Something went wrong"], beside_data=True))
    assert (await bench.call()).json() == {"data": whole, "errors": [{"message": "Something went wrong"}]}
    members = "data.organization.members"
    fault(set_at(f"{members}.pageInfo", None))
    assert (await bench.data())["members"]["pageInfo"] is None
    fault(set_at(f"{members}.edges.1.node.lastSeenAt", "soon"))
    edges = (await bench.data())["members"]["edges"]
    assert [edge["node"]["lastSeenAt"] == "soon" for edge in edges] == [False, True, False, False, False]
    fault(drop_at(f"{members}.edges.*.node.user.uuid"))
    edges = (await bench.data())["members"]["edges"]
    assert not any("uuid" in edge["node"]["user"] for edge in edges)
    assert (await bench.call()).json()["data"] == whole
