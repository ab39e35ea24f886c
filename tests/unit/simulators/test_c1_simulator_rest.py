"""The simulated C1's REST API: what it refuses, to whom, and in which form."""

import json
from typing import Any

import httpx
import pytest

from simulators.c1.apps import BATON
from simulators.c1.probe import http, rest
from simulators.c1.server import C1Simulator
from simulators.c1.token import Role

JSON = {"content-type": "application/json"}
ADMIN = (Role.CONNECTOR_ADMINISTRATOR, Role.APPLICATION_ADMINISTRATOR)


def told(answer: httpx.Response) -> tuple[int, int, str]:
    """Of a google.rpc.Status: the HTTP status, its own code, its message."""
    status = answer.json()
    assert set(status) == {"code", "message", "details"}
    return answer.status_code, status["code"], status["message"]


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer made-up", "Basic YTpi"])
async def test_a_call_without_a_token_of_ours_is_unauthenticated(sim: C1Simulator, authorization: str) -> None:
    async with http(sim) as session:
        answer = await session.get("/api/v1/auth/introspect", headers={"authorization": authorization})
    assert told(answer)[:2] == (401, 16)
    assert len(sim.violations) == 1


async def test_an_expired_token_is_unauthenticated_and_no_violation(sim: C1Simulator) -> None:
    async with rest(sim, sim.register_rest_client()) as session:
        sim.authority.expire_tokens()
        assert told(await session.get("/auth/introspect"))[:2] == (401, 16)
    assert not sim.violations


async def test_a_disabled_principals_token_is_void_and_it_gets_no_other(sim: C1Simulator) -> None:
    client = sim.register_rest_client()
    async with rest(sim, client) as session:
        sim.authority.disable(client.client_id)
        assert told(await session.get("/auth/introspect"))[0] == 401
    with pytest.raises(httpx.HTTPStatusError, match="401"):
        async with rest(sim, client):
            pass


async def test_a_connectors_own_client_is_denied_everything(sim: C1Simulator) -> None:
    client = sim.register_client()
    connector = sim.register_connector(client)
    async with rest(sim, client) as session:
        for path in ("/auth/introspect", "/apps", f"/apps/{connector.app_id}/connectors/{connector.id}"):
            assert told(await session.get(path))[:2] == (403, 7)


CALLS = {
    "introspect": ("GET", "/auth/introspect", None),
    "list apps": ("GET", "/apps", None),
    "create app": ("POST", "/apps", {"displayName": "Buildkite"}),
    "get app": ("GET", "/apps/{app}", None),
    "update app": ("POST", "/apps/{app}", {"app": {"displayName": "B"}, "updateMask": "displayName"}),
    "list connectors": ("GET", "/apps/{app}/connectors", None),
    "create connector": ("POST", "/apps/{app}/connectors", {"catalogId": BATON}),
    "get connector": ("GET", "/apps/{app}/connectors/{connector}", None),
    "get credential": ("GET", "/apps/{app}/connectors/{connector}/credentials/{credential}", None),
    "create credential": ("POST", "/apps/connectors/credentials", {"appId": "{app}", "connectorId": "{connector}"}),
    "force sync": ("POST", "/apps/{app}/connectors/{connector}/force_sync", {}),
    "pause": ("POST", "/apps/{app}/connectors/{connector}/pause", {}),
    "resume": ("POST", "/apps/{app}/connectors/{connector}/resume", {}),
    "revoke credential": ("POST", "/apps/{app}/connectors/{connector}/credentials/{credential}", {}),
    "delete connector": ("DELETE", "/apps/{app}/connectors/{connector}", {}),
    "delete app": ("DELETE", "/apps/{app}", {}),
}
"""In an order in which each can be made once after those before it."""
READS = {"get app", "list connectors", "get connector"}
CHANGES_APPS = {"create app", "update app", "delete app"}
OPEN = {"introspect", "list apps"}


