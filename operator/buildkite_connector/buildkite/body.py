"""Reads an answer's body: decoded here, counted while it comes, refused beyond its limit.

httpx unpacks whatever arrives at once, and 64 KB of gzip can unpack to 64 MB. Here nothing is unpacked beyond the
limit, other tasks run between pieces, and memory holds one body of at most that size.
"""

import asyncio
import re
import time
import zlib

import httpx

PAGE_LIMIT = 1024 * 1024
"""Bytes of one page of a listing. 100 teams or people with the longest names, all escaped, take about 700 KB.

Parsing takes up to 100 bytes of memory for 2 bytes of text (an empty array in another).
"""
LARGE_PAGE_LIMIT = 8 * 1024 * 1024
"""Bytes of one page of pipelines, each with its steps and YAML, or of clusters, each with its maintainers
(`MOST_VALUES` bounds what parsing takes)."""
MOST_VALUES = 200_000
"""JSON values in a page of pipelines, roughly: this bounds the memory that parsing takes, where a page of another
listing is bounded by its bytes. 100 pipelines with 50 steps each have about 100,000. What stands in strings, as a
pipeline's YAML does, is not counted."""
MOST_VALUES_KEPT = 50_000
"""The same in a page that is kept as a whole, as of clusters with their maintainers, or of a portal: more would hold up
the event loop. 500 API tokens with every scope have about 30,000."""
PORTAL_PAGE_LIMIT = 4 * 1024 * 1024
"""Bytes of one page of a portal. 500 API tokens with every scope and descriptions of 255 characters, all escaped, take
about 2.1 MB, and 500 members 100 KB."""
OBJECT_LIMIT = 256 * 1024
"""Bytes of an answer that is one object: the token, an organization."""
ERROR_LIMIT = 64 * 1024
"""Bytes of an answer other than 200."""
MOST_PIECES = 10_000
"""Pieces (chunks of HTTP, reads of the socket) of one body: each costs time, however small it is."""
STEP = 0.002
"""Seconds of work on one body before other tasks run."""
LARGE = 256 * 1024
"""Bytes of a body beyond the usual, about 50 KB: putting it together and parsing it takes milliseconds."""
MOST_HELD = 32 * 1024 * 1024
"""Bytes of one connector's bodies that are under way at the same time."""

_GZIP = 16 + zlib.MAX_WBITS
_VALUE = re.compile(rb'[^"\[{,]*+(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"[^"\[{,]*+)*+[,\[{]', re.S)
"""All up to the next comma or bracket outside strings: each stands for a value. It never tries a byte twice."""


class BodyRefused(Exception):  # noqa: N818
    """A body that is not read to its end. Its text follows "the answer"; `broken`: it may be whole next time."""

    def __init__(self, text: str, *, broken: bool = False) -> None:
        super().__init__(text)
        self.broken = broken


def has_too_many_values(body: bytes, most: int) -> bool:
    """Whether JSON has more than `most` values."""
    if sum(map(body.count, (b",", b"[", b"{"))) <= most:
        return False
    values = end = 0
    while values <= most and (value := _VALUE.match(body, end)):
        values, end = values + 1, value.end()
    return values > most


class BodiesUnderWay:
    """The bodies that one connector is reading now, and their bytes so far."""

    def __init__(self) -> None:
        self.bytes = 0
        self.large = asyncio.Lock()
        """Held for a large body that is whole: one is parsed, then other tasks run."""


async def read_body(response: httpx.Response, limit: int, under_way: BodiesUnderWay) -> bytes | BodyRefused:
    """All of the body, decoded, or why it is not read to its end. Closes the response.

    Refused are more than `limit` bytes, on the wire or decoded, an encoding that was not asked for, and broken gzip:
    the connection is closed then. Raises what httpx raises when the connection fails.
    """
    parts: list[bytes] = []
    try:
        await _read_into(parts, response, limit, under_way)
        if sum(map(len, parts)) > LARGE:
            async with under_way.large:
                await asyncio.sleep(0)
        return b"".join(parts)
    except BodyRefused as refused:
        return refused
    finally:
        under_way.bytes -= sum(map(len, parts))
        await response.aclose()


async def _read_into(parts: list[bytes], response: httpx.Response, limit: int, under_way: BodiesUnderWay) -> None:
    encoding = response.headers.get("content-encoding", "").strip().lower()
    if encoding not in ("", "identity", "gzip", "x-gzip"):
        raise BodyRefused("has an unexpected content encoding")
    unpack = zlib.decompressobj(_GZIP) if encoding.endswith("gzip") else None
    received = decoded = pieces = 0
    pause_at = time.monotonic() + STEP
    async for piece in response.aiter_raw():
        received += len(piece)
        pieces += 1
        part = piece if unpack is None else _unpacked(unpack, piece, limit + 1 - decoded)
        parts.append(part)
        decoded += len(part)
        under_way.bytes += len(part)
        if decoded > limit or received > limit:
            raise BodyRefused(f"is larger than {limit:,} bytes")
        if under_way.bytes > MOST_HELD:
            raise BodyRefused(f"and other responses at the same time are larger than {MOST_HELD:,} bytes", broken=True)
        if pieces > MOST_PIECES:
            raise BodyRefused(f"arrives in more than {MOST_PIECES:,} pieces")
        if time.monotonic() > pause_at:
            await asyncio.sleep(0)
            pause_at = time.monotonic() + STEP
    if unpack is not None and received and not unpack.eof:
        raise BodyRefused("ends in the middle of its gzip data", broken=True)


def _unpacked(unpack: "zlib._Decompress", piece: bytes, most: int) -> bytes:
    """At most `most` bytes, which is more than none: zlib takes 0 for no limit."""
    try:
        unpacked = unpack.decompress(piece, most)
    except zlib.error:
        raise BodyRefused("is not gzip, although it says so", broken=True) from None
    if unpack.unused_data:
        raise BodyRefused("continues after the end of its gzip data", broken=True)
    return unpacked
