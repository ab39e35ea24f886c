"""How a leader loses its Lease, and that it has stopped acting before another acts; in virtual time."""

import asyncio
from dataclasses import replace

import pytest

from fakes.lease_world import HANGS, lease_world, seconds_until_acting
from fakes.virtual_time import until, virtual_time

DURATION, DEADLINE, RETRY = 15.0, 10.0, 2.0


@virtual_time
async def test_a_leader_that_is_cut_off_has_stopped_before_the_other_acts_and_acts_again_later() -> None:
    async with lease_world() as world:
        first, second = world.candidate(), world.candidate()
        first.stop_seconds = 4.5
        first.start()
        await asyncio.sleep(5)
        second.start()
        await asyncio.sleep(5)
        first.network.cut = True
        await asyncio.sleep(DEADLINE - RETRY - 0.1)
        assert world.acting == [first.name]
        assert await seconds_until_acting(world) <= RETRY + 4.7
        assert await seconds_until_acting(world, second.name) <= 20.0
        first.network.cut = False
        await asyncio.sleep(60)
        assert world.acting == [second.name]
        await second.stop()
        assert await seconds_until_acting(world, first.name) <= 2.0
        assert not first.died


@virtual_time
async def test_a_leader_alone_survives_an_api_server_that_is_away() -> None:
    async with lease_world() as world:
        only = world.candidate()
        only.start()
        await asyncio.sleep(5)
        only.network.cut = True
        await asyncio.sleep(300)
        assert (world.acting, only.election.is_leader) == ([], False)
        only.network.cut = False
        assert await seconds_until_acting(world, only.name) <= 2.0
        assert world.server.leases["lease"].record.transitions == 0


@virtual_time
async def test_a_short_outage_costs_nothing() -> None:
    async with lease_world() as world:
        only = world.candidate()
        only.start()
        await asyncio.sleep(5)
        only.network.cut = True
        await asyncio.sleep(5)
        only.network.cut = False
        await asyncio.sleep(60)
        assert len(only.terms) == 1


@virtual_time
async def test_one_call_that_hangs_costs_nothing() -> None:
    async with lease_world() as world:
        only = world.candidate()
        only.start()
        await asyncio.sleep(3)
        only.network.there = HANGS
        await asyncio.sleep(2)
        only.network.there = 0.0
        await asyncio.sleep(60)
        assert len(only.terms) == 1


@pytest.mark.parametrize("way", ["there", "back"])
def test_a_leader_whose_calls_hang_stops_in_time(way: str) -> None:
    @virtual_time
    async def test() -> None:
        async with lease_world() as world:
            first, second = world.candidate(), world.candidate()
            first.start()
            await asyncio.sleep(5)
            second.start()
            await asyncio.sleep(5)
            setattr(first.network, way, HANGS)
            assert await seconds_until_acting(world) <= DEADLINE + 0.1
            assert await seconds_until_acting(world, second.name) <= 20.0
            setattr(first.network, way, 0.0)

    test()


@virtual_time
async def test_a_leader_that_cannot_stop_acting_in_time_ends_its_process_before_the_other_acts() -> None:
    async with lease_world() as world:
        first, second = world.candidate(), world.candidate()
        first.stop_seconds = 3600.0
        first.start()
        await asyncio.sleep(5)
        second.start()
        await asyncio.sleep(5)
        first.network.cut = True
        await until(lambda: first.died)
        assert second.terms == []
        assert await seconds_until_acting(world, second.name) <= RETRY


@virtual_time
async def test_acting_ends_as_soon_as_another_holder_is_seen_and_nothing_more_is_let_through() -> None:
    async with lease_world() as world:
        first = world.candidate()
        first.stop_seconds = 3.0
        first.start()
        await asyncio.sleep(5)
        lease = world.server.leases["lease"]
        world.server.write("lease", replace(lease.record, holder="other"), lease.version, 1)
        assert first.fence.open
        await until(lambda: not first.fence.open)
        assert world.acting == [first.name]
        assert await seconds_until_acting(world) <= 3.2
        assert not first.died


@virtual_time
async def test_a_lease_that_is_deleted_is_lost_and_others_wait_as_if_it_were_held() -> None:
    async with lease_world() as world:
        first, second = world.candidate(), world.candidate()
        first.start()
        await asyncio.sleep(5)
        second.start()
        await asyncio.sleep(5)
        del world.server.leases["lease"]
        await asyncio.sleep(RETRY + 0.1)
        assert len(first.terms) == 2  # it noticed, stopped acting, and made a new one
        await asyncio.sleep(60)
        assert second.terms == []


