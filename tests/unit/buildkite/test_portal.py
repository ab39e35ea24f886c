"""A portal over a real socket: what is asked, what comes of it, and how its window of requests is shared."""

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from buildkite_connector.buildkite import portal_payload
from buildkite_connector.buildkite.body import MOST_VALUES_KEPT, PORTAL_PAGE_LIMIT
from buildkite_connector.buildkite.parsing import PayloadError
from buildkite_connector.buildkite.portal_document import API_TOKENS, MEMBERS, portal_document
from buildkite_connector.buildkite.portal_payload import LONGEST_CURSOR, LONGEST_DESCRIPTION, MOST_SCOPES
from buildkite_connector.buildkite.settings import BuildkiteSettings
from buildkite_connector.model.directory import AccountDetails, OrganizationSlug
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.redactor import PLACEHOLDER, Redactor
from buildkite_connector.model.spec import OrganizationChoice
from buildkite_connector.sync.ports import PORTAL_PAGE, CursorPage, PortalAPI
from buildkite_connector.timing.slots import Slots
from fakes.buildkite_setup import HASTY
from fakes.task_ports import Records
from fakes.virtual_time import virtual_time
from simulators.buildkite import faults
from simulators.buildkite.api import Reply
from simulators.buildkite.faults import Answer
from simulators.buildkite.listing import encode
from simulators.buildkite.made_organization import make_organization
from simulators.buildkite.portal_sdl import SCOPES
from simulators.buildkite.quota import Limits
from unit.buildkite.portals import (
    NOTHING,
    PATH,
    SLUG,
    USER,
    Setup,
    answer,
    api_token,
    api_tokens,
    member,
    members,
    serving,
)

SECONDS = datetime(2026, 2, 20, 17, 5, 9, tzinfo=UTC)
SECRET = "portal-token-that-nobody-may-see-0123456789"


async def all_members(client: PortalAPI, first: int) -> dict[str, AccountDetails]:
    found: dict[str, AccountDetails] = {}
    after = None
    while True:
        page = await client.members(after, first)
        found |= dict(page.items)
        after = page.following
        if after is None:
            return found