async def refused(sim: C1Simulator, roles: set[Role], owners: tuple[str, ...] = ()) -> set[str]:
    """The calls that a client with these roles, and the user ID `owner`, is denied."""
    connector = sim.register_connector(owners=owners)
    (credential,) = sim.connectors.credentials.values()
    ids = {"{app}": connector.app_id, "{connector}": connector.id, "{credential}": credential.id}
    denied = set()
    async with rest(sim, sim.register_rest_client(roles=roles, user_id="owner")) as session:
        for name, (method, path, body) in CALLS.items():
            url, content = path, json.dumps(body) if body is not None else ""
            for placeholder, value in ids.items():
                url, content = url.replace(placeholder, value), content.replace(placeholder, value)
            answer = await session.request(method, url, content=content, headers=JSON)
            assert answer.status_code in (200, 403), (name, answer.text)
            denied |= {name} if answer.status_code == 403 else set()
    assert not sim.violations
    return denied


async def test_without_a_role_nothing_can_be_read_or_changed(sim: C1Simulator) -> None:
    assert await refused(sim, set()) == CALLS.keys() - OPEN


async def test_a_read_only_administrator_changes_nothing(sim: C1Simulator) -> None:
    assert await refused(sim, {Role.READ_ONLY_ADMINISTRATOR}) == CALLS.keys() - OPEN - READS


async def test_a_connector_administrator_creates_and_changes_no_app(sim: C1Simulator) -> None:
    assert await refused(sim, {Role.CONNECTOR_ADMINISTRATOR}) == CHANGES_APPS


async def test_an_application_administrator_changes_no_connector_of_others(sim: C1Simulator) -> None:
    assert await refused(sim, {Role.APPLICATION_ADMINISTRATOR}) == CALLS.keys() - OPEN - READS - CHANGES_APPS


async def test_an_owner_of_a_connector_is_denied_its_app_and_more_connectors(sim: C1Simulator) -> None:
    expected = CHANGES_APPS | {"get app", "create connector"}
    assert await refused(sim, set(), owners=("owner",)) == expected


async def test_what_is_not_there_is_not_found_for_those_with_the_role_alone(sim: C1Simulator) -> None:
    connector, other = sim.register_connector(), sim.register_connector()
    paths = (
        "/apps/none",
        f"/apps/none/connectors/{connector.id}",
        f"/apps/{connector.app_id}/connectors/none",
        f"/apps/{other.app_id}/connectors/{connector.id}",
        f"/apps/{connector.app_id}/connectors/{connector.id}/credentials/none",
    )
    async with rest(sim, sim.register_rest_client(roles=ADMIN)) as session:
        assert [told(await session.get(path))[:2] for path in paths] == [(404, 5)] * len(paths)
    async with rest(sim, sim.register_rest_client()) as session:
        assert [told(await session.get(path))[:2] for path in paths] == [(403, 7)] * len(paths)


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "says"),
    [
        ("GET", "/app", {}, 404, "not found"),
        ("GET", "/apps/", {}, 404, "not found"),
        ("PUT", "/apps", {"json": {}}, 405, "method not allowed"),
        ("GET", "/apps/{app}/connectors/{connector}?page_size=10", {}, 400, "unknown parameter page_size"),
        ("GET", "/apps/{app}/connectors/{connector}?expandMask=*", {}, 400, "unknown parameter expandMask"),
        ("GET", "/apps?pageSize=10", {}, 400, "unknown parameter pageSize"),
        ("GET", "/apps?page_size=10&page_size=10", {}, 400, "comes twice"),
        ("GET", "/apps?page_size=101", {}, 400, "page_size"),
        ("GET", "/apps?page_size=ten", {}, 400, "page_size"),
        ("GET", "/apps?page_token=made-up", {}, 400, "page_token"),
        ("GET", "/apps/{app}", {"content": b"{}"}, 400, "expected none"),
        ("POST", "/apps", {"content": b"{}"}, 400, "content-type"),
        ("POST", "/apps", {"content": b"{", "headers": JSON}, 400, "expected JSON"),
        ("POST", "/apps", {"json": []}, 400, "expected an object"),
        ("POST", "/apps", {"json": {}}, 400, "displayName: required"),
        ("POST", "/apps", {"json": {"display_name": "B"}}, 400, "unknown field display_name"),
        ("POST", "/apps", {"json": {"displayName": 1}}, 400, "displayName: expected str"),
        ("POST", "/apps", {"json": {"displayName": "B", "owners": ["u", 1]}}, 400, "owners[1]: expected str"),
        ("POST", "/apps", {"json": {"displayName": "B", "monthlyCostUsd": True}}, 400, "monthlyCostUsd: expected int"),
        ("POST", "/apps", {"json": {"displayName": "B", "identityMatching": "STRICT"}}, 400, "expected one of"),
        ("POST", "/apps/{app}", {"json": {"app": {}, "updateMask": ["displayName"]}}, 400, "updateMask: expected str"),
        ("POST", "/apps/{app}", {"json": {"app": {}, "updateMask": "display_name"}}, 400, "unknown path"),
        ("POST", "/apps/{app}/connectors", {"json": {"displayName": "B"}}, 400, "catalogId"),
        ("POST", "/apps/{app}/connectors/{connector}/force_sync", {"json": {"id": "x"}}, 400, "unknown field id"),
        ("POST", "/apps/connectors/credentials", {"json": {"appId": "{app}"}}, 400, "connectorId: required"),
    ],
)
async def test_a_request_that_is_not_to_the_letter_is_refused_and_a_violation(
    sim: C1Simulator, method: str, path: str, content: dict[str, Any], status: int, says: str
) -> None:
    connector = sim.register_connector()
    filled = path.format(app=connector.app_id, connector=connector.id)
    async with rest(sim, sim.register_rest_client(roles=ADMIN)) as session:
        answer = await session.request(method, filled, **content)
    assert told(answer)[0] == status
    assert says in told(answer)[2]
    assert says in sim.violations[0]


