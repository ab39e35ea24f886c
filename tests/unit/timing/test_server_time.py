"""What time a server has, and how far the local clock is certainly off."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest

from buildkite_connector.timing.server_time import clock_error, retry_after, server_time

NOON = datetime(2026, 8, 1, 12, 0, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("headers", "time"),
    [
        ({"date": "Sat, 01 Aug 2026 12:00:00 GMT"}, NOON),
        ({"date": "Sat, 01 Aug 2026 14:00:00 +0200"}, NOON),
        ({"date": "Sat, 01 Aug 2026 11:59:00 GMT", "age": "60"}, NOON),
        ({"date": "Sat, 01 Aug 2026 12:00:00 GMT", "age": "-60"}, NOON),
        ({"date": "Sat, 01 Aug 2026 12:00:00 GMT", "age": "9" * 400}, NOON),
        ({}, None),
        ({"date": ""}, None),
        ({"date": "noon"}, None),
        ({"date": "Sat, 01 Aug 99999 12:00:00 GMT"}, None),
        ({"date": "Sat, 01 Aug 2026 12:00:00 GMT" + " " * 100_000}, NOON),
        ({"date": "Fri, 31 Dec 9999 23:59:59 -0100"}, None),
        ({"date": "Fri, 31 Dec 9999 23:59:59 GMT", "age": "60"}, None),
    ],
)
def test_a_date_and_an_age_tell_the_time_or_nothing(headers: Mapping[str, str], time: datetime | None) -> None:
    assert server_time(headers) == time


@pytest.mark.parametrize(
    ("before", "after", "error"),
    [
        (0, 0.2, 0),
        (-1, 0.9, 0),
        (0.5, 0.9, 0),  # the date is cut to whole seconds
        (-70, -65, 65),
        (66, 80, -65),
        (-20, 20, 0),  # a slow answer: any time between is possible
    ],
)
def test_the_error_of_a_clock_is_what_is_certain(before: float, after: float, error: float) -> None:
    assert clock_error(NOON, at(before), at(after)) == timedelta(seconds=error)


@pytest.mark.parametrize("year", [100, 9999])
def test_the_ends_of_the_calendar_are_no_error(year: int) -> None:
    said = server_time({"date": f"Fri, 31 Dec {year:04} 23:59:59 GMT"})
    assert said is not None
    assert abs(clock_error(said, at(0), at(1))) > timedelta(days=365 * 1000)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("17", 17),
        ("0", 0),
        ("Sat, 01 Aug 2026 12:00:30 GMT", 30),
        ("Sat, 01 Aug 2026 11:00:00 GMT", 0),
        ("Sat, 01 Aug 2026 12:00:30 -0000", 30),
        ("9" * 400, 60),
        ("Fri, 01 Jan 9999 00:00:00 GMT", 60),
        ("-5", None),
        ("1e308", None),
        ("Sat, 01 Aug 99999999999999999999 12:00:30 GMT", None),
        ("soon", None),
        ("", None),
        ("Sat, 99 Aug 2026 12:00:30 GMT", None),
    ],
)
def test_retry_after_is_a_number_or_a_date_or_nothing(text: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": text}, NOON, 60) == seconds