@virtual_time
async def test_members_come_as_the_portal_shows_them_whatever_the_size_of_a_page() -> None:
    async with serving() as setup:
        view, client = setup.sim.portals.view(), setup.client()
        expected = {
            each.user_id: AccountDetails(each.last_seen_at, each.two_factor, each.machine, each.since)
            for each in view.members()
        }
        assert {each.machine for each in expected.values()} == {True, False}
        assert None in {each.last_seen_at for each in expected.values()}
        for first in (1, 4, PORTAL_PAGE):
            assert await all_members(client, first) == expected
        assert client.requests == setup.requests == len(expected) + -(-len(expected) // 4) + 1
        assert client.throttled_seconds == 0


@virtual_time
async def test_api_tokens_come_as_the_portal_shows_them() -> None:
    async with serving() as setup:
        page = await setup.client().api_tokens()
        expected = {each.uuid: each for each in setup.sim.portals.view().tokens()}
        assert page.following is None
        assert len(page.items) == len(expected) > 5
        for found in page.items:
            shown = expected[found.id]
            assert (found.owner, found.description) == (shown.owner, shown.description or "")
            assert (found.created_at, found.expires_at, found.last_used_at) == (
                shown.created_at,
                shown.expires_at,
                shown.last_used_at,
            )
            assert found.scopes == tuple(sorted(scope.lower() for scope in shown.scopes))
        assert None in {each.owner for each in page.items}


@virtual_time
async def test_the_request_is_what_buildkite_documents() -> None:
    records = Records()
    async with serving(observer=records) as setup:
        client = setup.client()
        following = (await client.members(first=3)).following
        await client.members(following, 3)
        await client.api_tokens(first=2)
        asked = {"organization": "acme", "first": 3}
        assert [(each.operation, each.variables) for each in setup.sim.portals.calls] == [
            (MEMBERS, asked),
            (MEMBERS, {**asked, "after": following}),
            (API_TOKENS, {"organization": "acme", "first": 2}),
        ]
        assert {(each.method, each.path) for each in setup.sim.requests} == {("POST", PATH)}
    assert [facts["path"] for _, facts in records.facts][::2] == [
        f"/organizations/acme/portals/{SLUG}?operation_name={operation}" for operation in (MEMBERS, API_TOKENS)
    ]
    assert [facts["remaining_organization"] for _, facts in records.facts] == [199, 198, 197]
    assert {facts["status"] for _, facts in records.facts} == {200}


@virtual_time
async def test_a_document_without_machine_users_leaves_open_who_is_one() -> None:
    async with serving() as setup:
        setup.sim.portals.machine_users = False
        setup.sim.portals.store(setup.portal, portal_document(machine_users=False))
        found = await all_members(setup.client(), PORTAL_PAGE)
        assert {each.machine for each in found.values()} == {None}


@virtual_time
async def test_a_read_is_tried_again_and_a_silent_portal_only_for_those_who_wait() -> None:
    async with serving() as setup:
        for fault in (faults.server_error(), faults.reset(), faults.truncated_json()):
            setup.sim.fault(fault, path=PATH)
        client = setup.client()
        assert (await client.members(first=1)).items
        assert client.requests == 4
        setup.sim.fault(faults.stall(None), path=PATH, times=1)
        assert (await client.members(first=1)).items
        setup.sim.fault(faults.stall(None), path=PATH, times=1)
        with pytest.raises(Failure, match="no response in time"):
            await setup.client(waits=False).members(first=1)


# The window of requests


@virtual_time
async def test_an_organizations_portals_and_tokens_share_one_window_apart_from_that_of_rest() -> None:
    async with serving(limits=Limits(user=None, organization=2, portal=5)) as setup:
        other = setup.sim.portals.create("other", portal_document())
        clients = [
            setup.client() if number % 2 else setup.client(slug="other", token=other.token) for number in range(20)
        ]
        began = setup.clock.monotonic()
        await asyncio.gather(*(client.members(first=1) for client in clients))
        assert setup.refused == 0
        assert 180 <= setup.clock.monotonic() - began < 260
        assert 60 < max(client.throttled_seconds for client in clients) < 260
        rest, asked_at = setup.buildkite.client(setup.sim.token.value), setup.clock.monotonic()
        await rest.organization(OrganizationChoice("acme"))
        assert setup.clock.monotonic() - asked_at < 1


@virtual_time
async def test_one_answer_tells_how_many_may_go() -> None:
    """A portal's token is nobody's, so there is no window of a user to ask for."""
    patient = replace(HASTY, timeouts=replace(HASTY.timeouts, read=20.0, total=30.0))
    async with serving(settings=patient) as setup:
        setup.sim.fault(faults.slow(10.0), path=PATH, times=None)
        began = setup.clock.monotonic()
        await asyncio.gather(*(setup.client().members(first=1) for _ in range(20)))
        assert 20 <= setup.clock.monotonic() - began < 21


@virtual_time
async def test_each_organization_has_a_window_of_its_own() -> None:
    async with serving(limits=Limits(None, None, portal=2)) as setup:
        other = make_organization(3, 1, 3, slug="other")
        setup.sim.api.organizations["other"] = other
        portal = setup.sim.portals.create(SLUG, portal_document(), organization="other")
        token = str(portal.token)
        busy = [asyncio.create_task(setup.client().members(first=1)) for _ in range(6)]
        await asyncio.sleep(1)
        began = setup.clock.monotonic()
        await setup.buildkite.portal(OrganizationSlug("other"), SLUG, token).members(first=1)
        assert setup.clock.monotonic() - began < 1
        assert not all(each.done() for each in busy)
        await asyncio.gather(*busy)
        await setup.clock.sleep(61)
        setup.sim.fault(Answer(Reply(429, b"{}", {"Retry-After": "50"})), path=PATH)
        held = asyncio.create_task(setup.client().members(first=1))
        await asyncio.sleep(1)
        began = setup.clock.monotonic()
        await setup.buildkite.portal(OrganizationSlug("other"), SLUG, token).members(first=1)
        assert setup.clock.monotonic() - began < 1
        assert not held.done()
        await held


async def ask_at_once(setup: Setup, connectors: int) -> float:
    began = setup.clock.monotonic()
    await asyncio.gather(*(setup.client().members(first=1) for _ in range(connectors)))
    arrived = sorted(each.at for each in setup.sim.requests)
    limit = setup.sim.quota.limits.portal or 0
    assert setup.refused == 0
    assert all(later - earlier > 59 for earlier, later in zip(arrived, arrived[limit:], strict=False))
    return setup.clock.monotonic() - began


@virtual_time
async def test_many_connectors_of_one_organization_stay_within_its_window() -> None:
    async with serving(limits=Limits(None, None, portal=20)) as setup:
        assert 4 * 60 <= await ask_at_once(setup, 100) < 5.5 * 60


@pytest.mark.thorough
@virtual_time
async def test_a_thousand_connectors_of_one_organization_stay_within_its_window() -> None:
    async with serving() as setup:
        assert 4 * 60 <= await ask_at_once(setup, 1000) < 6.5 * 60


@virtual_time
async def test_a_used_up_window_is_waited_for_with_and_without_headers() -> None:
    async with serving() as setup:
        await setup.client().members(first=1)
        setup.sim.consume(portal=200)
        began = setup.clock.monotonic()
        await setup.client().members(first=1)
        assert 50 < setup.clock.monotonic() - began < 62
        setup.sim.fault(Answer(Reply(429, b"{}", {})), path=PATH)
        began = setup.clock.monotonic()
        await setup.client().members(first=1)
        assert setup.clock.monotonic() - began >= HASTY.patience.blind_pause


@virtual_time
async def test_a_client_that_waits_for_its_window_gives_its_slot_back() -> None:
    async with serving(limits=Limits(None, None, portal=1)) as setup:
        slots = Slots(1, shared=True)
        async with slots.slot("a") as slot:
            waiting = asyncio.gather(*(setup.client(slot=slot).members(first=1) for _ in range(2)))
            await asyncio.sleep(5)
            assert slots.free == 1
            await waiting
            assert slots.free == 0


@virtual_time
async def test_rest_and_portal_get_a_slot_back_that_both_gave_back() -> None:
    async with serving(limits=Limits(2, None, portal=2)) as setup:
        slots = Slots(1, shared=True)
        async with slots.slot("a") as slot:
            rest, portal = setup.buildkite.client(setup.sim.token.value, slot=slot), setup.client(slot=slot)
            choice = OrganizationChoice("acme")
            async with asyncio.timeout(400):
                await asyncio.gather(
                    *(rest.organization(choice) for _ in range(8)), *(portal.members(first=1) for _ in range(8))
                )
        assert (slots.free, setup.refused) == (1, 0)


@virtual_time
async def test_a_process_that_may_not_act_now_asks_nothing() -> None:
    def stop() -> None:
        raise Failure(Reason.KUBERNETES_UNAVAILABLE, "the Lease is lost")

    async with serving(may_send=stop) as setup:
        with pytest.raises(Failure, match="the Lease is lost"):
            await setup.client().members()
        assert setup.requests == 0


@pytest.mark.parametrize("url", ["http://portal.example", "https://user@portal.example", "https://portal.example?x=1"])
def test_where_portals_are_must_be_a_url_that_keeps_the_token(url: str) -> None:
    with pytest.raises(ValueError, match=r"BUILDKITE_PORTAL_URL must be like https://portal\.buildkite\.com"):
        BuildkiteSettings(portal_url=url)
    assert BuildkiteSettings(portal_url="https://portal.example/x/").portal_url == "https://portal.example/x"


# What is read of an answer


def read_members(organization: object, redactor: Redactor = NOTHING) -> CursorPage[Any]:
    return portal_payload.members(organization, redactor)


def read_tokens(organization: object, redactor: Redactor = NOTHING) -> CursorPage[Any]:
    return portal_payload.api_tokens(organization, redactor)


def test_null_edges_and_nodes_are_passed_over() -> None:
    assert len(read_members(members(None, {"node": None}, member())).items) == 1
    assert len(read_tokens(api_tokens(None, api_token())).items) == 1


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("2026-02-20T17:05:09Z", SECONDS),
        ("2026-02-20 17:05:09 UTC", SECONDS),
        ("2026-02-20T17:05:09.987Z", SECONDS),
        ("2026-02-20T19:05:09+02:00", SECONDS),
    ],
)
def test_times_are_in_utc_and_whole_seconds(text: str, read: datetime) -> None:
    [(_, details)] = read_members(members(member(lastSeenAt=text))).items
    assert details.last_seen_at == read
    assert details.last_seen_at.tzinfo is UTC


