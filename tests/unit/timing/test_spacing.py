"""Times that keep their distance."""

import pytest

from buildkite_connector.timing.clock import SystemClock
from buildkite_connector.timing.spacing import SHARED_SECONDS, Spacing, shared_wait


def test_the_first_free_time_is_the_earliest_rounded_up() -> None:
    assert Spacing(10.0).reserve(41.0, 0.0) == 50.0
    assert Spacing(10.0).reserve(40.0, 0.0) == 40.0


def test_no_two_times_are_closer_than_the_distance() -> None:
    spacing = Spacing(10.0)
    assert [spacing.reserve(40.0, 0.0) for _ in range(3)] == [40.0, 50.0, 60.0]
    assert spacing.reserve(45.0, 0.0) == 70.0


def test_times_that_have_passed_are_forgotten_and_those_to_come_are_not() -> None:
    spacing = Spacing(1.0)
    for _ in range(100):
        spacing.reserve(0.0, 0.0)
    assert spacing.reserve(95.0, 95.0) == 100.0
    for now in range(100, 400):
        spacing.reserve(float(now), float(now))
    assert len(spacing._taken) < 200
    assert spacing.reserve(399.0, 399.0) == 401.0


@pytest.mark.parametrize("now", [0.0, 0.1, 12345.678])
@pytest.mark.parametrize("seconds", [10.0, 10.3, 60.0, 300.0])
def test_a_long_wait_ends_together_with_others_and_never_early(seconds: float, now: float) -> None:
    wait = shared_wait(seconds, now)
    assert seconds <= wait < seconds + SHARED_SECONDS
    assert (now + wait) / SHARED_SECONDS == pytest.approx(round((now + wait) / SHARED_SECONDS), abs=1e-6)


def test_a_short_wait_is_as_long_as_it_is_asked_to_be() -> None:
    assert shared_wait(9.9, 0.05) == 9.9


async def test_the_machines_clock_sleeps_no_shorter_than_it_is_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("asyncio.sleep", sleep)
    await SystemClock().sleep(60.0)
    await SystemClock().sleep(0.5)
    assert 60.0 <= slept[0] < 60.0 + SHARED_SECONDS
    assert slept[1] == 0.5
