"""`launch.py RESULT PROGRAM ARGUMENT…`: runs a program and writes what it took to RESULT, as JSON.

A small process of its own, because on Linux a program's peak memory begins with that of the process that started
it: the bench itself is larger than some of what it measures. Only the standard library, and little of it.
"""

import json
import os
import signal
import sys
import time


def main() -> int:
    """Seconds of wall and processor time, peak bytes of memory, the exit code."""
    result, program, *_ = sys.argv[1:]
    began = time.perf_counter()
    # What a shell starts in the background ignores SIGINT, and asyncio then does less: always be in the foreground.
    pid = os.posix_spawn(program, sys.argv[2:], os.environ, setsigdef=[signal.SIGINT])
    _, status, usage = os.wait4(pid, 0)
    wall = time.perf_counter() - began
    with open(result, "w", encoding="utf-8") as file:  # noqa: PTH123  (pathlib would cost megabytes)
        json.dump({"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "peak": usage.ru_maxrss * 1024}, file)
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main())
