"""What the log tells of an election, in its order: each thing once, with the Lease and the process."""

import asyncio
import logging
from dataclasses import replace

import pytest

from fakes.election import HANGS, Candidate, competition
from fakes.log_lines import lines
from fakes.virtual_time import until, virtual_time

INFO, WARNING = logging.INFO, logging.WARNING
Line = tuple[int, str, dict[str, object]]
ACTS: Line = (INFO, "this process became the leader", {})
ENDS: Line = (INFO, "this process has stopped acting", {})
RELEASED: Line = (INFO, "the Lease was released", {})


def detail(level: int, sentence: str) -> Line:
    return level, "leader election", {"detail": sentence}


def lost(why: str) -> Line:
    return WARNING, "the Lease is lost, this process stops acting", {"why": why}


@pytest.fixture(autouse=True)
def all_levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(INFO)


def told(caplog: pytest.LogCaptureFixture, who: Candidate) -> list[Line]:
    """What this process logged, without what every line names: the Lease and the process."""
    mine = [each for each in lines(caplog.records) if each[2].get("identity") == who.name]
    assert {fields.pop("lease") for _, _, fields in mine} == {"lease"}
    for _, _, fields in mine:
        del fields["identity"]
    return mine


@virtual_time
async def test_a_term_and_its_orderly_end(caplog: pytest.LogCaptureFixture) -> None:
    async with competition() as race:
        first, second = await race.leader_and_standby()
        await asyncio.sleep(600)
        await first.stop()
        await race.until_acting(second.name)
        assert told(caplog, first) == [ACTS, ENDS, RELEASED]
        assert told(caplog, second) == [detail(INFO, "process-0 holds lease"), ACTS]


@virtual_time
async def test_a_leader_that_is_cut_off(caplog: pytest.LogCaptureFixture) -> None:
    async with competition() as race:
        only = await race.leader()
        only.network.cut = True
        await until(lambda: only.ended)
        assert told(caplog, only) == [
            ACTS,
            detail(WARNING, "the Lease was not renewed, it will be tried again: the network is cut"),
            lost("it could not be renewed for 10 s"),
            ENDS,
            (WARNING, "the Lease was not released", {"error": "the network is cut"}),
        ]
        assert only.lost == (
            "This process lost its Lease (it could not be renewed for 10 s). It has stopped acting and exits; after a"
            " restart, it is a standby."
        )


@virtual_time
async def test_trouble_that_comes_again_after_a_renewal_is_told_again(caplog: pytest.LogCaptureFixture) -> None:
    async with competition() as race:
        only = await race.leader()
        for _ in range(2):
            only.network.there = HANGS
            await asyncio.sleep(2.5)
            only.network.there = 0.0
            await asyncio.sleep(30)
        sentence = "the Lease was not renewed, it will be tried again: no response in time"
        assert told(caplog, only) == [ACTS, *[detail(WARNING, sentence)] * 2]


@pytest.mark.parametrize(
    ("holder", "why"), [("other", "other holds it"), ("", "no process holds it"), (None, "it was deleted")]
)
@virtual_time
async def test_a_lease_that_is_not_its_own_any_more(
    caplog: pytest.LogCaptureFixture, holder: str | None, why: str
) -> None:
    async with competition() as race:
        only = await race.leader()
        if holder is None:
            race.server.lease = None
        else:
            race.server.write(replace(race.server.held, holder=holder))
        await until(lambda: only.ended)
        assert told(caplog, only) == [ACTS, lost(why), ENDS]


@virtual_time
async def test_a_standby_that_hears_nothing_then_a_refusal_then_comes_too_late(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with competition() as race:
        only = race.candidate()
        only.network.there = HANGS
        only.start()
        await asyncio.sleep(15)
        only.network.there, only.network.cut = 0.0, True
        await asyncio.sleep(30)
        only.network.cut, only.network.back = False, 0.5
        await until(lambda: only.network.calls % 2 == 0)
        calls = only.network.calls
        await until(lambda: only.network.calls > calls)
        other = race.candidate()
        other.start()
        await race.until_acting(other.name)
        await asyncio.sleep(30)
        cannot = "the Lease cannot be read or taken: "
        assert told(caplog, only) == [
            detail(WARNING, f"{cannot}no response in time"),
            detail(WARNING, f"{cannot}the network is cut"),
            detail(INFO, "another process took lease first"),
            detail(INFO, "process-1 holds lease"),
        ]
