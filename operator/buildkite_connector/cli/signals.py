"""The signals that end a process in order."""

import asyncio
import contextlib
import signal
from collections.abc import Iterator


@contextlib.contextmanager
def signalled_end() -> Iterator[asyncio.Event]:
    """An event that SIGTERM or SIGINT sets."""
    loop = asyncio.get_running_loop()
    event = asyncio.Event()
    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, event.set)
    try:
        yield event
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
