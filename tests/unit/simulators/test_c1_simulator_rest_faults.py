"""The simulated C1's REST API when something goes wrong on demand, and driven from another process."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from simulators.c1.faults import REST_RPCS, Action, Fault
from simulators.c1.probe import http, rest
from simulators.c1.rest_calls import OPERATIONS
from simulators.c1.server import C1Simulator
from simulators.c1.token import Role

APP = {"displayName": "Buildkite"}


@pytest.fixture
async def session(sim: C1Simulator) -> AsyncIterator[httpx.AsyncClient]:
    async with rest(sim, sim.register_rest_client(roles=[Role.APPLICATION_ADMINISTRATOR])) as opened:
        yield opened


def test_each_call_has_its_name_among_the_faults() -> None:
    assert sorted(each.rpc for each in OPERATIONS) == sorted(REST_RPCS)


async def test_a_scripted_answer_comes_with_its_headers_and_takes_no_effect(
    sim: C1Simulator, session: httpx.AsyncClient
) -> None:
    sim.answer_rest("CreateApp", 429, "<html>", "text/html", headers={"retry-after": "7"})
    answer = await session.post("/apps", json=APP)
    assert (answer.status_code, answer.text, answer.headers["retry-after"]) == (429, "<html>", "7")
    assert not sim.connectors.apps
    assert (await session.post("/apps", json=APP)).status_code == 200


@pytest.mark.parametrize("fault", [Fault("CreateApp", Action.DROP), Fault("CreateApp", Action.STALL)])
@pytest.mark.parametrize("carried_out", [False, True])
async def test_a_call_may_take_effect_and_only_its_answer_be_lost(
    sim: C1Simulator, session: httpx.AsyncClient, fault: Fault, carried_out: bool
) -> None:
    sim.faults.add(Fault(fault.rpc, fault.action, carried_out=carried_out))
    with pytest.raises(httpx.TransportError):
        await session.post("/apps", json=APP, timeout=0.2)
    assert len(sim.connectors.apps) == int(carried_out)


async def test_a_late_call_takes_effect_after_its_caller_gave_up(sim: C1Simulator, session: httpx.AsyncClient) -> None:
    sim.faults.add(Fault("CreateApp", Action.LATE, delay=0.5))
    with pytest.raises(httpx.ReadTimeout):
        await session.post("/apps", json=APP, timeout=0.1)
    assert not sim.connectors.apps
    await sim.wait_for(lambda: sim.connectors.apps)


async def test_an_endless_answer_ends_when_the_faults_are_cleared(sim: C1Simulator, session: httpx.AsyncClient) -> None:
    sim.faults.add(Fault("ListApps", Action.ENDLESS, status=200, delay=0.01))
    async with session.stream("GET", "/apps") as answer:
        pieces = answer.aiter_bytes()
        received = sum([len(await anext(pieces)) for _ in range(5)])
        sim.faults.clear()
        received += sum([len(piece) async for piece in pieces])
    assert (answer.status_code, received > 1 << 16) == (200, True)


async def test_the_latency_of_each_call_is_a_policy(sim: C1Simulator, session: httpx.AsyncClient) -> None:
    sim.policy.rest_latency = 60
    asked = asyncio.create_task(session.post("/apps", json=APP))
    await sim.wait_for(lambda: sim.under_way["CreateApp"])
    asked.cancel()
    await sim.wait_for(lambda: sim.calls("CreateApp"))
    assert (sim.calls("CreateApp")[0].code, sim.connectors.apps) == ("cancelled", {})


@pytest.mark.parametrize(
    ("order", "says"),
    [
        ({"do": "nothing"}, "register_connector"),
        ({"do": "_connector"}, "register_connector"),
        ({"do": "policy", "latency": 1}, "latency"),
        ({"do": "pause", "connector_id": "none"}, "none"),
        ({"do": "register_rest_client", "roles": ["Boss"]}, "Boss"),
        ({"do": "register_rest_client", "kind": "ccc"}, "kind"),
        ({"do": "fault", "rpc": "Nothing"}, "rpc"),
    ],
)
async def test_an_order_that_makes_no_sense_is_answered_with_a_sentence(
    sim: C1Simulator, order: dict[str, object], says: str
) -> None:
    async with http(sim) as other:
        answer = await other.post("/_sim/control", json=order)
    assert (answer.status_code, says in answer.json()["message"]) == (400, True)


async def test_no_secret_is_in_what_another_process_reads(sim: C1Simulator) -> None:
    async with http(sim) as other:
        made = (await other.post("/_sim/control", json={"do": "register_connector"})).json()
        told = [(await other.get(f"/_sim/{what}")).text for what in ("journal", "connectors", "stats")]
    assert made["connector_id"] in told[1]
    assert not [each for each in told if made["client_secret"] in each]
