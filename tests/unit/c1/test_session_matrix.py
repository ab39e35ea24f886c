"""What can go wrong at C1, in each state of a task: the session recovers by itself, and C1's books agree.

A row is a trouble; it strikes in each of its states, lasts, and is mended. The real connector talks to the simulated
C1 over TLS. Afterwards every task that was handed out has ended once, the newest with success, each snapshot was
delivered once under its task, and the connector says that it is Ready.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from buildkite_connector.model.status import ConditionType
from fakes.hurried_time import hurried_time
from fakes.session_setup import SessionSetup, session_setup
from harness.examples import some
from simulators.c1.faults import TOKEN
from simulators.c1.front import Certificate

STATES = ("starting", "waiting", "syncing", "uploading", "finishing")
MINUTES = 150.0
"""Seconds, by which C1 is asked every 40 seconds or less often."""


async def reach(setup: SessionSetup, state: str) -> None:
    """A connector in that state of its task; `starting`: not yet begun, and its task waits."""
    sim = setup.sim
    if state in {"uploading", "finishing"}:
        rpc = "UploadAsset" if state == "uploading" else "FinishTask"
        sim.stall(rpc)
        sim.add_task()
        setup.start()
        await setup.until(lambda: sim.under_way[rpc])
        return
    if state == "syncing":
        setup.buildkite.gate.clear()
    if state != "waiting":
        sim.add_task()
    if state == "starting":
        return
    setup.start()
    if state == "syncing":
        await setup.until(lambda: sim.calls("Heartbeat"))
    else:
        await setup.until(lambda: len(sim.calls("GetTask")) > 1 and setup.ready)


Strike = Callable[[SessionSetup], None]


def token(status: int, body: str) -> Strike:
    def strike(setup: SessionSetup) -> None:
        setup.sim.answer_token(status, body, times=None)
        setup.sim.authority.expire_tokens()

    return strike


def slow_token(setup: SessionSetup) -> None:
    setup.sim.stall(TOKEN, times=None)
    setup.sim.authority.expire_tokens()


def hello(code: str) -> Strike:
    """C1 has forgotten this host, and what it answers to the next Hello."""

    def strike(setup: SessionSetup) -> None:
        setup.sim.fail("GetTask", "NOT_FOUND")
        setup.sim.fail("Hello", code, times=None)

    return strike


def failing(rpc: str, code: str) -> Strike:
    return lambda setup: setup.sim.fail(rpc, code, times=None)


def away(setup: SessionSetup) -> None:
    setup.sim.close_port()


def forgetful(setup: SessionSetup) -> None:
    """C1 is restarted and knows no host any more, only its tasks."""
    setup.sim.close_port()
    setup.sim.ledger.forget_hosts()


def certificate(shown: Certificate) -> Strike:
    return lambda setup: setup.sim.show_certificate(shown)


async def mend(setup: SessionSetup) -> None:
    sim = setup.sim
    sim.faults.clear()
    setup.buildkite.gate.set()
    if not sim.listening:
        await sim.reopen_port()
    sim.show_certificate(Certificate.VALID)


UNREACHABLE, UNAVAILABLE, REJECTED = ({"C1Unreachable"}, {"C1Unavailable"}, {"C1ClientRejected"})


@dataclass(frozen=True)
class Row:
    """`reasons`: one of these is Ready's while it lasts. `lasts` (longer), `deadline` (of a call): in seconds."""

    title: str
    strike: Strike
    reasons: set[str]
    lasts: float = 0.0
    deadline: float = 300.0


ROWS = (
    Row("the token endpoint answers 401", token(401, '{"error":"invalid_client"}'), REJECTED),
    Row("the token endpoint answers 503", token(503, "down"), UNAVAILABLE),
    Row("the token endpoint is slow", slow_token, UNAVAILABLE | UNREACHABLE, deadline=20.0),
    Row("the token endpoint answers garbage", token(200, "<html>login</html>"), UNAVAILABLE),
    Row("Hello is UNAVAILABLE", hello("UNAVAILABLE"), UNAVAILABLE),
    Row("Hello is PERMISSION_DENIED", hello("PERMISSION_DENIED"), REJECTED),
    Row("GetTask fails for minutes", failing("GetTask", "UNAVAILABLE"), UNAVAILABLE, MINUTES),
    Row("GetTask is INTERNAL for minutes", failing("GetTask", "INTERNAL"), UNAVAILABLE, MINUTES),
    Row("C1 is away", away, UNREACHABLE),
    Row("C1 restarts and has forgotten the host", forgetful, UNREACHABLE),
    Row("the certificate is another host's", certificate(Certificate.OTHER_HOST), UNREACHABLE),
    Row("the certificate is of an unknown CA", certificate(Certificate.UNTRUSTED), UNREACHABLE),
    Row("the certificate has expired", certificate(Certificate.EXPIRED), UNREACHABLE),
)
PAIRS = [ROWS[at : at + 2] for at in range(0, len(ROWS), 2)]


async def disagreements(row: Row, state: str) -> list[str]:
    """Where C1's books and the tasks' ends disagree after the trouble, which people were told of while it lasted."""
    async with session_setup(call_timeout=row.deadline) as setup:
        await reach(setup, state)
        row.strike(setup)
        if state == "starting":
            setup.start()
        await setup.until(lambda: setup.condition(ConditionType.READY)[1] in row.reasons)
        await asyncio.sleep(row.lasts)
        await mend(setup)
        if state == "waiting":
            setup.sim.add_task()
        await setup.until_settled()
        return setup.disagreements


CONNECT_CANCELLED = (
    "ignore:Exception ignored in. <function _SelectorTransport.__del__:pytest.PytestUnraisableExceptionWarning",
    "ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning",
)
"""asyncio leaves the transport of a connect that is cancelled as it succeeds to the garbage collector, which closes it.
The short deadlines of a hurried loop on a busy machine find that moment."""


@pytest.mark.filterwarnings(*CONNECT_CANCELLED)
@pytest.mark.parametrize("rows", some(PAIRS, one_in=2), ids=lambda rows: ", ".join(row.title for row in rows))
@hurried_time
async def test_the_session_recovers_and_the_books_agree(rows: Sequence[Row]) -> None:
    """Two rows in all states side by side: each waits most of its time."""
    cases = [(row, state) for row in rows for state in STATES]
    found = await asyncio.gather(*(disagreements(row, state) for row, state in cases))
    assert {(row.title, state): each for (row, state), each in zip(cases, found, strict=True) if each} == {}
