"""What the tests of the C1 adapter share: a clock that they set, and a connector at a simulated C1."""

import hashlib
import io
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

from buildkite_connector.c1 import C1, C1Client, C1Settings, open_c1, parse_credentials
from buildkite_connector.model.snapshot import OpenSnapshot
from buildkite_connector.network import Network
from fakes.task_ports import SNAPSHOT
from harness.trust import reaching
from simulators.c1.server import C1Simulator
from simulators.c1.token import Client

HOST_ID = "connectors.acme"


class SetClock:
    """Real time plus what a test adds to it. A sleep costs none and is on record. `now` is ahead by `wrong_by`."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self.wrong_by = timedelta()
        self.sleeps: list[float] = []

    def now(self) -> datetime:
        return datetime.now(UTC) + self.wrong_by

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)


class LeastChance:
    """Always the low end of the range."""

    def uniform(self, low: float, high: float) -> float:
        del high
        return low


def open_snapshot(path: Path, file: BinaryIO | None = None) -> OpenSnapshot:
    """The file, as it is now, as an open snapshot: what is in it makes no difference to an upload.

    `file` is the open file to send, a copy in memory by default.
    """
    content = path.read_bytes()
    staged = replace(SNAPSHOT, path=path, sha256=hashlib.sha256(content).hexdigest(), size=len(content))
    return OpenSnapshot(staged, file or io.BytesIO(content))


def settings_for(sim: C1Simulator, **changes: Any) -> C1Settings:
    """Settings that allow the simulator's host, with deadlines that a test can wait for."""
    usual = {"allowed_hosts": sim.address, "call_timeout": 10.0, "poll_timeout": 10.0}
    return C1Settings(**(usual | changes))  # type: ignore[arg-type]


@asynccontextmanager
async def connect(
    sim: C1Simulator,
    *,
    client: Client | None = None,
    clock: SetClock | None = None,
    may_send: Callable[[], None] = lambda: None,
    network: Network | None = None,
    **changes: Any,
) -> AsyncIterator[C1Client]:
    """A connector registered at the simulator, which `network` trusts by default; `changes` are settings."""
    registered = client or sim.register_client()
    credentials = parse_credentials(registered.client_id, registered.client_secret)
    settings, reached = settings_for(sim, **changes), network or reaching(sim.ca_file)
    async with (
        open_c1(settings, reached, clock=clock or SetClock(), jitter=LeastChance(), may_send=may_send) as c1,
        c1.client(credentials, HOST_ID) as connector,
    ):
        yield connector


@asynccontextmanager
async def opened(sim: C1Simulator, **changes: Any) -> AsyncIterator[C1]:
    """A process's access to the simulator."""
    async with open_c1(
        settings_for(sim, **changes), reaching(sim.ca_file), clock=SetClock(), jitter=LeastChance()
    ) as c1:
        yield c1
