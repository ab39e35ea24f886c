"""The machine that a measurement was made on, and what else it did meanwhile, for the reader."""

import os
import platform
import resource
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Machine:
    """`memory` in bytes."""

    cores: int
    processor: str
    memory: int
    system: str
    python: str

    @classmethod
    def this(cls) -> "Machine":
        return cls(
            cores=len(os.sched_getaffinity(0)),
            processor=_processor(),
            memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            system=f"{platform.system()} {platform.release()} {platform.machine()}",
            python=f"{platform.python_implementation()} {platform.python_version()}",
        )

    def __str__(self) -> str:
        return (
            f"{self.cores} cores of {self.processor}, {self.memory / 2**30:.0f} GiB of memory, "
            f"{self.system}, {self.python}"
        )


class Bystanders:
    """How busy the machine was with what is not ours: this process and its children, once they have ended."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._busy = _busy_seconds() - _own_seconds()

    def cores(self) -> float:
        """Cores that others kept busy since the start, on average."""
        return max(0.0, _busy_seconds() - _own_seconds() - self._busy) / (time.monotonic() - self._began)


def _busy_seconds() -> float:
    """Seconds that the machine's cores were busy, since its start."""
    user, nice, system, _, _, *interrupts = map(int, Path("/proc/stat").read_text(encoding="utf-8").split()[1:9])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor() or "an unnamed processor"
