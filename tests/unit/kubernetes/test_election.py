"""Who acts, from when and until when: two processes over one Lease, in virtual time."""

import asyncio
import logging
from datetime import timedelta

import pytest

from buildkite_connector.kubernetes.election_settings import check_times
from fakes.lease_world import HANGS, lease_world, seconds_until_acting
from fakes.virtual_time import until, virtual_time

DURATION, DEADLINE, RETRY = 15.0, 10.0, 2.0


@virtual_time
async def test_the_first_process_acts_at_once_and_the_second_stands_by() -> None:
    async with lease_world() as world:
        first, second = world.candidate(), world.candidate()
        first.start()
        await asyncio.sleep(0.1)
        assert world.acting == [first.name]
        second.start()
        await asyncio.sleep(600)
        assert world.acting == [first.name]
        assert (first.election.is_leader, second.election.is_leader) == (True, False)
        assert first.terms == [pytest.approx(0.0, abs=0.1)]


@virtual_time
async def test_the_record_says_who_and_since_when() -> None:
    async with lease_world() as world:
        first = world.candidate()
        first.start()
        await asyncio.sleep(0.1)
        taken = world.server.leases["lease"].record
        assert (taken.holder, taken.duration, taken.transitions) == (first.name, 15, 0)
        await asyncio.sleep(60)
        renewed = world.server.leases["lease"].record
        assert renewed.acquired == taken.acquired
        assert renewed.renewed is not None
        assert world.clock.now() - renewed.renewed <= timedelta(seconds=RETRY)


@virtual_time
async def test_after_a_clean_stop_the_other_acts_within_two_seconds() -> None:
    async with lease_world() as world:
        first, second = world.candidate(), world.candidate()
        first.start()
        await asyncio.sleep(5)
        second.start()
        await asyncio.sleep(31.3)
        await first.stop()
        assert world.server.holder() == ""
        assert await seconds_until_acting(world, second.name) <= 2.0
        assert world.server.leases["lease"].record.transitions == 1


@virtual_time
async def test_the_lease_is_released_only_after_acting_has_ended_and_renewed_until_then() -> None:
    async with lease_world() as world:
        first, second = world.candidate(), world.candidate()
        first.stop_seconds = 40.0
        first.start()
        second.start()
        await asyncio.sleep(5)
        stopping = asyncio.create_task(first.stop())
        await asyncio.sleep(39)
        assert world.acting == [first.name]
        assert first.election.healthy(world.clock.monotonic()) is None
        await stopping
        assert not first.died
        assert await seconds_until_acting(world, second.name) <= 2.0


@virtual_time
async def test_after_a_crash_the_other_acts_within_twenty_seconds_and_not_before_the_lease_has_expired() -> None:
    async with lease_world() as world:
        first, second = world.candidate(), world.candidate()
        first.start()
        await asyncio.sleep(0.1)
        second.start()
        await asyncio.sleep(100)
        first.kill()
        assert DURATION - RETRY <= await seconds_until_acting(world, second.name) <= 20.0


@virtual_time
async def test_a_process_that_starts_sees_a_dead_holder_for_the_whole_duration_first() -> None:
    async with lease_world() as world:
        first, second = world.candidate(), world.candidate()
        first.start()
        await asyncio.sleep(5)
        first.kill()
        await asyncio.sleep(1000)
        second.start()
        assert await seconds_until_acting(world, second.name) >= DURATION


@pytest.mark.parametrize("days", [-1, 1])
def test_a_wall_clock_that_is_set_wrong_changes_nothing(days: int) -> None:
    @virtual_time
    async def test() -> None:
        async with lease_world() as world:
            first, second = world.candidate(), world.candidate()
            first.start()
            await asyncio.sleep(5)
            second.start()
            await asyncio.sleep(5)
            world.clock.set_by = timedelta(days=days)
            await asyncio.sleep(60)
            assert world.acting == [first.name]
            assert first.terms == [pytest.approx(0.0, abs=0.1)]
            first.kill()
            assert DURATION - RETRY <= await seconds_until_acting(world, second.name) <= 20.0

    test()


@virtual_time
async def test_another_write_to_the_lease_does_not_end_the_term() -> None:
    async with lease_world() as world:
        only = world.candidate()
        only.start()
        await asyncio.sleep(5)
        lease = world.server.leases["lease"]
        world.server.write("lease", lease.record, lease.version, 1)
        await asyncio.sleep(60)
        assert len(only.terms) == 1
        assert only.acting


@virtual_time
async def test_of_two_that_write_at_the_same_moment_one_acts() -> None:
    async with lease_world() as world:
        for _ in range(2):
            candidate = world.candidate()
            candidate.network.there = candidate.network.back = 0.05
            candidate.start()
        await asyncio.sleep(60)
        assert sorted(len(each.terms) for each in world.candidates) == [0, 1]


@virtual_time
async def test_an_acquisition_whose_answer_was_lost_is_taken_up_later() -> None:
    async with lease_world() as world:
        only = world.candidate()
        only.network.back = 0.0
        only.start()
        await asyncio.sleep(0)
        only.network.back = HANGS
        await asyncio.sleep(1)
        only.network.back = 0.0
        await until(lambda: only.acting)
        assert world.server.leases["lease"].record.transitions == 0


@virtual_time
async def test_acting_that_fails_ends_the_election_with_its_error_and_releases_the_lease() -> None:
    async with lease_world() as world:
        only = world.candidate()

        async def fail() -> None:
            raise RuntimeError("cannot act")

        only.election._act = fail
        with pytest.raises(RuntimeError, match="cannot act"):
            await only.election.run()
        assert world.server.holder() == ""


@virtual_time
async def test_a_standby_logs_once_whom_it_waits_for(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with lease_world() as world:
        first, second = world.candidate(), world.candidate()
        first.start()
        await asyncio.sleep(1)
        second.start()
        await asyncio.sleep(600)
        told = [record for record in caplog.records if getattr(record, "identity", "") == second.name]
        assert [getattr(record, "detail", "") for record in told] == ["process-0 holds lease"]


@pytest.mark.parametrize(
    ("times", "part"),
    [
        ((15, 15, 2), "must be shorter than the lease duration"),
        ((15, 10, 9), "must be shorter than the renew deadline"),
        ((15, 10, 0), "longer than 0s"),
        ((0, 10, 2), "1 s or more"),
    ],
)
def test_times_that_make_no_safe_election_are_refused(times: tuple[float, float, float], part: str) -> None:
    with pytest.raises(ValueError, match=part):
        check_times(*times)


def test_the_default_times_are_good() -> None:
    check_times(DURATION, DEADLINE, RETRY)
