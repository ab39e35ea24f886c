"""When the next sync is due."""

import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.schedule import JITTER, Cron, Interval, check_schedule, next_time

NINE = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def test_an_interval_counts_from_the_last_sync() -> None:
    assert next_time(Interval(3600), NINE, None) == NINE + timedelta(hours=1)


@given(seconds=st.integers(300, 604800), seed=st.integers())
def test_jitter_stays_within_five_percent(seconds: int, seed: int) -> None:
    wait = (next_time(Interval(seconds), NINE, random.Random(seed)) - NINE).total_seconds()
    assert seconds * (1 - JITTER) - 1e-3 <= wait <= seconds * (1 + JITTER) + 1e-3


def test_a_cron_time_is_in_its_zone_and_comes_back_in_utc() -> None:
    assert next_time(Cron("0 3 * * *", "Asia/Tokyo"), NINE, None) == datetime(2026, 3, 2, 18, 0, tzinfo=UTC)


def test_an_hour_that_daylight_saving_skips_runs_right_after() -> None:
    before = datetime(2026, 3, 28, 12, 0, tzinfo=UTC)
    assert next_time(Cron("30 2 * * *", "Europe/Berlin"), before, None) == datetime(2026, 3, 29, 1, 0, tzinfo=UTC)


def test_an_hour_that_daylight_saving_repeats_runs_once() -> None:
    first = next_time(Cron("30 2 * * *", "Europe/Berlin"), datetime(2026, 10, 24, 12, 0, tzinfo=UTC), None)
    assert next_time(Cron("30 2 * * *", "Europe/Berlin"), first, None).date() == datetime(2026, 10, 26).date()  # noqa: DTZ001


def test_a_missed_time_lies_in_the_past_and_so_runs_once() -> None:
    long_ago = NINE - timedelta(days=3)
    assert next_time(Cron("0 3 * * *"), long_ago, None) < NINE


@pytest.mark.parametrize(
    "expression", ["", "* * * *", "* * * * * *", "61 * * * *", "@daily", "0 0 31 2 *", "a b c d e"]
)
def test_a_cron_that_cannot_be_used_is_named(expression: str) -> None:
    with pytest.raises(Failure, match=r"spec\.schedule\.cron") as caught:
        check_schedule(Cron(expression))
    assert caught.value.reason is Reason.CRON_INVALID
    assert caught.value.remedy is Remedy.EDIT


@pytest.mark.parametrize("zone", ["Europe/Atlantis", "", "../etc/passwd", "UTC\0"])
def test_an_unknown_time_zone_is_named(zone: str) -> None:
    with pytest.raises(Failure, match=r"spec\.schedule\.timeZone") as caught:
        check_schedule(Cron("0 3 * * *", zone))
    assert caught.value.reason is Reason.TIME_ZONE_INVALID


def test_an_interval_needs_no_check() -> None:
    check_schedule(Interval(300))
