"""How a command ends: by a signal, or with one sentence on standard error; and with which exit code.

Service mode, `check` and the command without a sub-command have gRPC's codes, as the vendor's SDK has them (v0.25);
`sync`, `inspect` and the operator end with 1; `diff` and `access` say theirs in their help.
"""

import asyncio
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from buildkite_connector.cli.settings import SettingError
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.tasks import Code
from buildkite_connector.tasks.outcomes import outcome_of

CANCELLED = int(Code.CANCELLED)
USAGE = UNKNOWN = 2
"""gRPC's UNKNOWN, for what has no code of its own; a wrong flag ends with 2 anyway."""

ENDING = (signal.SIGTERM, signal.SIGHUP)
"""Signals that end a command of a person or job; Ctrl-C, SIGINT, raises KeyboardInterrupt."""

_CODES = {
    Reason.SPEC_INVALID: Code.INVALID_ARGUMENT,
    Reason.CLIENT_ID_INVALID: Code.INVALID_ARGUMENT,
    Reason.CLIENT_SECRET_INVALID: Code.INVALID_ARGUMENT,
    Reason.PORTAL_DOCUMENT_INVALID: Code.FAILED_PRECONDITION,
    Reason.C1_ACCESS_DENIED: Code.PERMISSION_DENIED,
    Reason.C1_CONFLICT: Code.FAILED_PRECONDITION,
}
_OURS = frozenset({Reason.STORAGE_FAILED, Reason.SNAPSHOT_INVALID, Reason.INTERNAL_ERROR})


def exit_code(failure: Failure) -> int:
    """C1's own code where there is one, else the code that would be sent to C1; never 0."""
    from buildkite_connector.c1.errors import CallFailure  # noqa: PLC0415  (it brings gRPC, which `sync` goes without)

    if failure.reason is Reason.CLOCK_WRONG:
        return int(Code.FAILED_PRECONDITION)
    if isinstance(failure, CallFailure):
        return failure.code or UNKNOWN
    if failure.reason in _OURS:
        return UNKNOWN
    return int(_CODES.get(failure.reason) or outcome_of(failure).code) or UNKNOWN


@contextmanager
def one_sentence(code: int | None = None) -> Iterator[None]:
    """End the command with a failure's sentence, never with a traceback. `code` None: gRPC's for that failure."""
    try:
        yield
    except SettingError as error:
        end(str(error), USAGE)
    except Failure as failure:
        end(failure.message, code or exit_code(failure))
    except BaseExceptionGroup as group:
        failures, others = group.split(Failure)
        if failures is None or others is not None:
            raise
        first = _first(failures)
        end(first.message, code or exit_code(first))
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def end(sentence: str, code: int) -> NoReturn:
    """Print the sentence and end the process."""
    print(f"error: {sentence}", file=sys.stderr)
    raise SystemExit(code) from None


def _first(group: BaseExceptionGroup[Failure]) -> Failure:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


# Signals


@contextmanager
def on_signals(act: Callable[[int], object], *others: int) -> Iterator[None]:
    """Call `act` in the event loop with the number of each SIGTERM and SIGINT, and of `others`."""
    loop = asyncio.get_running_loop()
    numbers = [signal.SIGTERM, signal.SIGINT, *_not_ignored(others)]
    for number in numbers:
        loop.add_signal_handler(number, act, number)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let blocking code clean up when a signal ends the process: temporary files hold people's names.

    The exit code is the shell's for that signal.
    """
    former = {number: signal.signal(number, _exit) for number in _not_ignored(ENDING)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _exit(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _not_ignored(numbers: tuple[int, ...]) -> list[int]:
    """Leave out ignored signals, such as SIGHUP under `nohup`."""
    return [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
