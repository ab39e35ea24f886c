"""What of the Buildkite simulator's faults no test of the product would notice: what they leave alone, and their rules.

That each fault happens at all is shown by `tests/unit/buildkite/test_buildkite_faults.py`.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from harness.trust import plain_client
from simulators.buildkite import faults
from simulators.buildkite.api import Token
from simulators.buildkite.certificate import Certificate
from simulators.buildkite.made_organization import make_organization
from simulators.buildkite.quota import Limits
from simulators.buildkite.server import BuildkiteSimulator, Config
from simulators.sockets import LOOPBACK

MEMBERS = "/organizations/acme/members"
AUTHORIZED = {"Authorization": f"Bearer {Token().value}"}
NO_LIMITS = Limits(None, None)


@asynccontextmanager
async def serving(latency: float = 0.0) -> AsyncIterator[tuple[BuildkiteSimulator, httpx.AsyncClient]]:
    config = Config([make_organization(70, 3, 40, slug="acme")], limits=NO_LIMITS, latency=latency)
    async with (
        BuildkiteSimulator(config) as sim,
        plain_client(sim.url, headers=AUTHORIZED) as client,
    ):
        yield sim, client


async def faulty(effect: faults.Effect, path: str = MEMBERS) -> httpx.Response:
    """The answer that meets the effect, after making sure that the next one is healthy."""
    async with serving() as (sim, client):
        healthy = await client.get(path)
        sim.fault(effect)
        answer = await client.get(path)
        assert (await client.get(path)).content == healthy.content
        return answer


async def test_the_edge_uses_no_quota() -> None:
    async with serving() as (sim, client):
        sim.quota.limits = Limits(user=50)
        sim.script([faults.bad_gateway(), faults.unavailable(), faults.redirect("https://elsewhere.example")])
        for _ in range(3):
            await client.get("/user")
        assert (await client.get("/user")).headers["RateLimit-User-Remaining"] == "49"


async def test_stopping_ends_a_stalled_answer() -> None:
    async with serving() as (sim, client):
        sim.fault(faults.stall())
        async with client.stream("GET", MEMBERS) as answer:
            await sim.stop()
            with pytest.raises(httpx.ReadError):
                await answer.aread()
        assert [request.status for request in sim.requests] == [None]
        assert sim.transcript.in_flight == 0


@pytest.mark.parametrize("turns", range(5))
async def test_a_connection_that_comes_while_the_port_closes_is_closed_too(turns: int) -> None:
    """`turns` of the event loop after it came: asyncio takes it from the socket in one and sets it up in the next."""
    async with serving() as (sim, _):
        with socket.create_connection((LOOPBACK, httpx.URL(sim.url).port or 0)) as client:
            client.setblocking(False)
            for _ in range(turns):
                await asyncio.sleep(0)
            await sim.pause()
            async with asyncio.timeout(5):
                with pytest.raises(ConnectionResetError):
                    await asyncio.get_running_loop().sock_recv(client, 1)


async def test_rate_limit_headers_can_be_missing() -> None:
    answer = await faulty(faults.no_rate_limit_headers())
    assert [name for name in answer.headers if name.startswith("ratelimit")] == []


@pytest.mark.parametrize("value", ["-1", "999999999999", "soon", ""])
async def test_rate_limit_headers_can_be_absurd(value: str) -> None:
    answer = await faulty(faults.rate_limit_headers({"RateLimit-User-Remaining": value}))
    assert answer.headers["RateLimit-User-Remaining"] == value
    assert answer.headers["RateLimit-Scope"] == "rest"


async def test_a_roster_can_move_between_two_pages() -> None:
    async with serving() as (sim, client):
        last = sim.organization.members.records[-1]["id"]
        sim.fault(faults.change(lambda api: api.organizations["acme"].move_member(last, 0)), query={"page": "2"})
        first = (await client.get(f"{MEMBERS}?page=1")).json()
        second = (await client.get(f"{MEMBERS}?page=2")).json()
        third = (await client.get(f"{MEMBERS}?page=3")).json()
    assert first[-1] == second[0]
    assert last not in {each["id"] for each in first + second + third}


async def test_a_total_can_change_while_pages_are_read() -> None:
    async with serving() as (sim, client):
        crowd = [
            {"operation": "add_member", "id": f"n{index}", "name": "N", "email": "n@example.com"} for index in range(30)
        ]
        sim.fault(faults.edit_data(crowd), query={"page": "2"})
        lasts = [(await client.get(f"{MEMBERS}?page={page}")).links["last"]["url"] for page in (1, 2)]
    assert [url.rpartition("=")[2] for url in lasts] == ["3", "4"]


@pytest.mark.parametrize("stays_listed", [False, True])
async def test_a_deleted_teams_members_get_404(stays_listed: bool) -> None:
    async with serving() as (sim, client):
        team = sim.organization.teams.records[1]["id"]
        path = f"/organizations/acme/teams/{team}/members"
        sim.fault(
            faults.change(lambda api: api.organizations["acme"].remove_team(team, stays_listed=stays_listed)),
            path="/v2/organizations/acme/teams/*/members",
        )
        assert (await client.get(path)).status_code == 404
        listed = [each["id"] for each in (await client.get("/organizations/acme/teams")).json()]
        assert (team in listed) == stays_listed


async def test_latency_holds_for_every_request_and_requests_overlap() -> None:
    async with serving(latency=0.05) as (sim, client):
        await asyncio.gather(*(client.get("/user") for _ in range(5)))
        assert min(request.seconds for request in sim.requests) >= 0.05
        assert sim.transcript.peak_in_flight > 1
        assert sim.transcript.connections > 1


async def test_a_rule_matches_path_query_and_method_and_runs_out() -> None:
    async with serving() as (sim, client):
        sim.fault(
            faults.server_error(),
            path="/v2/organizations/*/members",
            method="GET",
            query={"page": "2"},
            times=2,
        )
        asked = ["/user", MEMBERS, f"{MEMBERS}?page=2", "/organizations/acme/teams/x/members?page=2"]
        statuses = [(await client.get(path)).status_code for path in asked]
        assert statuses == [200, 200, 500, 404]
        later = [(await client.get(f"{MEMBERS}?per_page=10&page=2")).status_code for _ in range(2)]
        assert later == [500, 200]


async def test_a_rule_can_decide_by_the_call_and_hold_until_cleared() -> None:
    async with serving() as (sim, client):
        sim.fault(faults.server_error(), where=lambda call: "page" in call.query, times=None)
        paged = [(await client.get(f"{MEMBERS}?page={page}")).status_code for page in (1, 2, 3)]
        assert (paged, (await client.get(MEMBERS)).status_code) == ([500, 500, 500], 200)
        sim.faults.clear()
        assert (await client.get(f"{MEMBERS}?page=1")).status_code == 200


@asynccontextmanager
async def serving_tls(
    certificate: Certificate,
) -> AsyncIterator[tuple[BuildkiteSimulator, httpx.AsyncClient]]:
    """A simulator that shows such a certificate, and a client that trusts its authority."""
    config = Config([make_organization(1, 0, 0)], limits=NO_LIMITS, tls=certificate)
    async with BuildkiteSimulator(config) as sim:
        assert sim.authority is not None
        trust = ssl.create_default_context(cadata=sim.authority.pem.decode())
        async with httpx.AsyncClient(base_url=sim.url, headers=AUTHORIZED, verify=trust, trust_env=False) as client:
            yield sim, client


async def test_a_reset_breaks_tls_too() -> None:
    async with serving_tls(Certificate.VALID) as (sim, client):
        sim.fault(faults.reset())
        with pytest.raises(httpx.ReadError):
            await client.get("/user")
        assert (await client.get("/user")).status_code == 200
