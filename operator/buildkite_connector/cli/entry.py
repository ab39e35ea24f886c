"""The console script: answers signals from the first moment, sets the process's limits, then loads the command.

Python's default for SIGTERM ends a process by the signal (exit code -15), and loading the operator's libraries takes
longer than a cluster may wait before it sends one. This module therefore imports nothing that is slow before the
handler is installed; `operator` and `service` replace the handler by their own, which ends the work in order.
"""

import os
import resource
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress

_PR_SET_DUMPABLE = 4


def main() -> None:
    """Run the command.

    Until the operator or the service has begun to work, SIGTERM and SIGINT end it at once with exit code 0.
    """
    serves = is_server(sys.argv[1:], os.environ)
    if serves:  # of the other commands, 0 would say that they did what they were asked to
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _end)
    keep_memory_private()
    if serves:
        raise_open_files()
    from buildkite_connector.cli.app import main as run  # noqa: PLC0415  (slow, see above)

    run()


def is_server(arguments: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Whether the command runs until a signal; a client ID that only the YAML file has is not looked for."""
    if arguments and not arguments[0].startswith("-"):
        return arguments[0] in {"operator", "service"}
    return bool(environment.get("BATON_CLIENT_ID")) or any(each.startswith("--client-id") for each in arguments)


def _end(*_: object) -> None:
    """Nothing needs a clean-up yet, and an exception would leave the traceback of some import."""
    os._exit(0)


def keep_memory_private() -> None:
    """Disable core dumps, which would hold every credential; on Linux, also access to memory and environment.

    A limit of 0 alone does not stop a kernel that pipes core dumps to a program. A process that is not dumpable can be
    read by root alone (with CAP_SYS_PTRACE), other processes of its own user included: what `/proc/PID/environ` and
    debuggers show. It sees its own `/proc/self` as before. Programs that it starts are dumpable again.
    """
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        with suppress(ImportError, OSError, AttributeError):
            import ctypes  # noqa: PLC0415  (nothing else needs it at the start)

            ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def raise_open_files() -> None:
    """Let the process open as many files as the machine allows it: each connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(OSError, ValueError):  # macOS names a hard limit that it does not grant
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