def test_the_uuid_of_a_person_is_one_object_in_memory() -> None:
    def parsed(organization: object) -> object:
        return (portal_payload.answer(encode(answer(organization))).data or {})["organization"]

    page = read_tokens(parsed(api_tokens(api_token(), api_token(uuid=USER))))
    [(account, _)] = read_members(parsed(members(member()))).items
    assert page.items[0].owner is page.items[1].owner is page.items[1].id is account


def test_a_description_is_cut_and_shows_no_credential() -> None:
    texts = ["d" * 5000, f"for {SECRET} here", "x" * (LONGEST_DESCRIPTION - 20) + SECRET]
    page = read_tokens(api_tokens(*(api_token(description=text) for text in texts)), Redactor([SECRET]))
    kept = [each.description for each in page.items]
    assert [len(kept[0]), kept[1]] == [LONGEST_DESCRIPTION, f"for {PLACEHOLDER} here"]
    assert SECRET[:8] not in "".join(kept)


def largest(items: int) -> bytes:
    """A page of tokens with the longest descriptions, all escaped, and every scope."""
    wide = api_token(description="\U0001f600" * 255, scopes=list(SCOPES))
    return json.dumps(answer(api_tokens(*[wide] * items))).encode()


def test_a_page_of_the_largest_items_is_read() -> None:
    body = largest(PORTAL_PAGE)
    assert PORTAL_PAGE_LIMIT / 3 < len(body) < PORTAL_PAGE_LIMIT
    found = portal_payload.answer(body).data or {}
    assert len(read_tokens(found["organization"]).items) == PORTAL_PAGE


