"""A sync or a check that waits for Buildkite lends its slot to others, and works only while it has it."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from buildkite_connector.model.directory import FULL_SCOPE, Directory
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.spec import OrganizationChoice
from buildkite_connector.sync.collect import collect
from buildkite_connector.sync.preflight import preflight
from buildkite_connector.timing.slots import Slot, Slots
from fakes.buildkite_setup import TINY_PAGES, Setup, serving, tiny_organization
from fakes.virtual_time import virtual_time
from simulators.buildkite import faults

USED_UP = {"RateLimit-User-Limit": "10", "RateLimit-User-Remaining": "0", "RateLimit-User-Reset": "0.200"}
Work = Callable[[Setup, Slot], Coroutine[Any, Any, object]]


async def sync(setup: Setup, slot: Slot) -> Directory:
    client = setup.buildkite.client(setup.sim.token.value, slot=slot)
    return (await collect(client, setup.expected.organization, FULL_SCOPE)).directory


async def check(setup: Setup, slot: Slot) -> None:
    client = setup.buildkite.client(setup.sim.token.value, slot=slot)
    await preflight(client, OrganizationChoice(setup.expected.organization.slug), FULL_SCOPE.kinds)


async def check_of_a_second_token(setup: Setup, slot: Slot) -> None:
    await setup.buildkite.client(setup.sim.token.value, slot=slot, urgent=True).token()


async def use_up_the_quota(setup: Setup) -> None:
    """For a moment, as far as Buildkite tells."""
    setup.sim.fault(faults.rate_limit_headers(USED_UP))
    await setup.client(100).token()


async def in_a_slot(slots: Slots, work: Callable[[Slot], Awaitable[object]]) -> Slot:
    """Gives the slot as it was when the work had ended."""
    async with slots.slot("tenant") as slot:
        await work(slot)
        assert slot.held
    return slot


@pytest.mark.parametrize("work", [sync, check, check_of_a_second_token])
@virtual_time
async def test_what_waits_for_its_quota_lends_its_slot_and_ends_well(work: Work) -> None:
    slots = Slots(1, shared=False)
    async with serving(tiny_organization(), settings=TINY_PAGES) as setup:
        await use_up_the_quota(setup)
        throttled = asyncio.create_task(in_a_slot(slots, lambda slot: work(setup, slot)))
        await asyncio.sleep(0)
        async with slots.slot("other"):
            assert not throttled.done()
            sent = len(setup.sim.requests)
            await asyncio.sleep(0.5)
            assert len(setup.sim.requests) == sent  # its window is open, and it has no slot
        await throttled
        assert slots.free == 1


@virtual_time
async def test_a_sync_that_runs_into_its_quota_lends_its_slot_and_misses_nobody() -> None:
    slots, found = Slots(1, shared=False), []
    async with serving(tiny_organization(), settings=TINY_PAGES) as setup:
        setup.sim.fault(faults.rate_limit_headers(USED_UP))

        async def work(slot: Slot) -> None:
            found.append(await sync(setup, slot))

        throttled = asyncio.create_task(in_a_slot(slots, work))
        await asyncio.sleep(0)
        async with slots.slot("other"):
            assert not throttled.done()
            assert 0 < len(setup.sim.requests) < setup.minimum
        assert (await throttled).kept == setup.minimum
        assert found == [setup.expected]


@virtual_time
async def test_what_waits_for_another_try_lends_its_slot() -> None:
    slots = Slots(1, shared=False)
    async with serving(tiny_organization(), settings=TINY_PAGES) as setup:
        setup.sim.fault(faults.unavailable(1))
        waiting = asyncio.create_task(in_a_slot(slots, lambda slot: check(setup, slot)))
        await asyncio.sleep(0)
        async with slots.slot("other"):
            assert not waiting.done()
            assert len(setup.sim.requests) == 1
        await waiting


@virtual_time
async def test_the_last_answer_lends_the_slot_while_another_request_waits_for_its_next_try() -> None:
    slots = Slots(1, shared=False)
    async with serving(tiny_organization(), settings=TINY_PAGES) as setup:
        setup.sim.fault(faults.unavailable(1))

        async def work(slot: Slot) -> None:
            client, slug = setup.buildkite.client(setup.sim.token.value, slot=slot), setup.expected.organization.slug
            await asyncio.gather(client.accounts(slug, 1), client.teams(slug, 1))

        waiting = asyncio.create_task(in_a_slot(slots, work))
        await asyncio.sleep(0)
        async with slots.slot("other"):
            assert not waiting.done()
            assert len(setup.sim.requests) == 2
        await waiting


@virtual_time
async def test_what_fails_while_it_waits_leaves_its_slot_to_others() -> None:
    slots = Slots(1, shared=False)
    async with serving(tiny_organization(), settings=TINY_PAGES) as setup:
        await use_up_the_quota(setup)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await in_a_slot(slots, lambda slot: sync(setup, slot))
        assert slots.free == 1
        async with slots.slot("other"):
            pass


@virtual_time
async def test_a_slot_is_held_as_long_as_one_request_is_out() -> None:
    slots = Slots(1, shared=False)
    async with serving(tiny_organization(), settings=TINY_PAGES, latency=0.02) as setup:
        syncing = asyncio.create_task(in_a_slot(slots, lambda slot: sync(setup, slot)))
        await asyncio.sleep(0)
        async with slots.slot("other"):
            assert syncing.done()


@virtual_time
async def test_a_refused_token_ends_a_check_with_its_slot() -> None:
    slots = Slots(1, shared=False)
    async with serving(tiny_organization(), settings=TINY_PAGES) as setup:
        setup.sim.fault(faults.revoke_token())
        with pytest.raises(Failure) as raised:
            await in_a_slot(slots, lambda slot: check(setup, slot))
        assert raised.value.reason is Reason.TOKEN_REJECTED
        assert slots.free == 1
