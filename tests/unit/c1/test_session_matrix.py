"""What can go wrong at C1, in each state of a task: the session recovers by itself, and C1's books agree.

A row is a trouble; it strikes in each of its states, lasts, and is mended. The real connector talks to the simulated
C1 over TLS. Afterwards every task that was handed out has ended once, the newest with success, each snapshot was
delivered once under its task, and the connector says that it is Ready.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from buildkite_connector.model.status import ConditionType
from fakes.hurried_time import hurried_time
from fakes.session_world import SessionWorld, session_world
from simulators.c1.faults import TOKEN
from simulators.c1.front import Certificate

STATES = ("starting", "waiting", "syncing", "uploading", "finishing")
BLIP, MINUTES = 80.0, 300.0
"""Seconds that a trouble lasts after it was first met: longer than 30, so that people hear of it."""


async def reach(world: SessionWorld, state: str) -> None:
    """A connector in that state of its task; `starting`: not yet begun, and its task waits."""
    sim = world.sim
    if state in {"uploading", "finishing"}:
        rpc = "UploadAsset" if state == "uploading" else "FinishTask"
        sim.stall(rpc)
        sim.add_task()
        world.start()
        await world.until(lambda: sim.under_way[rpc])
        return
    if state == "syncing":
        world.buildkite.gate.clear()
    if state != "waiting":
        sim.add_task()
    if state == "starting":
        return
    world.start()
    if state == "syncing":
        await world.until(lambda: sim.calls("Heartbeat"))
    else:
        await world.until(lambda: len(sim.calls("GetTask")) > 1 and world.ready)


Strike = Callable[[SessionWorld], None]


def token(status: int, body: str) -> Strike:
    def strike(world: SessionWorld) -> None:
        world.sim.answer_token(status, body, times=None)
        world.sim.authority.expire_tokens()

    return strike


def slow_token(world: SessionWorld) -> None:
    world.sim.stall(TOKEN, times=None)
    world.sim.authority.expire_tokens()


def hello(code: str) -> Strike:
    """C1 has forgotten this host, and what it answers to the next Hello."""

    def strike(world: SessionWorld) -> None:
        world.sim.fail("GetTask", "NOT_FOUND")
        world.sim.fail("Hello", code, times=None)

    return strike


def failing(rpc: str, code: str) -> Strike:
    return lambda world: world.sim.fail(rpc, code, times=None)


def away(world: SessionWorld) -> None:
    world.sim.close_port()


def forgetful(world: SessionWorld) -> None:
    """C1 is restarted and knows no host any more, only its tasks."""
    world.sim.close_port()
    world.sim.ledger.forget_hosts()


def certificate(shown: Certificate) -> Strike:
    return lambda world: world.sim.show_certificate(shown)


async def mend(world: SessionWorld) -> None:
    sim = world.sim
    sim.faults.clear()
    world.buildkite.gate.set()
    if not sim.listening:
        await sim.reopen_port()
    sim.show_certificate(Certificate.VALID)


@dataclass(frozen=True)
class Row:
    """`reason`: what people are told while it lasts. `met`: the call that meets it, where it reaches C1 at all.

    `at_start`: what they are told instead of a connector that never had an answer. `deadline` of a call, in seconds.
    """

    title: str
    strike: Strike
    reason: str
    met: str = ""
    at_start: str = ""
    lasts: float = BLIP
    deadline: float = 300.0


ROWS = (
    Row("the token endpoint answers 401", token(401, '{"error":"invalid_client"}'), "C1ClientRejected", TOKEN),
    Row("the token endpoint answers 503", token(503, "down"), "C1Unavailable", TOKEN),
    Row("the token endpoint is slow", slow_token, "C1Unavailable", at_start="C1Unreachable", deadline=20.0),
    Row("the token endpoint answers garbage", token(200, "<html>login</html>"), "C1Unavailable", TOKEN),
    Row("Hello is UNAVAILABLE", hello("UNAVAILABLE"), "C1Unavailable", "Hello"),
    Row("Hello is PERMISSION_DENIED", hello("PERMISSION_DENIED"), "C1ClientRejected", "Hello"),
    Row("GetTask fails for minutes", failing("GetTask", "UNAVAILABLE"), "C1Unavailable", "GetTask", lasts=MINUTES),
    Row("GetTask is INTERNAL for minutes", failing("GetTask", "INTERNAL"), "C1Unavailable", "GetTask", lasts=MINUTES),
    Row("C1 is away", away, "C1Unreachable"),
    Row("C1 restarts and has forgotten the host", forgetful, "C1Unreachable"),
    Row("the certificate is another host's", certificate(Certificate.OTHER_HOST), "C1Unreachable"),
    Row("the certificate is of an unknown CA", certificate(Certificate.UNTRUSTED), "C1Unreachable"),
    Row("the certificate has expired", certificate(Certificate.EXPIRED), "C1Unreachable"),
)


async def outcome(row: Row, state: str) -> tuple[str, list[str]]:
    """What people were told while the trouble lasted, and where the books disagree after it."""
    async with session_world(call_timeout=row.deadline) as world:
        await reach(world, state)
        met = len(world.sim.calls(row.met)) if row.met else 0
        row.strike(world)
        if state == "starting":
            world.start()
        if row.met:
            await world.until(lambda: len(world.sim.calls(row.met)) > met)
        await asyncio.sleep(row.lasts)
        told = world.condition(ConditionType.READY)[1]
        await mend(world)
        if state == "waiting":
            world.sim.add_task()
        await world.until_settled()
        return told, world.disagreements


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.title)
@hurried_time
async def test_the_session_recovers_and_the_books_agree(row: Row) -> None:
    """All states of a row side by side: each waits most of its time."""
    outcomes = await asyncio.gather(*(outcome(row, state) for state in STATES))
    told = dict.fromkeys(STATES, row.reason) | {"starting": row.at_start or row.reason}
    assert dict(zip(STATES, outcomes, strict=True)) == {state: (told[state], []) for state in STATES}
