"""Schedules and durations: what is taken, and what is refused with which sentence."""

import contextlib
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise, takewhile

import pytest
from cronsim import CronSim, CronSimError
from hypothesis import example, given, settings
from hypothesis import strategies as st

from buildkite_connector.model import spec
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.spec import (
    JITTER,
    MAX_CRON_LENGTH,
    Cron,
    Interval,
    check_schedule,
    next_time,
    parse_duration,
    shortest_gap,
)

NINE = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def refusal(expression: str) -> Failure:
    with pytest.raises(Failure) as caught:
        check_schedule(Cron(expression))
    assert caught.value.reason is Reason.CRON_INVALID
    assert caught.value.remedy is Remedy.EDIT
    return caught.value


def test_an_interval_counts_from_the_last_sync() -> None:
    assert next_time(Interval(3600), NINE) == NINE + timedelta(hours=1)


@given(seconds=st.integers(300, 604800), seed=st.integers())
def test_jitter_stays_within_five_percent(seconds: int, seed: int) -> None:
    wait = (next_time(Interval(seconds), NINE, random.Random(seed).random()) - NINE).total_seconds()
    assert seconds * (1 - JITTER) - 1e-3 <= wait <= seconds * (1 + JITTER) + 1e-3


def test_a_cron_time_is_in_its_zone_and_comes_back_in_utc() -> None:
    assert next_time(Cron("0 3 * * *", "Asia/Tokyo"), NINE) == datetime(2026, 3, 2, 18, 0, tzinfo=UTC)


def test_an_hour_that_daylight_saving_skips_runs_right_after() -> None:
    before = datetime(2026, 3, 28, 12, 0, tzinfo=UTC)
    assert next_time(Cron("30 2 * * *", "Europe/Berlin"), before) == datetime(2026, 3, 29, 1, 0, tzinfo=UTC)


def test_an_hour_that_daylight_saving_repeats_runs_once() -> None:
    first = next_time(Cron("30 2 * * *", "Europe/Berlin"), datetime(2026, 10, 24, 12, 0, tzinfo=UTC))
    assert next_time(Cron("30 2 * * *", "Europe/Berlin"), first).date() == datetime(2026, 10, 26).date()  # noqa: DTZ001


def test_a_missed_time_lies_in_the_past_and_so_runs_once() -> None:
    long_ago = NINE - timedelta(days=3)
    assert next_time(Cron("0 3 * * *"), long_ago) < NINE


@pytest.mark.parametrize(
    "expression",
    ["", "* * * *", "* * * * * *", "0 0 30 2 * *", "61 * * * *", "0 0 1 13 *", "0 0 45 2 *", "@daily", "a b c d e"],
)
def test_a_cron_that_cannot_be_used_is_named(expression: str) -> None:
    refused = refusal(expression)
    assert "Write five fields" in refused.message


@pytest.mark.parametrize(
    ("expression", "gap"),
    [
        ("* * * * *", "1 minute"),
        ("*/4 * * * *", "4 minutes"),
        ("*/7 * * * *", "4 minutes"),  # 56 and 0
        ("58,1 * * * *", "3 minutes"),
        ("0,3 0 29 2 *", "3 minutes"),
        ("59,0 3,4 * * *", "1 minute"),
        ("59,0 23,0 * * *", "1 minute"),
        ("59,0 23,0 31,1 * *", "1 minute"),
        ("59,0 23,0 28,29 2 *", "1 minute"),  # in leap years only
        ("59,0 23,0 * * SAT,SUN", "1 minute"),
        ("59,0 23,0 L,1 * *", "1 minute"),
    ],
)
def test_a_cron_that_fires_more_often_than_every_five_minutes_is_refused(expression: str, gap: str) -> None:
    assert refusal(expression).message == (
        f"spec.schedule.cron {expression!r} cannot be used: it fires {gap} apart; the minimum is 5 minutes."
        " Write one that fires less often, for example '*/5 * * * *'"
    )


@pytest.mark.parametrize(
    "expression",
    [
        "*/5 * * * *",
        "0-55/5 * * * *",
        "0 * * * *",
        "59,4 * * * *",
        "59,0 3,5 * * *",
        "59,0 23,0 1 * *",  # 00:00, 00:59, 23:00 and 23:59 of one day a month
        "59,0 23,0 31,2 * *",
        "59,0 23,0 * * TUE,SUN",
        "0 3 29 2 *",
        "0 0 * 2 MON#5",  # in 2044
    ],
)
def test_a_cron_that_fires_every_five_minutes_or_less_often_is_allowed(expression: str) -> None:
    check_schedule(Cron(expression))


@pytest.mark.parametrize("expression", ["0 0 30 2 *", "0 0 31 2 *", "0 0 31 4,6,9,11 *", "0 0 */31 * MON#5"])
def test_a_cron_whose_date_never_comes_is_told_so(expression: str) -> None:
    refused = refusal(expression)
    assert refused.message.startswith(f"spec.schedule.cron {expression!r} cannot be used: it never fires")
    assert "five fields" not in refused.message
    with pytest.raises(Failure, match="it never fires"):
        next_time(Cron(expression), NINE)


def test_a_very_long_cron_is_refused_unread_and_not_repeated_in_full() -> None:
    refused = refusal("0 3 * * " + "9" * 100_000)
    assert "it has 100008 characters; the maximum is 128" in refused.message
    assert len(refused.message) < 400


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"])
@pytest.mark.parametrize("expression", ["0 * * * *", "59 * * * *", "30 2 * * *", "0 2,3 * * *", "3 2,3 * * *"])
def test_a_change_of_the_clocks_refuses_no_cron(expression: str, zone: str) -> None:
    check_schedule(Cron(expression, zone))


