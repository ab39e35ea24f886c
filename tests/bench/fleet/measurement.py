"""What is measured of many connectors in one process, by Linux' counts and the API server's audit log."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from harness.audit import Request


@dataclass(frozen=True, slots=True)
class Start:
    """From the operator's start until all resources, which existed before, are Ready and delivered. Seconds.

    `writes` of statuses and `events` are per connector: (mean, most). `failures`: how many connectors ever had each
    reason that none has when all is well; `warnings`: events of that type.
    """

    first_ready: float
    all_ready: float
    all_delivered: float
    writes_until_ready: tuple[float, int]
    writes_until_delivered: tuple[float, int]
    events: tuple[float, int]
    warnings: int
    failures: Mapping[str, int]
    hellos_at_once: int
    cpu: float
    peak: int


@dataclass(frozen=True, slots=True)
class Idle:
    """`requests`: to the API server, by verb and resource. `memory`: the largest of the samples.

    `rest_requests`: to C1's REST API; None where no connector has `spec.c1`.
    """

    seconds: float
    memory: int
    cpu: float
    requests: Mapping[str, int]
    writes: int
    secret_reads_busiest_second: int
    polls: int
    rest_requests: int | None = None

    @property
    def core(self) -> float:
        """Share of a core."""
        return self.cpu / self.seconds

    @property
    def secret_reads(self) -> float:
        """A second."""
        return self.requests.get("get secrets", 0) / self.seconds


@dataclass(frozen=True, slots=True)
class Restart:
    """From the start of a second process until it has greeted C1 for all; nothing has changed for any meanwhile.

    `writes` are per connector: (mean, most). `failures` as in `Start`.
    """

    all_greeted: float
    writes: tuple[float, int]
    failures: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Reaction:
    """Seconds from a change until a status tells of it, of several tries: the median and the longest."""

    tries: int
    median: float
    longest: float


@dataclass(frozen=True, slots=True)
class Busy:
    """While so many syncs run. `peak`: resident bytes."""

    syncs: int
    reactions: Mapping[str, Reaction]
    peak: int


@dataclass(frozen=True, slots=True)
class FleetMeasurement:
    """`reactions`: by what was changed. `others`: cores that other programs kept busy meanwhile, on average."""

    connectors: int
    start: Start
    idle: Idle
    reactions: Mapping[str, Reaction]
    restart: Restart
    busy: Busy
    violations: int
    others: float


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


WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})


def count(requests: Iterable[Request], begin: datetime, end: datetime) -> Counter[str]:
    """By kind, in this time."""
    return Counter(request.kind for request in requests if begin <= request.at < end)


def busiest_second(requests: Iterable[Request], kind: str, begin: datetime, end: datetime) -> int:
    """The most requests of a kind in one second of this time."""
    seconds = Counter(
        int((each.at - begin).total_seconds()) for each in requests if begin <= each.at < end and each.kind == kind
    )
    return max(seconds.values(), default=0)