@pytest.mark.parametrize(
    "annotations",
    [
        {f"k{number}": "v" for number in range(17)},
        {"1st": "v"},
        {"a b": "v"},
        {"k" * 129: "v"},
        {"c1/uid": "v"},
        {"k": "v" * 257},
        {"k": "a b"},
        {"k": "ü"},
        {f"{'k' * 100}{number}": "v" * 256 for number in range(12)},
    ],
    ids=["17", "digit first", "space in key", "long key", "reserved", "long value", "space", "not ASCII", "4 KiB"],
)
async def test_annotations_beyond_their_limits_are_refused(sim: C1Simulator, annotations: dict[str, str]) -> None:
    async with rest(sim, sim.register_rest_client(roles=ADMIN)) as session:
        answer = await session.post("/apps", json={"displayName": "B", "annotations": annotations})
    assert (told(answer)[0], sim.connectors.apps) == (400, {})


async def test_an_update_of_annotations_patches_them(sim: C1Simulator) -> None:
    app = sim.connectors.add_app("B", annotations={"kept": "1", "emptied": "1"})
    update = {"app": {"annotations": {"emptied": "", "added": "1"}}, "updateMask": "annotations"}
    async with rest(sim, sim.register_rest_client(roles=ADMIN)) as session:
        answer = await session.post(f"/apps/{app.id}", json=update)
    assert answer.json()["app"]["annotations"] == {"kept": "1", "added": "1"}


@pytest.mark.parametrize(
    ("asked", "sizes"), [({}, [25, 15]), ({"page_size": "0"}, [25, 15]), ({"page_size": "1"}, [10] * 4)]
)
async def test_a_list_ends_with_an_empty_token(sim: C1Simulator, asked: dict[str, str], sizes: list[int]) -> None:
    made = [sim.connectors.add_app(f"app {number}").id for number in range(40)]
    found: list[str] = []
    listed: list[int] = []
    page_token = ""
    async with rest(sim, sim.register_rest_client(roles=ADMIN)) as session:
        while not listed or page_token:
            answer = (await session.get("/apps", params=asked | {"page_token": page_token})).json()
            listed.append(len(answer["list"]))
            found += [app["id"] for app in answer["list"]]
            page_token = answer["nextPageToken"]
    assert (listed, found) == (sizes, made)


async def test_what_was_deleted_is_gone_or_says_so(sim: C1Simulator) -> None:
    connector = sim.register_connector()
    path = f"/apps/{connector.app_id}/connectors/{connector.id}"
    async with rest(sim, sim.register_rest_client(roles=ADMIN)) as session:
        await session.request("DELETE", f"/apps/{connector.app_id}", json={})
        assert told(await session.get(path))[0] == 404
        sim.policy.shows_deleted = True
        assert (await session.get(path)).json()["connectorView"]["connector"]["deletedAt"]
        assert told(await session.post(f"{path}/force_sync", json={}))[0] == 404
