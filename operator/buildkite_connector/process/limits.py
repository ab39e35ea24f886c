"""The limits that the process sets itself, at its start. Imports nothing slow: the entry point waits for it."""

import resource
import sys
from contextlib import suppress

_PR_SET_DUMPABLE = 4


def keep_memory_private() -> None:
    """No core dump, which would hold every credential; on Linux, no look into memory and environment from outside.

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
