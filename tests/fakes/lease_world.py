"""Leases on one server in memory, with a network to it that is slow or cut, and processes that compete for them."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from buildkite_connector.kubernetes.election import Election
from buildkite_connector.kubernetes.election_settings import ElectionSettings
from buildkite_connector.kubernetes.fence import Fence
from buildkite_connector.kubernetes.lease import Lease, LeaseRecord
from buildkite_connector.model.failure import Failure, Reason
from fakes.virtual_time import NoJitter, VirtualClock, until

HANGS = 1e9
"""Seconds that a request takes which is never answered."""


class LeaseServer:
    """Every write has its own version, and must name the one that it changes: one at a time, as etcd has them."""

    def __init__(self) -> None:
        self.leases: dict[str, Lease] = {}
        self._version = 0

    def write(self, name: str, record: LeaseRecord, version: str | None, shards: int) -> Lease | None:
        """`version` None: there must be none yet."""
        found = self.leases.get(name)
        if (found.version if found else None) != version:
            return None
        self._version += 1
        self.leases[name] = Lease(name, record, str(self._version), shards)
        return self.leases[name]

    def restore(self, lease: Lease) -> None:
        """What a restore of etcd does: the Lease and all versions are as they were."""
        self.leases[lease.name], self._version = lease, int(lease.version)

    def holder(self, name: str = "lease") -> str:
        return self.leases[name].record.holder


@dataclass
class Network:
    """One process's way to the server; seconds a message takes each way.

    `cut`: it fails at once; `asks_to_wait`: with a Retry-After of so many seconds.
    """

    server: LeaseServer
    there: float = 0.0
    back: float = 0.0
    cut: bool = False
    asks_to_wait: float | None = None
    chance: random.Random | None = None
    calls: int = 0
    under_way: set[asyncio.Task[None]] = field(default_factory=set)

    async def read(self, name: str, seconds: float) -> Lease | None:
        await self._travel(self.there)
        found = self.server.leases.get(name)
        await self._travel(self.back)
        return found

    async def list_related(self, seconds: float) -> Sequence[Lease]:
        await self._travel(self.there)
        found = list(self.server.leases.values())
        await self._travel(self.back)
        return found

    async def create(self, name: str, record: LeaseRecord, shards: int, seconds: float) -> Lease | None:
        return await self._write(name, record, None, shards)

    async def replace(self, name: str, record: LeaseRecord, version: str, shards: int, seconds: float) -> Lease | None:
        return await self._write(name, record, version, shards)

    async def _write(self, name: str, record: LeaseRecord, version: str | None, shards: int) -> Lease | None:
        """A write that is on its way arrives, whether its sender still waits for the answer or not."""
        answer: asyncio.Future[Lease | None] = asyncio.get_running_loop().create_future()

        async def arrive() -> None:
            try:
                await self._travel(self.there)
            except Failure as failure:
                if not answer.cancelled():
                    answer.set_exception(failure)
                return
            written = self.server.write(name, record, version, shards)
            if not answer.cancelled():
                answer.set_result(written)

        task = asyncio.create_task(arrive())
        self.under_way.add(task)
        task.add_done_callback(self.under_way.discard)
        written = await answer
        await self._travel(self.back)
        return written

    async def _travel(self, seconds: float) -> None:
        self.calls += 1
        await asyncio.sleep(seconds if self.chance is None else self.chance.expovariate(1 / seconds) if seconds else 0)
        if self.cut or self.asks_to_wait is not None:
            raise Failure(Reason.KUBERNETES_UNAVAILABLE, "the network is cut", retry_after=self.asks_to_wait)


class Ended(BaseException):
    """The process ended at once."""


@dataclass
class Candidate:
    """One process. `acting`: between its first and its last act; `stop_seconds`: how long its end of acting takes."""

    network: Network
    name: str
    settings: ElectionSettings
    clock: VirtualClock
    stop_seconds: float = 0.0
    acting: bool = False
    terms: list[float] = field(default_factory=list)
    died: bool = False
    when_acting: Callable[["Candidate"], None] = lambda _: None
    running: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self.fence = Fence(self.clock)
        jitter = NoJitter() if self.network.chance is None else self.network.chance
        self.election = Election(self.network, self.settings, self.fence, self._act, self.clock, jitter, self._end)

    async def _act(self) -> None:
        self.acting = True
        self.when_acting(self)
        self.terms.append(self.clock.monotonic())
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(self.stop_seconds)
            self.acting = False

    def _end(self, why: str) -> NoReturn:
        """A real process and all of its tasks are gone."""
        self.acting, self.died = False, True
        raise Ended(why)

    def start(self) -> None:
        self.running = asyncio.create_task(self._run())

    async def _run(self) -> None:
        with contextlib.suppress(Ended):
            await self.election.run()

    async def stop(self) -> None:
        """In order, as on SIGTERM."""
        assert self.running is not None
        self.running.cancel()
        await asyncio.wait({self.running})

    def kill(self) -> None:
        """Without warning: nothing that it has begun goes on, and nobody is told. What is on its way arrives."""
        assert self.running is not None
        self.died, self.acting, self.network.cut, self.stop_seconds = True, False, True, 0.0
        self.running.cancel()


@dataclass
class LeaseWorld:
    """Everybody's clock is the same virtual one, which nothing relies on but the tests."""

    clock: VirtualClock = field(default_factory=VirtualClock)
    server: LeaseServer = field(default_factory=LeaseServer)
    candidates: list[Candidate] = field(default_factory=list)

    def candidate(self, lease: str = "lease", shards: int = 1, chance: random.Random | None = None) -> Candidate:
        name = f"process-{len(self.candidates)}"
        settings = ElectionSettings(lease, name, shards=shards)
        self.candidates.append(Candidate(Network(self.server, chance=chance), name, settings, self.clock))
        return self.candidates[-1]

    @property
    def acting(self) -> list[str]:
        return [each.name for each in self.candidates if each.acting]

    async def close(self) -> None:
        for each in self.candidates:
            if each.running is not None and not each.running.done():
                each.network.cut = False
                await each.stop()


@contextlib.asynccontextmanager
async def lease_world() -> AsyncIterator[LeaseWorld]:
    world = LeaseWorld()
    try:
        yield world
    finally:
        await world.close()


async def seconds_until_acting(world: LeaseWorld, *names: str) -> float:
    """Until these act and no others."""
    began = world.clock.monotonic()
    await until(lambda: world.acting == list(names))
    return world.clock.monotonic() - began
