"""What a cron's fields say, against what cronsim gives when it is asked for one time after the other."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise, takewhile

import pytest
from cronsim import CronSim
from hypothesis import example, given, settings
from hypothesis import strategies as st

from buildkite_connector.model.cron import MAX_LENGTH, CronError, ever_fires, parse, shortest_gap

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
    assert shortest_gap(parse(expression)) == min(shown / timedelta(minutes=1), 60)


@settings(max_examples=60, deadline=None)
@given(day=DAYS, month=MONTHS, weekday=WEEKDAYS)
@example(day="*/31", month="*", weekday="MON#5")  # no day matches
def test_two_days_in_a_row_are_found_when_the_calendar_has_them(day: str, month: str, weekday: str) -> None:
    try:
        cron = parse(f"59,1 23,0 {day} {month} {weekday}")
    except CronError:
        return  # a day that no month has
    dates = f"0 0 {day} {month} {weekday}"
    adjacent = any(later - earlier == timedelta(days=1) for earlier, later in pairwise(times(dates)))
    assert shortest_gap(cron) == (2 if adjacent else 58)
    assert ever_fires(cron) == any(times(dates))


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
    assert len(expression) <= MAX_LENGTH
    ever_fires(parse("0 0 * * *"))  # the calendar, once a process
    spent = []
    for _ in range(5):
        before = time.process_time()
        cron = parse(expression)
        ever_fires(cron)
        shortest_gap(cron)
        spent.append(time.process_time() - before)
    assert min(spent) < 0.02
