"""Virtual time where servers and clients talk over loopback: nothing depends on how fast the machine is."""

import asyncio
import time

import pytest

from fakes.virtual_time import virtual_time
from simulators.sockets import LOOPBACK, stop_listening

SLOW = 0.05
"""Seconds that a busy machine takes for something."""


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    if await reader.read(1) == b"?":
        time.sleep(SLOW)  # noqa: ASYNC251 - the machine is busy
        writer.write(b"!")
    await reader.read()
    writer.close()


async def _ask(question: bytes) -> bytes:
    server = await asyncio.start_server(_answer, LOOPBACK, 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    try:
        async with asyncio.timeout(SLOW / 10):
            writer.write(question)
            return await reader.read(1)
    finally:
        writer.close()
        stop_listening(server)


@virtual_time
async def test_an_answer_over_loopback_is_never_late() -> None:
    assert await _ask(b"?") == b"!"
    assert asyncio.get_running_loop().time() == 0


@virtual_time
async def test_an_answer_that_does_not_come_costs_no_real_time() -> None:
    with pytest.raises(TimeoutError):
        await _ask(b"-")
    assert asyncio.get_running_loop().time() == SLOW / 10


@virtual_time
async def test_no_time_passes_while_a_thread_works() -> None:
    async with asyncio.timeout(SLOW / 10):
        await asyncio.to_thread(time.sleep, SLOW)
    assert asyncio.get_running_loop().time() == 0
