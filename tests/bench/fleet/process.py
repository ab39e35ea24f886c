"""What a running process uses, as Linux counts it."""

import os
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Use:
    """`cpu`: seconds of processor time since the process's start; `memory` and `peak`: resident bytes."""

    cpu: float
    memory: int
    peak: int


def use_of(pid: int) -> Use:
    """Raises FileNotFoundError when there is no such process."""
    about = Path("/proc") / str(pid)
    # The second field is the program's name in brackets, which may hold anything.
    fields = (about / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    sizes = dict(
        line.split(":", 1) for line in (about / "status").read_text(encoding="utf-8").splitlines() if ":" in line
    )
    return Use(
        cpu=(int(fields[11]) + int(fields[12])) / _TICKS,
        memory=int(sizes["VmRSS"].split()[0]) * 1024,
        peak=int(sizes["VmHWM"].split()[0]) * 1024,
    )
