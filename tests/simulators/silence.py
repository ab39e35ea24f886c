"""A port that swallows whatever connects, as a firewall does that drops packets."""

import contextlib
import socket
from collections.abc import AsyncIterator


@contextlib.asynccontextmanager
async def silent_port() -> AsyncIterator[int]:
    """A port of 127.0.0.1 whose queue of connections is full: Linux drops every further SYN without an answer."""
    with contextlib.ExitStack() as opened:
        listening = opened.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(8):
            filling = opened.enter_context(socket.socket())
            filling.setblocking(False)
            filling.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]
