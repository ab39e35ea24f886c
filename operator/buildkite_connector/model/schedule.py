"""When the next scheduled sync is due: a pure decision.

A missed time runs once, because the next time is counted from the last one and may lie in the past.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.jitter import Jitter

JITTER = 0.05
"""Intervals are stretched or shortened by at most this share, so that connectors spread out."""


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
    """Raises Failure (remedy: edit) for what a pattern cannot tell: the cron text and the zone's name."""
    if isinstance(schedule, Cron):
        next_time(schedule, datetime(2026, 1, 1, tzinfo=UTC), None)


def next_time(schedule: Schedule, last: datetime, jitter: Jitter | None) -> datetime:
    """The first due time after `last` (the start of the sync before, UTC). `jitter` None: no jitter.

    Raises Failure (CronInvalid, TimeZoneInvalid; remedy: edit).
    """
    if isinstance(schedule, Interval):
        stretch = jitter.uniform(-JITTER, JITTER) if jitter else 0.0
        return last + timedelta(seconds=schedule.seconds * (1 + stretch))
    zone = _zone(schedule.time_zone)
    if len(schedule.expression.split()) != 5:
        raise _cron_invalid(schedule.expression, "it needs five fields: minute hour day-of-month month day-of-week")
    try:
        due: datetime = next(CronSim(schedule.expression, last.astimezone(zone)))
    except CronSimError as error:
        raise _cron_invalid(schedule.expression, str(error)) from None
    except StopIteration:
        raise _cron_invalid(schedule.expression, "no date ever matches it") from None
    return due.astimezone(UTC)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise Failure(
            Reason.TIME_ZONE_INVALID,
            f"spec.schedule.timeZone {name!r} is not a known IANA time zone: use a name such as Europe/Berlin or UTC",
            remedy=Remedy.EDIT,
        ) from None


def _cron_invalid(expression: str, why: str) -> Failure:
    return Failure(
        Reason.CRON_INVALID,
        f"spec.schedule.cron {expression!r} cannot be used: {why}. Write five fields, for example '0 3 * * *'",
        remedy=Remedy.EDIT,
    )
