"""A sync that reads a portal works with two servers in one slot, which it lends while either keeps it waiting."""

import asyncio
import random
from collections.abc import Callable

import pytest

from buildkite_connector.model.directory import FULL_SCOPE, Directory, Organization, OrganizationSlug
from buildkite_connector.sync.collect import collect
from buildkite_connector.sync.ports import PORTAL_PAGE
from buildkite_connector.timing.slots import Slot, Slots
from fakes.virtual_time import virtual_time
from simulators.buildkite import faults
from simulators.buildkite.api import Call
from simulators.buildkite.quota import Limits
from unit.buildkite.portals import PATH, Setup, serving

ACME = Organization("acme", OrganizationSlug("acme"), "Acme")
NO_LIMITS = Limits(None, None, portal=None)


def of_rest(call: Call) -> bool:
    return call.path.startswith("/v2/")


async def sync(setup: Setup, slot: Slot) -> Directory:
    rest, portal = setup.buildkite.client(setup.sim.token.value, slot=slot), setup.client(slot=slot)
    return (await collect(rest, ACME, FULL_SCOPE, portal)).directory


async def in_a_slot(setup: Setup, slots: Slots, namespace: str = "tenant") -> Slot:
    async with slots.slot(namespace) as slot:
        directory = await sync(setup, slot)
        assert slot.held
        assert all(each.details for each in directory.accounts)
    return slot


def use_up_rest(setup: Setup) -> None:
    setup.sim.consume(user=10)


def use_up_the_portal(setup: Setup) -> None:
    setup.sim.consume(portal=10)


def rest_is_down(setup: Setup) -> None:
    setup.sim.fault(faults.unavailable(20), where=of_rest)


def the_portal_is_down(setup: Setup) -> None:
    setup.sim.fault(faults.unavailable(20), path=PATH)


@pytest.mark.parametrize("trouble", [use_up_rest, use_up_the_portal, rest_is_down, the_portal_is_down])
@virtual_time
async def test_a_sync_lends_its_slot_while_one_server_keeps_it_waiting_and_the_other_is_done(
    trouble: Callable[[Setup], None],
) -> None:
    slots = Slots(1, shared=False)
    async with serving(limits=Limits(10, None, portal=10)) as setup:
        await setup.client().members(first=1)
        await setup.buildkite.client(setup.sim.token.value).accounts(ACME.slug, 1)
        trouble(setup)
        syncing = asyncio.create_task(in_a_slot(setup, slots))
        await asyncio.sleep(10)
        assert slots.free == 1
        async with slots.slot("other"):
            assert not syncing.done()
        await syncing
        assert slots.free == 1


@virtual_time
async def test_syncs_that_wait_for_buildkite_read_no_portal_without_a_slot() -> None:
    """Each would keep all that it reads there, and no number of slots would bound how many do."""
    async with serving(limits=NO_LIMITS) as setup:
        slots, out = Slots(2, shared=False), []
        setup.sim.fault(faults.unavailable(20), where=of_rest, times=None)
        setup.sim.fault(faults.slow(0.2), path=PATH, times=None)
        syncing = [asyncio.create_task(in_a_slot(setup, slots)) for _ in range(12)]
        for _ in range(40):
            await asyncio.sleep(0.05)
            out.append(2 - slots.free)
        portal = [each for each in setup.sim.requests if each.path == PATH]
        began = sorted(each.at for each in portal)
        assert all(later - earlier > 0.15 for earlier, later in zip(began, began[2:], strict=False))
        assert max(out) == 2
        for each in syncing:
            each.cancel()
        await asyncio.wait(syncing)
        assert slots.free == 2


@virtual_time
async def test_a_page_of_a_portal_counts_as_much_as_the_memory_that_it_takes() -> None:
    slots = Slots(1, shared=False)
    async with serving(limits=NO_LIMITS) as setup, slots.slot("tenant") as slot:
        await setup.client(slot=slot).members(first=1)
        assert slot.kept == 1
        await setup.client(slot=slot).api_tokens()
        assert slot.kept == 1 + PORTAL_PAGE // 100


@pytest.mark.parametrize("seed", range(6))
@virtual_time
async def test_however_the_windows_close_every_sync_ends_and_gives_its_slot_back_once(seed: int) -> None:
    chance = random.Random(seed)
    limits = Limits(chance.choice([3, 20, None]), chance.choice([5, None]), portal=chance.choice([1, 3, None]))
    async with serving(limits=limits) as setup:
        slots = Slots(chance.randrange(1, 4), shared=chance.random() < 0.5)
        number = slots.free
        syncing = [asyncio.create_task(in_a_slot(setup, slots, f"n{each % 2}")) for each in range(6)]
        for each in syncing:
            if chance.random() < 0.3:
                await asyncio.sleep(chance.random() * 100)
                each.cancel()
        async with asyncio.timeout(4 * 3600):
            await asyncio.wait(syncing)
        assert all(each.cancelled() or each.exception() is None for each in syncing)
        assert slots.free == number
