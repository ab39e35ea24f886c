"""An error of the operator itself in one action: the other actions under way go on, and no file is lost."""

import asyncio
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from buildkite_connector.connector import transitions
from buildkite_connector.connector.environment import Environment
from buildkite_connector.connector.host_ids import Age, HostIDs, Listener
from buildkite_connector.connector.state import C1Identity
from buildkite_connector.model.snapshot import StagedSnapshot, SyncID
from buildkite_connector.model.spec import ConnectorKey, Credentials
from buildkite_connector.model.status import ConditionType
from buildkite_connector.timing.scheduler import Scheduler
from fakes.connector_states import ready
from fakes.connector_world import MINUTE, SecretCredentials, Store, World, client_rejected, stopped_world
from fakes.virtual_time import until, virtual_time


@dataclass
class BrokenStore(Store):
    """A restore takes `restore_seconds`."""

    restore_seconds: float = 0.0

    async def restore(self, key: ConnectorKey, sha256: str) -> StagedSnapshot | None:
        await asyncio.sleep(self.restore_seconds)
        return await super().restore(key, sha256)


@dataclass
class BrokenSecret(SecretCredentials):
    """The errors are raised by the next reads. `most_active` is how many reads there were at once."""

    errors: list[Exception] = field(default_factory=list)
    active: int = 0
    most_active: int = 0

    async def read(self) -> Credentials:
        if self.errors:
            raise self.errors.pop()
        self.active += 1
        self.most_active = max(self.active, self.most_active)
        try:
            return await super().read()
        finally:
            self.active -= 1


@virtual_time
async def test_no_second_check_begins_while_one_is_under_way_and_another_action_breaks() -> None:
    world, vault = World(), BrokenSecret()
    world.order = replace(world.order, credentials=vault)
    async with world.running():
        await asyncio.sleep(MINUTE)
        reads, vault.seconds = vault.reads, 3 * MINUTE
        await until(lambda: vault.reads > reads)
        world.c1.close_failures.append(ZeroDivisionError())
        world.c1.refusal = client_rejected()
        await until(lambda: not world.c1.close_failures)
        world.c1.refusal = None
        await asyncio.sleep(2 * MINUTE)
        assert vault.reads == reads + 1
        await asyncio.sleep(20 * MINUTE)
        assert vault.most_active == 1
        assert world.condition(ConditionType.READY) == ("True", "Ready")


@virtual_time
async def test_a_restore_that_is_late_after_another_action_broke_costs_no_newer_snapshot() -> None:
    world = await stopped_world()
    store = BrokenStore(world.store.files, made=world.store.made, restore_seconds=8 * MINUTE)
    vault = BrokenSecret(errors=[ZeroDivisionError()])
    world.order, world.store = replace(world.order, credentials=vault), store
    async with world.running(restored=world.status):
        task = world.task()
        await asyncio.sleep(30 * MINUTE)
        assert not vault.errors
        assert world.status.last_sync is not None
        assert world.c1.uploads == [(task, f"sha-{world.status.last_sync.id}")]
        assert [sync_id for _, sync_id in store.files] == [world.status.last_sync.id]


def test_a_restored_file_does_not_take_the_place_of_a_newer_one() -> None:
    state = ready()
    old = replace(state.staged, sync_id=SyncID("sync0"), path=Path("/nowhere/sync0")) if state.staged else None
    assert old is not None
    after_old = transitions.snapshot_restored(replace(state, restoring=True, restored_serves=True), old)
    assert (after_old.staged, after_old.restoring) == (state.staged, False)
    after_none = transitions.snapshot_restored(replace(state, restoring=True, restored_serves=True), None)
    assert after_none.staged == state.staged


class OddHostIDs(HostIDs):
    """Breaks the connector's own steps while `odd`."""

    odd = False

    def claim(self, age: Age, identity: C1Identity | None, listener: Listener, accepted: bool | None = None) -> None:
        if self.odd:
            raise ZeroDivisionError
        super().claim(age, identity, listener, accepted)


class OddWorld(World):
    host_ids: OddHostIDs

    def environment(self, scheduler: Scheduler) -> Environment:
        self.host_ids = OddHostIDs()
        return replace(super().environment(scheduler), host_ids=self.host_ids)


@virtual_time
async def test_a_connector_whose_steps_break_goes_on_when_they_do_not_any_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = OddWorld()
    async with world.running():
        await asyncio.sleep(MINUTE)
        world.host_ids.odd = True
        with pytest.raises(ZeroDivisionError):
            world.edit(quota_percent=60)
        await asyncio.sleep(30 * MINUTE)
        steps = [each for each in caplog.records if "an activity failed unexpectedly" in each.getMessage()]
        assert len(steps) == 1
        world.host_ids.odd = False
        await asyncio.sleep(6 * MINUTE)
        assert world.status.observed_generation == world.order.generation
        assert world.condition(ConditionType.READY) == ("True", "Ready")


@virtual_time
async def test_an_edit_that_broke_a_step_is_taken_up_within_seconds() -> None:
    world = OddWorld()
    async with world.running():
        await asyncio.sleep(MINUTE)
        world.host_ids.odd, preflights = True, world.buildkite.preflights
        with pytest.raises(ZeroDivisionError):
            world.edit(quota_percent=60)
        world.host_ids.odd = False
        await asyncio.sleep(2)
        assert world.buildkite.preflights == preflights + 1