INFO = {"endCursor": "x", "hasNextPage": True}
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("no connection", {"members": None}, "members: "),
    ("no page info", members(info=None), "members.pageInfo: "),
    ("no edges", {"members": {"edges": None, "pageInfo": INFO}}, "members.edges: "),
    ("no cursor", members(info={**INFO, "endCursor": None}), "members.pageInfo.endCursor: expected a cursor"),
    ("an empty cursor", members(info={**INFO, "endCursor": ""}), "expected a cursor"),
    ("a long cursor", members(info={**INFO, "endCursor": "x" * (LONGEST_CURSOR + 1)}), "members.pageInfo.endCursor"),
    ("no bool", members(info={**INFO, "hasNextPage": "false"}), "members.pageInfo.hasNextPage: "),
    ("too many", members(*[member()] * (PORTAL_PAGE + 1)), "members.edges: "),
    ("no person", members(member(user=None)), "members.edges[0].node.user: "),
    ("no uuid", members(member(), member(user={"uuid": ""})), "members.edges[1].node.user.uuid: "),
    ("a path", members(member(user={"uuid": "../x"})), "members.edges[0].node.user.uuid: "),
    ("an odd machine", members(member(user={"uuid": USER, "machineUser": "no"})), "user.machineUser: "),
    ("an odd factor", members(member(security={"twoFactorEnabled": 1})), "security.twoFactorEnabled: "),
    ("no time", members(member(createdAt=None)), "node.createdAt: expected a time like 2025"),
    ("no zone", members(member(lastSeenAt="2026-02-20T17:05:09")), "node.lastSeenAt: expected a time"),
    ("no number", members(member(lastSeenAt=1771607109)), "node.lastSeenAt: expected a time"),
    ("beyond time", members(member(lastSeenAt="9999-12-31T23:59:59-01:00")), "node.lastSeenAt: expected a time"),
    ("before time", members(member(lastSeenAt="0001-01-01T00:00:00+01:00")), "node.lastSeenAt: expected a time"),
    ("a long time", members(member(lastSeenAt="2026-02-20T17:05:09Z" + " " * 9999)), "expected a time"),
    ("no token", api_tokens(api_token(uuid=None)), "apiAccessTokens.nodes[0].uuid: "),
    ("no expiry", api_tokens(api_token(expiresAt="never")), "nodes[0].expiresAt: expected a time"),
    ("an odd owner", api_tokens(api_token(owner=USER)), "nodes[0].owner: "),
    ("no scopes", api_tokens(api_token(scopes=None)), "nodes[0].scopes: "),
    ("a null scope", api_tokens(api_token(scopes=[None])), "nodes[0].scopes[0]: "),
    ("an odd scope", api_tokens(api_token(scopes=["READ_TEAMS", "read teams"])), "scopes[1]: expected a scope like"),
    ("a long scope", api_tokens(api_token(scopes=["R" * 101])), "scopes[0]: expected a scope like"),
    ("many scopes", api_tokens(api_token(scopes=["READ_TEAMS"] * (MOST_SCOPES + 1))), "nodes[0].scopes: "),
    ("no description", api_tokens(api_token(description=7)), "nodes[0].description: "),
    ("a credential", members(member(user={"uuid": SECRET})), "a credential is among them"),
    ("it owns one", api_tokens(api_token(owner={"uuid": SECRET})), "a credential is among them"),
    ("it is a scope", api_tokens(api_token(scopes=[SECRET.upper().replace("-", "_")])), "a credential is among them"),
]


