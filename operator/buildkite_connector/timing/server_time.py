"""What a server says of time in the headers of its answer: what time it has, how wrong the clock here is, how long to
wait.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

LONGEST_DATE = 64
"""Characters of a date that are read."""
_LONGEST_AGE = 5
"""Digits of an age that are believed: a day."""
MOST_OFF = timedelta(seconds=60)
"""C1 accepts an assertion within two minutes of its own clock, and other servers within one."""


def server_time(headers: Mapping[str, str]) -> datetime | None:
    """The aware time of `Date`, with the age of an answer from a cache; None where it tells none. Whole seconds."""
    try:
        said = parsedate_to_datetime(headers.get("date", "")[:LONGEST_DATE])
        age = headers.get("age", "")
        seconds = int(age) if age.isascii() and age.isdigit() and len(age) <= _LONGEST_AGE else 0
        return said.replace(tzinfo=said.tzinfo or UTC).astimezone(UTC) + timedelta(seconds=seconds)
    except (ValueError, OverflowError):
        return None


def retry_after(headers: Mapping[str, str], now: datetime, longest: float) -> float | None:
    """Seconds to wait as Retry-After tells them, as a number or a date; from 0 to `longest`, None where there are none.

    `headers` by names in lower case, or by names whose case does not matter.
    """
    text = headers.get("retry-after", "")
    try:
        if text.isdecimal():
            seconds = float(text)
        else:
            moment = parsedate_to_datetime(text[:LONGEST_DATE])
            seconds = (moment.replace(tzinfo=moment.tzinfo or UTC) - now).total_seconds()
    except (ValueError, OverflowError):
        return None
    return min(max(0.0, seconds), longest)


def clock_error(said: datetime, before: datetime, after: datetime) -> timedelta:
    """By how much the local clock is behind the server's (negative: ahead), as far as it is certain.

    The answer came between `before` and `after` by the local clock; a `Date` is cut to whole seconds.
    """
    if said > after:
        return said - after
    return min(said - before + timedelta(seconds=1), timedelta())


def wrong_clock(error: timedelta, whose: str, local: datetime) -> str | None:
    """A sentence when the clock is off by more than `MOST_OFF`; None when it is right.

    `error`: positive where the clock is behind. `whose`: the server's name in the genitive. `local`: the time here.
    """
    if abs(error) <= MOST_OFF:
        return None
    way = "behind" if error > timedelta() else "ahead of"
    return (
        f"This machine's clock says {local:%Y-%m-%d %H:%M:%S} UTC and is {abs(round(error.total_seconds()))} s {way} "
        f"{whose}. Set it by NTP (chrony, systemd-timesyncd; in a cluster: the node's)."
    )
