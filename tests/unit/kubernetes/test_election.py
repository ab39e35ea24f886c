"""Who acts, from when and until when: processes that compete for one Lease, in virtual time."""

import asyncio
import logging
import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from buildkite_connector.kubernetes.election import ElectionSettings
from buildkite_connector.kubernetes.lease import Lease
from buildkite_connector.model.failure import Failure, Reason
from fakes.election import HANGS, competition
from fakes.virtual_time import START, until, virtual_time

DURATION, DEADLINE, RETRY = 15.0, 10.0, 2.0
CLEAN_SECONDS, CRASH_SECONDS = 2.0, 20.0
"""Within these another acts, as docs/high-availability.md says."""


class TestOneActs:
    @virtual_time
    async def test_the_first_process_acts_at_once_and_the_second_stands_by(self) -> None:
        async with competition() as race:
            first = race.candidate()
            first.start()
            await asyncio.sleep(0.1)
            second = await race.leader()
            await asyncio.sleep(600)
            assert race.acting == [first.name]
            assert (first.election.is_leader, second.election.is_leader) == (True, False)
            assert first.terms == [pytest.approx(0.0, abs=0.1)]

    @virtual_time
    async def test_the_lease_says_who_and_since_when(self) -> None:
        async with competition() as race:
            first = await race.leader()
            taken = race.server.held
            assert (taken.holder, taken.duration, taken.transitions) == (first.name, 15, 0)
            assert taken.acquired == START
            await asyncio.sleep(60)
            assert race.server.held.acquired == taken.acquired
            assert race.server.held.renewed is not None
            assert race.clock.now() - race.server.held.renewed <= timedelta(seconds=RETRY)

    @virtual_time
    async def test_a_lease_that_was_just_taken_says_so(self) -> None:
        async with competition() as race:
            race.candidate().start()
            await until(lambda: race.server.lease is not None)
            assert race.server.held.renewed == race.server.held.acquired == START

    @virtual_time
    async def test_of_two_that_write_at_the_same_moment_one_acts(self) -> None:
        async with competition() as race:
            for _ in range(2):
                candidate = race.candidate()
                candidate.network.there = candidate.network.back = 0.05
                candidate.start()
            await asyncio.sleep(60)
            assert sorted(len(each.terms) for each in race.candidates) == [0, 1]

    @virtual_time
    async def test_a_standby_logs_once_whom_it_waits_for(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        async with competition() as race:
            _, second = await race.leader_and_standby()
            await asyncio.sleep(600)
            logged = [record for record in caplog.records if getattr(record, "identity", "") == second.name]
            assert [getattr(record, "detail", "") for record in logged] == ["process-0 holds lease"]


class TestHandover:
    @virtual_time
    async def test_after_a_clean_stop_the_other_acts_within_two_seconds(self) -> None:
        async with competition() as race:
            first, second = await race.leader_and_standby()
            await asyncio.sleep(31.3)
            await first.stop()
            assert (first.election.is_leader, race.server.held.holder) == (False, "")
            assert race.server.held.renewed == race.clock.now()
            assert await race.until_acting(second.name) <= CLEAN_SECONDS
            assert race.server.held.transitions == 1

    @virtual_time
    async def test_the_lease_is_released_only_after_acting_has_ended_and_renewed_until_then(self) -> None:
        async with competition() as race:
            first, second = await race.leader_and_standby()
            first.stop_seconds = 40.0
            stopping = asyncio.create_task(first.stop())
            await asyncio.sleep(39)
            assert race.acting == [first.name]
            assert first.may_act
            await stopping
            assert not first.died
            assert await race.until_acting(second.name) <= CLEAN_SECONDS

    @virtual_time
    async def test_a_lease_whose_last_renewal_has_no_answer_yet_is_released_too(self) -> None:
        async with competition() as race:
            only = await race.leader()
            only.network.back = 0.9
            await asyncio.sleep(1.5)  # the renewal of second 6 has arrived, its answer has not
            await only.stop()
            assert race.server.held.holder == ""

    @virtual_time
    async def test_a_standby_that_stops_asks_for_nothing(self) -> None:
        async with competition() as race:
            _, second = await race.leader_and_standby()
            calls = second.network.calls
            await second.stop()
            assert second.network.calls - calls <= 1

    @virtual_time
    async def test_after_a_crash_the_other_acts_in_time_and_not_before_the_lease_has_expired(self) -> None:
        async with competition() as race:
            first, second = await race.leader_and_standby()
            await asyncio.sleep(100)
            first.kill()
            assert DURATION - RETRY <= await race.until_acting(second.name) <= CRASH_SECONDS

    @virtual_time
    async def test_a_change_of_labels_does_not_keep_the_lease_of_a_dead_process_alive(self) -> None:
        async with competition() as race:
            first, second = await race.leader_and_standby()
            first.kill()

            async def change_labels() -> None:
                while True:
                    await asyncio.sleep(1.7)
                    race.server.write(race.server.held)

            labelling = asyncio.create_task(change_labels())
            assert await race.until_acting(second.name) <= CRASH_SECONDS
            labelling.cancel()

    @virtual_time
    async def test_a_process_that_starts_sees_a_dead_holder_for_the_whole_duration_first(self) -> None:
        async with competition() as race:
            first = await race.leader()
            first.kill()
            await asyncio.sleep(1000)
            second = race.candidate()
            second.start()
            assert await race.until_acting(second.name) >= DURATION

    @pytest.mark.parametrize(("said", "seconds"), [(60, 60.0), (0, DURATION)])
    @virtual_time
    async def test_a_dead_holder_is_waited_for_as_long_as_its_lease_says(self, said: int, seconds: float) -> None:
        """It may have other settings; one that says nothing gets the usual time."""
        async with competition() as race:
            race.server.write(Lease("other", said))
            only = race.candidate()
            only.start()
            assert seconds <= await race.until_acting(only.name) <= seconds + RETRY

    @pytest.mark.parametrize("days", [-1, 1])
    @virtual_time
    async def test_a_wall_clock_that_is_set_wrong_changes_nothing(self, days: int) -> None:
        async with competition() as race:
            first, second = await race.leader_and_standby()
            race.clock.set_by = timedelta(days=days)
            await asyncio.sleep(60)
            assert race.acting == [first.name]
            assert len(first.terms) == 1
            first.kill()
            assert DURATION - RETRY <= await race.until_acting(second.name) <= CRASH_SECONDS

    @virtual_time
    async def test_an_acquisition_whose_answer_was_lost_is_taken_up_at_the_next_look(self) -> None:
        async with competition() as race:
            only = race.candidate()
            only.network.there = 0.5
            only.start()
            await asyncio.sleep(0.9)  # it has seen that there is none, and its own is on the way
            only.network.there, only.network.back = 0.0, HANGS
            await until(lambda: race.server.lease is not None)
            await asyncio.sleep(0.1)
            only.network.back = 0.0
            assert await race.until_acting(only.name) <= DEADLINE + RETRY
            assert race.server.held.transitions == 0

    @virtual_time
    async def test_acting_that_fails_ends_the_election_with_its_error_and_releases_the_lease(self) -> None:
        async with competition() as race:
            only = race.candidate()

            async def fail() -> None:
                raise RuntimeError("cannot act")

            only.election._act = fail
            with pytest.raises(RuntimeError, match="cannot act"):
                await only.election.run()
            assert race.server.held.holder == ""


class TestTroubleThatCostsNothing:
    @pytest.mark.parametrize(
        "trouble",
        [
            pytest.param({"cut": True, "seconds": 5.0}, id="a short outage"),
            pytest.param({"there": HANGS, "seconds": 2.0}, id="one call that hangs"),
            pytest.param({"asks_to_wait": 3.0, "seconds": 2.5}, id="a Retry-After"),
            pytest.param({"asks_to_wait": 60.0, "seconds": 2.5}, id="a Retry-After beyond the deadline"),
        ],
    )
    @virtual_time
    async def test_the_leader_goes_on(self, trouble: dict[str, Any]) -> None:
        async with competition() as race:
            only = await race.leader()
            network = {name: value for name, value in trouble.items() if name != "seconds"}
            before = {name: getattr(only.network, name) for name in network}
            for name, value in network.items():
                setattr(only.network, name, value)
            await asyncio.sleep(trouble["seconds"])
            for name, value in before.items():
                setattr(only.network, name, value)
            await asyncio.sleep(60)
            assert (len(only.terms), only.acting) == (1, True)

    @virtual_time
    async def test_another_write_to_the_lease_does_not_end_the_term(self) -> None:
        async with competition() as race:
            only = await race.leader()
            race.server.write(race.server.held)
            await asyncio.sleep(60)
            assert (len(only.terms), only.acting) == (1, True)

    @pytest.mark.parametrize(("leads", "seconds"), [(True, 3.0), (False, 30.0)])
    @virtual_time
    async def test_a_process_waits_as_long_as_it_is_asked_to(self, leads: bool, seconds: float) -> None:
        async with competition() as race:
            only = await race.leader() if leads else race.candidate()
            only.network.asks_to_wait, calls = seconds, only.network.calls
            if not leads:
                only.start()
            await until(lambda: only.network.calls - calls == 1)
            await asyncio.sleep(seconds - 0.5)
            assert only.network.calls - calls == 1
            await asyncio.sleep(2)
            assert only.network.calls - calls > 1

    @pytest.mark.parametrize(("trouble", "seconds"), [({"cut": True}, 0.0), ({"there": HANGS}, DEADLINE)])
    @virtual_time
    async def test_a_standby_tries_again_within_half_a_retry_period(
        self, trouble: dict[str, Any], seconds: float
    ) -> None:
        async with competition() as race:
            only = race.candidate()
            for name, value in trouble.items():
                setattr(only.network, name, value)
            only.start()
            await until(lambda: only.network.calls == 1)
            began = race.clock.monotonic()
            await until(lambda: only.network.calls == 2)
            assert race.clock.monotonic() - began == pytest.approx(seconds + 0.375 * RETRY, abs=0.05)
            only.network.there = 0.0

    @virtual_time
    async def test_a_standby_looks_at_the_lease_as_often(self) -> None:
        async with competition() as race:
            _, second = await race.leader_and_standby()
            calls = second.network.calls
            await asyncio.sleep(60)
            assert second.network.calls - calls == pytest.approx(2 * 60 / (0.375 * RETRY), abs=2)


class TestLoss:
    @virtual_time
    async def test_a_leader_that_is_cut_off_ends_before_the_other_acts(self) -> None:
        async with competition() as race:
            first, second = await race.leader_and_standby()
            first.stop_seconds = 4.5
            first.network.cut = True
            await asyncio.sleep(DEADLINE - RETRY - 0.1)
            assert race.acting == [first.name]
            assert await race.until_acting() <= RETRY + 4.7
            assert await race.until_acting(second.name) <= CRASH_SECONDS
            await until(lambda: first.ended)
            assert "lost its Lease (it could not be renewed for 10 s)" in first.lost
            assert not first.died

    @virtual_time
    async def test_started_anew_while_the_api_server_is_still_away_it_acts_once_it_is_back(self) -> None:
        async with competition() as race:
            only = await race.leader()
            only.network.cut = True
            await until(lambda: only.ended)
            again = race.candidate()
            again.network.cut = True
            again.start()
            await asyncio.sleep(300)
            assert race.acting == []
            again.network.cut = False
            assert await race.until_acting(again.name) <= DURATION + RETRY

    @virtual_time
    async def test_a_lost_lease_that_can_be_reached_again_is_released(self) -> None:
        async with competition() as race:
            only = await race.leader()
            only.stop_seconds = 4.0
            only.network.cut = True
            await asyncio.sleep(DEADLINE)
            only.network.cut = False
            await until(lambda: only.ended)
            assert "lost its Lease" in only.lost
            assert race.server.held.holder == ""

    @pytest.mark.parametrize(("way", "value"), [("there", HANGS), ("back", HANGS), ("asks_to_wait", 3.0)])
    @virtual_time
    async def test_a_leader_whose_calls_do_not_succeed_stops_in_time(self, way: str, value: float) -> None:
        async with competition() as race:
            first, second = await race.leader_and_standby()
            setattr(first.network, way, value)
            assert await race.until_acting() <= DEADLINE + 0.1
            assert await race.until_acting(second.name) <= CRASH_SECONDS
            setattr(first.network, way, 0.0)

    @virtual_time
    async def test_a_leader_that_cannot_stop_acting_in_time_is_ended_before_the_other_acts(self) -> None:
        async with competition() as race:
            first, second = await race.leader_and_standby()
            first.stop_seconds = 3600.0
            first.network.cut = True
            await until(lambda: first.died)
            assert second.terms == []
            assert await race.until_acting(second.name) <= RETRY

    @pytest.mark.parametrize(("stop_seconds", "dies"), [(3.0, False), (3600.0, True)])
    @virtual_time
    async def test_once_another_holder_is_seen_nothing_begins_and_acting_ends(
        self, stop_seconds: float, dies: bool
    ) -> None:
        async with competition() as race:
            first = await race.leader()
            first.stop_seconds = stop_seconds
            race.server.write(replace(race.server.held, holder="other"))
            assert first.may_act
            await until(lambda: not first.may_act)
            assert race.acting == [first.name]
            assert await race.until_acting() <= min(stop_seconds, DURATION - DEADLINE) + 0.2
            await until(lambda: first.ended)
            assert (first.died, "other holds it" in first.lost) == (dies, not dies)
            assert race.server.held.holder == "other"

    @virtual_time
    async def test_a_lease_that_is_deleted_is_lost_and_a_standby_waits_as_if_it_were_held(self) -> None:
        async with competition() as race:
            first, second = await race.leader_and_standby()
            race.server.lease = None
            assert await race.until_acting() <= RETRY + 0.1
            assert DURATION - 2 * RETRY <= await race.until_acting(second.name) <= CRASH_SECONDS
            assert "it was deleted" in first.lost

    @virtual_time
    async def test_a_lost_lease_is_a_failure_of_kubernetes(self) -> None:
        async with competition() as race:
            running = asyncio.create_task(race.candidate().election.run())
            await asyncio.sleep(5)
            race.server.lease = None
            with pytest.raises(Failure) as caught:
                await running
            assert caught.value.reason is Reason.KUBERNETES_UNAVAILABLE

    @virtual_time
    async def test_the_time_to_act_counts_from_when_the_renewal_was_sent_not_from_its_answer(self) -> None:
        async with competition() as race:
            first, second = await race.leader_and_standby()
            first.stop_seconds = 3600.0
            first.network.back = 4.0
            await asyncio.sleep(30)
            before = race.server.held
            await until(lambda: race.server.held != before)
            await asyncio.sleep(1)
            first.network.there = HANGS  # the answer to this renewal still comes, 3 seconds from now
            await until(lambda: second.acting)
            assert first.died
            assert not first.acting
            first.network.there = 0.0


class TestRestoreOfEtcd:
    """The Lease is as it was at a backup, and so are the versions."""

    @virtual_time
    async def test_the_leader_of_the_backup_goes_on(self) -> None:
        async with competition() as race:
            only = await race.leader()
            backup = race.server.held
            await asyncio.sleep(60)
            race.server.restore(backup)
            await asyncio.sleep(60)
            assert (len(only.terms), race.acting) == (1, [only.name])

    @pytest.mark.parametrize("released", [True, False])
    @virtual_time
    async def test_a_standby_waits_for_a_leader_that_does_not_learn_of_it(self, released: bool) -> None:
        """The Lease of the backup is free, or of a process that is gone; the leader acts as long as it may."""
        async with competition() as race:
            gone = await race.leader()
            backup = race.server.held
            await gone.stop()
            backup = race.server.held if released else backup
            leader, standby = await race.leader_and_standby()
            leader.network.there = HANGS
            together: list[bool] = []
            standby.when_acting = lambda _: together.append(leader.acting)
            race.server.restore(backup)
            assert await race.until_acting(standby.name) <= DURATION + RETRY
            assert together == [False]
            leader.network.there = 0.0

    @virtual_time
    async def test_a_leader_that_is_not_in_the_backup_ends(self) -> None:
        async with competition() as race:
            gone = await race.leader()
            backup = race.server.held
            await gone.stop()
            only = await race.leader()
            race.server.restore(backup)
            assert await race.until_acting() <= RETRY + 0.1
            await until(lambda: only.ended)
            assert "process-0 holds it" in only.lost


NOT_WHOLE = "the lease duration is {} s: whole seconds are needed, 1 s or more"
TOO_LATE = (
    "the renew deadline ({} s) must be shorter than the lease duration (15 s): the difference is the time that a leader"
    " has to stop acting"
)
TOO_SLOW = (
    "the retry period ({} s) must be shorter than the renew deadline ({} s) divided by 1.2: a renewal that fails is"
    " tried again"
)


@pytest.mark.parametrize(
    ("times", "sentence"),
    [
        ((0, 10, 2), NOT_WHOLE.format(0)),
        ((1.5, 1, 0.5), NOT_WHOLE.format(1.5)),
        ((15, 15, 2), TOO_LATE.format(15)),
        ((15, 16.5, 2), TOO_LATE.format(16.5)),
        ((15, 10, 9), TOO_SLOW.format(9, 10)),
        ((15, 12, 10), TOO_SLOW.format(10, 12)),
        ((15, 10, 0), "the retry period must be longer than 0s"),
        ((15, 10, -1), "the retry period must be longer than 0s"),
        ((15, 10, 0.1), None),
        ((1, 0.9, 0.7), None),
        ((15, 14.5, 12), None),
    ],
)
def test_times_that_make_no_safe_election_are_rejected(times: tuple[float, float, float], sentence: str | None) -> None:
    if sentence is None:
        assert ElectionSettings("lease", "default", "me", *times).call_seconds == times[1] / 2
        return
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        ElectionSettings("lease", "default", "me", *times)


def test_the_documented_times_are_the_defaults() -> None:
    settings = ElectionSettings("lease", "default", "me")
    assert (settings.duration, settings.deadline, settings.retry) == (DURATION, DEADLINE, RETRY)
