"""A deadline that counts the event loop's turns too."""

import asyncio
import time

import pytest

from buildkite_connector.timing.fair_timeout import TURNS, fair_timeout
from fakes.virtual_time import virtual_time


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
