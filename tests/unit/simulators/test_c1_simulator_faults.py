"""The simulated C1 when something goes wrong on demand, and waiting for what happens."""

import asyncio

import pytest
from grpc import StatusCode

from simulators.c1.probe import Probe, rejected
from simulators.c1.server import C1Simulator


async def test_a_scripted_error_ends_as_many_calls_as_it_says(sim: C1Simulator, host: Probe) -> None:
    sim.fail("GetTask", "RESOURCE_EXHAUSTED", times=2)
    await rejected(host.get_task(), StatusCode.RESOURCE_EXHAUSTED)
    await rejected(host.get_task(), StatusCode.RESOURCE_EXHAUSTED)
    await host.get_task()
    assert [call.code for call in sim.calls("GetTask")] == ["RESOURCE_EXHAUSTED", "RESOURCE_EXHAUSTED", "OK"]
    assert not sim.violations


async def test_a_stalled_call_ends_when_the_caller_gives_up(sim: C1Simulator, host: Probe) -> None:
    task_id = sim.add_task()
    await host.get_task()
    sim.stall("Heartbeat")
    await rejected(host.heartbeat(task_id, timeout=0.2), StatusCode.DEADLINE_EXCEEDED)
    await sim.wait_for(lambda: sim.calls("Heartbeat"))
    assert [call.code for call in sim.calls("Heartbeat")] == ["CANCELLED"]
    assert not (await host.heartbeat(task_id)).cancelled


async def test_a_stalled_call_ends_when_the_faults_are_cleared(sim: C1Simulator, host: Probe) -> None:
    sim.stall("GetTask", times=None)
    asked = asyncio.create_task(host.get_task())
    await sim.wait_for(lambda: sim.under_way["GetTask"])
    sim.faults.clear()
    await rejected(asked, StatusCode.UNAVAILABLE)


async def test_a_call_may_take_effect_and_only_its_answer_be_lost(sim: C1Simulator, host: Probe) -> None:
    task_id = sim.add_task()
    await host.get_task()
    sim.drop("FinishTask", carried_out=True)
    await rejected(host.finish_failed(task_id, 10), StatusCode.UNAVAILABLE)
    assert (await sim.finished(task_id)).code == 10


async def test_a_fault_for_an_rpc_that_there_is_not_is_a_mistake(sim: C1Simulator) -> None:
    with pytest.raises(ValueError, match="rpc: expected one of Token, Hello"):
        sim.fail("Helo")


async def test_waiting_in_vain_says_what_happened_instead(sim: C1Simulator, host: Probe) -> None:
    with pytest.raises(TimeoutError, match=r"last calls: Token .*; Hello host=a-host"):
        await sim.wait_for(lambda: False, timeout=0.01)
