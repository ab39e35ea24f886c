"""What is measured of many connectors in one process."""

from collections.abc import Mapping
from dataclasses import dataclass


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
    """`requests`: to the API server, by verb and resource. `memory`: the largest of the samples."""

    seconds: float
    memory: int
    cpu: float
    requests: Mapping[str, int]
    writes: int
    secret_reads_busiest_second: int
    polls: int

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