@virtual_time
async def test_the_time_to_act_counts_from_when_the_renewal_was_sent_not_from_its_answer() -> None:
    async with lease_world() as world:
        first, second = world.candidate(), world.candidate()
        first.stop_seconds = 3600.0
        first.start()
        await asyncio.sleep(5)
        second.start()
        first.network.back = 4.0
        await asyncio.sleep(30)
        before = world.server.leases["lease"].record
        await until(lambda: world.server.leases["lease"].record != before)
        await asyncio.sleep(1)
        first.network.there = HANGS  # the answer to this renewal still comes, 3 seconds from now
        await until(lambda: second.acting)
        assert first.died
        assert not first.acting
        first.network.there = 0.0


@virtual_time
async def test_a_lease_whose_last_renewal_has_no_answer_yet_is_released_too() -> None:
    async with lease_world() as world:
        only = world.candidate()
        only.start()
        await asyncio.sleep(5)
        only.network.back = 0.9
        await asyncio.sleep(1.5)  # the renewal of second 6 has arrived, its answer has not
        await only.stop()
        assert world.server.holder() == ""


@virtual_time
async def test_a_leader_past_its_deadline_is_not_healthy() -> None:
    async with lease_world() as world:
        first = world.candidate()
        first.stop_seconds = 4.0
        first.start()
        await asyncio.sleep(5)
        assert first.election.healthy(world.clock.monotonic()) is None
        first.network.cut = True
        await asyncio.sleep(11)
        assert "has not renewed its Lease for 1" in (first.election.healthy(world.clock.monotonic()) or "")
        await asyncio.sleep(10)
        assert first.election.healthy(world.clock.monotonic()) is None


class TestRestoreOfEtcd:
    """The Lease is as it was at a backup, and so are the versions."""

    @virtual_time
    async def test_a_former_leader_that_holds_it_again_waits_for_the_one_that_acts(self) -> None:
        async with lease_world() as world:
            first, second = world.candidate(), world.candidate()
            first.start()
            await asyncio.sleep(5)
            backup = world.server.leases["lease"]
            second.start()
            await asyncio.sleep(5)
            first.network.cut = True
            assert await seconds_until_acting(world, second.name) <= 30.0
            first.network.cut = False
            await asyncio.sleep(60)
            second.network.there = HANGS  # it cannot learn of the restore, and acts as long as it may
            together: list[bool] = []
            first.when_acting = lambda _: together.append(second.acting)
            world.server.restore(backup)
            await seconds_until_acting(world, first.name)
            assert together == [False]

    @virtual_time
    async def test_the_leader_of_the_backup_goes_on(self) -> None:
        async with lease_world() as world:
            only = world.candidate()
            only.start()
            await asyncio.sleep(5)
            backup = world.server.leases["lease"]
            await asyncio.sleep(60)
            world.server.restore(backup)
            await asyncio.sleep(60)
            assert (len(only.terms), world.acting) == (1, [only.name])

    @virtual_time
    async def test_a_leader_before_the_backup_that_is_gone_is_waited_for_once(self) -> None:
        async with lease_world() as world:
            gone, only = world.candidate(), world.candidate()
            gone.start()
            await asyncio.sleep(5)
            backup = world.server.leases["lease"]
            await gone.stop()
            only.start()
            await asyncio.sleep(60)
            world.server.restore(backup)
            await until(lambda: not only.acting)
            assert await seconds_until_acting(world, only.name) <= DURATION + RETRY


class TestRetryAfter:
    @virtual_time
    async def test_a_leader_waits_as_long_as_it_is_asked_to_and_keeps_its_lease(self) -> None:
        async with lease_world() as world:
            only = world.candidate()
            only.start()
            await asyncio.sleep(5)
            only.network.asks_to_wait, calls = 3.0, only.network.calls
            await until(lambda: only.network.calls - calls == 1)
            await asyncio.sleep(2.9)
            assert only.network.calls - calls == 1
            only.network.asks_to_wait = None
            await asyncio.sleep(60)
            assert len(only.terms) == 1

    @virtual_time
    async def test_a_leader_that_is_asked_to_wait_too_long_tries_once_more_before_its_lease_is_lost(self) -> None:
        async with lease_world() as world:
            only = world.candidate()
            only.start()
            await asyncio.sleep(5)
            only.network.asks_to_wait, calls = 60.0, only.network.calls
            await until(lambda: only.network.calls - calls == 1)
            only.network.asks_to_wait = None
            await asyncio.sleep(60)
            assert len(only.terms) == 1

    @virtual_time
    async def test_a_standby_waits_as_long_as_it_is_asked_to(self) -> None:
        async with lease_world() as world:
            only = world.candidate()
            only.network.asks_to_wait = 30.0
            only.start()
            await asyncio.sleep(29)
            assert only.network.calls == 1
            await asyncio.sleep(2)
            assert only.network.calls == 2
