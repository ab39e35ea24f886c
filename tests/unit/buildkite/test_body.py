"""A body is decoded and counted while it comes; beyond its limit it is refused, and not a byte more is unpacked."""

import asyncio
import gzip
import re
from collections.abc import AsyncIterator
from itertools import pairwise

import httpx
import pytest

from buildkite_connector.buildkite.body import LARGE, MOST_HELD, MOST_PIECES, BodiesUnderWay, BodyRefused, read_body


def answer(*pieces: bytes, encoding: str | None = None) -> httpx.Response:
    async def stream() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    return httpx.Response(200, headers={} if encoding is None else {"Content-Encoding": encoding}, content=stream())


async def refusal(response: httpx.Response, limit: int = 1000, under_way: BodiesUnderWay | None = None) -> BodyRefused:
    refused = await read_body(response, limit, under_way or BodiesUnderWay())
    assert isinstance(refused, BodyRefused)
    assert response.is_closed
    return refused


@pytest.mark.parametrize("encoding", [None, "", "identity", " Identity "])
async def test_a_body_as_it_came(encoding: str | None) -> None:
    assert await read_body(answer(b"[1,", b"2]", encoding=encoding), 5, BodiesUnderWay()) == b"[1,2]"


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "GZIP"])
@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_gzip_in_pieces_of_any_size(encoding: str, size: int) -> None:
    text = bytes(range(256)) * 30
    packed = gzip.compress(text)
    pieces = [packed[at : at + size] for at in range(0, len(packed), size)]
    assert await read_body(answer(*pieces, encoding=encoding), len(text), BodiesUnderWay()) == text


async def test_an_empty_body_is_no_broken_gzip() -> None:
    assert await read_body(answer(encoding="gzip"), 5, BodiesUnderWay()) == b""


async def test_a_body_of_just_the_limit_is_read_and_a_byte_more_is_refused() -> None:
    assert await read_body(answer(b"a" * 1000), 1000, BodiesUnderWay()) == b"a" * 1000
    assert str(await refusal(answer(b"a" * 1000, b"a"))) == "is larger than 1,000 bytes"
    packed = gzip.compress(b"a" * 1000)
    assert await read_body(answer(packed, encoding="gzip"), 1000, BodiesUnderWay()) == b"a" * 1000
    assert str(await refusal(answer(gzip.compress(b"a" * 1001), encoding="gzip"))) == "is larger than 1,000 bytes"


async def test_nothing_is_read_after_the_limit() -> None:
    read = []

    async def stream() -> AsyncIterator[bytes]:
        for number in range(100):
            read.append(number)
            yield b"a" * 600

    await refusal(httpx.Response(200, content=stream()))
    assert read == [0, 1]


async def test_what_gzip_holds_besides_its_text_counts_as_well() -> None:
    endless_name = b"\x1f\x8b\x08\x08\0\0\0\0\0\x03" + b"n" * 2000
    assert "larger" in str(await refusal(answer(endless_name, encoding="gzip")))


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "zstd", "\x00"])
async def test_an_encoding_that_was_not_asked_for_is_refused(encoding: str) -> None:
    refused = await refusal(answer(b"x", encoding=encoding))
    assert str(refused) == "has an unexpected content encoding"
    assert not refused.broken


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"[]", "is not gzip"),
        (gzip.compress(b"[]")[:-1], "ends in the middle"),
        (gzip.compress(b"[]") + b"x", "continues after the end"),
        (gzip.compress(b"[]") * 2, "continues after the end"),
        (gzip.compress(b"[]")[:-8] + bytes(8), "is not gzip"),
    ],
    ids=["no gzip", "cut", "followed by a byte", "twice", "wrong checksum"],  # a gzip's own bytes hold the time
)
async def test_broken_gzip_may_be_whole_the_next_time(body: bytes, text: str) -> None:
    refused = await refusal(answer(body, encoding="gzip"))
    assert re.search(text, str(refused))
    assert refused.broken


async def test_a_body_in_too_many_pieces_is_refused() -> None:
    pieces = [b"a"] * (MOST_PIECES + 1)
    assert "pieces" in str(await refusal(answer(*pieces), limit=10 * MOST_PIECES))
    assert await read_body(answer(*pieces[1:]), 10 * MOST_PIECES, BodiesUnderWay()) == b"a" * MOST_PIECES


async def test_the_bodies_that_come_at_the_same_time_have_a_limit_together() -> None:
    under_way = BodiesUnderWay()
    under_way.bytes = MOST_HELD - 5
    assert await read_body(answer(b"12345"), 1000, under_way) == b"12345"
    refused = await refusal(answer(b"123456"), under_way=under_way)
    assert "at the same time" in str(refused)
    assert refused.broken
    assert under_way.bytes == MOST_HELD - 5


async def test_large_bodies_that_are_whole_at_once_are_put_together_one_by_one_with_turns_for_others_between() -> None:
    under_way, order = BodiesUnderWay(), []

    async def read(size: int) -> None:
        await read_body(answer(b"a" * size), size, under_way)
        order.append("read")

    async def another() -> None:
        while order.count("read") < 5:
            order.append("another")
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(read(LARGE + 1))
        group.create_task(another())
    assert ("read", "read") not in pairwise(order)
