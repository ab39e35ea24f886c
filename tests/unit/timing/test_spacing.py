"""Times that keep their distance."""

from buildkite_connector.timing.spacing import Spacing


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
