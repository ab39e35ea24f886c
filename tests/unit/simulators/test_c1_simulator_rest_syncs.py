"""The simulated C1's forced syncs: what REST says while one is carried out, or while the connector is paused."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from simulators.c1.apps import Connector, SyncState
from simulators.c1.policy import ForcedAmid
from simulators.c1.probe import Probe, probe, rest
from simulators.c1.server import C1Simulator
from simulators.c1.tiny_snapshot import tiny_snapshot
from simulators.c1.token import Role


@dataclass
class Scene:
    """A connector, its host, which has said Hello, and its administrator."""

    sim: C1Simulator
    connector: Connector
    host: Probe
    session: httpx.AsyncClient

    async def post(self, command: str) -> int:
        path = f"/apps/{self.connector.app_id}/connectors/{self.connector.id}/{command}"
        return (await self.session.post(path, json={})).status_code

    async def read(self) -> dict[str, Any]:
        path = f"/apps/{self.connector.app_id}/connectors/{self.connector.id}"
        told: dict[str, Any] = (await self.session.get(path)).json()["connectorView"]["connector"]
        return told

    async def next_task(self) -> str:
        task_id: str = (await self.host.get_task()).task.id
        return task_id

    async def deliver(self) -> None:
        task_id = await self.next_task()
        await self.host.heartbeat(task_id)
        await self.host.upload(task_id, tiny_snapshot())
        await self.host.finish(task_id)

    async def until(self, state: SyncState) -> None:
        await self.sim.wait_for(lambda: self.connector.state is state)


@pytest.fixture
async def scene(sim: C1Simulator) -> AsyncIterator[Scene]:
    client = sim.register_client()
    connector = sim.register_connector(client)
    admin = sim.register_rest_client(roles=[Role.CONNECTOR_ADMINISTRATOR])
    async with probe(sim, client) as host, rest(sim, admin) as session:
        await host.hello()
        yield Scene(sim, connector, host, session)


async def test_a_forced_sync_is_running_until_a_while_after_its_task_ended(scene: Scene) -> None:
    scene.sim.policy.ingest_seconds = 60
    assert (await scene.read())["status"] is None
    assert await scene.post("force_sync") == 200
    running = (await scene.read())["status"]
    assert (running["status"], running["completedAt"]) == ("SYNC_STATUS_RUNNING", None)
    await scene.deliver()
    assert (await scene.read())["status"]["status"] == "SYNC_STATUS_RUNNING"


async def test_a_sync_that_its_connector_failed_is_an_error_with_its_message(scene: Scene) -> None:
    await scene.post("force_sync")
    await scene.host.finish_failed(await scene.next_task(), 10, "Buildkite is down")
    await scene.until(SyncState.ERROR)
    assert (await scene.read())["status"]["lastError"] == "Buildkite is down"


async def test_a_sync_may_fail_in_c1_after_its_task_succeeded(scene: Scene) -> None:
    scene.sim.connectors.fail_sync(scene.connector, "no such type")
    await scene.post("force_sync")
    await scene.deliver()
    await scene.until(SyncState.ERROR)
    assert (await scene.read())["status"]["lastError"] == "no such type"


@pytest.mark.parametrize(
    ("policy", "status", "tasks"),
    [(ForcedAmid.REFUSED, 409, 1), (ForcedAmid.FOLDED, 200, 1), (ForcedAmid.QUEUED, 200, 2)],
)
async def test_a_second_forced_sync_is_refused_or_folded_or_comes_after_the_first(
    scene: Scene, policy: ForcedAmid, status: int, tasks: int
) -> None:
    scene.sim.policy.forced_amid, scene.sim.policy.ingest_seconds = policy, 0
    assert await scene.post("force_sync") == 200
    assert await scene.post("force_sync") == status
    assert len(scene.sim.tasks) == 1
    await scene.deliver()
    await scene.sim.wait_for(lambda: not scene.sim.connectors.is_busy(scene.connector) or len(scene.sim.tasks) == 2)
    await scene.sim.wait_for(lambda: len(scene.sim.tasks) == tasks)
    assert bool(await scene.next_task()) is (tasks == 2)


async def test_a_paused_connector_is_handed_nothing_and_says_so(scene: Scene) -> None:
    scene.sim.add_task("grant")
    assert await scene.post("pause") == 200
    assert not await scene.next_task()
    assert await scene.post("force_sync") == 400
    scene.sim.policy.forced_while_paused = True
    assert await scene.post("force_sync") == 200
    read = await scene.read()
    assert (read["status"]["status"], read["canResumeSync"]) == ("SYNC_STATUS_DISABLED", True)
    scene.sim.policy.shows_disabled = False
    read = await scene.read()
    assert (read["status"], bool(read["syncDisabledAt"])) == (None, True)
    assert await scene.post("resume") == 200
    assert {await scene.next_task(), await scene.next_task()} == set(scene.sim.tasks)


async def test_a_sync_that_ends_while_another_is_being_taken_in_is_told_of_all_the_same(scene: Scene) -> None:
    scene.sim.policy.ingest_seconds = 0.05
    for _ in range(2):
        scene.sim.add_task()
    first, second = await scene.next_task(), await scene.next_task()
    await scene.host.heartbeat(first)
    await scene.host.upload(first, tiny_snapshot())
    await scene.host.finish(first)
    await scene.host.finish_failed(second, 10, "stopped")
    await scene.until(SyncState.ERROR)
    await scene.sim.wait_for(lambda: not scene.sim.connectors.is_busy(scene.connector))
    assert (await scene.read())["status"]["lastError"] == "stopped"


async def test_while_a_sync_is_running_the_end_of_the_last_one_may_still_be_there(scene: Scene) -> None:
    scene.sim.policy.keeps_completed = True
    for _ in range(2):
        await scene.sim.wait_for(lambda: not scene.sim.connectors.is_busy(scene.connector))
        await scene.post("force_sync")
        running = (await scene.read())["status"]
        await scene.deliver()
    assert running["completedAt"] < running["startedAt"]


async def test_a_connector_that_cannot_resume_is_refused(scene: Scene) -> None:
    scene.sim.connectors.pause(scene.connector, "LICENSE", "expired", can_resume=False)
    assert await scene.post("resume") == 400


async def test_half_of_the_data_gone_pauses_the_connector_when_asked_for(scene: Scene) -> None:
    scene.sim.policy.pause_on_drop = True
    await scene.post("force_sync")
    await scene.deliver()
    await scene.until(SyncState.DONE)
    scene.sim.connectors.expect_resources(scene.connector, 1000)
    await scene.post("force_sync")
    await scene.deliver()
    await scene.until(SyncState.ERROR)
    assert (await scene.read())["syncDisabledCategory"] == "DATA_DROP"


async def test_a_sync_goes_to_any_client_of_its_connector_and_to_no_other(scene: Scene) -> None:
    sim, newer = scene.sim, scene.sim.register_client()
    (first,) = (client for client in sim.authority.clients if client.client_id in scene.connector.clients)
    sim.connectors.add_credential(scene.connector, newer)
    await scene.post("force_sync")
    sim.add_task(client=first)
    async with probe(sim) as stranger, probe(sim, newer) as host:
        await stranger.hello()
        await host.hello()
        assert not (await stranger.get_task()).HasField("task")
        assert {(await host.get_task()).task.id for _ in range(2)} == set(sim.tasks)


async def test_a_connector_and_its_app_take_the_name_of_the_first_hello(sim: C1Simulator) -> None:
    client = sim.register_client()
    connector = sim.register_connector(client, app_name="Chosen")
    async with probe(sim, client) as host:
        await host.hello()
    assert sim.connectors.apps[connector.app_id].display_name == "Buildkite"
