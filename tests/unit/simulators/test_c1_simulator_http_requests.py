"""Access requests of the simulated C1, driven over HTTP."""

from simulators.c1.probe import http, probe
from simulators.c1.server import C1Simulator

ASKED = {"action": "grant", "team": "t1", "role": "member", "user": "u1"}
MADE_UP = {**ASKED, "form": {"known": False}}


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
