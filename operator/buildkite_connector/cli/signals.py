"""The signals that end a process in order."""

import asyncio
import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

ENDING = (signal.SIGTERM, signal.SIGHUP)
"""What ends a command that a person or a job has started; a terminal's Ctrl-C, SIGINT, is KeyboardInterrupt."""


class Signalled(asyncio.Event):
    """Set by a signal, whose number is kept."""

    number = 0

    def note(self, number: int) -> None:
        self.number = number
        self.set()


@contextlib.contextmanager
def signalled_end(*others: int) -> Iterator[Signalled]:
    """An event that SIGTERM or SIGINT sets, or one of `others`."""
    loop = asyncio.get_running_loop()
    event = Signalled()
    numbers = [signal.SIGTERM, signal.SIGINT, *_heeded(others)]
    for number in numbers:
        loop.add_signal_handler(number, event.note, number)
    try:
        yield event
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """A signal that ends the process lets it clear up first: what is unpacked meanwhile holds people's names.

    For code that blocks. The exit code is the shell's for that signal.
    """
    former = {number: signal.signal(number, _end) for number in _heeded(ENDING)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _end(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _heeded(numbers: tuple[int, ...]) -> list[int]:
    """Without those that are ignored, as `nohup` has it for SIGHUP."""
    return [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
