"""The machine that a measurement was made on, for its reader."""

import os
import platform
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


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor() or "an unnamed processor"
