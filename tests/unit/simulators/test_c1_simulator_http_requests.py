"""Access requests of the simulated C1, driven over HTTP."""

from simulators.c1.probe import http, probe
from simulators.c1.server import C1Simulator
from unit.simulators.c1_changes import failure, grant_answer

ASKED = {"action": "grant", "team": "t1", "role": "member", "user": "u1"}
MADE_UP = {**ASKED, "form": {"known": False}}


async def test_a_request_is_made_awaited_and_believed() -> None:
    async with C1Simulator() as sim, http(sim) as admin, probe(sim) as host:
        await host.hello()
        request_id = (await admin.post("/_sim/requests", json=MADE_UP)).json()["id"]
        task = (await host.get_task()).task
        assert task.id == request_id
        await host.call("FinishTask", grant_answer(host.host_id, task))
        told = (await admin.get(f"/_sim/requests/{request_id}", params={"timeout": "5"})).json()
        assert (told["effect"], told["ended"], told["grants"]) == ("done", True, ["team:t1:member:user:u1"])
        assert (await admin.get("/_sim/requests")).json() == [told]
        assert (await admin.get("/_sim/grants")).json() == ["team:t1:member:user:u1"]


async def test_a_reason_is_told() -> None:
    async with C1Simulator() as sim, http(sim) as admin, probe(sim) as host:
        await host.hello()
        request_id = (await admin.post("/_sim/requests", json=MADE_UP)).json()["id"]
        await host.call("FinishTask", failure(host.host_id, (await host.get_task()).task, reason="not this team"))
        told = (await admin.get(f"/_sim/requests/{request_id}")).json()
        assert (told["effect"], told["reason"], told["tasks"]) == ("cancelled", "not this team", [request_id])


async def test_a_request_that_makes_no_sense_is_refused_with_a_sentence() -> None:
    async with C1Simulator() as sim, http(sim) as admin, probe(sim) as host:
        nobody = await admin.post("/_sim/requests", json=MADE_UP)
        await host.hello()
        unknown = await admin.post("/_sim/requests", json=ASKED)
        wrong = await admin.post("/_sim/requests", json={**ASKED, "action": "dance"})
        assert (await admin.get("/_sim/requests/none")).status_code == 404
    assert [answer.status_code for answer in (nobody, unknown, wrong)] == [400, 400, 400]
    assert "expected one host, got []" in nobody.json()["error"]
    assert "no snapshot named" in unknown.json()["error"]
