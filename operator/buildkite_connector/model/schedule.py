"""When the next scheduled sync is due, and which schedules are refused. Pure.

A missed time runs once, because the next time is counted from the last one and may lie in the past.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from buildkite_connector.model.failure import Failure, Reason, Remedy

JITTER = 0.05
"""Intervals are stretched or shortened by at most this share, so that connectors spread out."""
MIN_CRON_MINUTES = 5
MAX_CRON_LENGTH = 128
"""Characters of a cron expression; a longer one is not parsed."""

_ANY_TIME = datetime(2026, 1, 1, tzinfo=UTC)
_CALENDAR = range(date(2000, 1, 1).toordinal(), date(2028, 1, 2).toordinal())
"""28 years show each month with each of its first weekdays and each leap day; the day after them repeats the first."""


@dataclass(frozen=True, slots=True)
class Interval:
    seconds: float


@dataclass(frozen=True, slots=True)
class Cron:
    """Five fields, in an IANA time zone. Daylight saving as in Debian's cron (see cronsim)."""

    expression: str
    time_zone: str = "UTC"


Schedule = Interval | Cron


def check_schedule(schedule: Schedule) -> None:
    """Raises Failure (remedy: edit) for a cron that never fires or fires too often, and for an unknown time zone.

    A cron may fire every 5 minutes, as an interval may be 5 minutes, and not more often.
    """
    if not isinstance(schedule, Cron):
        return
    _zone(schedule.time_zone)
    _parse(schedule.expression, _ANY_TIME)
    gap = shortest_gap(schedule.expression)
    if gap is None:
        raise _never_fires(schedule.expression)
    if gap < MIN_CRON_MINUTES:
        raise _cron_invalid(
            schedule.expression,
            f"it fires {gap} minute{'s' if gap > 1 else ''} apart, {MIN_CRON_MINUTES} minutes is the least",
            "Write one that fires less often, for example '*/5 * * * *'",
        )


def next_time(schedule: Schedule, last: datetime, share: float = 0.5) -> datetime:
    """The first due time after `last` (the start of the sync before, UTC). `share`, 0.0 to 1.0, spreads an interval.

    Raises Failure (CronInvalid, TimeZoneInvalid; remedy: edit).
    """
    if isinstance(schedule, Interval):
        stretch = JITTER * (2 * share - 1)
        return last + timedelta(seconds=schedule.seconds * (1 + stretch))
    zone = _zone(schedule.time_zone)
    try:
        due: datetime = next(_parse(schedule.expression, last.astimezone(zone)))
    except StopIteration:
        raise _never_fires(schedule.expression) from None
    return due.astimezone(UTC)


def shortest_gap(expression: str) -> int | None:
    """Minutes between the closest two times at which a valid expression fires; 60 stands for 60 or more.

    None: it never fires. Changes of the clocks do not count: they may bring two times of a year closer together, of an
    hourly cron too.
    """
    cron = CronSim(expression, _ANY_TIME)
    if not any(_matches(cron, day) for day in _CALENDAR):
        return None
    minutes = sorted(cron.minutes)
    gaps = [later - earlier for earlier, later in pairwise(minutes)]
    adjacent_hours = any(hour + 1 in cron.hours for hour in cron.hours)
    if adjacent_hours or ({0, 23} <= cron.hours and _matches_two_days_in_a_row(cron)):
        gaps.append(60 - minutes[-1] + minutes[0])
    return min(gaps, default=60)


def _matches_two_days_in_a_row(cron: CronSim) -> bool:
    return any(_matches(cron, day) and _matches(cron, day + 1) for day in _CALENDAR)


def _matches(cron: CronSim, ordinal: int) -> bool:
    day = date.fromordinal(ordinal)
    return day.month in cron.months and cron.match_day(day)


def _parse(expression: str, start: datetime) -> CronSim:
    """The times after `start`, in its zone."""
    why = "it needs five fields: minute hour day-of-month month day-of-week"
    if len(expression) > MAX_CRON_LENGTH:
        why = f"it has {len(expression)} characters, {MAX_CRON_LENGTH} is the most"
    elif len(fields := expression.split()) == 5:
        try:
            return CronSim(expression, start)
        except CronSimError as error:
            if _is_valid(*fields[:3], "*", fields[4]) and _is_valid(*fields[:2], "*", *fields[3:]):
                raise _never_fires(expression) from None  # as on 30 February: each field is valid by itself
            why = str(error)
    raise _cron_invalid(expression, why, "Write five fields, for example '0 3 * * *'")


def _is_valid(*fields: str) -> bool:
    try:
        CronSim(" ".join(fields), _ANY_TIME)
    except CronSimError:
        return False
    return True


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise Failure(
            Reason.TIME_ZONE_INVALID,
            f"spec.schedule.timeZone {name!r} is not a known IANA time zone: use a name such as Europe/Berlin or UTC",
            remedy=Remedy.EDIT,
        ) from None


def _never_fires(expression: str) -> Failure:
    return _cron_invalid(
        expression,
        "the date never comes, as no day has its day of month, month and day of week",
        "Correct one of the three",
    )


def _cron_invalid(expression: str, why: str, advice: str) -> Failure:
    shown = expression if len(expression) <= MAX_CRON_LENGTH else f"{expression[:MAX_CRON_LENGTH]}…"
    return Failure(
        Reason.CRON_INVALID, f"spec.schedule.cron {shown!r} cannot be used: {why}. {advice}", remedy=Remedy.EDIT
    )
