"""When the next scheduled sync is due: a pure decision.

A missed time runs once, because the next time is counted from the last one and may lie in the past.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim

from buildkite_connector.model import cron
from buildkite_connector.model.failure import Failure, Reason, Remedy

JITTER = 0.05
"""Intervals are stretched or shortened by at most this share, so that connectors spread out."""

MIN_CRON_MINUTES = 5


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
    """Raises Failure (remedy: edit) for what a pattern cannot tell: the cron's meaning and the zone's name.

    A cron may fire every 5 minutes, as an interval may be 5 minutes, and not more often.
    """
    if not isinstance(schedule, Cron):
        return
    _zone(schedule.time_zone)
    parsed = _parse(schedule.expression)
    if not cron.ever_fires(parsed):
        raise _never_fires(schedule.expression)
    gap = cron.shortest_gap(parsed)
    if gap < MIN_CRON_MINUTES:
        raise _cron_invalid(
            schedule.expression,
            f"it fires {gap} minute{'s' if gap > 1 else ''} apart, {MIN_CRON_MINUTES} minutes is the least",
            "Write one that fires less often, for example '*/5 * * * *'",
        )


def next_time(schedule: Schedule, last: datetime, share: float = 0.5) -> datetime:
    """The first due time after `last` (the start of the sync before, UTC). `jitter` None: no jitter.

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


def _parse(expression: str, start: datetime | None = None) -> CronSim:
    try:
        return cron.parse(expression, start) if start else cron.parse(expression)
    except cron.CronError as error:
        if cron.names_impossible_day(expression):
            raise _never_fires(expression) from None
        raise _cron_invalid(expression, str(error), "Write five fields, for example '0 3 * * *'") from None


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
    shown = expression if len(expression) <= cron.MAX_LENGTH else f"{expression[: cron.MAX_LENGTH]}…"
    return Failure(
        Reason.CRON_INVALID, f"spec.schedule.cron {shown!r} cannot be used: {why}. {advice}", remedy=Remedy.EDIT
    )
