"""What a cron expression says without regard to the time now: whether it is valid, ever fires, and how often.

The fields decide, not a simulation of years: every month begins on one of seven weekdays and has one of its lengths,
so that 91 months show all that a calendar can hold. `schedule` turns the answers into due times and failures.
"""

import calendar
from collections.abc import Iterator
from datetime import UTC, date, datetime
from functools import cache
from itertools import pairwise

from cronsim import CronSim, CronSimError

MAX_LENGTH = 128
"""Characters of an expression, in the custom resource definition and here: what is longer is not parsed."""

_ANY_TIME = datetime(2026, 1, 1, tzinfo=UTC)
_CALENDAR = range(2000, 2028)  # 28 years hold every month with each of its first weekdays, and each leap day


class CronError(ValueError):
    """The expression cannot be parsed; the text says which field is at fault, without a full stop."""


def parse(expression: str, start: datetime = _ANY_TIME) -> CronSim:
    """The times after `start`, in its zone. Raises CronError."""
    if len(expression) > MAX_LENGTH:
        raise CronError(f"it has {len(expression)} characters, {MAX_LENGTH} is the most")
    if len(expression.split()) != 5:
        raise CronError("it needs five fields: minute hour day-of-month month day-of-week")
    try:
        return CronSim(expression, start)
    except CronSimError as error:
        raise CronError(str(error)) from None


def names_impossible_day(expression: str) -> bool:
    """Whether `parse` refuses only the combination, as of 30 February: each field is valid by itself."""
    fields = expression.split()
    if len(fields) != 5:
        return False
    minute, hour, day, month, weekday = fields
    try:
        parse(f"{minute} {hour} {day} * {weekday}")
        parse(f"{minute} {hour} * {month} {weekday}")
    except CronError:
        return False
    return True


def ever_fires(cron: CronSim) -> bool:
    """Whether any date matches."""
    return any(cron.match_day(day) for month in _months(cron) for day in month)


def shortest_gap(cron: CronSim) -> int:
    """Minutes between the closest two times at which it fires, as its fields are written; 60 stands for 60 or more.

    A change of the clocks is left out: it may bring two times of a year closer together, of an hourly cron too.
    """
    minutes = sorted(cron.minutes)
    gaps = [later - earlier for earlier, later in pairwise(minutes)]
    across_the_hour = 60 - minutes[-1] + minutes[0]
    if _has_adjacent_hours(cron) or ({0, 23} <= cron.hours and _has_adjacent_days(cron)):
        gaps.append(across_the_hour)
    return min(gaps, default=60)


def _has_adjacent_hours(cron: CronSim) -> bool:
    return any(hour + 1 in cron.hours for hour in cron.hours)


def _has_adjacent_days(cron: CronSim) -> bool:
    """Whether it ever fires on two days in a row."""
    for month in _months(cron):
        matches = [cron.match_day(day) for day in month]
        if any(today and tomorrow for today, tomorrow in pairwise(matches)):
            return True
        if matches[-1] and _matches(cron, _next_day(month[-1])):
            return True
    return False


def _matches(cron: CronSim, day: date) -> bool:
    return day.month in cron.months and cron.match_day(day)


def _next_day(day: date) -> date:
    return date.fromordinal(day.toordinal() + 1)


def _months(cron: CronSim) -> Iterator[tuple[date, ...]]:
    """Days of each different month that the expression names."""
    return (month for month in _different_months() if month[0].month in cron.months)


@cache
def _different_months() -> tuple[tuple[date, ...], ...]:
    """One of each month, first weekday and length."""
    different: dict[tuple[int, int, int], tuple[date, ...]] = {}
    for year in _CALENDAR:
        for month in range(1, 13):
            first_weekday, length = calendar.monthrange(year, month)
            if (month, first_weekday, length) not in different:
                days = tuple(date(year, month, day) for day in range(1, length + 1))
                different[month, first_weekday, length] = days
    return tuple(different.values())
