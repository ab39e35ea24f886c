"""Tasks that ask for less than the connector syncs: answered by a file derived from the staged whole."""

import asyncio

import pytest

from buildkite_connector.model.directory import Counts, ResourceKind, SyncScope
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.status import ConditionType
from buildkite_connector.model.tasks import Code
from fakes.connector_world import MINUTE, USERS, ready_world
from fakes.virtual_time import virtual_time

PARTS = [
    pytest.param(SyncScope(frozenset({ResourceKind.TEAM})), id="teams-only"),
    pytest.param(USERS, id="users-only"),
    pytest.param(SyncScope(entitlements=False), id="resources-only"),
    pytest.param(SyncScope(grants=False), id="no-grants"),
]
WHOLE = Counts(accounts=10, teams=1, memberships=10)


@pytest.mark.parametrize("scope", PARTS)
@virtual_time
async def test_a_part_of_a_fresh_snapshot_costs_no_collection(scope: SyncScope) -> None:
    async with ready_world() as world:
        task = world.task(scope)
        await asyncio.sleep(MINUTE)
        assert world.c1.finished[task].code is Code.OK
        assert world.delivered_scopes == [scope]
        assert len(world.buildkite.collections) == 1


@pytest.mark.parametrize("scope", PARTS)
@virtual_time
async def test_after_a_part_the_status_still_counts_the_whole(scope: SyncScope) -> None:
    async with ready_world() as world:
        world.task(scope)
        await asyncio.sleep(MINUTE)
        assert world.status.last_sync is not None
        assert world.status.last_sync.id == "sync1"
        assert world.status.last_sync.counts == WHOLE
        assert world.status.history[0].counts == WHOLE


@pytest.mark.parametrize("scope", PARTS)
@virtual_time
async def test_after_a_part_the_whole_is_still_staged_for_the_next_task(scope: SyncScope) -> None:
    async with ready_world() as world:
        world.task(scope)
        await asyncio.sleep(MINUTE)
        world.task()
        await asyncio.sleep(MINUTE)
        assert world.c1.uploads[-1][1] == "sha-sync1"
        assert len(world.buildkite.collections) == 1


@virtual_time
async def test_a_part_of_an_old_snapshot_causes_a_sync_of_the_whole() -> None:
    async with ready_world(after=30 * MINUTE) as world:
        world.task(USERS)
        await asyncio.sleep(MINUTE)
        assert world.buildkite.collections == [SyncScope(), SyncScope()]
        assert world.delivered_scopes == [USERS]
        assert world.status.last_sync is not None
        assert world.status.last_sync.counts == WHOLE


@virtual_time
async def test_a_part_is_a_part_of_what_the_connector_syncs() -> None:
    async with ready_world(kinds=frozenset({ResourceKind.USER})) as world:
        task = world.task()
        await asyncio.sleep(MINUTE)
        assert world.c1.finished[task].code is Code.OK
        assert world.delivered_scopes == [USERS]


@virtual_time
async def test_a_part_that_c1_has_makes_the_next_whole_no_shrinkage_nor_growth() -> None:
    async with ready_world() as world:
        world.task()
        await asyncio.sleep(MINUTE)
        world.task(USERS)
        await asyncio.sleep(MINUTE)
        assert world.status.last_delivery is not None
        assert world.status.last_delivery.counts == WHOLE


@virtual_time
async def test_a_part_of_a_suspicious_snapshot_is_held_too() -> None:
    async with ready_world() as world:
        world.task()
        await asyncio.sleep(MINUTE)
        world.buildkite.accounts = 4
        world.annotate(sync_request="now")
        await asyncio.sleep(MINUTE)
        held = world.task(SyncScope(grants=False))
        await asyncio.sleep(MINUTE)
        assert world.c1.finished[held].code is Code.FAILED_PRECONDITION
        assert len(world.c1.uploads) == 1


@pytest.mark.parametrize("reason", [Reason.SNAPSHOT_INVALID, Reason.STORAGE_FAILED])
@virtual_time
async def test_a_staged_file_that_no_part_can_be_made_of_is_forgotten(reason: Reason) -> None:
    async with ready_world() as world:
        world.store.open_failures.append(Failure(reason, "The staged file is not as it was written."))
        world.task(USERS)
        await asyncio.sleep(MINUTE)
        assert world.condition(ConditionType.DELIVERED) == ("False", reason.value)
        world.task(USERS)
        await asyncio.sleep(MINUTE)
        assert world.delivered_scopes == [USERS]
        assert len(world.buildkite.collections) == 2