@given(expression=st.text("0123456789*/,-#L WMONFEB?²\n", max_size=140))
def test_any_text_is_allowed_or_refused_with_a_reason(expression: str) -> None:
    with contextlib.suppress(Failure):
        check_schedule(Cron(expression))


@pytest.mark.parametrize("zone", ["Europe/Atlantis", "", "../etc/passwd", "UTC\0"])
def test_an_unknown_time_zone_is_named(zone: str) -> None:
    with pytest.raises(Failure, match=r"spec\.schedule\.timeZone") as caught:
        check_schedule(Cron("0 3 * * *", zone))
    assert caught.value.reason is Reason.TIME_ZONE_INVALID


def test_an_interval_needs_no_check() -> None:
    check_schedule(Interval(300))


# How often a cron fires, against what cronsim gives when it is asked for one time after the other

START = datetime(2000, 1, 1, tzinfo=UTC) - timedelta(seconds=1)
END = datetime(2028, 1, 2, tzinfo=UTC)  # 28 years, and the day after


def numbers(low: int, high: int) -> st.SearchStrategy[str]:
    """A list of numbers, as a field has them."""
    return st.sets(st.integers(low, high), min_size=1, max_size=4).map(lambda found: ",".join(map(str, found)))


DAYS = st.one_of(
    st.just("*"), numbers(1, 31), st.sampled_from(["L", "LW", "L,1", "*/31", "28,29", "29-31", "*/2", "30,1"])
)
MONTHS = st.one_of(st.just("*"), numbers(1, 12), st.just("2"))
WEEKDAYS = st.one_of(
    st.just("*"), numbers(0, 7), st.sampled_from(["MON#5", "5L", "*/2", "*/7", "FRI-SAT", "1#1,SUN#2"])
)


def times(expression: str) -> Iterator[datetime]:
    """Every time of the 28 years, found as it is asked for; there may be none."""
    return takewhile(lambda due: due < END, CronSim(expression, START))


@given(minutes=numbers(0, 59), hours=st.one_of(st.just("*"), numbers(0, 23)))
def test_the_shortest_gap_of_every_day_is_the_one_that_shows_in_two_days(minutes: str, hours: str) -> None:
    expression = f"{minutes} {hours} * * *"
    two_days = islice(CronSim(expression, START), 2 * 24 * 60)
    due = list(takewhile(lambda each: each < START + timedelta(days=2, seconds=2), two_days))
    shown = min((later - earlier for earlier, later in pairwise(due)), default=timedelta(days=1))
    assert shortest_gap(expression) == min(shown / timedelta(minutes=1), 60)


@settings(max_examples=10)
@given(day=DAYS, month=MONTHS, weekday=WEEKDAYS)
@example(day="*/31", month="*", weekday="MON#5")  # no day matches
def test_two_days_in_a_row_are_found_when_the_calendar_has_them(day: str, month: str, weekday: str) -> None:
    dates = f"0 0 {day} {month} {weekday}"
    try:
        found = list(times(dates))
    except CronSimError:
        return  # a day that no month has
    adjacent = any(later - earlier == timedelta(days=1) for earlier, later in pairwise(found))
    gap = 2 if adjacent else 58
    assert shortest_gap(f"59,1 23,0 {day} {month} {weekday}") == (gap if found else None)


@pytest.mark.parametrize(
    "expression",
    [
        "59,0 23,0 */31 * MON#5",  # no day matches, so that each is looked at
        "59,0 23,0 29 2 *",
        "* * * * *",
        ",".join(["0-59"] * 23) + " * * * *",
        "59,0 23,0 * * " + ",".join(["MON#5"] * 18),
    ],
)
def test_an_answer_takes_milliseconds_whatever_the_expression(expression: str) -> None:
    assert len(expression) <= MAX_CRON_LENGTH
    spent = []
    for _ in range(5):
        before = time.process_time()
        shortest_gap(expression)
        spent.append(time.process_time() - before)
    assert min(spent) < 0.02


def test_an_expression_is_compared_with_the_calendar_once(monkeypatch: pytest.MonkeyPatch) -> None:
    days: list[int] = []
    matches = spec._matches

    def counted(cron: CronSim, day: int) -> bool:
        days.append(day)
        return matches(cron, day)

    monkeypatch.setattr(spec, "_matches", counted)
    schedule = Cron("7,19 0,23 29 2 4")  # of no other test
    check_schedule(schedule)
    begun = len(days)
    check_schedule(schedule)
    assert (begun > 0, len(days)) == (True, begun)


# Durations


@pytest.mark.parametrize(
    ("text", "seconds"), [("0s", 0), ("90s", 90), ("5m", 300), ("1h30m", 5400), ("168h", 604800), ("1h0m1s", 3601)]
)
def test_a_duration_is_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "3x", "5", "-5m", "1.5h", "5m1h", " 5m", "5 m", "1d", "٣m"])
def test_what_is_no_duration_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration: use hours"):
        parse_duration(text)


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_every_unit_counts(hours: int, minutes: int, seconds: int) -> None:
    assert parse_duration(f"{hours}h{minutes}m{seconds}s") == hours * 3600 + minutes * 60 + seconds