@pytest.mark.parametrize(("organization", "says"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_what_makes_no_sense_is_refused_with_its_place(organization: dict[str, Any], says: str) -> None:
    read = read_members if "members" in organization else read_tokens
    redactor = Redactor([SECRET, SECRET.replace("-", "_")])
    with pytest.raises(PayloadError) as raised:
        read(organization, redactor)
    assert says in str(raised.value)
    assert not raised.value.absent
    assert len(str(raised.value)) < 300


def test_of_many_wrong_items_only_the_first_costs_time() -> None:
    """Pydantic goes through all of them otherwise, which takes most of a second."""
    organization = api_tokens(*[api_token(scopes=["x"] * MOST_SCOPES)] * PORTAL_PAGE)
    with pytest.raises(PayloadError, match=r"nodes\[0\]\.scopes\[0\]: expected a scope like READ_ORGANIZATIONS$"):
        read_tokens(organization)


def test_more_values_than_a_page_can_have_are_not_parsed() -> None:
    body = encode(answer(members(), more=[0] * MOST_VALUES_KEPT))
    with pytest.raises(PayloadError, match="expected at most 50,000 values"):
        portal_payload.answer(body)


def test_a_time_with_another_zone_than_utc_is_not_taken_for_one() -> None:
    [(_, details)] = read_members(members(member(lastSeenAt="2026-02-20T17:05:09-05:00"))).items
    assert details.last_seen_at == SECONDS.replace(tzinfo=timezone(timedelta(hours=-5)))
