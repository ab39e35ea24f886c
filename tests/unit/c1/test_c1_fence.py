"""No call to C1 and no part of an upload leaves while this process may not act."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from buildkite_connector.c1 import C1Client
from buildkite_connector.c1.upload import CHUNK_BYTES
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.tasks import TaskID, TaskOutcome
from fakes.c1_setup import connect, open_snapshot
from simulators.c1.server import C1Simulator

TASK = TaskID("t")
CALLS: dict[str, Callable[[C1Client], Awaitable[object]]] = {
    "Hello": lambda client: client.hello(),
    "GetTask": lambda client: client.next_task(),
    "Heartbeat": lambda client: client.heartbeat(TASK),
    "UploadAsset": lambda client: client.upload(TASK, open_snapshot(Path(__file__))),
    "FinishTask": lambda client: client.finish(TASK, TaskOutcome()),
}


class Fence:
    """Lets through what is asked `most` times."""

    def __init__(self, most: int) -> None:
        self.asked, self.most = 0, most

    def __call__(self) -> None:
        self.asked += 1
        if self.asked > self.most:
            raise Failure(Reason.KUBERNETES_UNAVAILABLE, "not the leader")


def made(sim: C1Simulator) -> list[tuple[str, str]]:
    return [(call.rpc, call.code) for call in sim.transcript]


@pytest.mark.parametrize("rpc", CALLS)
async def test_nothing_is_asked_of_c1_not_even_a_token(sim: C1Simulator, rpc: str) -> None:
    async with connect(sim, may_send=Fence(0)) as client:
        with pytest.raises(Failure, match="not the leader"):
            await CALLS[rpc](client)
    assert made(sim) == []


@pytest.mark.parametrize("rpc", CALLS)
async def test_a_process_that_may_not_act_any_more_when_it_has_its_token_goes_no_further(
    sim: C1Simulator, rpc: str
) -> None:
    async with connect(sim, may_send=Fence(1)) as client:
        with pytest.raises(Failure, match="not the leader"):
            await CALLS[rpc](client)
    assert made(sim) == [("Token", "200")]


async def test_a_refused_token_is_replaced_and_then_it_asks_again(sim: C1Simulator) -> None:
    async with connect(sim, may_send=Fence(4)) as client:
        await client.hello()
        sim.authority.expire_tokens()
        with pytest.raises(Failure, match="not the leader"):
            await client.next_task()
    before = [("Token", "200"), ("Hello", "OK"), ("GetTask", "UNAUTHENTICATED")]
    assert made(sim) == [*before, ("Token", "200")]


@pytest.mark.parametrize("part", range(3), ids=["first chunk", "second chunk", "checksum"])
async def test_an_upload_stops_at_any_part_and_c1_takes_nothing(sim: C1Simulator, tmp_path: Path, part: int) -> None:
    content = bytes(CHUNK_BYTES + 1)
    path = tmp_path / "acme.c1z"
    path.write_bytes(content)
    task = TaskID(sim.add_task())
    fence = Fence(6 + part)
    async with connect(sim, may_send=fence) as client:
        await client.hello()
        await client.next_task()
        with pytest.raises(Failure, match="not the leader"):
            await client.upload(task, open_snapshot(path))
        assert fence.asked == fence.most + 1
    assert sim.ingested == []
