"""What time a server has, how far the local clock is certainly off, and a deadline that counts the loop's turns too."""

import asyncio
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest

from buildkite_connector.timing.clock import (
    BETWEEN_CALLS,
    BETWEEN_SYNCS,
    TURNS,
    Backoff,
    clock_error,
    fair_timeout,
    retry_after,
    server_time,
)
from fakes.virtual_time import virtual_time


@pytest.mark.parametrize(
    ("backoff", "waits"),
    [(BETWEEN_SYNCS, [30, 60, 480, 900, 900]), (BETWEEN_CALLS, [1, 2, 16, 32, 300])],
    ids=["syncs", "calls to C1"],
)
def test_a_wait_doubles_up_to_its_cap(backoff: Backoff, waits: list[int]) -> None:
    assert [backoff.longest(failures) for failures in (1, 2, 5, 6, 100)] == waits


NOON = datetime(2026, 8, 1, 12, 0, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("headers", "expected"),
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
def test_a_date_and_an_age_tell_the_time_or_nothing(headers: Mapping[str, str], expected: datetime | None) -> None:
    assert server_time(headers) == expected


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


# A deadline


@virtual_time
async def test_silence_ends_after_the_seconds() -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(TimeoutError):
        async with fair_timeout(10.0):
            await asyncio.sleep(60.0)
    assert loop.time() - began == pytest.approx(10.0)


@virtual_time
async def test_an_answer_in_time_is_none_of_its_business() -> None:
    async with fair_timeout(10.0):
        await asyncio.sleep(9.9)
    await asyncio.sleep(60.0)


async def test_a_late_event_loop_is_no_silence() -> None:
    """The answer takes a third of the turns, and five times the seconds."""

    async def hog() -> None:
        while True:
            time.sleep(0.005)  # noqa: ASYNC251  (it keeps the loop from coming round, as a crowd does)
            await asyncio.sleep(0)

    hogging = asyncio.create_task(hog())
    began = time.monotonic()
    try:
        async with fair_timeout(0.03):
            for _ in range(TURNS // 3):
                await asyncio.sleep(0)
    finally:
        hogging.cancel()
    assert time.monotonic() - began > 0.06
