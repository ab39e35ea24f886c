"""Answers that end before they are whole, and connections that get none: how faults look on the wire."""

import asyncio
import contextlib

from aiohttp import web

from simulators.buildkite.api import Reply
from simulators.buildkite.faults import Cut, Ending
from simulators.sockets import reset

BLANKS = b" " * 100_000


class Refusal(asyncio.Protocol):
    """For a connection that comes while the port is being closed."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        reset(transport)


async def break_off(request: web.BaseRequest, reply: Reply, cut: Cut) -> web.StreamResponse:
    """Sends part of a reply that promised its whole length, or an endless one, then ends it as told."""
    response = web.StreamResponse(status=reply.status, headers=reply.headers)
    transport = request.transport
    if cut.after is not None and reply.body:
        if cut.ending is not Ending.NEVER:
            response.content_length = len(reply.body)
        await response.prepare(request)
        # The headers wait for the first byte of the body, so that even 0 sends one.
        await response.write(reply.body[: max(1, int(len(reply.body) * cut.after))])
    match cut.ending:
        case Ending.RESET:
            reset(transport)
        case Ending.CLOSE if transport is not None:
            transport.close()
        case Ending.STALL:
            await asyncio.Event().wait()
        case Ending.NEVER:
            with contextlib.suppress(ConnectionError):
                while True:
                    await response.write(BLANKS)
    return response
